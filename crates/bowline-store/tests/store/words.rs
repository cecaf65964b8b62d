//! What errors say to people, and what is damage.

use std::path::Path;

use bowline_store::{
    Change, CommitError, DeadId, Durability, Health, Limits, Millis, OpenError, Queue, Quota, ReadError, Seq, Store,
};
use bowline_store_vfs::{Call, Watch};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::harness::{acked, fast_folder, limits, open, receive, see, send, state_after, transaction};

const IOERR_FSYNC: i32 = 10 | (4 << 8);

/// A closed store with 31 transactions.
fn filled() -> TempDir {
    let folder = fast_folder();
    let store = open(folder.path());
    for n in 0..=30 {
        store.commit(transaction(n)).wait().expect("commits");
    }
    folder
}

#[test]
fn each_refusal_names_the_device_the_queue_and_the_numbers() {
    let folder = fast_folder();
    let tight = Limits { inbox: Quota { count: 2, bytes: 1_000 }, outbox: Quota { count: 9, bytes: 30 }, ..limits() };
    let store = Store::open(folder.path(), Durability::Fsync, tight).expect("opens");
    store.commit(Change::device("a", true, Millis(1))).wait().expect("commits");
    for seq in [1, 2] {
        store.commit(receive("a", seq, b"x")).wait().expect("commits");
    }
    let expected = Change::Expect { device: "a".into(), queue: Queue::Outbox, last: Seq(4) };
    for (change, said) in [
        (receive("a", 2, b"x"), "message 2 comes after 2 in the inbox of a"),
        (receive("a", 3, b"x"), "the inbox of a would hold 3 messages, its quota is 2"),
        (send("a", 1, &[b'x'; 40]), "bytes, its quota is 30"),
        (acked("a", 7), "the outbox of a ends at 0, so nothing can be done with it up to 7"),
        (acked("a", u64::MAX), "up to 18446744073709551615"),
        (expected, "the outbox of a ends at 0, not at 4"),
        (receive("b", 1, b"x"), "device b is not known"),
        (Change::DropDead { id: DeadId(7) }, "no dead letter 7"),
    ] {
        let error = store.commit(change).wait().expect_err("refused").to_string();
        assert!(error.contains(said), "expected `{said}` in `{error}`");
    }
}

#[test]
fn messages_of_which_one_does_not_fit_are_refused_together_and_it_is_named() {
    let folder = fast_folder();
    let tight = Limits { inbox: Quota { count: 2, bytes: 1_000 }, ..limits() };
    let store = Store::open(folder.path(), Durability::Fsync, tight).expect("opens");
    store.commit(Change::device("a", true, Millis(1))).wait().expect("commits");
    let three: Vec<Change> = (1..=3).map(|seq| receive("a", seq, b"x")).collect();
    let error = store.commit(three).wait().expect_err("room for two").to_string();
    assert!(error.contains("the inbox of a would hold 3 messages, its quota is 2"), "{error}");
    assert_eq!(store.load("a").expect("readable").expect("known").inbox, []);
}

/// A closed store whose database was changed by hand, as another program would.
fn tampered(sql: &str) -> TempDir {
    let folder = filled();
    let database = Connection::open(folder.path().join("bowline.db")).expect("opens");
    database.execute_batch(sql).expect("done");
    folder
}

#[test]
fn a_number_that_is_never_written_is_damage_to_whoever_reads_it() {
    let folder = tampered("UPDATE device SET last_seen = -1 WHERE name = '0'");
    let store = open(folder.path());
    let error = store.devices().expect_err("no time lies before 1970");
    assert!(matches!(error, ReadError::Damaged(_)), "{error}");
    assert!(matches!(store.load("0"), Err(ReadError::Damaged(_))));
    assert!(store.load("1").expect("readable").is_some(), "the others are as they were");
}

#[test]
fn damage_ends_the_commits_that_meet_it_and_no_others() {
    let folder = tampered("UPDATE device SET inbox_last = -1 WHERE name = '0'");
    let store = open(folder.path());
    let expected = Change::Expect { device: "0".into(), queue: Queue::Inbox, last: Seq(30) };
    let error = store.commit(expected).wait().expect_err("no number lies below 0");
    assert!(matches!(error, CommitError::Damaged { .. }), "{error}");
    // It is that device's row, and not the disk.
    assert_eq!(store.health(), Health::Good);
    store.commit(receive("1", 31, b"x")).wait().expect("another device's");
    assert_eq!(store.health(), Health::Good);
}

/// Somebody looks into the database with another program, in a transaction that does not end.
fn looks_into(folder: &Path) -> Connection {
    let other = Connection::open(folder.join("bowline.db")).expect("opens");
    other.execute_batch("BEGIN; SELECT count(*) FROM device").expect("reads");
    other
}

#[test]
fn who_holds_the_database_open_is_named_when_the_store_opens() {
    let folder = filled();
    let other = looks_into(folder.path());
    let store = open(folder.path());
    store.commit(transaction(31)).wait().expect("readers are in nobody's way");
    drop(store);
    let error = Store::open(folder.path(), Durability::Fsync, limits()).expect_err("its log cannot be written anew");
    assert!(matches!(error, OpenError::Busy { .. }), "{error}");
    assert!(error.to_string().contains("another program holds"), "{error}");
    drop(other);
    assert_eq!(see(&open(folder.path())), state_after(Some(31)));
}

#[test]
fn who_holds_the_database_open_keeps_a_failed_disk_from_being_repaired_until_it_lets_go() {
    let folder = fast_folder();
    let watch = Watch::new(folder.path());
    let store = open(folder.path());
    for n in 0..=30 {
        store.commit(transaction(n)).wait().expect("commits");
    }
    let other = looks_into(folder.path());
    store.commit(transaction(31)).wait().expect("readers are in nobody's way");
    watch.fail(|call, _| (call == Call::Sync).then_some(IOERR_FSYNC));
    store.commit(transaction(32)).wait().expect_err("the disk fails");
    watch.heal();
    let error = store.commit(transaction(32)).wait().expect_err("what failed cannot be written anew");
    assert!(error.to_string().contains("another program reads it"), "{error}");
    assert_eq!(see(&store), state_after(Some(31)));
    drop(other);
    store.commit(transaction(32)).wait().expect("by itself");
    assert_eq!(see(&store), state_after(Some(32)));
}

#[test]
fn an_open_error_names_the_file() {
    let folder = fast_folder();
    std::fs::write(folder.path().join("bowline.db"), "this is no database, and it is long enough to be seen as one")
        .expect("written");
    let error = Store::open(folder.path(), Durability::Fsync, limits()).expect_err("no database");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("bowline.db is damaged") && text.contains("nothing was changed"), "{text}");
}
