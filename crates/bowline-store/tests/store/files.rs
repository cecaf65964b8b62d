//! The folder: who may have it, and what must not be touched.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bowline_store::{Durability, Limits, OpenError, Store};

use crate::harness::{fast_folder, limits, open, see, state_after, transaction};

fn refused(folder: &Path) -> OpenError {
    Store::open(folder, Durability::Fsync, limits()).expect_err("must be refused")
}

/// A folder with a closed store of the workload.
fn filled() -> tempfile::TempDir {
    let folder = fast_folder();
    let store = open(folder.path());
    for n in 0..=60 {
        store.commit(transaction(n)).wait().expect("commits");
    }
    drop(store);
    folder
}

#[test]
fn a_folder_has_one_store_at_a_time() {
    let folder = fast_folder();
    let store = open(folder.path());
    let error = refused(folder.path());
    assert!(matches!(error, OpenError::Locked { holder: Some(pid), .. } if pid == std::process::id()), "{error}");
    drop(store);
    open(folder.path());
}

#[test]
fn folders_are_made_and_files_are_private() {
    let folder = fast_folder();
    let inner = folder.path().join("a/b");
    let store = open(&inner);
    store.commit(transaction(0)).wait().expect("commits");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    for name in ["bowline.db", "bowline.db-wal", "bowline.db-shm", "bowline.lock"] {
        assert_eq!(mode(&inner.join(name)), 0o600, "{name}");
    }
    drop(store);
    fs::set_permissions(inner.join("bowline.db"), fs::Permissions::from_mode(0o644)).expect("set");
    let _store = open(&inner);
    assert_eq!(mode(&inner.join("bowline.db")), 0o600);
}

#[test]
fn memory_touches_no_file() {
    let folder = fast_folder();
    let one = Store::open(folder.path(), Durability::Memory, limits()).expect("opens");
    let other = Store::open(folder.path(), Durability::Memory, limits()).expect("is another one");
    one.commit(transaction(0)).wait().expect("commits");
    assert_eq!(see(&other), state_after(None));
    assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 0);
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let folder = filled();
    let file = folder.path().join("bowline.db");
    let mut bytes = fs::read(&file).expect("read");
    // SQLite's user version, big-endian.
    bytes[60..64].copy_from_slice(&7_u32.to_be_bytes());
    fs::write(&file, &bytes).expect("written");
    let error = refused(folder.path());
    assert!(matches!(error, OpenError::Newer { found: 7, known: 3, .. }), "{error}");
    assert_eq!(fs::read(&file).expect("read"), bytes);
}

#[test]
fn other_peoples_databases_are_refused_and_left_alone() {
    let folder = filled();
    let file = folder.path().join("bowline.db");
    let mut bytes = fs::read(&file).expect("read");
    // SQLite's application id and user version: none.
    bytes[68..72].fill(0);
    bytes[60..64].fill(0);
    fs::write(&file, &bytes).expect("written");
    let error = refused(folder.path());
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    assert_eq!(fs::read(&file).expect("read"), bytes);
}

#[test]
fn a_damaged_file_is_refused_with_advice_and_left_alone() {
    let check = |damage: &dyn Fn(&mut Vec<u8>)| {
        let folder = filled();
        let file = folder.path().join("bowline.db");
        let mut bytes = fs::read(&file).expect("read");
        damage(&mut bytes);
        fs::write(&file, &bytes).expect("written");
        let strict = Limits { check_at_open: true, ..limits() };
        let error = Store::open(folder.path(), Durability::Fsync, strict).expect_err("is damaged");
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains("bowline.db") && message.contains("move"), "{message}");
        assert_eq!(fs::read(&file).expect("read"), bytes);
    };
    check(&|bytes| bytes[..100].fill(b'x'));
    check(&|bytes| bytes.truncate(5_000));
    check(&|bytes| bytes[4_096..].fill(0xA5));
    check(&|bytes| *bytes = b"just some text".repeat(1_000));
}

#[test]
fn a_log_without_its_database_is_not_thrown_away() {
    let folder = fast_folder();
    let store = open(folder.path());
    store.commit(transaction(0)).wait().expect("commits");
    let log = fs::read(folder.path().join("bowline.db-wal")).expect("there");
    drop(store);
    fs::remove_file(folder.path().join("bowline.db")).expect("removed");
    fs::write(folder.path().join("bowline.db-wal"), &log).expect("written");
    let error = refused(folder.path());
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert_eq!(fs::read(folder.path().join("bowline.db-wal")).expect("there"), log);
}

#[test]
fn a_log_left_behind_is_taken_in() {
    let folder = fast_folder();
    let store = open(folder.path());
    for n in 0..=30 {
        store.commit(transaction(n)).wait().expect("commits");
    }
    // What a killed process leaves.
    let copy = fast_folder();
    for name in ["bowline.db", "bowline.db-wal", "bowline.db-shm"] {
        fs::copy(folder.path().join(name), copy.path().join(name)).expect("copied");
    }
    assert_eq!(see(&open(copy.path())), state_after(Some(30)));
}

#[test]
fn a_path_that_cannot_be_is_an_error_that_names_it() {
    let folder = fast_folder();
    let file = folder.path().join("file");
    fs::write(&file, b"").expect("written");
    let error = refused(&file.join("store"));
    assert!(matches!(error, OpenError::Io { .. }) && error.to_string().contains("file"), "{error}");
}
