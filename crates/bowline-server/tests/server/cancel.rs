//! Futures dropped at every point: nothing wedges, the order stays (P8).

use bowline_server::Limits;
use tokio::task::JoinHandle;

use crate::harness::{Board, eventually, millis, only, polled, receives, round_trip, seed, server, soon};

/// A board that acknowledges everything, and hands over the payloads.
fn acknowledges(mut board: Board) -> tokio::sync::mpsc::UnboundedReceiver<String> {
    let (payloads, received) = tokio::sync::mpsc::unbounded_channel();
    let _task: JoinHandle<()> = tokio::spawn(async move {
        while let Some(line) = board.line().await {
            board.sends(&format!("{}002c", &line[..2])).await;
            if payloads.send(line[6..].to_owned()).is_err() {
                return;
            }
        }
    });
    received
}

#[tokio::test]
async fn a_send_may_be_dropped_after_any_poll() {
    for outbox in [1, 64] {
        let server = server().limits(Limits { outbox, ..Limits::default() }).start().await.unwrap();
        let mut received = acknowledges(Board::logs_in_h(&server, "h").await);
        let device = server.get("h").unwrap();
        for polls in 0..6 {
            let first = polled(device.send("\"dropped\""), polls).await;
            soon(device.send("\"kept\"")).await.unwrap();
            if polls > 0 {
                assert_eq!(soon(received.recv()).await.unwrap(), "\"dropped\"", "{polls} polls, {first:?}");
            }
            assert_eq!(soon(received.recv()).await.unwrap(), "\"kept\"", "{polls} polls");
        }
        assert_eq!(device.ledger().unsent, 0);
        assert_eq!(device.ledger().session.resent, 0);
    }
}

#[tokio::test]
async fn a_best_effort_send_may_be_dropped_after_any_poll() {
    let server = server().start().await.unwrap();
    let mut received = acknowledges(Board::logs_in_h(&server, "h").await);
    let device = server.get("h").unwrap();
    for polls in 0..6 {
        let _ = polled(device.send_best_effort("\"maybe\""), polls).await;
        soon(device.send("\"kept\"")).await.unwrap();
        soon(device.send_best_effort("\"best\"")).await.unwrap();
        let mut payloads = Vec::new();
        while payloads.len() < 2 {
            payloads.extend(soon(received.recv()).await.filter(|payload| payload != "\"maybe\""));
        }
        assert_eq!(payloads, ["\"kept\"", "\"best\""], "{polls} polls");
    }
}

#[tokio::test]
async fn a_recv_may_be_dropped_after_any_poll() {
    let server = server().start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    let mut id = 0;
    for polls in 0..4 {
        for early in [false, true] {
            // Two receivers wait; the first is dropped after so many polls, perhaps just when it was woken.
            let first = tokio::spawn({
                let device = device.clone();
                async move { polled(device.recv(), polls).await }
            });
            if early {
                tokio::task::yield_now().await;
            }
            board.sends(&format!("{id:02x}0001[{id}]")).await;
            board.sends(&format!("{:02x}0001[{}]", id + 1, id + 1)).await;
            let mut payloads = Vec::new();
            payloads.extend(soon(first).await.unwrap().map(Result::unwrap));
            while payloads.len() < 2 {
                payloads.push(soon(device.recv()).await.unwrap());
            }
            let payloads: Vec<_> = payloads.iter().map(|message| message.text().unwrap().to_owned()).collect();
            assert_eq!(payloads, [format!("[{id}]"), format!("[{}]", id + 1)], "{polls} polls");
            id += 2;
        }
    }
}

#[tokio::test]
async fn waiting_for_a_device_may_be_dropped_after_any_poll() {
    let server = server().admission(only(&["a", "b"])).start().await.unwrap();
    for polls in 0..4 {
        let waiters: Vec<_> = (0..2)
            .map(|number| {
                let server = server.clone();
                tokio::spawn(async move {
                    if number == 0 {
                        polled(server.device("a"), polls).await.map(|device| vec![device.unwrap()])
                    } else {
                        polled(server.wait_all(&["a", "b"]), polls).await.map(Result::unwrap)
                    }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        let a = Board::logs_in_h(&server, "a").await;
        assert_eq!(soon(server.device("a")).await.unwrap().id(), "a");
        let b = Board::logs_in_h(&server, "b").await;
        assert_eq!(soon(server.wait_all(&["a", "b"])).await.unwrap().len(), 2);
        for waiter in waiters {
            waiter.abort();
        }
        a.cuts();
        b.cuts();
        eventually(|| server.devices().iter().all(|device| !device.status().is_up())).await;
    }
}

/// Senders and receivers that give up at random points, over links that are cut at random points.
#[tokio::test]
async fn senders_that_give_up_over_links_that_end_keep_order_and_lose_nothing() {
    let mut random = fastrand::Rng::with_seed(seed());
    let limits = Limits { outbox: 3, ..Limits::default() };
    let server = server().admission(only(&["h"])).limits(limits).start().await.unwrap();
    let device = server.get("h").unwrap();
    let sender = tokio::spawn({
        let (device, mut random) = (device.clone(), random.fork());
        async move {
            let mut promised = Vec::new();
            for number in 0..120 {
                let polls = random.usize(0..4);
                let payload = format!("[{number}]");
                let sent = tokio::time::timeout(millis(random.u64(1..30)), polled(device.send(payload), polls)).await;
                // Without a poll, or without room, nothing was promised.
                if matches!(sent, Ok(Some(_))) {
                    promised.push(number);
                }
            }
            soon(device.send("\"end\"")).await.unwrap();
            promised
        }
    });
    let mut seen: Vec<u32> = Vec::new();
    let mut last = String::new();
    'links: loop {
        let mut board = Board::logs_in_h(&server, "h").await;
        for _ in 0..random.usize(1..12) {
            let line = soon(board.line()).await.unwrap();
            if line != last {
                match line[6..].trim_matches(['[', ']']).parse() {
                    Ok(number) => seen.push(number),
                    Err(_) => {
                        board.sends(&format!("{}002c", &line[..2])).await;
                        eventually(|| sender.is_finished()).await;
                        break 'links;
                    }
                }
            }
            last = line.clone();
            if random.u8(..4) == 0 {
                break;
            }
            board.sends(&format!("{}002c", &line[..2])).await;
        }
        board.cuts();
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "in order, none twice: {seen:?}");
    let promised = sender.await.unwrap();
    assert!(promised.iter().all(|number| seen.contains(number)), "{promised:?} {seen:?}");
    assert_eq!(device.ledger().unsent, 0);

    // And the device works.
    crate::harness::echo(device.clone());
    let mut board = Board::logs_in_h(&server, "h").await;
    round_trip(&mut board, 0).await;
}

#[tokio::test]
async fn a_receiver_that_gives_up_passes_its_wake_up_on() {
    let server = server().start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    for id in 0..20 {
        let quitter = tokio::spawn({
            let device = device.clone();
            async move { device.recv().await }
        });
        tokio::task::yield_now().await;
        let receiver = tokio::spawn({
            let device = device.clone();
            async move { receives(&device, &format!("[{id}]")).await }
        });
        tokio::task::yield_now().await;
        quitter.abort();
        board.sends(&format!("{id:02x}0001[{id}]")).await;
        soon(receiver).await.unwrap();
    }
}
