//! What used to hang for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bowline_proto::legacy::CloseReason;
use bowline_proto::wire::MessageError as LineError;
use bowline_server::{DownReason, Limits, Message, MessageError, SendError};

use crate::harness::{
    Board, HUGE, echo, eventually, goes_down, millis, pending, receives, round_trip, seed, sending, server, soon,
};

#[tokio::test]
async fn r23_best_effort_from_a_device_is_not_acked_and_blocks_nothing() {
    let server = server().start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    board.sends("000000[0]").await;
    receives(&device, "[0]").await;
    // The board waits for ever for an ACK of this, and still reads.
    let sent = sending(&device, "[1]");
    assert_eq!(board.acknowledges_h(1).await, ["000001[1]"], "the best-effort message was not acknowledged");
    soon(sent).await.unwrap().unwrap();
    board.cuts();

    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("010001[2]").await;
    board.expects("01002c").await;
    receives(&device, "[2]").await;
}

#[tokio::test]
async fn r24_a_message_that_cannot_be_sent_takes_no_id() {
    let server = server().start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    let error = device.send(Message::with_header(&[0; 256], b"[0]")).await.unwrap_err();
    assert_eq!(error, SendError::Message(MessageError::Line(LineError::HeaderTooLong { len: 256 })));
    assert_eq!(device.send("[0]\n[1]").await, Err(SendError::Message(MessageError::Line(LineError::Newline))));
    let not_text = device.send(Message::new(b"\xff".to_vec())).await;
    assert_eq!(not_text, Err(SendError::Message(MessageError::Line(LineError::NotUtf8))));

    let sent = sending(&device, "[1]");
    board.expects("000001[1]").await;
    board.sends("00002c").await;
    soon(sent).await.unwrap().unwrap();
}

#[tokio::test]
async fn r25_senders_that_give_up_out_of_turn_leave_no_hole() {
    let limits = Limits { outbox: 1, ..Limits::default() };
    let server = server().limits(limits).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    // Which of the three that wait behind the first give up, in which order.
    for (round, leavers) in [&[1][..], &[2], &[3], &[2, 1], &[1, 3], &[3, 2, 1], &[]].into_iter().enumerate() {
        let mut sends: Vec<_> = (0..4).map(|number| Some(Box::pin(device.send(format!("[{number}]"))))).collect();
        for send in sends.iter_mut().flatten() {
            assert!(pending(send, millis(1)).await);
        }
        for &leaver in leavers {
            sends[leaver] = None;
        }
        let mut stayed = sends.into_iter().enumerate().filter_map(|(number, send)| Some((number, send?)));
        for (number, mut send) in &mut stayed {
            let line = soon(board.line()).await.unwrap();
            assert_eq!(line[6..], format!("[{number}]"), "round {round}");
            board.sends(&format!("{}002c", &line[..2])).await;
            soon(&mut send).await.unwrap();
        }
        assert_eq!(device.ledger().unsent, 0);
    }
}

