//! Stores written by released formats open for ever (P12).
//!
//! `tests/golden/vN` is a store of format N as a killed process leaves it, database and log. Never
//! written again: `BOWLINE_GOLDEN=write cargo test -p bowline-store golden` makes one for a new format.

use std::fs;
use std::path::{Path, PathBuf};

use bowline_store::{Change, Direction, Durability, Limits, Millis, SessionState, Store, Transaction};

use crate::harness::{fast_folder, letter, processed, receive, received, see, send, sent};

const FORMAT: u32 = 1;

fn golden(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{format}"))
}

/// What is in all of them: first what is in the database, then what is in the log.
fn contents() -> [Transaction; 2] {
    let database = Transaction::new()
        .with(Change::device("boat-7", true, Millis(1_767_225_600_000)))
        .with(Change::device("bench", false, Millis(1_767_225_600_001)))
        .with(Change::Session { device: "boat-7".into(), format: 3, state: b"state".to_vec() })
        .with(Change::Ledger { device: "boat-7".into(), counters: b"counters".to_vec() })
        .with(receive("boat-7", 1, b"one"))
        .with(receive("boat-7", 2, b"two"))
        .with(send("boat-7", 8, b"eight"))
        .with(send("boat-7", 9, b"nine"));
    let log = Transaction::new()
        .with(processed("boat-7", 1))
        .with(receive("boat-7", 40, &[200; 5_000]))
        .with(Change::Bury { device: "boat-7".into(), letter: letter(Direction::Received, b"dead") });
    [database, log]
}

#[test]
fn every_format_opens_and_reads_the_same() {
    if std::env::var_os("BOWLINE_GOLDEN").is_some_and(|value| value == "write") {
        write();
    }
    for format in 1..=FORMAT {
        let folder = fast_folder();
        for name in ["bowline.db", "bowline.db-wal"] {
            fs::copy(golden(format).join(name), folder.path().join(name)).expect("is in the repository");
        }
        let strict = Limits { check_at_open: true, ..Limits::default() };
        let store = Store::open(folder.path(), Durability::Fsync, strict).expect("opens");
        let device = store.load("boat-7").expect("readable").expect("known");
        assert_eq!(device.session, Some(SessionState { format: 3, state: b"state".to_vec() }));
        assert_eq!(device.ledger, b"counters");
        assert_eq!(device.inbox, [received(2, b"two"), received(40, &[200; 5_000])]);
        assert_eq!(device.outbox, [sent(8, b"eight"), sent(9, b"nine")]);
        assert_eq!((device.inbox_last.0, device.inbox_cursor.0, device.outbox_last.0), (40, 1, 9));
        assert_eq!(see(&store).dead, [("boat-7".into(), letter(Direction::Received, b"dead"))]);
        let bench = store.load("bench").expect("readable").expect("known");
        assert_eq!((bench.summary.persistent, bench.summary.last_seen), (false, Millis(1_767_225_600_001)));
        store.commit(receive("boat-7", 41, b"goes on")).wait().expect("commits");
    }
}

fn write() {
    let folder = fast_folder();
    let [database, log] = contents();
    let open = || Store::open(folder.path(), Durability::Fsync, Limits::default()).expect("opens");
    open().commit(database).wait().expect("commits");
    let store = open();
    store.commit(log).wait().expect("commits");
    fs::create_dir_all(golden(FORMAT)).expect("made");
    for name in ["bowline.db", "bowline.db-wal"] {
        fs::copy(folder.path().join(name), golden(FORMAT).join(name)).expect("copied");
    }
}
