//! Groups, answers and the queue.

use std::sync::mpsc;
use std::time::Duration;

use bowline_store::{Change, Commit, CommitError, Durability, Limits, Millis, NotQueued, Store};
use bowline_store_vfs::Watch;
use futures_util::future::join_all;
use futures_util::task::noop_waker;

use crate::harness::{assert_bad, bad_transaction, fast_folder, open, receive, see, state_after, transaction};

/// Holds the writer in a callback until the returned sender is used or dropped.
fn hold(store: &Store) -> mpsc::Sender<()> {
    let (go, wait) = mpsc::channel();
    let (held, is_held) = mpsc::channel();
    let hold = move |_| {
        held.send(()).expect("is waited for");
        // Dropped or sent: go on.
        let _ = wait.recv();
    };
    store.commit_with(Change::device("hold", false, Millis(0)), hold).expect("there is room");
    is_held.recv().expect("the writer is there");
    go
}

#[test]
fn what_waits_is_committed_together_with_one_sync() {
    let folder = fast_folder();
    let watch = Watch::new(folder.path());
    let store = Store::open(folder.path(), Durability::Fsync, Limits::default()).expect("opens");
    store.commit(transaction(0)).wait().expect("commits");
    let go = hold(&store);
    let (syncs, stats) = (watch.syncs(), store.stats());
    let commits: Vec<Commit> = (1..=100).map(|n| store.commit(transaction(n))).collect();
    drop(go);
    for commit in commits {
        commit.wait().expect("commits");
    }
    assert_eq!(store.stats().commits - stats.commits, 1);
    assert_eq!(store.stats().transactions - stats.transactions, 100);
    assert_eq!(watch.syncs() - syncs, 1);
    for n in 101..=103 {
        store.commit(transaction(n)).wait().expect("commits");
    }
    assert_eq!(watch.syncs() - syncs, 4, "no answer without a sync");
}

#[test]
fn os_durability_does_not_sync() {
    let folder = fast_folder();
    let watch = Watch::new(folder.path());
    let store = Store::open(folder.path(), Durability::Os, Limits::default()).expect("opens");
    let syncs = watch.syncs();
    for n in 0..50 {
        store.commit(transaction(n)).wait().expect("commits");
    }
    assert_eq!(watch.syncs(), syncs + 1, "only the new log's header, once");
}

#[test]
fn a_commit_in_its_callers_thread_overtakes_nothing_that_waits() {
    let folder = fast_folder();
    let store = Store::open(folder.path(), Durability::Os, Limits::default()).expect("opens");
    for _ in 0..200 {
        store.commit_with(Change::Forget { device: "a".into() }, drop).expect("there is room");
        // The writer may be awake by now, or may not.
        match store.commit_in_place(Change::device("a", false, Millis(0)).into()) {
            Ok(answer) => drop(answer.expect("commits")),
            Err(announced) => drop(store.commit(announced).wait().expect("commits")),
        }
        store.commit(Change::device("marker", false, Millis(0))).wait().expect("commits");
        assert!(store.load("a").expect("readable").is_some());
    }
}

#[test]
fn a_failing_transaction_leaves_its_neighbours_alone() {
    let folder = fast_folder();
    let store = open(folder.path());
    store.commit(transaction(0)).wait().expect("commits");
    let go = hold(&store);
    let commits: Vec<(Commit, Commit)> =
        (1..=40).map(|n| (store.commit(transaction(n)), store.commit(bad_transaction()))).collect();
    drop(go);
    for (good, bad) in commits {
        good.wait().expect("commits");
        assert_bad(&bad.wait());
    }
    store.commit(Change::Forget { device: "hold".into() }).wait().expect("commits");
    assert_eq!(see(&store), state_after(Some(40)));
}

#[test]
fn readers_do_not_hold_up_the_writer_and_see_whole_commits() {
    let folder = fast_folder();
    let store = open(folder.path());
    store.commit(transaction(0)).wait().expect("commits");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 1..=300 {
                store.commit(transaction(n)).wait().expect("commits");
            }
        });
        let mut last = 0;
        while !writer.is_finished() {
            let device = store.load("common").expect("readable").expect("known");
            assert!(device.outbox_last.0 >= last);
            last = device.outbox_last.0;
            assert_eq!(device.summary.outbox, device.outbox.len() as u64);
            assert_eq!(device.outbox.last().map_or(0, |message| message.seq.0), last);
        }
    });
    assert_eq!(see(&store), state_after(Some(300)));
}

