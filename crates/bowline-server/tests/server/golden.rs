//! Old folders: P12.
//!
//! `tests/golden/v1` is what a server leaves that is killed in the middle of its work. Never written
//! again: `BOWLINE_GOLDEN=write cargo test -p bowline-server golden` makes one for a new format.

use std::fs;
use std::path::{Path, PathBuf};

use bowline_proto::native::wire::{Channel, Credit, Cursors, Data, Frame, Gap, Hello, Outcome, Start, Welcome};
use bowline_server::{Device, Policy, Receipt, Server};
use bowline_store_vfs::Folder;

use crate::durable::with_store;
use crate::harness::{Board, eventually, receives, server, soon};
use crate::openers::{Peer, frame, open_mode};

const FORMAT: u32 = 1;

fn golden(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{format}"))
}

/// A device on N that says it is in `epoch`, and what the server says to that.
pub(crate) async fn comes_in(server: &Server, epoch: u64) -> (Peer, Welcome) {
    let mut peer = Peer::connects(server).await;
    let hello = Hello { version: 1, features: 0, epoch, keepalive: 20_000, max_body: 512 };
    peer.0.writes([open_mode("n"), frame(&Frame::Hello(hello))].concat()).await;
    peer.answer().await;
    let body = peer.record().await.expect("a record");
    let Some(Frame::Welcome(welcome)) = Frame::parse(&body).unwrap().frame else { panic!("no WELCOME") };
    (peer, welcome)
}

pub(crate) async fn starts(peer: &mut Peer, epoch: u64, cursors: Cursors) {
    let start = Start { epoch, cursors, credit: Credit { messages: 100, bytes: 10_000 } };
    peer.0.writes(frame(&Frame::Start(start))).await;
}

async fn accepts(device: &Device, text: &str, policy: Policy) {
    soon(device.send(text).policy(policy).until(Receipt::Accepted)).await.unwrap();
}

#[tokio::test]
async fn golden_folders_open_and_go_on() {
    for format in 1..=FORMAT {
        let folder = Folder::copy_of(&golden(format));
        let server = with_store(server(), folder.path()).await;
        let letters = server.store().unwrap().dead_letters(Some("h")).unwrap();
        assert_eq!(&letters[0].letter.payload[..], b"[\"bad\"]");
        goes_on_lines(&server).await;
        goes_on_native(&server).await;
    }
}

async fn goes_on_lines(server: &Server) {
    let device = server.get("h").unwrap();
    let totals = device.ledger().totals;
    assert!(totals.received >= 1 && totals.accepted >= 1, "{totals:?}");
    let mut board = Board::logs_in_h(server, "h").await;
    board.expects("000001[\"in flight\"]").await;
    board.sends("00002c").await;
    let late = board.acknowledges_h(1).await;
    assert!(late[0].ends_with("0001[\"late\"]"), "{late:?}");
    board.sends("020001[\"unread\"]").await;
    board.expects("02002c").await;
    board.sends("030001[\"new\"]").await;
    board.expects("03002c").await;
    receives(&device, "[\"unread\"]").await;
    receives(&device, "[\"new\"]").await;
    assert_eq!(device.ledger().totals.duplicates, totals.duplicates + 1);
    eventually(|| device.ledger().unsent == 0).await;
}

async fn goes_on_native(server: &Server) {
    let device = server.get("n").unwrap();
    let (mut peer, welcome) = comes_in(server, 1).await;
    assert_eq!((welcome.outcome, welcome.epoch, welcome.cursors.durable), (Outcome::Resumed, 1, 1));
    starts(&mut peer, 1, Cursors { durable: 1, received: 1, acked: 1, last: 1 }).await;
    receives(&device, "unread").await;
    // What was dropped before the crash, then what was not.
    let body = loop {
        let body = peer.record().await.expect("a record");
        if body.windows(4).any(|bytes| bytes == b"last") {
            break body;
        }
    };
    let mut body = &body[..];
    let mut seen = Vec::new();
    while let Ok(parsed) = Frame::parse(body) {
        match parsed.frame {
            Some(Frame::Gap(Gap { first, last, .. })) => seen.push(format!("{first} to {last} dropped")),
            Some(Frame::Data(Data { seq, payload, .. })) => {
                seen.push(format!("{seq} {}", String::from_utf8_lossy(payload)));
            }
            _ => {}
        }
        body = &body[parsed.len..];
        if body.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["2 to 3 dropped", "4 value 3", "5 last"]);
}

#[tokio::test]
async fn a_golden_folder_is_written_on_demand() {
    if std::env::var("BOWLINE_GOLDEN").as_deref() != Ok("write") {
        return;
    }
    let folder = Folder::new();
    let server = with_store(server(), folder.path()).await;
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    for (id, text) in ["handled", "bad", "unread"].iter().enumerate() {
        board.sends(&format!("{id:02x}0001[\"{text}\"]")).await;
        board.expects(&format!("{id:02x}002c")).await;
    }
    soon(device.next()).await.unwrap().done();
    soon(device.next()).await.unwrap().bury("cannot be handled");
    accepts(&device, "[\"in flight\"]", Policy::Block).await;
    board.expects("000001[\"in flight\"]").await;

    let (mut peer, welcome) = comes_in(&server, 0).await;
    starts(&mut peer, welcome.epoch, Cursors::default()).await;
    let native = server.get("n").unwrap();
    soon(native.connected()).await.unwrap();
    let channel = Channel { app: 1, instance: 2, tag: 3 };
    peer.0.writes(frame(&Frame::Data(Data { seq: 1, ask: true, channel, payload: b"unread" }))).await;
    accepts(&native, "acknowledged", Policy::Block).await;
    eventually(|| native.ledger().totals.sent == 1 && native.ledger().unread == 1).await;
    drop(peer);
    eventually(|| !native.status().is_up()).await;
    for text in ["value 1", "value 2", "value 3"] {
        accepts(&native, text, Policy::KeepLatest).await;
    }
    accepts(&native, "last", Policy::Block).await;
    // With the ledgers, which are stored once a second.
    tokio::time::sleep(crate::harness::millis(1100)).await;
    accepts(&device, "[\"late\"]", Policy::DropOldest).await;
    let folder = folder.crashes();
    fs::create_dir_all(golden(FORMAT)).unwrap();
    for name in ["bowline.db", "bowline.db-wal"] {
        fs::copy(folder.path().join(name), golden(FORMAT).join(name)).unwrap();
    }
}
