//! Disks that do not take it.

use bowline_apps::record::{OpenError, WriteError};
use bowline_store_vfs::{Call, Watch};
use rusqlite::ffi::{SQLITE_FULL, SQLITE_IOERR_FSYNC};

use crate::record::harness::{Bench, NOW};

#[tokio::test]
async fn a_full_disk_makes_messages_wait_and_space_is_all_it_takes() {
    let bench = Bench::new();
    let watch = Watch::new(bench.path());
    bench.handles(1, NOW, "1").await.unwrap();
    watch.fail(|call, _| (call == Call::Write).then_some(SQLITE_FULL));
    for _ in 0..3 {
        let error = bench.handles(2, NOW, "2").await.unwrap_err();
        assert!(matches!(&error, WriteError::Unavailable(OpenError::Full { .. })), "{error}");
        assert!(error.to_string().contains("make room"), "{error}");
    }
    assert_eq!(bench.values(), ["1"], "what is there can be read");
    watch.heal();
    bench.handles(2, NOW, "2").await.unwrap();
    bench.handles(3, NOW, "3").await.unwrap();
    assert_eq!(bench.values(), ["1", "2", "3"]);
}

#[tokio::test]
async fn a_disk_that_is_full_from_the_beginning_is_waited_for() {
    let bench = Bench::new();
    let watch = Watch::new(bench.path());
    watch.fail(|call, _| (call == Call::Write).then_some(SQLITE_FULL));
    bench.handles(1, NOW, "1").await.unwrap_err();
    watch.heal();
    bench.handles(1, NOW, "1").await.unwrap();
    assert_eq!(bench.values(), ["1"]);
}

#[tokio::test]
async fn after_a_failed_sync_everything_is_written_anew_before_anything_is_done() {
    let bench = Bench::with(|settings| settings.sync = true);
    let watch = Watch::new(bench.path());
    bench.handles(1, NOW, "1").await.unwrap();
    watch.fail(|call, name| (call == Call::Sync && name.ends_with("-wal")).then_some(SQLITE_IOERR_FSYNC));
    let error = bench.handles(2, NOW, "2").await.unwrap_err();
    assert!(matches!(&error, WriteError::Unavailable(OpenError::Io { .. })), "{error}");
    // The log may be synced again, but what it says was not: the copy into the database fails, so nothing is done.
    watch.fail(|call, name| (call == Call::Sync && name.ends_with(".db")).then_some(SQLITE_IOERR_FSYNC));
    bench.handles(3, NOW, "3").await.unwrap_err();
    bench.handles(2, NOW, "2").await.unwrap_err();
    watch.heal();
    bench.handles(3, NOW, "3").await.unwrap();
    bench.handles(2, NOW, "2").await.unwrap();
    let mut values = bench.values();
    values.sort();
    assert_eq!(values, ["1", "2", "3"]);
}

#[tokio::test]
async fn each_commit_is_synced_if_asked_for() {
    for (sync, least) in [(true, 3), (false, 0)] {
        let bench = Bench::with(|settings| settings.sync = sync);
        let watch = Watch::new(bench.path());
        bench.handles(1, NOW, "1").await.unwrap();
        let before = watch.syncs();
        for seq in 2..=4 {
            bench.handles(seq, NOW, "1").await.unwrap();
        }
        assert_eq!(watch.syncs() - before, least, "sync: {sync}");
    }
}
