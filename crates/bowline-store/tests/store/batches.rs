//! Messages of an inbox share rows, which nobody sees from outside.

use std::collections::BTreeMap;

use bowline_store::{Change, Durability, InboxMessage, Limits, Millis, Seq, Store, Transaction};

use crate::harness::{fast_folder, processed, receive, received, seed};

/// Whatever comes together, and in whatever order it leaves, what is there is what has come and has not left.
#[test]
fn messages_that_share_rows_come_and_leave_one_by_one() {
    let seed = seed("messages that share rows");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..10 {
        let folder = fast_folder();
        let strict = Limits { check_at_open: true, ..Limits::default() };
        let open = || Store::open(folder.path(), Durability::Os, strict).expect("opens");
        let mut store = open();
        store.commit(Change::device("a", true, Millis(1))).wait().expect("commits");
        let (mut model, mut last, mut cursor) = (BTreeMap::<u64, InboxMessage>::new(), 0, 0);
        for round in 0..60 {
            let (mut transaction, mut left) = (Transaction::new(), 0);
            for _ in 0..random.u32(1..4) {
                match random.u32(..4) {
                    0 => {
                        cursor = random.u64(cursor..=last);
                        let before = model.len();
                        model.retain(|seq, _| *seq > cursor);
                        left += before - model.len();
                        transaction.push(processed("a", cursor));
                    }
                    1 => {
                        let seq = random.u64(cursor..=last + 1);
                        left += usize::from(model.remove(&seq).is_some());
                        transaction.push(Change::TakeReceived { device: "a".into(), seq: Seq(seq) });
                    }
                    _ => {
                        for _ in 0..random.u32(1..30) {
                            last += random.u64(1..4);
                            let most = if random.u32(..20) == 0 { 20_000 } else { 300 };
                            let payload = vec![last as u8; random.usize(..most)];
                            transaction.push(receive("a", last, &payload));
                            model.insert(last, received(last, &payload));
                        }
                    }
                }
            }
            let taken = store.commit(transaction).wait().unwrap_or_else(|error| panic!("seed {seed}: {error}")).taken;
            assert_eq!(taken, left as u64, "seed {seed}, round {round}");
            if random.u32(..10) == 0 {
                drop(store);
                store = open();
            }
            let device = store.load("a").unwrap_or_else(|error| panic!("seed {seed}: {error}")).expect("known");
            assert!(device.inbox.iter().eq(model.values()), "seed {seed}, round {round}");
            assert_eq!((device.inbox_last, device.inbox_cursor), (Seq(last), Seq(cursor)), "seed {seed}");
            let bytes = model.values().map(|message| message.header.len() + message.payload.len()).sum::<usize>();
            assert_eq!((device.summary.inbox, device.summary.inbox_bytes), (model.len() as u64, bytes as u64));
        }
    }
}

/// Who writes a row anew does not make what is damaged in it whole.
#[test]
fn a_damaged_row_is_not_written_anew() {
    let folder = fast_folder();
    let open = || Store::open(folder.path(), Durability::Os, Limits::default()).expect("opens");
    let store = open();
    store.commit(Change::device("a", true, Millis(1))).wait().expect("commits");
    store.commit((1..=3).map(|seq| receive("a", seq, b"payload")).collect::<Transaction>()).wait().expect("commits");
    drop(store);
    let database = rusqlite::Connection::open(folder.path().join("bowline.db")).unwrap();
    let rows: i64 = database.query_row("SELECT count(*) FROM inbox", (), |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);
    let flip = "UPDATE inbox SET messages = CAST(replace(hex(messages), '70', '71') AS BLOB)";
    database.execute(flip, ()).unwrap();
    drop(database);
    let store = open();
    for change in [processed("a", 1), Change::TakeReceived { device: "a".into(), seq: Seq(2) }] {
        let error = store.commit(change).wait().expect_err("the row is damaged");
        assert!(error.to_string().contains("device \"a\""), "{error}");
    }
    store.load("a").expect_err("the row is damaged");
}
