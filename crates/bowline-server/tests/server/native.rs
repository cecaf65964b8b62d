//! Native openings: who gets in, and for how long (§8.2, §15).

use std::time::Duration;

use bowline_proto::native::wire::{Channel, Credit, Cursors, Data, Frame, Start};
use bowline_server::{Admission, DownReason, Keys};
use tempfile::TempDir;

use crate::harness::{Board, eventually, goes_down, loopback, only, pending, receives, sending, soon};
use crate::openers::{Device, Peer, frame, hello, server, today};

#[tokio::test]
async fn a_device_gets_in_with_its_key_whatever_the_configuration_lists() {
    let keys = Keys::default();
    let mut kitchen = Device::new(&keys.issue("kitchen", today()).unwrap());
    let server = server().admission(only(&[])).listen_secured(loopback()).keys(keys).start().await.unwrap();
    kitchen.comes_in(&server).await;
    let stats = server.stats();
    assert_eq!((stats.logins, stats.native_sealed, stats.native_open), (1, 1, 0), "{stats:?}");
    assert!(server.get("kitchen").is_some() && server.expect("kitchen").is_ok() && server.expect("attic").is_err());
    let mut peer = Peer(Board::connects_to(server.addresses()[1]).await);
    kitchen.shakes_hands(&mut peer).await.unwrap();
}

#[tokio::test]
async fn an_opening_in_pieces_is_read() {
    let keys = Keys::default();
    let mut device = Device::new(&keys.issue("d", today()).unwrap());
    let server = server().keys(keys).start().await.unwrap();
    let mut peer = Peer::connects(&server).await;
    let (mut handshake, opening) = device.opens();
    for piece in opening.chunks(7) {
        peer.0.writes(piece).await;
        tokio::task::yield_now().await;
    }
    let answer = peer.answer().await;
    let mut transport = handshake.finish(&answer).unwrap().unwrap().0;
    for byte in hello(Some(&mut transport)) {
        peer.0.writes([byte]).await;
        tokio::task::yield_now().await;
    }
    transport.open(&mut peer.record().await.unwrap()).unwrap();
}

#[tokio::test]
async fn open_mode_is_for_whom_it_is_configured() {
    let open = vec!["bench-*".to_owned()];
    let admission = Admission { allow: vec!["*".to_owned()], open, ..only(&[]) };
    let server = server().admission(admission).listen_secured(loopback()).start().await.unwrap();
    let mut peer = Peer::connects(&server).await;
    assert_eq!(peer.opens("bench-1").await, None);
    Frame::parse(&peer.record().await.expect("a record")).unwrap();
    eventually(|| server.stats().native_open == 1).await;
    let mut peer = Peer::connects(&server).await;
    assert_eq!(peer.opens("kitchen").await, Some(8));
    peer.ends().await;
    let mut peer = Peer(Board::connects_to(server.addresses()[1]).await);
    assert_eq!(peer.opens("bench-1").await, Some(8));
    for login in ["2c00ffbench-1", "bench-1"] {
        let mut board = Board::connects_to(server.addresses()[1]).await;
        board.sends(login).await;
        board.expects_end().await;
    }
    assert_eq!(server.stats().refused_not_open, 4);

    // Allowed to be open, and not allowed to be there at all.
    let admission = Admission { allow: Vec::new(), ..Admission::open() };
    let server = self::server().admission(admission).start().await.unwrap();
    assert_eq!(Peer::connects(&server).await.opens("kitchen").await, Some(8));
}

#[tokio::test]
async fn the_native_protocol_can_be_switched_off() {
    let dialects = bowline_server::Dialects { native: false, ..bowline_server::Dialects::ALL };
    let keys = Keys::default();
    let mut device = Device::new(&keys.issue("d", today()).unwrap());
    let server = server().keys(keys).admission(Admission { dialects, ..Admission::open() }).start().await.unwrap();
    assert_eq!(Peer::connects(&server).await.opens("kitchen").await, Some(8));
    assert_eq!(device.shakes_hands(&mut Peer::connects(&server).await).await.err(), Some(8));
    eventually(|| server.stats().refused_dialect == 2).await;
}

