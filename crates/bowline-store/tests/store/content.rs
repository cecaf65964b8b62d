//! What is kept, and the rules of the queues.

use bowline_store::{
    Change, CommitError, DeadId, Direction, Durability, Limits, Millis, OutboxMessage, Queue, Quota, QuotaUnit,
    ReadError, Seq, Store, Transaction,
};

use crate::harness::{
    acked, fast_folder, letter, processed, receive, received, see, send, sent, state_after, transaction,
};

fn store_with(device: &str, limits: Limits) -> Store {
    let store = Store::open("unused", Durability::Memory, limits).expect("opens");
    store.commit(Change::device(device, true, Millis(10))).wait().expect("commits");
    store
}

fn fails(store: &Store, change: Change) -> CommitError {
    store.commit(change).wait().expect_err("must fail")
}

#[test]
fn everything_a_device_has_is_there_after_a_restart() {
    for durability in [Durability::Fsync, Durability::Os] {
        let folder = fast_folder();
        let store = Store::open(folder.path(), durability, Limits::default()).expect("opens");
        let transaction = Transaction::new()
            .with(Change::device("a", false, Millis(77)))
            .with(Change::Session { device: "a".into(), format: 9, state: vec![0, 255] })
            .with(Change::Ledger { device: "a".into(), counters: vec![1, 2, 3] })
            .with(receive("a", 3, b"three"))
            .with(receive("a", 10, b""))
            .with(send("a", 1, b"one"))
            .with(send("a", 2, &[0; 100_000]))
            .with(Change::Bury { device: "a".into(), letter: letter(Direction::Received, b"?") });
        store.commit(transaction).wait().expect("commits");
        let before = see(&store);
        drop(store);

        let store = Store::open(folder.path(), durability, Limits { check_at_open: true, ..Limits::default() });
        let store = store.expect("opens again");
        assert_eq!(see(&store), before);
        let device = store.load("a").expect("readable").expect("known");
        assert_eq!(device.inbox, [received(3, b"three"), received(10, b"")]);
        assert_eq!(device.outbox, [sent(1, b"one"), sent(2, &[0; 100_000])]);
        assert_eq!((device.inbox_last, device.inbox_cursor, device.outbox_last), (Seq(10), Seq(0), Seq(2)));
        assert_eq!(device.session.expect("saved").state, [0, 255]);
        assert_eq!((device.summary.persistent, device.summary.last_seen), (false, Millis(77)));
        assert_eq!(store.load("b").expect("readable"), None);
    }
}

/// Found by the fuzz target `endpoint`: whoever goes on from such numbers counts below zero.
#[test]
fn numbers_that_contradict_each_other_are_damage() {
    let wrong = [
        "UPDATE device SET inbox_cursor = 4",
        "UPDATE device SET inbox_last = 2",
        "UPDATE device SET outbox_last = 0",
        "UPDATE inbox SET last = 0",
        "UPDATE inbox SET first = 0",
        "UPDATE outbox SET seq = 0",
    ];
    for sql in wrong {
        let folder = fast_folder();
        let open = || Store::open(folder.path(), Durability::Os, Limits::default()).expect("opens");
        let store = open();
        store.commit(Change::device("a", true, Millis(1))).wait().expect("commits");
        store.commit(Transaction::new().with(receive("a", 3, b"x")).with(send("a", 1, b"x"))).wait().expect("commits");
        assert!(store.load("a").is_ok());
        drop(store);
        rusqlite::Connection::open(folder.path().join("bowline.db")).unwrap().execute(sql, ()).expect(sql);
        let error = open().load("a").unwrap_err();
        assert!(matches!(error, ReadError::Damaged(_)), "{sql}: {error}");
    }
}

#[test]
fn the_workload_and_its_model_agree() {
    let store = Store::open("unused", Durability::Memory, crate::harness::limits()).expect("opens");
    assert_eq!(see(&store), state_after(None));
    for n in 0..150 {
        store.commit(transaction(n)).wait().expect("commits");
        assert_eq!(see(&store), state_after(Some(n)), "after {n}");
    }
}

