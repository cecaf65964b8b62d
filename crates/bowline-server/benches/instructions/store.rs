//! The store, without a disk: everything that is not the system's.

use bowline_store::{Change, Durability, InboxMessage, Limits, Millis, Seq, Store, Transaction};

use crate::{BATCH, PAYLOAD, case};

pub(crate) fn cases() {
    let store = || Store::open_driven("", Durability::Memory, Limits::default(), || {}).expect("opens");
    let (one, _worker) = store();
    devices(&one, 1);
    let mut seq = 0;
    case(
        "store: append a message",
        || {
            seq += 1;
            append(0, seq)
        },
        |transaction| one.commit_in_place(transaction).is_ok_and(|committed| committed.is_ok()),
        |committed| assert!(committed),
    );

    let (many, worker) = store();
    devices(&many, BATCH);
    let mut seq = 0;
    case(
        "store: append 16 messages of 16 devices in a group",
        || {
            seq += 1;
            (0..BATCH).map(|device| many.commit(append(device, seq))).collect::<Vec<_>>()
        },
        |commits| {
            assert!(worker.work());
            commits
        },
        |commits| {
            for commit in commits {
                commit.wait().expect("commits");
            }
        },
    );
}

fn devices(store: &Store, count: u64) {
    for id in 0..count {
        let device = Change::device(id.to_string(), true, Millis(0));
        let done = store.commit_in_place(Transaction::new().with(device));
        assert!(done.is_ok_and(|committed| committed.is_ok()));
    }
}

/// A message, while the app keeps up with those before it.
fn append(device: u64, seq: u64) -> Transaction {
    let device = device.to_string();
    let message = InboxMessage {
        seq: Seq(seq),
        epoch: 1,
        qos: true,
        received_at: Millis(seq),
        header: vec![0; 3].into(),
        payload: PAYLOAD.to_vec().into(),
    };
    Transaction::new()
        .with(Change::Receive { device: device.as_str().into(), message })
        .with(Change::Processed { device: device.as_str().into(), through: Seq(seq.saturating_sub(32)) })
}