#[tokio::test]
async fn r26_best_effort_never_blocks_qos() {
    let server = server().start().await.unwrap();
    for id in ["h", "u"] {
        let (mut board, ack) = match id {
            "h" => (Board::logs_in_h(&server, id).await, "002c"),
            _ => (Board::logs_in_u(&server, id).await, ""),
        };
        let device = server.get(id).unwrap();
        let first = sending(&device, "[0]");
        assert!(soon(board.line()).await.unwrap().ends_with("[0]"));
        board.sends(&format!("00{ack}")).await;
        soon(first).await.unwrap().unwrap();

        // Written, and never acknowledged.
        soon(device.send_best_effort("[1]")).await.unwrap();
        assert!(soon(board.line()).await.unwrap().ends_with("[1]"));
        let second = sending(&device, "[2]");
        let line = soon(board.line()).await.unwrap();
        assert!(line.starts_with("02") && line.ends_with("[2]"), "{line}");
        board.sends(&format!("02{ack}")).await;
        soon(second).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn r28_no_bytes_kill_the_reader_of_h() {
    let server = server().start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    board.sends("what is this?").await;
    board.writes(b"\xff\xff\xff\xff\xff\xff\xff\n000001\"\xc3").await;
    tokio::time::sleep(millis(5)).await;
    board.writes(b"\xa4\"\n").await;
    board.expects("00002c").await;
    receives(&device, "\"ä\"").await;
    assert_eq!(device.ledger().session.malformed, 2);
    assert_eq!(device.dead_letters().len(), 2);
}

#[tokio::test]
async fn r29_malformed_lines_are_survived_or_end_the_link_and_the_status_says_so() {
    let server = server().start().await.unwrap();
    let mut board = Board::logs_in_u(&server, "u").await;
    let device = server.get("u").unwrap();
    for line in ["x", "xy[1]", "00[0]"] {
        board.sends(line).await;
    }
    board.expects("00").await;
    receives(&device, "[0]").await;

    for _ in 0..100 {
        if board.try_writes("not one of us\n").await.is_err() {
            break;
        }
    }
    assert_eq!(goes_down(&device).await, DownReason::Engine(CloseReason::Malformed));
    board.expects_end().await;
    let mut board = Board::logs_in_u(&server, "u").await;
    board.sends("01[1]").await;
    board.expects("01").await;
    receives(&device, "[1]").await;
}

#[tokio::test]
async fn r30_a_peer_that_stops_reading_is_given_up_in_time_and_nothing_is_lost() {
    let limits = Limits { line: 2 * HUGE, ..Limits::default() };
    let server = server().timeout(millis(1000)).limits(limits).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    let payload = "y".repeat(HUGE);
    let sent = sending(&device, payload.clone());
    // It writes on: it is not silent.
    let start = tokio::time::Instant::now();
    let down = goes_down(&device);
    let reason = {
        let alive = async {
            while board.try_writes("\n").await.is_ok() {
                tokio::time::sleep(millis(50)).await;
            }
            std::future::pending::<std::convert::Infallible>().await
        };
        tokio::select! { reason = down => reason, never = alive => match never {} }
    };
    assert_eq!(reason, DownReason::Engine(CloseReason::NotReading));
    assert!(start.elapsed() < millis(4000), "{:?}", start.elapsed());

    let mut board = Board::logs_in_h(&server, "h").await;
    board.keeps_alive();
    let lines = board.acknowledges_h(1).await;
    assert!(lines == [format!("000001{payload}")], "{} lines, {:?}", lines.len(), device.status());
    tokio::select! {
        result = soon(sent) => result.unwrap().unwrap(),
        lines = board.acknowledges_h(usize::MAX) => panic!("{} more lines, {:?}", lines.len(), device.status()),
    }
}

#[tokio::test]
async fn a_message_that_takes_long_to_write_is_not_sent_again_at_once() {
    let limits = Limits { line: 2 * HUGE, ..Limits::default() };
    let server = server().timeout(millis(2400)).limits(limits).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    let sent = sending(&device, "x".repeat(HUGE));
    // Longer than the time after which a message is sent again, shorter than a peer may not read.
    board.reads_only(1000).await;
    tokio::time::sleep(millis(1500)).await;
    board.keeps_alive();
    let line = soon(board.line()).await;
    assert!(line.is_some(), "{:?}", device.status());
    board.sends("00002c").await;
    tokio::select! {
        result = soon(sent) => result.unwrap().unwrap(),
        line = board.line() => panic!("{:?} bytes came again", line.map(|line| line.len())),
    }
    assert_eq!(device.ledger().session.resent, 0);
}

#[tokio::test]
async fn reading_goes_on_as_soon_as_much_has_been_written() {
    let limits = Limits { line: 2 * HUGE, ..Limits::default() };
    let server = server().limits(limits).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    let sent = sending(&device, "x".repeat(HUGE));
    soon(board.line()).await.unwrap();
    let start = tokio::time::Instant::now();
    board.sends("00002c").await;
    soon(sent).await.unwrap().unwrap();
    assert!(start.elapsed() < millis(2000), "the ACK lay there until the next keepalive: {:?}", start.elapsed());
}

#[tokio::test]
async fn r31_the_late_end_of_an_old_socket_leaves_the_new_link_alone() {
    for late_end in [Board::leaves, Board::cuts] {
        let server = server().on_device(echo).start().await.unwrap();
        let half_open = Board::logs_in_h(&server, "h").await;
        let device = server.get("h").unwrap();
        let mut board = Board::logs_in_h(&server, "h").await;
        round_trip(&mut board, 0).await;
        late_end(half_open);
        for id in 1..20 {
            round_trip(&mut board, id).await;
        }
        assert!(device.status().is_up());
        assert_eq!(device.connects(), 2);
    }
}

#[tokio::test]
async fn r31_a_half_open_link_is_found_out_by_its_silence() {
    let server = server().timeout(millis(400)).start().await.unwrap();
    let half_open = Board::logs_in_h(&server, "h").await.goes_silent();
    let device = server.get("h").unwrap();
    assert_eq!(goes_down(&device).await, DownReason::Engine(CloseReason::Silence));
    drop(half_open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r32_a_device_that_comes_back_when_it_expires_is_not_black_holed() {
    let mut random = fastrand::Rng::with_seed(seed());
    let server = server().expiry(millis(1)).on_device(echo).start().await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let mut boards = tokio::task::JoinSet::new();
    for number in 0..8 {
        let (server, over, mut random) = (server.clone(), Arc::clone(&over), random.fork());
        boards.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let mut board = Board::logs_in_h(&server, &format!("h{number}")).await;
                // A new life each time: the device may be another one by now.
                round_trip(&mut board, 0).await;
                round_trip(&mut board, 1).await;
                if random.bool() {
                    board.cuts()
                } else {
                    board.leaves()
                }
                // Devices are looked through every 50 ms.
                tokio::time::sleep(std::time::Duration::from_micros(random.u64(0..60_000))).await;
            }
        });
    }
    let expired = || server.stats().expired_devices;
    eventually(|| expired() > 60).await;
    over.store(true, Ordering::Relaxed);
    while let Some(result) = soon(boards.join_next()).await {
        result.unwrap();
    }
    eventually(|| server.devices().is_empty()).await;
}

#[tokio::test]
async fn a_link_that_takes_over_and_fails_at_once_leaves_no_ghost() {
    let limits = Limits { line: 64, ..Limits::default() };
    let server = server().limits(limits).start().await.unwrap();
    let mut first = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    // A login with a line behind it that is too long: the new link ends before its first keepalive.
    let mut second = Board::connects(&server).await;
    second.writes(format!("2c00ffh\n{}", "x".repeat(200))).await;
    second.expects_end().await;
    first.expects_end().await;
    goes_down(&device).await;
    assert_eq!(device.send_best_effort("[1]").await, Err(SendError::NoLink));
}