#[test]
fn numbers_rise_for_ever_and_a_message_is_stored_once() {
    let store = store_with("a", Limits::default());
    store.commit(receive("a", 5, b"x")).wait().expect("commits");
    let again = CommitError::OutOfOrder { device: "a".into(), queue: Queue::Inbox, last: Seq(5), seq: Seq(5) };
    assert_eq!(fails(&store, receive("a", 5, b"x")), again);
    store.commit(processed("a", 5)).wait().expect("commits");
    assert_eq!(fails(&store, receive("a", 5, b"x")), again, "also when the first one is processed");
    store.commit(receive("a", 6, b"x")).wait().expect("commits");
    assert!(matches!(fails(&store, send("a", 0, b"x")), CommitError::OutOfOrder { .. }));
    assert!(matches!(fails(&store, send("a", 1 << 62, b"x")), CommitError::OutOfOrder { .. }));
    store.commit(send("a", (1 << 62) - 1, b"x")).wait().expect("commits");
    assert!(matches!(fails(&store, receive("b", 1, b"x")), CommitError::UnknownDevice { .. }));
}

#[test]
fn the_cursor_deletes_and_never_passes_what_has_come() {
    let store = store_with("a", Limits::default());
    for seq in 1..=5 {
        store.commit(receive("a", seq, b"x")).wait().expect("commits");
    }
    // The transactional app: its cursor and its reply, both or neither.
    let reply = Transaction::new().with(processed("a", 3)).with(send("a", 1, b"reply"));
    assert_eq!(store.commit(reply).wait().expect("commits").taken, 3);
    let reply_twice = Transaction::new().with(processed("a", 4)).with(send("a", 1, b"reply"));
    store.commit(reply_twice).wait().expect_err("out of order");
    let device = store.load("a").expect("readable").expect("known");
    assert_eq!(device.inbox, [received(4, b"x"), received(5, b"x")]);
    assert_eq!(device.inbox_cursor, Seq(3));

    assert_eq!(store.commit(processed("a", 2)).wait().expect("commits").taken, 0);
    let taken = Change::TakeReceived { device: "a".into(), seq: Seq(5) };
    assert_eq!(store.commit(taken.clone()).wait().expect("commits").taken, 1);
    assert_eq!(store.commit(taken).wait().expect("nothing happens").taken, 0);
    let device = store.load("a").expect("readable").expect("known");
    assert_eq!((device.inbox.len(), device.inbox_cursor), (1, Seq(3)));
    let ahead = CommitError::Ahead { device: "a".into(), queue: Queue::Inbox, last: Seq(5), through: Seq(6) };
    assert_eq!(fails(&store, processed("a", 6)), ahead);
    assert!(matches!(fails(&store, acked("a", 2)), CommitError::Ahead { queue: Queue::Outbox, .. }));
}

#[test]
fn sent_messages_leave_when_acknowledged_or_dropped() {
    let store = store_with("a", Limits::default());
    for seq in 1..=6 {
        store.commit(send("a", seq, b"x")).wait().expect("commits");
    }
    store.commit(Change::TakeSent { device: "a".into(), seq: Seq(5) }).wait().expect("commits");
    assert_eq!(store.commit(acked("a", 3)).wait().expect("commits").taken, 3);
    let device = store.load("a").expect("readable").expect("known");
    assert_eq!(device.outbox, [sent(4, b"x"), sent(6, b"x")]);
    assert_eq!(device.outbox_last, Seq(6));
}

