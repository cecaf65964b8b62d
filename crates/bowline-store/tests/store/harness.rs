//! A workload whose every state is known, and what else the tests share.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bowline_store::{
    Change, CommitError, DeadLetter, Device, DeviceSummary, Direction, Durability, InboxMessage, Limits, Millis,
    OutboxMessage, Queue, Quota, Seq, SessionState, Store, Transaction,
};
use tempfile::TempDir;

/// A folder in memory if the system has such, so that syncs cost nothing.
pub(crate) fn fast_folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.expect("a folder")
}

pub(crate) fn open(folder: &Path) -> Store {
    Store::open(folder, Durability::Fsync, limits()).expect("opens")
}

/// Limits under which the workload meets quotas and copies of the log.
pub(crate) fn limits() -> Limits {
    Limits { dead_letters: Quota { count: 3, bytes: 1 << 20 }, log_pages: 24, group: 8, ..Limits::default() }
}

/// The seed of a random test: a new one, or the one to replay.
pub(crate) fn seed(test: &str) -> u64 {
    let given = std::env::var("BOWLINE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("{test}: BOWLINE_SEED={seed}");
    seed
}

pub(crate) fn received(seq: u64, payload: &[u8]) -> InboxMessage {
    let payload = Bytes::copy_from_slice(payload);
    InboxMessage {
        seq: Seq(seq),
        epoch: u64::MAX - 1,
        qos: true,
        received_at: Millis(seq),
        header: Bytes::from_static(&[7, 1]),
        payload,
    }
}

pub(crate) fn sent(seq: u64, payload: &[u8]) -> OutboxMessage {
    let payload = Bytes::copy_from_slice(payload);
    let expires_at = seq.is_multiple_of(2).then_some(Millis(seq + 60_000));
    OutboxMessage {
        seq: Seq(seq),
        policy: 2,
        created_at: Millis(seq),
        expires_at,
        header: Bytes::from_static(&[9]),
        payload,
    }
}

pub(crate) fn letter(direction: Direction, payload: &[u8]) -> DeadLetter {
    let reason = "cannot be handled".to_owned();
    let payload = Bytes::copy_from_slice(payload);
    DeadLetter {
        direction,
        epoch: 5,
        qos: true,
        policy: 3,
        header: Bytes::from_static(&[1, 2]),
        payload,
        reason,
        at: Millis(1_000),
    }
}

/// Changes of one device, in short.
pub(crate) fn receive(device: &str, seq: u64, payload: &[u8]) -> Change {
    Change::Receive { device: device.into(), message: received(seq, payload) }
}

pub(crate) fn send(device: &str, seq: u64, payload: &[u8]) -> Change {
    Change::Send { device: device.into(), message: sent(seq, payload) }
}

pub(crate) fn processed(device: &str, through: u64) -> Change {
    Change::Processed { device: device.into(), through: Seq(through) }
}

pub(crate) fn acked(device: &str, through: u64) -> Change {
    Change::Acked { device: device.into(), through: Seq(through) }
}

/// The workload: transaction `n` touches device `n % 3` and a device that all share.
const COMMON: &str = "common";

fn payload(n: u64) -> Vec<u8> {
    // Up to two pages, so that some messages take pages of their own.
    (0..n * 131 % 8_000 / (1 + n % 9)).map(|at| (at * n) as u8).collect()
}

/// Transaction `n`, from 0 (makes the devices) on. Commits only directly after `n - 1`.
pub(crate) fn transaction(n: u64) -> Transaction {
    if n == 0 {
        let devices = ["0", "1", "2", COMMON];
        return devices.into_iter().map(|device| Change::device(device, true, Millis(1))).collect();
    }
    let own = (n % 3).to_string();
    let mut changes = vec![
        Change::Expect { device: COMMON.into(), queue: Queue::Outbox, last: Seq(n - 1) },
        Change::Session { device: own.as_str().into(), format: 1, state: n.to_le_bytes().to_vec() },
        receive(&own, n, &payload(n)),
        send(COMMON, n, &payload(n + 1)),
        Change::Ledger { device: COMMON.into(), counters: n.to_le_bytes().to_vec() },
    ];
    if n > 6 {
        changes.push(processed(&own, n - 6));
    }
    if n > 20 {
        changes.push(acked(COMMON, n - 20));
    }
    if n.is_multiple_of(7) {
        changes.push(Change::Bury { device: COMMON.into(), letter: letter(Direction::Sent, &n.to_le_bytes()) });
    }
    changes.into()
}

/// A transaction that fails by itself after it has changed something.
pub(crate) fn bad_transaction() -> Transaction {
    Transaction::new()
        .with(Change::Ledger { device: COMMON.into(), counters: b"must not be seen".to_vec() })
        .with(receive("nobody", 1, b""))
}

pub(crate) fn assert_bad(answer: &Result<bowline_store::Committed, CommitError>) {
    assert_eq!(answer, &Err(CommitError::UnknownDevice { device: "nobody".into() }));
}

/// Everything that can be seen of the workload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    pub(crate) devices: BTreeMap<Arc<str>, Device>,
    pub(crate) dead: Vec<(Arc<str>, DeadLetter)>,
}

