//! A disk that fails: P11.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bowline_store::{Change, CommitError, Durability, Health, Limits, Store};
use bowline_store_vfs::{Call, Disk, Op, Watch};
use tempfile::TempDir;

use crate::harness::{fast_folder, limits, open, progress, see, state_after, transaction};

const FULL: i32 = 13;
const IOERR_WRITE: i32 = 10 | (3 << 8);
const IOERR_FSYNC: i32 = 10 | (4 << 8);

/// A store with ten transactions, whose log is copied only when it has so many pages.
fn opened(log_pages: u32) -> (TempDir, Watch, Store) {
    let folder = fast_folder();
    let watch = Watch::new(folder.path());
    let store = Store::open(folder.path(), Durability::Fsync, Limits { log_pages, ..limits() }).expect("opens");
    for n in 0..10 {
        store.commit(transaction(n)).wait().expect("commits");
    }
    (folder, watch, store)
}

/// Lets the next call of this kind on this file fail, and no other.
fn fail_once(watch: &Watch, call: Call, name: &'static str, code: i32) {
    let mut failed = false;
    watch.fail(move |this, file| {
        (this == call && file == name && !std::mem::replace(&mut failed, true)).then_some(code)
    });
}

fn is_good(store: &Store) -> bool {
    store.health() == Health::Good
}

#[test]
fn a_failed_sync_fails_the_commit_and_everything_is_written_anew() {
    let (folder, watch, store) = opened(10_000);
    fail_once(&watch, Call::Sync, "bowline.db-wal", IOERR_FSYNC);
    let error = store.commit(transaction(10)).wait().expect_err("the sync failed");
    assert!(matches!(error, CommitError::Io { .. }), "{error}");
    assert_eq!(see(&store), state_after(Some(9)), "nothing of it is visible");
    assert!(!is_good(&store));
    let failed = watch.ops().len();

    store.commit(transaction(10)).wait().expect("the disk is well again");
    assert!(is_good(&store));
    assert_eq!(see(&store), state_after(Some(10)));
    // Before it was answered, the valid log was copied and synced, and the failed pages thrown away.
    let since = &watch.ops()[failed..];
    let truncated = since.iter().position(|op| matches!(op, Op::Truncate { len: 0, .. })).expect("the log was emptied");
    assert!(since[..truncated].iter().any(|op| matches!(op, Op::Sync { .. })));

    // A disk that lost every page of the failed sync still has all that was acknowledged.
    let mut disk = Disk::default();
    watch.ops().iter().for_each(|op| disk.apply(op));
    for seed in 0..50 {
        let rebuilt = fast_folder();
        bowline_store_vfs::write(&disk.cut(&mut fastrand::Rng::with_seed(seed)), rebuilt.path());
        assert_eq!(progress(&see(&open(rebuilt.path()))), Some(10));
    }
    drop((store, folder));
}

#[test]
fn while_the_disk_fails_nothing_is_acknowledged() {
    let (_folder, watch, store) = opened(10_000);
    watch.fail(|call, _| (call == Call::Sync).then_some(IOERR_FSYNC));
    for _ in 0..5 {
        store.commit(transaction(10)).wait().expect_err("the disk fails");
        assert_eq!(see(&store), state_after(Some(9)), "what is acknowledged can be read all the time");
        assert!(!is_good(&store));
    }
    watch.heal();
    store.commit(transaction(10)).wait().expect("by itself");
    assert!(is_good(&store));
    assert_eq!(see(&store), state_after(Some(10)));
}

#[test]
fn a_failed_write_fails_its_commit_only() {
    let (_folder, watch, store) = opened(10_000);
    for (code, full) in [(FULL, true), (IOERR_WRITE, false)] {
        watch.fail(move |call, _| (call == Call::Write).then_some(code));
        let error = store.commit(transaction(10)).wait().expect_err("the write failed");
        assert_eq!(error == CommitError::Full, full, "{error}");
        assert!(!is_good(&store));
        assert_eq!(see(&store), state_after(Some(9)));
    }
    watch.heal();
    store.commit(transaction(10)).wait().expect("by itself");
    assert!(is_good(&store));
    assert_eq!(see(&store), state_after(Some(10)));
}

#[test]
fn when_space_is_short_a_small_transaction_still_gets_through() {
    let (_folder, watch, store) = opened(10_000);
    // The log can be used again from its beginning, and no further.
    watch.fail(|call, file| (call == Call::Write && file == "bowline.db-wal").then_some(FULL));
    store.commit(transaction(10)).wait().expect_err("no room in the log");
    let room = Arc::new(AtomicU32::new(8));
    let left = Arc::clone(&room);
    watch.fail(move |call, file| {
        let takes = call == Call::Write && file == "bowline.db-wal";
        (takes && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err())
            .then_some(FULL)
    });
    let small = Change::Ledger { device: "0".into(), counters: vec![1] };
    store.commit(small).wait().expect("fits");
    watch.heal();
    store.commit(transaction(10)).wait().expect("by itself");
    assert!(is_good(&store));
}

#[test]
fn a_log_that_cannot_be_copied_is_reported_and_copied_again() {
    let (_folder, watch, store) = opened(200);
    let failed = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&failed);
    watch.fail(move |call, file| {
        let fails = call == Call::Sync && file == "bowline.db" && !flag.swap(true, Ordering::Relaxed);
        fails.then_some(IOERR_FSYNC)
    });
    let mut n = 10;
    while !failed.load(Ordering::Relaxed) {
        store.commit(transaction(n)).wait().expect("the commit itself is well");
        n += 1;
        // The copy follows the answer; the next transaction follows the copy.
        assert!(n < 1_000, "the log is copied some time");
    }
    store.commit(transaction(n)).wait().expect("after everything was copied again");
    assert!(store.stats().log_copies > 0);
    assert!(is_good(&store));
    assert_eq!(see(&store), state_after(Some(n)));
}

#[test]
fn a_store_that_ends_while_its_disk_fails_has_what_it_acknowledged() {
    let (folder, watch, store) = opened(10_000);
    watch.fail(|_, _| Some(IOERR_WRITE));
    store.commit(transaction(10)).wait().expect_err("the disk fails");
    drop(store);
    watch.heal();
    let store = open(folder.path());
    let found = progress(&see(&store));
    assert!(found >= Some(9));
    assert_eq!(see(&store), state_after(found));
}

#[test]
fn what_an_earlier_process_could_not_sync_is_written_anew_at_open() {
    let (folder, watch, store) = opened(10_000);
    watch.fail(|call, _| (call == Call::Sync).then_some(IOERR_FSYNC));
    store.commit(transaction(10)).wait().expect_err("the disk fails");
    drop(store);
    watch.heal();
    // The system shows the new process all of transaction 10, though none of it need be on the disk.
    let store = open(folder.path());
    assert_eq!(progress(&see(&store)), Some(10));
    store.commit(transaction(11)).wait().expect("commits");
    let mut disk = Disk::default();
    watch.ops().iter().for_each(|op| disk.apply(op));
    for seed in 0..50 {
        let rebuilt = fast_folder();
        bowline_store_vfs::write(&disk.cut(&mut fastrand::Rng::with_seed(seed)), rebuilt.path());
        assert!(see(&open(rebuilt.path())) == state_after(Some(11)), "seed {seed}: what is acknowledged stands on it");
    }
}
