//! Full queues.

use bowline_server::{Limits, SendError};
use futures_util::future::join_all;

use crate::harness::{Board, eventually, millis, pending, receives, sending, server, soon};

fn small() -> Limits {
    Limits { inbox: 4, ..Limits::default() }
}

#[tokio::test]
async fn a_full_inbox_parks_qos_messages_and_acks_them_when_they_have_room() {
    let server = server().limits(small()).start().await.unwrap();
    let mut board = Board::logs_in_u(&server, "u").await;
    let device = server.get("u").unwrap();
    for number in 0..7 {
        board.sends(&format!("{number:02x}[{number}]")).await;
    }
    for number in 0..4 {
        board.expects(&format!("{number:02x}")).await;
    }
    board.expects_nothing_for(millis(20)).await;
    assert_eq!(device.ledger().unread, 4);

    // A resend of a parked one is neither delivered nor acknowledged.
    board.sends("04[4]").await;
    eventually(|| device.ledger().session.duplicates == 1).await;
    board.expects_nothing_for(millis(20)).await;
    for number in 0..7 {
        receives(&device, &format!("[{number}]")).await;
        if number < 3 {
            board.expects(&format!("{:02x}", number + 4)).await;
        }
    }
    assert_eq!(device.try_recv(), Ok(None));
    board.expects_nothing_for(millis(20)).await;
}

#[tokio::test]
async fn an_app_that_sends_before_it_receives_does_not_lock_itself_out() {
    let server = server().limits(small()).start().await.unwrap();
    let mut h = Board::logs_in_h(&server, "h").await;
    let mut u = Board::logs_in_u(&server, "u").await;
    let (at_h, at_u) = (server.get("h").unwrap(), server.get("u").unwrap());
    for number in 0..5 {
        h.sends(&format!("{number:02x}0001[{number}]")).await;
        u.sends(&format!("{number:02x}[{number}]")).await;
    }
    for number in 0..4 {
        h.expects(&format!("{number:02x}002c")).await;
        u.expects(&format!("{number:02x}")).await;
    }
    let (to_h, to_u) = (sending(&at_h, "[a]"), sending(&at_u, "[a]"));
    h.expects("000001[a]").await;
    h.sends("00002c").await;
    soon(to_h).await.unwrap().unwrap();
    u.expects("00[a]").await;
    u.sends("00").await;
    soon(to_u).await.unwrap().unwrap();
    for number in 0..5 {
        receives(&at_h, &format!("[{number}]")).await;
        receives(&at_u, &format!("[{number}]")).await;
    }
    h.expects("04002c").await;
    u.expects("04").await;
}

#[tokio::test]
async fn parked_messages_outlive_their_link() {
    let server = server().limits(small()).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    for number in 0..5 {
        board.sends(&format!("{number:02x}0001[{number}]")).await;
    }
    for number in 0..4 {
        board.expects(&format!("{number:02x}002c")).await;
    }
    board.expects_nothing_for(millis(10)).await;
    board.cuts();
    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("040001[4]").await;
    board.expects_nothing_for(millis(10)).await;
    receives(&device, "[0]").await;
    board.expects("04002c").await;
    for number in 1..5 {
        receives(&device, &format!("[{number}]")).await;
    }
    assert_eq!(device.try_recv(), Ok(None));
}

#[tokio::test]
async fn a_device_whose_message_the_app_holds_makes_no_room_for_others() {
    let server = server().max_devices(1).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("000001[0]").await;
    board.expects("00002c").await;
    let device = server.get("h").unwrap();
    let delivery = soon(device.next()).await.unwrap();
    board.leaves();
    eventually(|| !device.status().is_up()).await;
    let mut other = Board::connects(&server).await;
    other.sends("2c00ffother").await;
    other.expects_end().await;
    assert!(server.get("h").is_some() && !device.is_closed());
    delivery.done();
    Board::logs_in_h(&server, "other").await;
    assert!(device.is_closed());
}

#[tokio::test]
async fn best_effort_never_fills_the_room_of_qos() {
    let limits = Limits { inbox: 8, ..Limits::default() };
    let server = server().limits(limits).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    for number in 0..100 {
        board.sends(&format!("{number:02x}0000[{number}]")).await;
    }
    board.sends("640001\"qos\"").await;
    board.expects("64002c").await;
    assert_eq!(device.ledger().unread, 7);
    // What was dropped was counted.
    assert_eq!(device.ledger().session.refused, 94);
    for number in 0..6 {
        receives(&device, &format!("[{number}]")).await;
    }
    receives(&device, "\"qos\"").await;
}

#[tokio::test]
async fn a_full_outbox_makes_senders_wait_and_keeps_their_order() {
    let limits = Limits { outbox: 2, ..Limits::default() };
    let server = server().limits(limits).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    let mut sends = Box::pin(join_all((0..10).map(|number| device.send(format!("[{number}]")))));
    assert!(pending(&mut sends, millis(10)).await);
    assert_eq!(device.ledger().unsent, 2);
    let (lines, results) = soon(async { tokio::join!(board.acknowledges_h(10), sends) }).await;
    let expected: Vec<_> = (0..10).map(|number| format!("{number:02x}0001[{number}]")).collect();
    assert_eq!(lines, expected);
    assert!(results.iter().all(Result::is_ok));
}

#[tokio::test]
async fn best_effort_beyond_its_room_fails_and_says_so() {
    let limits = Limits { best_effort: 3, ..Limits::default() };
    let server = server().limits(limits).pace(1, millis(60_000)).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    let first = sending(&device, "[0]");
    board.acknowledges_h(1).await;
    soon(first).await.unwrap().unwrap();
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(device.send_best_effort("[1]"))).collect();
    for send in &mut waiting {
        assert!(pending(send, millis(1)).await);
    }
    assert_eq!(device.send_best_effort("[2]").await, Err(SendError::Full { limit: 3 }));
    // Who gives up makes no room for what is already in the queue, but is not waited for either.
    drop(waiting);
    board.cuts();
}

#[tokio::test]
async fn messages_are_paced() {
    let server = server().pace(2, millis(100)).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    let start = tokio::time::Instant::now();
    let sends = join_all((0..5).map(|number| device.send(format!("[{number}]"))));
    let (lines, _) = soon(async { tokio::join!(board.acknowledges_h(5), sends) }).await;
    assert_eq!(lines.len(), 5);
    assert!(start.elapsed() >= millis(290), "{:?}", start.elapsed());
}

#[tokio::test]
async fn dead_letters_are_bounded_and_all_counted() {
    let limits = Limits { dead_letters: 3, ..Limits::default() };
    let server = server().limits(limits).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    for number in 0..10 {
        board.sends(&format!("{number:02x}0201abcx{number}")).await;
        board.expects(&format!("{number:02x}002c")).await;
    }
    let letters: Vec<_> = device.dead_letters().into_iter().map(|letter| letter.bytes).collect();
    assert_eq!(letters, [b"070201abcx7", b"080201abcx8", b"090201abcx9"]);
    assert_eq!(device.ledger().dead_letters, 10);

    board.sends("0a0001[1]").await;
    let message = soon(device.recv()).await.unwrap();
    device.bury(&message, "no such app");
    let last = device.dead_letters().pop().unwrap();
    assert_eq!((last.bytes.as_slice(), last.reason.as_str()), (b"[1]".as_slice(), "no such app"));
}