/// What a store shows. Checks its counts.
pub(crate) fn see(store: &Store) -> Seen {
    let mut seen = Seen::default();
    for summary in store.devices().expect("readable") {
        let device = store.load(&summary.device).expect("readable").expect("listed");
        assert_eq!(device.summary, summary);
        seen.devices.insert(Arc::clone(&summary.device), device);
    }
    let dead = store.dead_letters(None).expect("readable");
    seen.dead = dead.into_iter().map(|entry| (entry.device, entry.letter)).collect();
    for (id, device) in &seen.devices {
        let DeviceSummary { inbox, inbox_bytes, outbox, outbox_bytes, dead_letters, dead_letter_bytes, .. } =
            device.summary;
        let size = |header: &[u8], payload: &[u8]| (header.len() + payload.len()) as u64;
        assert_eq!(inbox, device.inbox.len() as u64);
        assert_eq!(
            inbox_bytes,
            device.inbox.iter().map(|message| size(&message.header, &message.payload)).sum::<u64>()
        );
        assert_eq!(outbox, device.outbox.len() as u64);
        assert_eq!(
            outbox_bytes,
            device.outbox.iter().map(|message| size(&message.header, &message.payload)).sum::<u64>()
        );
        let own = seen.dead.iter().filter(|(device, _)| device == id).map(|(_, letter)| letter);
        assert_eq!(dead_letters, own.clone().count() as u64);
        assert_eq!(dead_letter_bytes, own.map(|letter| size(&letter.header, &letter.payload)).sum::<u64>());
    }
    seen
}

/// How many transactions of the workload a state has; `None` before the first.
pub(crate) fn progress(seen: &Seen) -> Option<u64> {
    let common = seen.devices.get(COMMON)?;
    Some(common.ledger.as_slice().try_into().map_or(0, u64::from_le_bytes))
}

/// The state after transactions 0 to `n`, without any help from the store.
pub(crate) fn state_after(n: Option<u64>) -> Seen {
    let Some(n) = n else { return Seen::default() };
    let mut seen = Seen::default();
    for id in ["0", "1", "2", COMMON] {
        seen.devices.insert(id.into(), new_device(id));
    }
    for own in 0..3 {
        let device = seen.devices.get_mut(own.to_string().as_str()).expect("made above");
        let all: Vec<u64> = (1..=n).filter(|seq| seq % 3 == own).collect();
        let Some(last) = all.last().copied() else { continue };
        device.session = Some(SessionState { format: 1, state: last.to_le_bytes().to_vec() });
        device.inbox_last = Seq(last);
        device.inbox_cursor = Seq(last.saturating_sub(6));
        let left = all.iter().filter(|seq| **seq > last.saturating_sub(6));
        device.inbox = left.map(|seq| received(*seq, &payload(*seq))).collect();
    }
    let buried: Vec<u64> = (1..=n).filter(|n| n.is_multiple_of(7)).collect();
    let kept = buried.iter().rev().take(3).rev();
    seen.dead = kept.map(|n| (COMMON.into(), letter(Direction::Sent, &n.to_le_bytes()))).collect();
    let common = seen.devices.get_mut(COMMON).expect("made above");
    if n > 0 {
        common.ledger = n.to_le_bytes().to_vec();
    }
    common.outbox_last = Seq(n);
    common.outbox = (n.saturating_sub(20) + 1..=n).map(|seq| sent(seq, &payload(seq + 1))).collect();
    common.summary.dead_letters = seen.dead.len() as u64;
    common.summary.dead_letter_bytes = seen.dead.len() as u64 * 10;
    common.summary.dead_letters_dropped = (buried.len() - seen.dead.len()) as u64;
    for device in seen.devices.values_mut() {
        let summary = &mut device.summary;
        summary.inbox = device.inbox.len() as u64;
        summary.inbox_bytes = device.inbox.iter().map(|m| (m.header.len() + m.payload.len()) as u64).sum();
        summary.outbox = device.outbox.len() as u64;
        summary.outbox_bytes = device.outbox.iter().map(|m| (m.header.len() + m.payload.len()) as u64).sum();
    }
    seen
}

fn new_device(id: &str) -> Device {
    Device {
        summary: DeviceSummary {
            device: id.into(),
            persistent: true,
            last_seen: Millis(1),
            inbox: 0,
            inbox_bytes: 0,
            outbox: 0,
            outbox_bytes: 0,
            dead_letters: 0,
            dead_letter_bytes: 0,
            dead_letters_dropped: 0,
        },
        session: None,
        ledger: Vec::new(),
        inbox_last: Seq(0),
        inbox_cursor: Seq(0),
        outbox_last: Seq(0),
        inbox: Vec::new(),
        outbox: Vec::new(),
    }
}
