//! Boards of the reference against a server with a store that crashes, or whose disk does.

use std::path::Path;
use std::sync::mpsc;

use bowline_proto::native::wire::{Ack, Channel, Credit, Cursors, Data, Frame, Start};
use bowline_server::{Builder, Dialect, Limits, Server};
use bowline_store::{Change, Durability, Millis, OpenError, Store};
use bowline_store_vfs::{Call, Folder};
use tokio::task::JoinHandle;

use crate::harness::{Board, eventually, millis, receives, sending, soon};
use crate::openers::{Peer, frame};

/// A server with its store in `folder`.
async fn starts(folder: &Folder) -> Server {
    with_store(crate::harness::server(), folder.path()).await
}

pub(crate) async fn with_store(builder: Builder, folder: &Path) -> Server {
    builder.store(open(folder, Durability::Os).await).start().await.unwrap()
}

async fn open(folder: &Path, durability: Durability) -> Store {
    soon(async {
        loop {
            match Store::open(folder, durability, bowline_store::Limits::default()) {
                Ok(store) => return store,
                Err(OpenError::Locked { .. }) => tokio::time::sleep(millis(2)).await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
}

#[tokio::test]
async fn r01_r08_on_h_what_was_acked_and_not_handled_comes_after_a_crash_and_its_resend_does_not() {
    let folder = Folder::new();
    let server = starts(&folder).await;
    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("000001[0]").await;
    board.expects("00002c").await;
    board.sends("010001[1]").await;
    board.expects("01002c").await;
    let folder = folder.crashes();
    drop((server, board));

    let server = starts(&folder).await;
    let device = server.get("h").unwrap();
    receives(&device, "[0]").await;
    receives(&device, "[1]").await;
    let mut board = Board::logs_in_h(&server, "h").await;
    // Its ACK was lost.
    board.sends("010001[1]").await;
    board.expects("01002c").await;
    board.sends("020001[2]").await;
    board.expects("02002c").await;
    receives(&device, "[2]").await;
    assert_eq!(device.ledger().totals.duplicates, 1);
}

#[tokio::test]
async fn r02_r08_on_u_what_was_acked_and_not_handled_comes_after_a_crash_and_its_resend_does_not() {
    let folder = Folder::new();
    let server = starts(&folder).await;
    let mut board = Board::logs_in_u(&server, "u").await;
    board.sends("00[0]").await;
    board.expects("00").await;
    board.sends("01[1]").await;
    board.expects("01").await;
    let folder = folder.crashes();
    drop((server, board));

    let server = starts(&folder).await;
    let device = server.get("u").unwrap();
    receives(&device, "[0]").await;
    receives(&device, "[1]").await;
    let mut board = Board::logs_in_u(&server, "u").await;
    board.sends("01[1]").await;
    board.expects("01").await;
    board.sends("02[2]").await;
    board.expects("02").await;
    receives(&device, "[2]").await;
}

#[tokio::test]
async fn r10_r21_on_h_a_message_in_flight_goes_out_after_a_crash_under_its_id() {
    let folder = Folder::new();
    let server = starts(&folder).await;
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    let first = sending(&device, "[0]");
    board.expects("000001[0]").await;
    board.sends("00002c").await;
    soon(first).await.unwrap().unwrap();
    for text in ["[1]", "[2]"] {
        soon(device.send(text).until(bowline_server::Receipt::Accepted)).await.unwrap();
    }
    board.expects("010001[1]").await;
    let folder = folder.crashes();
    drop((device, server, board));

    let server = starts(&folder).await;
    let mut board = Board::logs_in_h(&server, "h").await;
    board.expects("010001[1]").await;
    board.sends("01002c").await;
    // Ids that best effort may have taken before the crash are left out (§6.2).
    let lines = board.acknowledges_h(1).await;
    assert!(lines[0].ends_with("0001[2]"), "{lines:?}");
    let device = server.get("h").unwrap();
    eventually(|| device.ledger().unsent == 0).await;
}

#[tokio::test]
async fn r18_a_device_is_known_by_its_ids_however_often_the_server_restarts() {
    let folder = Folder::new();
    for round in 0..3_u8 {
        let server = starts(&folder).await;
        let mut board = Board::logs_in_h(&server, "h").await;
        if round > 0 {
            board.sends(&format!("{:02x}0001[{}]", round - 1, round - 1)).await;
            board.expects(&format!("{:02x}002c", round - 1)).await;
        }
        board.sends(&format!("{round:02x}0001[{round}]")).await;
        board.expects(&format!("{round:02x}002c")).await;
        let device = server.get("h").unwrap();
        receives(&device, &format!("[{round}]")).await;
        assert!(device.try_recv().unwrap().is_none());
        drop(device);
        assert!(server.shutdown(millis(10)).await.close(millis(5_000)).await);
    }
}

#[tokio::test]
async fn nothing_is_acked_while_the_disk_fails_and_everything_when_it_works_again() {
    let folder = Folder::new();
    let server = starts(&folder).await;
    let mut h = Board::logs_in_h(&server, "h").await;
    let mut u = Board::logs_in_u(&server, "u").await;
    h.sends("000001[0]").await;
    h.expects("00002c").await;
    folder.breaks();
    h.sends("010001[1]").await;
    u.sends("00[0]").await;
    h.expects_nothing_for(millis(150)).await;
    u.expects_nothing_for(millis(1)).await;
    let (device, other) = (server.get("h").unwrap(), server.get("u").unwrap());
    receives(&device, "[0]").await;
    assert!(device.try_recv().unwrap().is_none(), "not handed out before it is stored");
    let sent = sending(&device, "[9]");
    h.expects_nothing_for(millis(50)).await;
    folder.heals();
    h.expects("01002c").await;
    u.expects("00").await;
    receives(&device, "[1]").await;
    receives(&other, "[0]").await;
    assert_eq!(h.acknowledges_h(1).await, ["000001[9]"]);
    soon(sent).await.unwrap().unwrap();
    assert_eq!((device.connects(), other.connects()), (1, 1), "the links stayed");
}

#[tokio::test]
async fn a_commit_acks_what_is_in_it_and_not_what_came_meanwhile() {
    let folder = Folder::new();
    let store = open(folder.path(), Durability::Fsync).await;
    let server = crate::harness::server().store(store).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("000001[0]").await;
    board.expects("00002c").await;
    let device = server.get("h").unwrap();
    soon(device.recv()).await.unwrap();
    let first = folder.holds(Call::Sync);
    board.sends("010001[1]").await;
    eventually(|| first.is_reached()).await;
    board.sends("020001[2]").await;
    eventually(|| device.ledger().totals.received == 3).await;
    board.expects_nothing_for(millis(20)).await;
    assert!(device.try_recv().unwrap().is_none(), "nothing is handed out before it is synced");
    // One sync, and no other.
    let second = folder.holds(Call::Sync);
    drop(first);
    board.expects("01002c").await;
    eventually(|| second.is_reached()).await;
    board.expects_nothing_for(millis(20)).await;
    receives(&device, "[1]").await;
    assert!(device.try_recv().unwrap().is_none());
    drop(second);
    board.expects("02002c").await;
    receives(&device, "[2]").await;
}

#[tokio::test]
async fn lines_that_are_none_cost_no_memory_while_the_disk_fails() {
    let folder = Folder::new();
    let server = starts(&folder).await;
    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("000001[0]").await;
    board.expects("00002c").await;
    folder.breaks();
    let device = server.get("h").unwrap();
    for link in 1..=10 {
        let mut board = Board::logs_in_h(&server, "h").await;
        for _ in 0..15 {
            board.sends("this is no line of H").await;
        }
        eventually(|| device.ledger().dead_letters >= (15 * link).min(60)).await;
    }
    assert!(device.ledger().dead_letters < 70, "{}", device.ledger().dead_letters);
    folder.heals();
    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("010001[1]").await;
    board.expects("01002c").await;
}

#[tokio::test]
async fn a_device_forgotten_while_the_disk_fails_comes_back_as_a_new_one() {
    let folder = Folder::new();
    let server = starts(&folder).await;
    let mut board = Board::logs_in_h(&server, "h").await;
    for id in 0..3 {
        board.sends(&format!("{id:02x}0001[{id}]")).await;
        board.expects(&format!("{id:02x}002c")).await;
    }
    folder.breaks();
    assert!(server.forget("h"));
    board.expects_end().await;
    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("000001[7]").await;
    board.expects_nothing_for(millis(50)).await;
    folder.heals();
    board.expects("00002c").await;
    let device = server.get("h").unwrap();
    receives(&device, "[7]").await;
    assert!(device.try_recv().unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r32_a_device_that_comes_back_while_it_is_forgotten_keeps_what_was_acked() {
    let server = crate::harness::server();
    comes_back(server, |server| tokio::task::spawn_blocking(move || assert!(server.forget("h")))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r32_a_device_that_comes_back_while_it_expires_keeps_what_was_acked() {
    let server = crate::harness::server().expiry(millis(1_000));
    comes_back(server, |server| tokio::spawn(eventually(move || server.stats().expired_devices == 1))).await;
}

/// A device comes back while it is `forgotten`.
async fn comes_back(builder: Builder, forgotten: impl FnOnce(Server) -> JoinHandle<()>) {
    let folder = Folder::new();
    let server = with_store(builder, folder.path()).await;
    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("000001[0]").await;
    board.expects("00002c").await;
    board.leaves();
    let device = server.get("h").unwrap();
    // The ledger waits for what the link's end has stored.
    eventually(|| !device.status().is_up() && device.ledger().unread == 1).await;
    let hold = folder.holds(Call::Write);
    let forgotten = forgotten(server.clone());
    // Not asynchronously: the thread that is held may be the one that has an eye on the clock.
    hold.reached();
    let address = server.addresses()[0];
    let back = tokio::spawn(async move {
        let mut board = Board::connects_to(address).await;
        board.writes("2c00ffh\n000001[7]\n").await;
        board.expects("00002c").await;
        board
    });
    // As far as it comes meanwhile.
    let (there, (received, is_received)) = (server.clone(), mpsc::channel());
    let has_received = move || there.get("h").is_some_and(|new| new.ledger().totals.received == 1);
    tokio::spawn(async move {
        eventually(has_received).await;
        let _ = received.send(());
    });
    let _ = is_received.recv_timeout(millis(100));
    drop(hold);
    let _board = soon(back).await.unwrap();
    soon(forgotten).await.unwrap();
    let store = server.store().unwrap();
    // Behind all that was to be stored.
    store.commit(Change::device("marker", false, Millis(0))).await.unwrap();
    let stored = store.load("h").unwrap().expect("it is known");
    let payloads: Vec<_> = stored.inbox.iter().map(|message| &message.payload[..]).collect();
    assert_eq!(payloads, [b"[7]"]);
}

#[tokio::test]
async fn a_damaged_session_is_one_devices_trouble() {
    let folder = Folder::new();
    let server = starts(&folder).await;
    for id in ["good", "bad"] {
        let mut board = Board::logs_in_h(&server, id).await;
        board.sends("000001[0]").await;
        board.expects("00002c").await;
    }
    assert!(server.shutdown(millis(10)).await.close(millis(5_000)).await);
    drop(server);
    let store = open(folder.path(), Durability::Os).await;
    let broken = Change::Session { device: "bad".into(), format: 1, state: vec![7; 30] };
    store.commit(broken).wait().unwrap();
    drop(store);

    let server = starts(&folder).await;
    for id in ["good", "bad"] {
        let device = server.get(id).unwrap();
        receives(&device, "[0]").await;
        let mut board = Board::logs_in_h(&server, id).await;
        board.sends("010001[1]").await;
        board.expects("01002c").await;
        receives(&device, "[1]").await;
    }
}

#[tokio::test]
async fn what_n_delivered_is_not_taken_for_what_h_had_in_flight() {
    let folder = Folder::new();
    let server = starts(&folder).await;
    let mut board = Board::logs_in_h(&server, "n").await;
    let device = server.get("n").unwrap();
    for text in ["[0]", "[1]"] {
        soon(device.send(text).until(bowline_server::Receipt::Accepted)).await.unwrap();
    }
    assert_eq!(board.acknowledges_h(1).await, ["000001[0]"]);
    board.expects("010001[1]").await;
    // The same id with another program, which acknowledges it.
    let (mut peer, welcome) = crate::golden::comes_in(&server, 0).await;
    assert_eq!(welcome.cursors.last, 1);
    crate::golden::starts(&mut peer, welcome.epoch, Cursors::default()).await;
    loop {
        let body = peer.record().await.expect("the message");
        if body.windows(3).any(|bytes| bytes == b"[1]") {
            break;
        }
    }
    let credit = Credit { messages: 9, bytes: 999 };
    peer.0.writes(frame(&Frame::Ack(Ack { durable: 1, received: 1, credit, missing: false }))).await;
    eventually(|| device.ledger().unsent == 0).await;
    // And with the first one again.
    let mut board = Board::logs_in_h(&server, "n").await;
    let sent = sending(&device, "[2]");
    assert_eq!(board.acknowledges_h(1).await, ["000001[2]"], "as a new message");
    soon(sent).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_message_that_comes_again_says_when_it_came_first() {
    let folder = Folder::new();
    let server = starts(&folder).await;
    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("000001[0]").await;
    board.expects("00002c").await;
    let delivery = soon(server.get("h").unwrap().next()).await.unwrap();
    let (seq, received_at) = (delivery.message().seq(), delivery.message().received_at());
    assert!(received_at.is_some_and(|at| at.elapsed().unwrap() < millis(60_000)), "{received_at:?}");
    let folder = folder.crashes();
    drop((delivery, server, board));

    // So that now is another time.
    tokio::time::sleep(millis(5)).await;
    let server = starts(&folder).await;
    let again = soon(server.get("h").unwrap().next()).await.unwrap();
    assert_eq!((again.message().seq(), again.message().received_at()), (seq, received_at));
    assert_eq!(bowline_server::Message::from("made here").received_at(), None);
}

#[tokio::test]
async fn what_h_had_parked_when_n_took_over_takes_no_number_of_n() {
    let folder = Folder::new();
    let small = Limits { inbox: 4, ..Limits::default() };
    let server = with_store(crate::harness::server().limits(small), folder.path()).await;
    let mut board = Board::logs_in_h(&server, "n").await;
    for id in 0..5 {
        board.sends(&format!("{id:02x}0001[{id}]")).await;
    }
    for id in 0..4 {
        board.expects(&format!("{id:02x}002c")).await;
    }
    let device = server.get("n").unwrap();
    eventually(|| device.ledger().totals.received == 5).await;
    // The same id with another program, while the last one waits for room.
    let (mut peer, welcome) = crate::golden::comes_in(&server, 0).await;
    crate::golden::starts(&mut peer, welcome.epoch, Cursors::default()).await;
    eventually(|| device.dialect() == Some(Dialect::Native)).await;
    for _ in 0..3 {
        soon(device.next()).await.unwrap().done();
    }
    acks(&mut peer, |ack| ack.credit.messages > 0).await;
    let channel = Channel { app: 1, instance: 2, tag: 3 };
    peer.0.writes(frame(&Frame::Data(Data { seq: 1, ask: true, channel, payload: b"new" }))).await;
    acks(&mut peer, |ack| ack.durable == 1).await;
    let folder = folder.crashes();
    drop((device, server, peer));

    let server = starts(&folder).await;
    let device = server.get("n").unwrap();
    let mut all = Vec::new();
    while let Some(message) = device.try_recv().unwrap() {
        all.push((message.seq().unwrap(), message.text().unwrap().to_owned()));
    }
    let late = all.split_off(all.len().saturating_sub(3));
    assert_eq!(late, [(4, "[3]".to_owned()), (5, "[4]".to_owned()), (6, "new".to_owned())]);
}

#[tokio::test]
async fn a_link_that_starts_and_breaks_in_one_read_has_had_the_session() {
    let folder = Folder::new();
    let server = starts(&folder).await;
    let mut board = Board::logs_in_h(&server, "n").await;
    board.sends("000001[0]").await;
    board.expects("00002c").await;
    let (mut peer, welcome) = crate::golden::comes_in(&server, 0).await;
    let credit = Credit { messages: 100, bytes: 10_000 };
    let start = Start { epoch: welcome.epoch, cursors: Cursors::default(), credit };
    peer.0.writes([frame(&Frame::Start(start)), vec![0xff; 8]].concat()).await;
    // What it would send now would get the numbers of the epoch that has begun.
    assert_eq!(soon(board.line()).await, None);
}

/// Waits for an ACK of N as this.
async fn acks(peer: &mut Peer, is_it: impl Fn(Ack) -> bool) {
    loop {
        let record = peer.record().await.expect("an ACK");
        let mut body = &record[..];
        while !body.is_empty() {
            let parsed = Frame::parse(body).expect("a frame");
            if matches!(parsed.frame, Some(Frame::Ack(ack)) if is_it(ack)) {
                return;
            }
            body = &body[parsed.len..];
        }
    }
}

/// What is stored for one device has rotted: the others go on, and it may come again when it is forgotten.
#[tokio::test]
async fn a_device_whose_rows_are_damaged_is_refused_until_it_is_forgotten() {
    let folder = Folder::new();
    let server = starts(&folder).await;
    for id in ["good", "bad"] {
        let mut board = Board::logs_in_h(&server, id).await;
        board.sends(&format!("000001[\"from {id}\"]")).await;
        board.expects("00002c").await;
    }
    assert!(server.shutdown(millis(10)).await.close(millis(5_000)).await);
    drop(server);
    drop(open(folder.path(), Durability::Os).await);
    let file = folder.path().join("bowline.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(8).position(|at| at == b"from bad").expect("it is stored");
    bytes[at + 7] ^= 1;
    std::fs::write(&file, bytes).unwrap();

    let server = starts(&folder).await;
    receives(&server.get("good").unwrap(), "[\"from good\"]").await;
    Board::logs_in_h(&server, "good").await;
    let bad = server.get("bad").unwrap();
    let damage = bad.damage().expect("it is told");
    assert!(damage.contains("inbox") && damage.contains("message 1"), "{damage}");
    assert!(bad.recv().await.is_err(), "nothing of it is handed out");
    let mut refused = Board::connects(&server).await;
    refused.sends("2c00ffbad").await;
    eventually(|| server.stats().refused_damaged == 1).await;
    assert!(server.store().unwrap().load("bad").is_err(), "it is left as it is");

    assert!(server.forget("bad"));
    Board::logs_in_h(&server, "bad").await;
    let again = server.get("bad").unwrap();
    assert_eq!((again.damage(), again.ledger().unread), (None, 0));
}
