//! What happens to messages for a device that is away.

use std::time::Duration;

use bowline_server::{DropReason, Limits, Message, Policy, Receipt, SendError};
use bowline_store_vfs::Folder;
use futures_util::FutureExt;

use crate::durable::with_store;
use crate::harness::{Board, eventually, server, soon};

fn small() -> Limits {
    Limits { outbox: 3, ..Limits::default() }
}

#[tokio::test]
async fn a_full_outbox_makes_wait_and_nothing_is_dropped() {
    let server = server().limits(small()).start().await.unwrap();
    let device = server.expect("h").unwrap();
    let mut sends: Vec<_> = (0..5).map(|number| Box::pin(device.send(format!("[{number}]")))).collect();
    for send in &mut sends {
        assert!(send.now_or_never().is_none());
    }
    assert_eq!(sends.iter().map(|send| send.is_accepted()).collect::<Vec<_>>(), [true, true, true, false, false]);
    let mut board = Board::logs_in_h(&server, "h").await;
    let lines = board.acknowledges_h(5).await;
    assert_eq!(lines, ["000001[0]", "010001[1]", "020001[2]", "030001[3]", "040001[4]"]);
    for send in sends {
        soon(send).await.unwrap();
    }
}

#[tokio::test]
async fn the_oldest_of_its_stream_makes_room() {
    let server = server().limits(small()).start().await.unwrap();
    let device = server.expect("h").unwrap();
    let stream = |number: u8| device.send(Message::with_header(&[1], format!("[{number}]").as_bytes()));
    let mut other = Box::pin(device.send("[\"other\"]"));
    assert!((&mut other).now_or_never().is_none());
    let mut sends: Vec<_> = (0..4).map(|number| Box::pin(stream(number).policy(Policy::DropOldest))).collect();
    for send in &mut sends {
        let _ = send.now_or_never();
    }
    let ledger = device.ledger();
    assert_eq!((ledger.totals.dropped, ledger.unsent), (2, 3));
    let mut board = Board::logs_in_h(&server, "h").await;
    assert_eq!(board.acknowledges_h(3).await, ["000001[\"other\"]", "01010101[2]", "02010101[3]"]);
}

#[tokio::test]
async fn of_a_hundred_thousand_values_the_latest_is_kept() {
    let server = server().start().await.unwrap();
    let device = server.expect("h").unwrap();
    for number in 0..100_000 {
        let sent = device.send(format!("[{number}]")).policy(Policy::KeepLatest).now_or_never();
        assert!(sent.is_none());
    }
    let ledger = device.ledger();
    assert_eq!((ledger.unsent, ledger.totals.dropped), (1, 99_999));
    let mut board = Board::logs_in_h(&server, "h").await;
    assert_eq!(board.acknowledges_h(1).await, ["000001[99999]"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_time_is_up_resolves_by_its_own_timer() {
    let server = server().start().await.unwrap();
    let device = server.expect("h").unwrap();
    let start = tokio::time::Instant::now();
    let sent = device.send("[0]").expires_in(Duration::from_secs(5)).await;
    assert_eq!(sent, Err(SendError::Dropped(DropReason::Expired)));
    assert_eq!(start.elapsed().as_secs(), 5);
    assert_eq!((device.ledger().unsent, device.ledger().totals.dropped), (0, 1));
}

#[tokio::test]
async fn what_was_sent_is_not_dropped() {
    let server = server().start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    let time = Duration::from_millis(20);
    let mut first = Box::pin(device.send("[0]").policy(Policy::KeepLatest).expires_in(time));
    assert!((&mut first).now_or_never().is_none());
    board.expects("000001[0]").await;
    let mut second = Box::pin(device.send("[1]").policy(Policy::KeepLatest).expires_in(time));
    assert!((&mut second).now_or_never().is_none());
    assert_eq!(soon(second).await, Err(SendError::Dropped(DropReason::Expired)), "it waits behind the first");
    assert!((&mut first).now_or_never().is_none());
    board.sends("00002c").await;
    soon(first).await.unwrap();
    assert_eq!(device.ledger().totals.dropped, 1);
}

#[tokio::test]
async fn what_a_policy_dropped_does_not_come_back_after_a_crash() {
    let folder = Folder::new();
    let server = with_store(server(), folder.path()).await;
    let device = server.expect("h").unwrap();
    for number in 0..5 {
        let send = device.send(format!("[{number}]")).policy(Policy::KeepLatest).until(Receipt::Accepted);
        soon(send).await.unwrap();
    }
    soon(device.send("[\"last\"]").until(Receipt::Accepted)).await.unwrap();
    let folder = folder.crashes();
    drop((device, server));
    let server = with_store(crate::harness::server(), folder.path()).await;
    let mut board = Board::logs_in_h(&server, "h").await;
    assert_eq!(board.acknowledges_h(2).await, ["000001[4]", "010001[\"last\"]"]);
    let device = server.get("h").unwrap();
    eventually(|| device.ledger().unsent == 0).await;
}