#[test]
fn commit_is_a_future_for_any_runtime() {
    let store = Store::open("unused", Durability::Memory, Limits::default()).expect("opens");
    let answers = futures_util::FutureExt::now_or_never(async {});
    assert_eq!(answers, Some(()));
    // A hand-made executor: park until woken.
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut all = std::pin::pin!(join_all((0..100).map(|n| store.commit(transaction(n)))));
    let answers = loop {
        match all.as_mut().poll(&mut context) {
            std::task::Poll::Ready(answers) => break answers,
            std::task::Poll::Pending => std::thread::park(),
        }
    };
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 100);
}

#[test]
fn dropping_a_commit_cancels_nothing_that_was_accepted() {
    let limits = Limits { queue: 10, ..Limits::default() };
    let store = Store::open("unused", Durability::Memory, limits).expect("opens");
    store.commit(Change::device("a", true, Millis(0))).wait().expect("commits");
    let go = hold(&store);
    let mut commits: Vec<Commit> = (1..=12).map(|n| store.commit(receive("a", n, b"x"))).collect();
    // Callback form: no room.
    let full = store.commit_with(receive("a", 13, b"x"), |_| panic!("not queued"));
    assert!(matches!(full, Err(NotQueued::Full { capacity: 10, .. })));
    // Polled and dropped, at any place in the queue.
    let waker = noop_waker();
    for commit in &mut commits {
        assert!(std::pin::Pin::new(commit).poll(&mut std::task::Context::from_waker(&waker)).is_pending());
    }
    let last = commits.pop().expect("twelve");
    // The eleventh waits for room and leaves; ten are accepted and stay.
    drop(commits);
    drop(go);
    last.wait().expect("the twelfth found room");
    let seqs: Vec<u64> = store.load("a").expect("readable").expect("known").inbox.iter().map(|m| m.seq.0).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12]);
}

#[test]
fn closing_commits_what_waits_and_answers_everyone() {
    let folder = fast_folder();
    let store = open(folder.path());
    let (answers, all) = mpsc::channel();
    for n in 0..50 {
        let answers = answers.clone();
        store.commit_with(transaction(n), move |answer| answers.send(answer.is_ok()).expect("waits")).expect("room");
    }
    let late = store.commit(transaction(50));
    drop(store);
    drop(answers);
    assert_eq!(all.iter().filter(|ok| *ok).count(), 50);
    late.wait().expect("was queued before the end");
    assert!(!folder.path().join("bowline.db-wal").exists(), "an orderly end leaves no log");
    assert_eq!(see(&open(folder.path())), state_after(Some(50)));
}

#[test]
fn a_panicking_callback_harms_nobody_else() {
    let store = Store::open("unused", Durability::Memory, Limits::default()).expect("opens");
    store.commit_with(transaction(0), |_| panic!("on purpose")).expect("room");
    store.commit(transaction(1)).wait().expect("the writer goes on");
}

#[test]
fn the_last_handle_may_be_dropped_by_a_callback() {
    let folder = fast_folder();
    let store = std::sync::Arc::new(open(folder.path()));
    let (done, is_done) = mpsc::channel();
    let go = hold(&store);
    let last = std::sync::Arc::clone(&store);
    store
        .commit_with(transaction(0), move |answer| {
            drop(last);
            done.send(answer.is_ok()).expect("waits");
        })
        .expect("room");
    drop(store);
    drop(go);
    assert_eq!(is_done.recv_timeout(Duration::from_secs(10)), Ok(true));
}

#[test]
fn a_store_in_memory_reads_while_it_writes() {
    let store = Store::open("unused", Durability::Memory, crate::harness::limits()).expect("opens");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..300 {
                store.commit(transaction(n)).wait().expect("commits");
            }
        });
        while !writer.is_finished() {
            store.devices().expect("readable");
        }
    });
    assert_eq!(see(&store), state_after(Some(299)));
    let error = CommitError::UnknownDevice { device: "x".into() };
    assert_eq!(store.commit(receive("x", 1, b"")).wait(), Err(error));
}
