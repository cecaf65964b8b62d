//! Recovery of the store: a database and its log with damage of any kind. The store opens and goes on,
//! or says what is wrong; it never panics and never hangs.
//!
//! SQLite has checksums in its log and none in its database. So damage to the log alone may cost the
//! commits behind it and nothing else: what is there is what was there after some commit.

#![no_main]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use bowline_fuzz::Choices;
use bowline_store::{Change, Durability, InboxMessage, Limits, Millis, ReadError, Seq, Store, Transaction};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// What a process of format 1 left when it was killed.
const DATABASE: &[u8] = include_bytes!("../../crates/bowline-store/tests/golden/v1/bowline.db");
const LOG: &[u8] = include_bytes!("../../crates/bowline-store/tests/golden/v1/bowline.db-wal");
const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    let strict = choices.flag();
    let only_log = choices.flag();
    let (mut database, mut log) = (DATABASE.to_vec(), LOG.to_vec());
    for _ in 0..32 {
        if choices.is_empty() {
            break;
        }
        let damaged = if only_log || choices.flag() { &mut log } else { &mut database };
        damages(damaged, &mut choices);
    }
    let folder = folder(&database, &log);
    let limits = Limits { check_at_open: strict, ..Limits::default() };
    let opens = || Store::open(folder.path(), Durability::Os, limits);
    let store = match opens() {
        Ok(store) => store,
        Err(error) => {
            assert!(!only_log || database != DATABASE, "a damaged log is left out, and the store opens: {error}");
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let seen = see(&store);
    if only_log {
        let seen = seen.as_ref().expect("readable");
        assert!(after_commits().contains(seen), "what is there was never there: {seen}");
    }
    let committed = store.commit(arrival(1)).wait();
    if only_log {
        committed.as_ref().expect("commits");
    }
    drop(store);
    match opens() {
        Ok(store) if only_log => {
            let device = store.load("fuzzer").expect("readable").expect("known");
            assert_eq!(device.inbox.len(), 1, "committed and gone");
        }
        Ok(store) => drop(see(&store)),
        Err(error) => assert!(!only_log, "{error}"),
    }
});

fn damages(bytes: &mut Vec<u8>, choices: &mut Choices<'_>) {
    if bytes.is_empty() {
        bytes.extend_from_slice(choices.bytes(64));
        return;
    }
    let at = choices.below(bytes.len());
    match choices.below(8) {
        0 => bytes[at] ^= 1 << choices.below(8),
        1 => bytes[at] = choices.byte(),
        2 => {
            let new = choices.bytes(16);
            let end = (at + new.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&new[..end - at]);
        }
        3 => bytes.truncate(at),
        // A torn write: a sector that did not get there, or another's content.
        4 => {
            let end = (at | 511).min(bytes.len() - 1);
            bytes[at & !511..=end].fill(0);
        }
        5 => {
            let len = 512.min(bytes.len() - at);
            let to = choices.below(bytes.len() - len + 1);
            bytes.copy_within(at..at + len, to);
        }
        6 => bytes.extend_from_slice(choices.bytes(64)),
        // The first page: the header and the schema.
        _ => bytes[at % 100] = choices.byte(),
    }
}

fn folder(database: &[u8], log: &[u8]) -> TempDir {
    let folder = TempDir::new_in("/dev/shm").expect("a folder in memory");
    fs::write(folder.path().join("bowline.db"), database).expect("written");
    fs::write(folder.path().join("bowline.db-wal"), log).expect("written");
    folder
}

fn arrival(seq: u64) -> Transaction {
    let message = InboxMessage {
        seq: Seq(seq),
        epoch: 1,
        qos: true,
        received_at: Millis(1),
        header: "".into(),
        payload: "goes on".into(),
    };
    let device = "fuzzer".into();
    Transaction::new().with(Change::device("fuzzer", true, Millis(1))).with(Change::Receive { device, message })
}

/// All that can be asked.
fn see(store: &Store) -> Result<String, ReadError> {
    let devices = store.devices()?;
    let loaded = devices.iter().map(|device| store.load(&device.device)).collect::<Result<Vec<_>, _>>()?;
    Ok(format!("{devices:?} {loaded:?} {:?}", store.dead_letters(None)?))
}

/// What was there after each commit, and before the first: the log, cut behind each of its frames.
fn after_commits() -> &'static BTreeSet<String> {
    static STATES: OnceLock<BTreeSet<String>> = OnceLock::new();
    STATES.get_or_init(|| {
        let page = u32::from_be_bytes(LOG[8..12].try_into().expect("four")) as usize;
        let frames = (LOG.len() - LOG_HEADER) / (FRAME_HEADER + page);
        let state = |frames: usize| {
            let folder = folder(DATABASE, &LOG[..LOG_HEADER + frames * (FRAME_HEADER + page)]);
            let folder: &Path = folder.path();
            see(&Store::open(folder, Durability::Os, Limits::default()).expect("opens")).expect("readable")
        };
        (0..=frames).map(state).collect()
    })
}