#[tokio::test]
async fn a_new_key_replaces_the_old_one_when_it_is_shown() {
    let folder = TempDir::new().unwrap();
    let keys = Keys::open(folder.path()).unwrap();
    let mut old = Device::new(&keys.issue("d", today()).unwrap());
    let mut new = Device::new(&keys.rotate("d", today()).unwrap());
    let server = server().keys(keys.clone()).start().await.unwrap();
    old.comes_in(&server).await;
    // A recording of it shows nothing.
    new.shakes_hands(&mut Peer::connects(&server).await).await.unwrap();
    old.comes_in(&server).await;
    new.comes_in(&server).await;
    eventually(|| keys.list()[0].keys.len() == 1).await;
    assert_eq!(Keys::open(folder.path()).unwrap().list(), keys.list(), "on disk, too");
    assert_eq!(old.shakes_hands(&mut Peer::connects(&server).await).await.err(), Some(9));
    new.comes_in(&server).await;
}

#[tokio::test]
async fn a_key_revoked_by_another_process_ends_what_it_let_in() {
    let folder = TempDir::new().unwrap();
    let other = Keys::open(folder.path()).unwrap();
    let mut device = Device::new(&other.issue("d", today()).unwrap());
    let server = server().keys(Keys::open(folder.path()).unwrap()).start().await.unwrap();
    let mut peer = Peer::connects(&server).await;
    let mut transport = device.shakes_hands(&mut peer).await.unwrap();
    other.revoke("d", None).unwrap();
    assert_eq!(server.reload_keys().unwrap().revoked.len(), 1);
    peer.0.writes(hello(Some(&mut transport))).await;
    peer.0.reads_to_the_end().await;
    eventually(|| server.stats().revoked_links == 1).await;
    assert_eq!(device.shakes_hands(&mut Peer::connects(&server).await).await.err(), Some(9));
}

#[tokio::test]
async fn an_id_that_gets_a_key_loses_its_open_link() {
    let folder = TempDir::new().unwrap();
    let other = Keys::open(folder.path()).unwrap();
    let server = server().keys(Keys::open(folder.path()).unwrap()).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "d").await;
    let mut bystander = Board::logs_in_h(&server, "bystander").await;
    let device = server.get("d").unwrap();
    other.issue("d", today()).unwrap();
    let mut down = Box::pin(goes_down(&device));
    assert!(pending(&mut down, Duration::from_millis(20)).await, "the server was not told yet");
    server.reload_keys().unwrap();
    assert_eq!(down.await, DownReason::Revoked);
    board.expects_end().await;
    bystander.sends("000001[0]").await;
    bystander.expects("00002c").await;
    assert_eq!(server.stats().revoked_links, 1);
    // Its queues are still there for the same device with its key.
    assert!(!device.is_closed());
}

#[tokio::test]
async fn r44_a_newcomer_has_the_session_only_when_it_has_started() {
    let server = server().start().await.unwrap();
    let mut first = Peer::connects(&server).await;
    assert_eq!(first.opens("d").await, None);
    let welcome = first.record().await.expect("a record");
    let Some(Frame::Welcome(welcome)) = Frame::parse(&welcome).unwrap().frame else { panic!("WELCOME") };
    let start = Start { epoch: welcome.epoch, cursors: Cursors::default(), credit: Credit { messages: 9, bytes: 999 } };
    first.0.writes(frame(&Frame::Start(start))).await;
    let device = server.get("d").unwrap();
    soon(device.connected()).await.unwrap();

    let mut second = Peer::connects(&server).await;
    assert_eq!(second.opens("d").await, None);
    second.record().await.expect("WELCOME");
    let channel = Channel { app: 1, instance: 2, tag: 3 };
    first.0.writes(frame(&Frame::Data(Data { seq: 1, ask: true, channel, payload: b"undisturbed" }))).await;
    receives(&device, "undisturbed").await;
    drop(second);
    let sent = sending(&device, "[0]");
    let data = loop {
        let body = first.record().await.expect("the link goes on");
        if let Some(at) = body.windows(3).position(|bytes| bytes == b"[0]") {
            break at;
        }
    };
    assert!(data > 0 && device.status().is_up() && device.connects() == 1);
    sent.abort();
}
