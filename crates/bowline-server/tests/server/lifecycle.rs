//! Devices, links, and servers that come and go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline_proto::legacy::CloseReason;
use bowline_proto::wire::MessageError as LineError;
use bowline_server::{
    DeviceError, Dialect, DownReason, Limits, LinkState, Message, MessageError, RecvError, SendError, StartError,
};
use tokio::time::Instant;

use crate::harness::{
    Board, echo, eventually, goes_down, loopback, millis, only, pending, polled, receives, round_trip, sending, server,
    soon,
};

const DRAIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let error = bowline_server::Server::builder().start().await.unwrap_err();
    assert!(matches!(error, StartError::NoAddress), "{error}");
    let error = server().timeout(millis(20)).start().await.unwrap_err();
    assert!(matches!(error, StartError::Timeout(_)), "{error}");
    let error = server().admission(only(&["kit\nchen"])).start().await.unwrap_err();
    assert!(matches!(error, StartError::Id { .. }), "{error}");
    let running = server().start().await.unwrap();
    let error = server().listen(running.addresses()[0]).start().await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
}

#[tokio::test]
async fn device_waits_until_it_is_there() {
    let server = server().start().await.unwrap();
    let mut waiting = Box::pin(server.device("h"));
    assert!(pending(&mut waiting, millis(10)).await);
    let _other = Board::logs_in_h(&server, "other").await;
    assert!(pending(&mut waiting, millis(10)).await);
    let board = Board::logs_in_h(&server, "h").await;
    let device = soon(waiting).await.unwrap();
    assert_eq!((device.id(), device.connects()), ("h", 1));

    board.cuts();
    goes_down(&device).await;
    let mut waiting = Box::pin(server.device("h"));
    assert!(pending(&mut waiting, millis(10)).await, "it is known, but not connected");
    let _board = Board::logs_in_h(&server, "h").await;
    assert_eq!(soon(waiting).await.unwrap().connects(), 2);
}

#[tokio::test]
async fn wait_all_waits_for_the_last() {
    let server = server().start().await.unwrap();
    let mut waiting = Box::pin(server.wait_all(&["a", "b", "c"]));
    let mut boards = Vec::new();
    for id in ["c", "a", "b"] {
        assert!(pending(&mut waiting, millis(5)).await);
        boards.push(Board::logs_in_h(&server, id).await);
    }
    let devices = soon(waiting).await.unwrap();
    let ids: Vec<_> = devices.iter().map(|device| device.id()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
}

#[tokio::test]
async fn on_device_is_called_once_per_device() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let callback = {
        let seen = Arc::clone(&seen);
        move |device: bowline_server::Device| seen.lock().unwrap().push(device.id().to_owned())
    };
    let open = bowline_server::Admission { allow: vec!["*".to_owned()], ..only(&["expected"]) };
    let server = server().admission(open).on_device(callback).start().await.unwrap();
    assert!(seen.lock().unwrap().is_empty());
    for _ in 0..3 {
        for id in ["a", "expected"] {
            let board = Board::logs_in_h(&server, id).await;
            let _again = Board::logs_in_h(&server, id).await;
            board.cuts();
        }
    }
    assert_eq!(*seen.lock().unwrap(), ["a", "expected"]);
}