#[test]
fn a_quota_says_which_and_how_much() {
    let quota = Quota { count: 2, bytes: 100 };
    let store = store_with("a", Limits { inbox: quota, outbox: quota, ..Limits::default() });
    let error = |queue, unit, limit, needed| CommitError::Quota { device: "a".into(), queue, unit, limit, needed };
    assert_eq!(fails(&store, receive("a", 1, &[0; 99])), error(Queue::Inbox, QuotaUnit::Bytes, 100, 101));
    store.commit(receive("a", 1, &[0; 98])).wait().expect("just fits");
    assert_eq!(fails(&store, receive("a", 2, b"")), error(Queue::Inbox, QuotaUnit::Bytes, 100, 102));
    store.commit(send("a", 1, b"")).wait().expect("the outbox has its own");
    store.commit(send("a", 2, b"")).wait().expect("commits");
    assert_eq!(fails(&store, send("a", 3, b"")), error(Queue::Outbox, QuotaUnit::Messages, 2, 3));
    // Room made in the same transaction counts.
    store.commit(Transaction::new().with(acked("a", 1)).with(send("a", 3, b""))).wait().expect("commits");
    store.commit(Transaction::new().with(processed("a", 1)).with(receive("a", 2, &[0; 98]))).wait().expect("commits");
    see(&store);
}

#[test]
fn an_expectation_fails_with_what_it_builds_on() {
    let store = store_with("a", Limits { inbox: Quota { count: 9, bytes: 20 }, ..Limits::default() });
    let next = |seq: u64, size: usize| {
        let expect = Change::Expect { device: "a".into(), queue: Queue::Inbox, last: Seq(seq - 1) };
        store.commit(Transaction::new().with(expect).with(receive("a", seq, &vec![0; size])))
    };
    let pipelined = [next(1, 1), next(2, 1_000), next(3, 1)];
    let [one, two, three] = pipelined.map(bowline_store::Commit::wait);
    one.expect("commits");
    assert!(matches!(two, Err(CommitError::Quota { .. })));
    let last = (Seq(1), Seq(2));
    assert!(matches!(three, Err(CommitError::Unexpected { last: l, expected: e, .. }) if (l, e) == last));
    next(2, 1).wait().expect("there is no gap");
}

#[test]
fn dead_letters_are_listed_retried_and_dropped() {
    let store = store_with("a", Limits::default());
    let bury = |direction, payload| Change::Bury { device: "a".into(), letter: letter(direction, payload) };
    let both = Transaction::new().with(bury(Direction::Received, b"in")).with(bury(Direction::Sent, b"out"));
    let buried = store.commit(both).wait().expect("commits").buried;
    let [incoming, outgoing] = buried[..] else { panic!("two names") };
    assert_eq!(store.dead_letter(outgoing).expect("readable").expect("there").letter, letter(Direction::Sent, b"out"));
    assert_eq!(store.dead_letters(Some("a")).expect("readable").len(), 2);
    assert_eq!(store.dead_letters(Some("b")).expect("readable"), []);

    let retry = |id, seq| Change::RetryDead { id, seq: Seq(seq), now: Millis(5) };
    store.commit(retry(incoming, 1)).wait().expect("commits");
    store.commit(retry(outgoing, 4)).wait().expect("commits");
    assert_eq!(fails(&store, retry(outgoing, 5)), CommitError::UnknownDeadLetter { id: outgoing });
    let device = store.load("a").expect("readable").expect("known");
    assert_eq!((device.inbox[0].payload.as_ref(), device.inbox[0].epoch, device.inbox[0].seq), (&b"in"[..], 5, Seq(1)));
    let header = bytes::Bytes::from_static(&[1, 2]);
    let again = OutboxMessage {
        seq: Seq(4),
        policy: 3,
        created_at: Millis(5),
        expires_at: None,
        header,
        payload: "out".into(),
    };
    assert_eq!(device.outbox, [again]);

    let id = store.commit(bury(Direction::Sent, b"x")).wait().expect("commits").buried[0];
    assert!(id > outgoing, "names are not used again");
    store.commit(Change::DropDead { id }).wait().expect("commits");
    assert_eq!(fails(&store, Change::DropDead { id }), CommitError::UnknownDeadLetter { id });
    assert_eq!(
        fails(&store, Change::DropDead { id: DeadId(u64::MAX) }),
        CommitError::UnknownDeadLetter { id: DeadId(u64::MAX) }
    );
    assert_eq!(see(&store).dead, []);
}

