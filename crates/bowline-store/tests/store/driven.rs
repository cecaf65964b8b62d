//! A store without a thread: its owner does the work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bowline_store::{Change, CommitError, Durability, Limits, Millis, NotQueued, Store, Transaction, Worker};

use crate::harness::{fast_folder, open, see, state_after, transaction};

/// A store, who works for it, and how often it has asked for work.
fn driven(folder: &std::path::Path, durability: Durability, limits: Limits) -> (Store, Worker, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let called = Arc::clone(&calls);
    let call = move || _ = called.fetch_add(1, Ordering::Relaxed);
    let (store, worker) = Store::open_driven(folder, durability, limits, call).expect("opens");
    assert!(store.is_driven());
    (store, worker, calls)
}

#[test]
fn nothing_is_committed_before_the_worker_works_and_then_in_groups() {
    let folder = fast_folder();
    let limits = Limits { group: 2, ..Limits::default() };
    let (store, worker, calls) = driven(folder.path(), Durability::Fsync, limits);
    assert_eq!(store.limits(), limits);
    let commits: Vec<_> = (0..3).map(|n| store.commit(transaction(n))).collect();
    assert_eq!((calls.load(Ordering::Relaxed), store.stats().transactions), (3, 0));
    assert!(worker.work());
    assert_eq!(see(&store), state_after(Some(1)), "a group of two");
    assert!(worker.work());
    assert!(!worker.work(), "nothing is left");
    for commit in commits {
        commit.wait().expect("commits");
    }
    assert_eq!(see(&store), state_after(Some(2)));
}

#[test]
fn a_store_that_ends_commits_what_waits() {
    let folder = fast_folder();
    let (store, worker, _) = driven(folder.path(), Durability::Fsync, Limits::default());
    let commit = store.commit(transaction(0));
    drop(store);
    commit.wait().expect("committed at the end");
    drop(worker);
    assert_eq!(see(&open(folder.path())), state_after(Some(0)));
}

/// The simulator hung here: the answer's owner was the last one that held the store.
#[test]
fn a_store_that_ends_in_an_answer_commits_what_waits() {
    let folder = fast_folder();
    let limits = Limits { group: 1, ..Limits::default() };
    let (store, worker, _) = driven(folder.path(), Durability::Fsync, limits);
    let store = Arc::new(store);
    let last = Arc::clone(&store);
    store.commit_with(transaction(0), move |_| drop(last)).expect("queued");
    let behind = store.commit(transaction(1));
    drop(store);
    assert!(worker.work());
    behind.wait().expect("committed at the end");
    assert!(!worker.work(), "nothing is left");
    drop(worker);
    assert_eq!(see(&open(folder.path())), state_after(Some(1)));
}

#[test]
fn without_its_worker_a_store_takes_nothing_and_says_so() {
    let folder = fast_folder();
    let (store, worker, _) = driven(folder.path(), Durability::Fsync, Limits::default());
    let waiting = store.commit(transaction(0));
    drop(worker);
    assert_eq!(waiting.wait(), Err(CommitError::Closed));
    assert_eq!(store.commit(transaction(0)).wait(), Err(CommitError::Closed));
    let refused = store.commit_with(transaction(0), |_| panic!("called, and was told that it would not be"));
    assert!(matches!(refused, Err(NotQueued::Closed)), "{refused:?}");
    assert_eq!(see(&store), state_after(None));
}

#[test]
fn only_small_transactions_are_committed_in_place_and_none_before_those_that_wait() {
    let folder = fast_folder();
    let (store, worker, _) = driven(folder.path(), Durability::Os, Limits::default());
    assert!(store.commits_in_place());
    let mut device = Transaction::new();
    device.push(Change::device("a", true, Millis(1)));
    let large: Transaction =
        device.changes().iter().cloned().chain((0..64).map(|_| Change::device("b", true, Millis(1)))).collect();
    let back = store.commit_in_place(large).expect_err("65 changes");
    assert_eq!(back.changes().len(), 65);
    let waiting = store.commit(transaction(0));
    let device = store.commit_in_place(device).expect_err("another comes first");
    assert!(worker.work());
    waiting.wait().expect("commits");
    store.commit_in_place(device).expect("free").expect("commits");
    assert!(store.load("a").expect("readable").is_some());
}

#[test]
fn with_syncs_nothing_is_committed_in_place() {
    let folder = fast_folder();
    let (store, _worker, _) = driven(folder.path(), Durability::Fsync, Limits::default());
    assert!(!store.commits_in_place());
    assert!(store.commit_in_place(transaction(0)).is_err());
}

#[test]
fn a_log_that_is_due_to_be_copied_is_left_to_the_worker() {
    let folder = fast_folder();
    let limits = Limits { log_pages: 1, ..Limits::default() };
    let (store, worker, _) = driven(folder.path(), Durability::Os, limits);
    let change = |n: u64| Transaction::from(Change::device("a", true, Millis(n)));
    store.commit_in_place(change(1)).expect("the log is empty").expect("commits");
    let back = store.commit_in_place(change(2)).expect_err("the log is long");
    let commit = store.commit(back);
    assert!(worker.work());
    commit.wait().expect("commits");
    assert_eq!(store.stats().log_copies, 1);
    store.commit_in_place(change(3)).expect("the log is short again").expect("commits");
}

/// The writer's thread is not asked, and sees to it all the same where nobody else does.
#[test]
fn what_is_gathered_is_committed_together_by_whoever_works() {
    let folder = fast_folder();
    let limits = Limits { log_pages: 20, ..Limits::default() };
    let store = Store::open(folder.path(), Durability::Os, limits).expect("opens");
    let told = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&told);
    assert!(store.gathers(move || {
        count.fetch_add(1, Ordering::Relaxed);
    }));
    assert!(!store.gathers(|| panic!("is not the first one")));
    let (answer, answers) = std::sync::mpsc::channel();
    let gather = |store: &Store, n: u64| {
        let answer = answer.clone();
        let then = move |committed: Result<_, _>| answer.send(committed.map(|_| n)).expect("is waited for");
        store.gather(Change::device(format!("{n}"), true, Millis(n)), then).expect("there is room");
    };
    (0..10).for_each(|n| gather(&store, n));
    assert_eq!(told.load(Ordering::Relaxed), 10);
    store.work();
    assert!(answers.try_iter().map(|answer| answer.expect("commits")).eq(0..10), "in order, and before it returns");

    // With every commit the log grows: at its limit the thread takes over, unasked by anybody who works.
    let copied = (10..10_000).find(|n| {
        gather(&store, *n);
        if store.stats().log_copies == 0 {
            store.work();
        }
        assert_eq!(answers.recv().expect("is answered").expect("commits"), *n);
        store.stats().log_copies > 0
    });
    assert!(copied.is_some(), "the log is never copied");
    gather(&store, 10_000);
    drop(store);
    assert_eq!(answers.recv().expect("is answered").expect("commits"), 10_000, "before the store is closed");
}

#[test]
fn stores_say_which_file_they_are_and_nothing_of_what_is_in_it() {
    let folder = fast_folder();
    let (store, worker, _) = driven(folder.path(), Durability::Os, Limits::default());
    let file = format!("{:?}", folder.path().join("bowline.db"));
    let commit = store.commit(transaction(0));
    for text in [format!("{store:?}"), format!("{worker:?}")] {
        assert!(text.contains(&file), "{text}");
    }
    assert!(format!("{commit:?}").starts_with("Commit { ticket: 0"), "{commit:?}");
}