#[tokio::test]
async fn on_device_is_called_once_though_the_first_link_fails_at_once() {
    let calls = Arc::new(AtomicUsize::new(0));
    let callback = {
        let calls = Arc::clone(&calls);
        move |_| {
            calls.fetch_add(1, Ordering::Relaxed);
        }
    };
    let limits = Limits { line: 64, ..Limits::default() };
    let server = server().limits(limits).on_device(callback).start().await.unwrap();
    let mut board = Board::connects(&server).await;
    board.writes(format!("2c00ffh\n{}", "x".repeat(200))).await;
    board.expects_end().await;
    let _board = Board::logs_in_h(&server, "h").await;
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn watch_tells_every_change_with_its_reason() {
    let server = server().timeout(millis(400)).admission(only(&["h"])).start().await.unwrap();
    let device = server.get("h").unwrap();
    let mut watch = device.watch();
    assert_eq!(watch.now().link, LinkState::Never);
    type End = fn(Board) -> Option<tokio::net::TcpStream>;
    let ends: [(End, DownReason); 3] = [
        (
            |board| {
                board.leaves();
                None
            },
            DownReason::PeerClosed,
        ),
        (
            |board| {
                board.cuts();
                None
            },
            DownReason::Transport(std::io::ErrorKind::ConnectionReset),
        ),
        (|board| Some(board.goes_silent()), DownReason::Engine(CloseReason::Silence)),
    ];
    for (connects, (end, reason)) in (1..).zip(ends) {
        let board = Board::logs_in_h(&server, "h").await;
        let status = soon(watch.changed()).await.unwrap();
        assert!(matches!(status.link, LinkState::Up { dialect: Dialect::Headers, .. }), "{status:?}");
        assert_eq!((status.connects, status.outages()), (connects, connects - 1));
        let _socket = end(board);
        let status = soon(watch.changed()).await.unwrap();
        assert_eq!(status.link, LinkState::Down(reason));
        assert_eq!((status.connects, status.outages(), device.connects()), (connects, connects, connects));
    }
}

#[tokio::test]
async fn messages_are_queued_for_an_expected_device_before_it_connects() {
    let server = server().admission(only(&["h"])).start().await.unwrap();
    let device = server.get("h").unwrap();
    let sends: Vec<_> = (0..3).map(|number| sending(&device, format!("[{number}]"))).collect();
    eventually(|| device.ledger().unsent == 3).await;
    let mut board = Board::logs_in_h(&server, "h").await;
    assert_eq!(board.acknowledges_h(3).await, ["000001[0]", "010001[1]", "020001[2]"]);
    for sent in sends {
        soon(sent).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_device_can_be_expected_later() {
    let server = server().expiry(millis(100)).start().await.unwrap();
    let device = server.expect("h").unwrap();
    assert!(server.expect("not\nan id").is_err());
    let sent = sending(&device, "[0]");
    tokio::time::sleep(millis(200)).await;
    let mut board = Board::logs_in_h(&server, "h").await;
    board.acknowledges_h(1).await;
    soon(sent).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_header_for_a_u_device_fails_and_blocks_nothing_behind_it() {
    let server = server().admission(only(&["u"])).start().await.unwrap();
    let device = server.get("u").unwrap();
    let with_header = || Message::with_header(&[1, 2, 3], b"[0]");
    let headed = sending(&device, with_header());
    let empty = sending(&device, "");
    // Its caller gives up: it goes to the dead letters.
    assert_eq!(polled(device.send(with_header()), 1).await, None);
    let behind = sending(&device, "[1]");
    eventually(|| device.ledger().unsent == 4).await;

    let mut board = Board::logs_in_u(&server, "u").await;
    board.expects("00[1]").await;
    board.sends("00").await;
    soon(behind).await.unwrap().unwrap();
    let no_header = SendError::Message(MessageError::Line(LineError::NoHeader(bowline_proto::Dialect::Upstream)));
    assert_eq!(soon(headed).await.unwrap(), Err(no_header.clone()));
    assert!(no_header.to_string().contains("header"), "{no_header}");
    assert_eq!(
        soon(empty).await.unwrap(),
        Err(SendError::Message(MessageError::Line(LineError::Empty(bowline_proto::Dialect::Upstream))))
    );
    assert_eq!(device.dead_letters().len(), 1);
    assert_eq!(soon(device.send(with_header())).await, Err(no_header));
}

#[tokio::test]
async fn shutdown_drains_what_is_queued() {
    let server = server().start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let mut idle = Board::logs_in_h(&server, "idle").await;
    let mut silent = Board::connects(&server).await;
    let device = server.get("h").unwrap();
    let sends: Vec<_> = (0..5).map(|number| sending(&device, format!("[{number}]"))).collect();
    eventually(|| device.ledger().unsent == 5).await;
    let start = Instant::now();
    let board = async {
        let lines = board.acknowledges_h(5).await;
        board.expects_end().await;
        idle.expects_end().await;
        silent.expects_end().await;
        lines
    };
    let (sessions, lines) = soon(async { tokio::join!(server.shutdown(DRAIN), board) }).await;
    assert_eq!(lines.len(), 5);
    assert!(start.elapsed() < DRAIN, "it ends when everything is delivered");
    for sent in sends {
        soon(sent).await.unwrap().unwrap();
    }
    assert_eq!(sessions.devices().count(), 2);
    assert!(tokio::net::TcpStream::connect(server.addresses()[0]).await.is_err());
    assert_eq!(server.shutdown(DRAIN).await.devices().count(), 0);

    sessions.close(DRAIN).await;
    assert_eq!(device.recv().await, Err(RecvError::Closed));
    assert_eq!(device.send("[6]").await, Err(SendError::Closed));
}

#[tokio::test]
async fn what_comes_during_a_drain_is_not_acked_and_goes_to_the_next_server() {
    let first = server().start().await.unwrap();
    let mut board = Board::logs_in_h(&first, "h").await;
    let device = first.get("h").unwrap();
    board.sends("000001[before]").await;
    board.expects("00002c").await;
    let sent = sending(&device, "[a]");
    board.expects("000001[a]").await;

    let shutdown = tokio::spawn({
        let first = first.clone();
        async move { first.shutdown(DRAIN).await }
    });
    // The listener is closed: it drains.
    eventually(|| std::net::TcpStream::connect(first.addresses()[0]).is_err()).await;
    board.sends("010001[during]").await;
    board.sends("018001 is not UTF-8").await;
    eventually(|| device.ledger().session.refused == 2).await;
    board.sends("00002c").await;
    soon(sent).await.unwrap().unwrap();
    board.expects_end().await;
    let sessions = soon(shutdown).await.unwrap();

    let next = server().sessions(sessions).on_device(|_| panic!("it is known")).start().await.unwrap();
    let mut board = Board::logs_in_h(&next, "h").await;
    board.sends("010001[during]").await;
    board.expects("01002c").await;
    for payload in ["[before]", "[during]"] {
        receives(&device, payload).await;
    }
    assert_eq!(device.dead_letters(), []);
    assert_eq!(device.try_recv(), Ok(None));
}

#[tokio::test]
async fn sessions_go_on_at_the_next_server() {
    let first = server().start().await.unwrap();
    let mut board = Board::logs_in_h(&first, "h").await;
    let device = first.get("h").unwrap();
    board.sends("000001[0]").await;
    board.expects("00002c").await;
    let sent = sending(&device, "[a]");
    board.expects("000001[a]").await;
    let behind = sending(&device, "[b]");
    // It does not acknowledge: the drain takes all its time.
    let start = Instant::now();
    let sessions = soon(first.shutdown(millis(100))).await;
    assert!(start.elapsed() >= millis(100));
    board.expects_end().await;

    let next = server().sessions(sessions).start().await.unwrap();
    let mut board = Board::logs_in_h(&next, "h").await;
    // A resend of what the first server has accepted, and what it has not delivered.
    board.sends("000001[0]").await;
    let mut lines = vec![soon(board.line()).await.unwrap(), soon(board.line()).await.unwrap()];
    lines.sort();
    assert_eq!(lines, ["000001[a]", "00002c"]);
    board.sends("00002c").await;
    board.expects("010001[b]").await;
    board.sends("01002c").await;
    soon(sent).await.unwrap().unwrap();
    soon(behind).await.unwrap().unwrap();
    receives(&device, "[0]").await;
    assert_eq!(device.try_recv(), Ok(None));
    assert_eq!(next.get("h").unwrap().connects(), 2);
}

#[tokio::test]
async fn expected_devices_stay_persistent_over_a_handover() {
    let first = server().start().await.unwrap();
    let device = first.expect("kept").unwrap();
    Board::logs_in_h(&first, "temporary").await.leaves();
    let sent = sending(&device, "[0]");
    eventually(|| device.ledger().unsent == 1).await;
    let next = server().sessions(first.shutdown(DRAIN).await).expiry(millis(100)).start().await.unwrap();
    eventually(|| next.stats().expired_devices == 1).await;
    assert!(next.get("temporary").is_none());
    let mut board = Board::logs_in_h(&next, "kept").await;
    board.acknowledges_h(1).await;
    soon(sent).await.unwrap().unwrap();
}

#[tokio::test]
async fn waiting_for_a_device_ends_with_the_server() {
    let server = server().start().await.unwrap();
    let mut waiting = Box::pin(server.device("h"));
    assert!(pending(&mut waiting, millis(5)).await);
    soon(server.shutdown(DRAIN)).await.close(DRAIN).await;
    assert!(matches!(soon(waiting).await, Err(DeviceError::Stopped)));
    assert!(matches!(soon(server.wait_all(&["a", "b"])).await, Err(DeviceError::Stopped)));
}

#[tokio::test]
async fn a_handle_used_after_the_shutdown_breaks_nothing() {
    let server = server().start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    let _unsent = sending(&device, "[0]");
    board.expects("000001[0]").await;
    let _sessions = soon(server.shutdown(Duration::ZERO)).await;
    // The links may not have ended yet.
    let again = server.expect("h").unwrap();
    board.expects_end().await;
    assert_eq!(again.connects(), 0);
    assert!(!soon(server.shutdown(Duration::ZERO)).await.devices().any(|device| device.status().is_up()));
}

#[tokio::test]
async fn a_cancelled_shutdown_can_be_called_again() {
    let server = server().start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    let _unsent = sending(&device, "[0]");
    board.expects("000001[0]").await;
    assert!(tokio::time::timeout(millis(50), server.shutdown(DRAIN)).await.is_err());
    let start = Instant::now();
    let sessions = soon(server.shutdown(millis(50))).await;
    board.reads_to_the_end().await;
    assert!(start.elapsed() < DRAIN);
    assert_eq!(sessions.devices().count(), 1);
}

#[tokio::test]
async fn the_last_handle_stops_the_server() {
    let server = server().start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let address = server.addresses()[0];
    let clone = server.clone();
    drop(server);
    Board::connects_to(address).await.leaves();
    drop(clone);
    board.expects_end().await;
    eventually(|| std::net::TcpStream::connect(address).is_err()).await;
}

#[tokio::test]
async fn several_listeners_serve_the_same_devices() {
    let server = server().listen(loopback()).on_device(echo).start().await.unwrap();
    let mut board = Board::connects_to(server.addresses()[0]).await;
    board.sends("2c00ffh").await;
    round_trip(&mut board, 0).await;
    let mut again = Board::connects_to(server.addresses()[1]).await;
    again.sends("2c00ffh").await;
    board.reads_to_the_end().await;
    round_trip(&mut again, 1).await;
    assert_eq!(server.get("h").unwrap().connects(), 2);
}

#[tokio::test]
async fn a_shutdown_may_take_as_long_as_it_takes() {
    let server = server().start().await.unwrap();
    let _board = Board::logs_in_h(&server, "a").await;
    soon(server.shutdown(Duration::MAX)).await.close(DRAIN).await;
}