#[test]
fn too_many_or_too_old_dead_letters_go_and_are_counted() {
    let store = store_with("a", Limits { dead_letters: Quota { count: 3, bytes: 50 }, ..Limits::default() });
    let bury = |payload: &[u8], at| {
        let letter = bowline_store::DeadLetter { at: Millis(at), ..letter(Direction::Sent, payload) };
        store.commit(Change::Bury { device: "a".into(), letter }).wait().expect("commits").dead_letters_dropped
    };
    let dropped: Vec<u64> = (1..=5).map(|at| bury(b"x", at)).collect();
    assert_eq!(dropped, [0, 0, 0, 1, 1]);
    assert_eq!(bury(&[0; 44], 6), 2, "46 and 3 bytes are left");
    assert_eq!(bury(&[0; 49], 7), 3, "one that is too big for the box goes itself, after all others");
    let dropped = |store: &Store| store.devices().expect("readable")[0].dead_letters_dropped;
    assert_eq!(dropped(&store), 7);
    bury(b"old", 10);
    bury(b"new", 20);
    assert_eq!(
        store.commit(Change::ExpireDead { before: Millis(20) }).wait().expect("commits").dead_letters_dropped,
        1
    );
    assert_eq!(dropped(&store), 8);
    assert_eq!(see(&store).dead.len(), 1);
}

#[test]
fn temporary_devices_expire_with_everything_and_persistent_ones_stay() {
    let store = store_with("stays", Limits::default());
    for (device, seen) in [("old", 10), ("new", 20)] {
        let change = Change::device(device, false, Millis(seen));
        let more = Transaction::from(change).with(receive(device, 1, b"x")).with(send(device, 1, b"x"));
        store.commit(more).wait().expect("commits");
    }
    // Seen earlier than known: nothing changes.
    store.commit(Change::device("new", false, Millis(1))).wait().expect("commits");
    let forgotten = store.commit(Change::ForgetTemporary { before: Millis(20) }).wait().expect("commits").forgotten;
    assert_eq!(forgotten.len(), 1);
    assert_eq!((&*forgotten[0].device, forgotten[0].inbox, forgotten[0].outbox), ("old", 1, 1));
    let left: Vec<_> = see(&store).devices.into_keys().collect();
    assert_eq!(left, ["new".into(), "stays".into()]);
    assert_eq!(store.commit(Change::Forget { device: "stays".into() }).wait().expect("commits").forgotten.len(), 1);
    assert_eq!(store.commit(Change::Forget { device: "stays".into() }).wait().expect("commits").forgotten, []);
    // A new device of the same name is another one.
    store.commit(Change::device("old", true, Millis(30))).wait().expect("commits");
    assert_eq!(store.load("old").expect("readable").expect("known").inbox, []);
}

#[test]
fn a_device_that_is_gone_is_not_taken_for_the_next_one() {
    for in_place in [false, true] {
        let store = store_with("stays", Limits::default());
        let commit = |transaction: Transaction| match in_place {
            // The writer may not have let go yet.
            true => store.commit_in_place(transaction).unwrap_or_else(|transaction| store.commit(transaction).wait()),
            false => store.commit(transaction).wait(),
        };
        // Rolled back after it was looked up.
        let out_of_order = Transaction::from(Change::device("a", true, Millis(1)))
            .with(receive("a", 5, b"x"))
            .with(receive("a", 3, b"x"));
        assert!(matches!(commit(out_of_order), Err(CommitError::OutOfOrder { .. })));
        // Takes the place of its row.
        commit(Change::device("b", true, Millis(1)).into()).expect("commits");
        assert!(matches!(commit(receive("a", 5, b"x").into()), Err(CommitError::UnknownDevice { .. })));
        commit(receive("b", 1, b"x").into()).expect("commits");
        commit(Change::Forget { device: "b".into() }.into()).expect("commits");
        commit(Change::device("c", true, Millis(1)).into()).expect("commits");
        assert!(matches!(commit(receive("b", 2, b"x").into()), Err(CommitError::UnknownDevice { .. })));
        assert_eq!(see(&store).devices["c"].inbox, []);
    }
}
