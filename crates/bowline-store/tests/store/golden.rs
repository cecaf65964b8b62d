//! Stores written by released formats open for ever (P12).
//!
//! `tests/golden/vN` is a store of format N as a killed process leaves it, database and log. Never
//! written again: `BOWLINE_GOLDEN=write cargo test -p bowline-store golden` makes one for a new format.

use std::fs;
use std::path::{Path, PathBuf};

use bowline_store::{
    Change, DeadId, Direction, Durability, Limits, Millis, ReadError, SessionState, Store, Transaction,
};

use crate::harness::{fast_folder, letter, processed, receive, received, see, send, sent};

const FORMAT: u32 = 3;

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
        let id = see_ids(&store)[0];
        let bury = Change::Bury { device: "bench".into(), letter: letter(Direction::Sent, b"x") };
        assert!(store.commit(bury).wait().expect("commits").buried[0] > id, "names are not used again");
        let before = see(&store);
        drop(store);
        let store = Store::open(folder.path(), Durability::Fsync, strict).expect("opens again");
        assert_eq!(see(&store), before, "format {format}");
    }
}

fn see_ids(store: &Store) -> Vec<DeadId> {
    store.dead_letters(None).expect("readable").into_iter().map(|entry| entry.id).collect()
}

/// A store of an earlier format opens with what its numbers and checksums tell of damage; who has it is told, and others
/// are not hindered.
#[test]
fn damage_from_earlier_formats_comes_over_as_damage() {
    let of_1 = [
        "UPDATE device SET inbox_count = 3 WHERE name = 'boat-7'",
        "UPDATE device SET inbox_bytes = 3 WHERE name = 'boat-7'",
        "UPDATE device SET inbox_cursor = 41 WHERE name = 'boat-7'",
        "UPDATE device SET outbox_last = 8 WHERE name = 'boat-7'",
        "UPDATE device SET inbox_last = 1 << 62 WHERE name = 'boat-7'",
        "UPDATE inbox SET seq = 41 WHERE seq = 40",
        "DELETE FROM outbox WHERE seq = 8",
    ];
    let of_2 = [
        "UPDATE device SET inbox_sum = inbox_sum + 1 WHERE name = 'boat-7'",
        "UPDATE inbox SET payload = x'00' WHERE seq = 40",
        "UPDATE inbox SET checksum = checksum + 1 WHERE seq = 2",
        "UPDATE inbox SET received_at = -1 WHERE seq = 2",
        "UPDATE inbox SET seq = 3 WHERE seq = 2",
        "DELETE FROM inbox WHERE seq = 2",
        "DELETE FROM inbox",
    ];
    let all = of_1.map(|sql| (1, sql)).into_iter().chain(of_2.map(|sql| (2, sql)));
    for (format, sql) in all {
        let folder = fast_folder();
        for name in ["bowline.db", "bowline.db-wal"] {
            fs::copy(golden(format).join(name), folder.path().join(name)).expect("is in the repository");
        }
        let database = rusqlite::Connection::open(folder.path().join("bowline.db")).unwrap();
        assert!(database.execute(sql, ()).expect(sql) > 0, "{sql}");
        drop(database);
        let store = Store::open(folder.path(), Durability::Fsync, Limits::default()).expect("opens");
        let error = store.load("boat-7").expect_err(sql);
        assert!(matches!(&error, ReadError::Damaged(detail) if detail.contains("boat-7")), "{sql}: {error}");
        assert!(store.load("bench").expect("readable").is_some());
        store.commit(Change::Forget { device: "boat-7".into() }).wait().expect("commits");
        assert_eq!(store.load("boat-7").expect("readable"), None);
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
