//! The power is cut at every write: P1 and P3 with what a disk really promises.
//!
//! The store runs on the recording layer, which sees what SQLite writes and syncs in this process, in
//! order. Then, for every prefix of that and for several choices of what of the unsynced reached the
//! disk, the folder is rebuilt and opened by the real store. That is thousands of power cuts a second,
//! with the real code on both sides; only the disk is a model.

use std::collections::VecDeque;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use bowline_store::{CommitError, Durability, Limits, Store};
use bowline_store_vfs::{Call, Disk, Op, Watch};

use crate::harness::{bad_transaction, fast_folder, limits, progress, see, seed, state_after, transaction};

/// SQLite's result code of a failed sync.
const IOERR_FSYNC: i32 = 10 | (4 << 8);

/// Whether a transaction that was answered must be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Promise {
    Kept,
    /// Only order and wholeness.
    None,
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_is_cut() {
    let seed = seed("power cut");
    let ops = run(seed, Durability::Fsync, 2, |_| {});
    let cuts = cut_everywhere(&ops, seed, 6_000, Promise::Kept);
    assert_eq!(cuts, 6_000);
}

#[test]
fn a_failed_sync_is_never_taken_for_a_good_one() {
    let seed = seed("failed syncs and power cut");
    let ops = run(seed, Durability::Fsync, 1, |watch| {
        let mut random = fastrand::Rng::with_seed(seed);
        watch.fail(move |call, _| (call == Call::Sync && random.u8(..12) == 0).then_some(IOERR_FSYNC));
    });
    assert!(ops.iter().any(|op| matches!(op, Op::SyncFailed { .. })));
    cut_everywhere(&ops, seed, 2_000, Promise::Kept);
}

#[test]
fn without_syncs_a_power_cut_takes_the_end_only() {
    let seed = seed("power cut, not synced");
    let ops = run(seed, Durability::Os, 2, |_| {});
    cut_everywhere(&ops, seed, 1_000, Promise::None);
}

/// Runs the workload through several lives of the store. Marks transaction `n` when it is answered.
fn run(seed: u64, durability: Durability, lives: u64, each_life: impl Fn(&Watch)) -> Vec<Op> {
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = fast_folder();
    let watch = Watch::new(folder.path());
    let mut next = 0;
    for life in 1..=lives {
        watch.heal();
        let store = Store::open(folder.path(), durability, limits()).expect("opens");
        each_life(&watch);
        while next < 120 * life {
            next = burst(&store, &watch, next, random.u64(1..12));
        }
    }
    watch.ops()
}

/// Sends some transactions at once, as devices do. Returns the number of the first that was not
/// committed.
fn burst(store: &Store, watch: &Watch, from: u64, count: u64) -> u64 {
    let (done, answers) = mpsc::channel();
    for n in from..from + count {
        let (mark, done) = (watch.marker(), done.clone());
        let then = move |answer: Result<_, CommitError>| {
            if answer.is_ok() {
                mark(n);
            }
            done.send(answer.map(|_| n)).expect("is waited for");
        };
        store.commit_with(transaction(n), then).expect("room");
        if n % 5 == 0 {
            store.commit_with(bad_transaction(), |answer| assert!(answer.is_err())).expect("room");
        }
    }
    drop(done);
    answers.iter().filter_map(Result::ok).max().map_or(from, |last| last + 1)
}

/// So many of them, spread evenly.
fn cut_everywhere(ops: &[Op], seed: u64, cuts: u64, promise: Promise) -> u64 {
    let all = ops.len() as u64;
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let done = &done;
            scope.spawn(move || {
                let folder = fast_folder();
                let (mut disk, mut acked) = (Disk::default(), None);
                for (at, op) in ops.iter().enumerate() {
                    disk.apply(op);
                    if let Op::Mark(n) = op {
                        acked = Some(*n);
                    }
                    if at % 2 != worker {
                        continue;
                    }
                    let at = at as u64;
                    for variant in 0..(at + 1) * cuts / all - at * cuts / all {
                        let cut_seed = seed ^ (at << 20) ^ variant;
                        let folder = folder.path().join("cut");
                        fs::create_dir(&folder).expect("made");
                        bowline_store_vfs::write(&disk.cut(&mut fastrand::Rng::with_seed(cut_seed)), &folder);
                        check(&folder, acked, promise, &format!("cut after operation {at}, variant {variant}"));
                        fs::remove_dir_all(&folder).expect("removed");
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let done = done.into_inner();
    println!("{done} cuts over {} operations", ops.len());
    done
}

fn check(folder: &std::path::Path, acked: Option<u64>, promise: Promise, what: &str) {
    let limits = Limits { check_at_open: true, ..limits() };
    let store = Store::open(folder, Durability::Fsync, limits).unwrap_or_else(|error| panic!("{what}: {error}"));
    let seen = see(&store);
    let found = progress(&seen);
    assert!(promise == Promise::None || found >= acked, "{what}: found {found:?}, acknowledged {acked:?}");
    assert!(seen == state_after(found), "{what}: the state is not that after {found:?}");
    let next = found.map_or(0, |found| found + 1);
    let goes_on: VecDeque<_> = (next..next + 2).map(|n| store.commit(transaction(n))).collect();
    for commit in goes_on {
        commit.wait().unwrap_or_else(|error| panic!("{what}: cannot go on: {error}"));
    }
}
