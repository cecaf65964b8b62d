//! Disks that do not take it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bowline_apps::record::{OpenError, WriteError};
use bowline_client::{Client, Message, Receipt};
use bowline_server::{AppLimits, Server};
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

#[tokio::test]
async fn messages_wait_for_the_disk_for_as_long_as_it_takes() {
    let bench = Bench::new();
    let watch = Watch::new(bench.path());
    let failures = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&failures);
    // Full for much longer than a message is tried.
    watch.fail(move |call, _| {
        let full = call == Call::Write && counted.fetch_add(1, Ordering::Relaxed) < 20;
        full.then_some(SQLITE_FULL)
    });
    let limits = AppLimits { attempts: 2, first_pause: Duration::from_millis(5), ..AppLimits::default() };
    let server = Server::builder().listen("127.0.0.1:0".parse().unwrap());
    let server = server.app(3, "record", bench.record().clone()).app_limits(limits).start().await.unwrap();
    let board = Client::builder("kitchen", server.addresses()[0].to_string()).start().unwrap();
    board.send(Message::on_channel(3, 0, 0, b"21.5")).until(Receipt::Processed).await.unwrap();
    assert!(failures.load(Ordering::Relaxed) > 20);
    assert_eq!(bench.values(), ["21.5"]);
    assert_eq!(server.device("kitchen").await.unwrap().dead_letters(), []);
}
