//! Bits that flip in the database while no process has it open: whatever is read is what was committed, or an
//! error says what is damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::path::Path;

use bowline_store::{
    Change, CommitError, DeadId, DeadLetterEntry, Device, Direction, Durability, Limits, Millis, OpenError, Quota,
    ReadError, Seq, Store, Transaction,
};

use crate::harness::{acked, fast_folder, letter, processed, receive, seed, send};

/// At the beginning of a page, SQLite keeps what leads from one to the other.
const PAGE: usize = 4_096;

/// How often bits flip; `BOWLINE_FLIPS=n` for more.
const FLIPS: u32 = 400;

/// Everything there is of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Whole {
    device: Device,
    dead: Vec<DeadLetterEntry>,
}

type State = BTreeMap<String, Whole>;

fn limits(check_at_open: bool) -> Limits {
    Limits { dead_letters: Quota { count: 6, bytes: 1 << 20 }, check_at_open, ..Limits::default() }
}

fn open(folder: &Path) -> Store {
    Store::open(folder, Durability::Os, limits(false)).expect("opens")
}

/// A closed store with all kinds of rows, some of which fill pages of their own, and others that were deleted.
fn build(random: &mut fastrand::Rng, folder: &Path) -> BTreeSet<String> {
    let store = open(folder);
    let names: BTreeSet<String> = (0..random.u64(4..20)).map(|n| format!("device {n}")).collect();
    for name in &names {
        let mut bytes = |most: usize| -> Vec<u8> {
            let len = if random.u8(..20) == 0 { most * 50 } else { most };
            (0..random.usize(..=len)).map(|_| random.u8(..)).collect()
        };
        let mut transaction = Transaction::from(Change::device(name.as_str(), true, Millis(5)));
        transaction.push(Change::Session { device: name.as_str().into(), format: 3, state: bytes(200) });
        transaction.push(Change::Ledger { device: name.as_str().into(), counters: bytes(90) });
        // The first ones share rows.
        for seq in 1..6 {
            transaction.push(receive(name, seq, &bytes(300)));
        }
        for seq in 1..10 {
            if seq > 5 {
                transaction.push(receive(name, seq, &bytes(300)));
            }
            transaction.push(send(name, seq, &bytes(300)));
            if seq % 4 == 0 {
                let letter = letter(Direction::Sent, &bytes(100));
                transaction.push(Change::Bury { device: name.as_str().into(), letter });
            }
        }
        transaction.push(processed(name, random.u64(..6)));
        transaction.push(acked(name, random.u64(..6)));
        store.commit(transaction).wait().expect("commits");
    }
    store.commit(Change::Forget { device: "device 3".into() }).wait().expect("commits");
    names.into_iter().filter(|name| name != "device 3").collect()
}

/// One transaction for each device: what a server does next.
fn next(name: &str) -> Transaction {
    let device = || name.into();
    match name.len() % 2 {
        _ if name == "device 1" => {
            let letters = (0..5).map(|_| Change::Bury { device: device(), letter: letter(Direction::Received, b"x") });
            letters.collect()
        }
        _ if name == "device 2" => Change::Forget { device: device() }.into(),
        _ if name == "device 0" => Change::DropDead { id: DeadId(2) }.into(),
        _ => Transaction::new()
            .with(Change::device(name, true, Millis(9)))
            .with(receive(name, 20, b"next"))
            .with(Change::Session { device: device(), format: 3, state: vec![7; 250] })
            .with(send(name, 20, &[1; 5_000]))
            .with(processed(name, 7))
            .with(Change::TakeSent { device: device(), seq: Seq(8) })
            .with(Change::Ledger { device: device(), counters: vec![7; 60] }),
    }
}

/// What a whole store has.
fn state(store: &Store) -> State {
    let whole = |id: &str| Whole {
        device: store.load(id).expect("readable").expect("known"),
        dead: store.dead_letters(Some(id)).expect("readable"),
    };
    store.ids().expect("readable").iter().map(|id| (id.to_string(), whole(id))).collect()
}

/// Whether anything was said of damage.
#[derive(Debug, Default)]
struct Told(bool);

impl Told {
    /// What was read must be what was committed.
    fn read<T: PartialEq + Debug>(&mut self, what: &str, read: Result<T, ReadError>, expected: &T) {
        match read {
            Ok(read) if &read == expected => {}
            Ok(read) => {
                let (read, expected) = (format!("{read:#?}"), format!("{expected:#?}"));
                let differs = read.lines().zip(expected.lines()).find(|(read, expected)| read != expected);
                panic!("{what} is not what was committed; first (read, expected): {differs:?}");
            }
            Err(ReadError::Damaged(_)) => self.0 = true,
            Err(other) => panic!("{what}: {other}"),
        }
    }

    fn store(&mut self, store: &Store, expected: &State) {
        let names = expected.keys().map(|id| id.as_str().into()).collect();
        self.read("the list", store.ids(), &names);
        let summaries = expected.values().map(|whole| whole.device.summary.clone()).collect();
        self.read("the summaries", store.devices(), &summaries);
        let mut letters: Vec<_> = expected.values().flat_map(|whole| whole.dead.clone()).collect();
        letters.sort_by_key(|entry| entry.id);
        for (name, whole) in expected {
            self.read(name, store.load(name), &Some(whole.device.clone()));
            self.read("dead letters", store.dead_letters(Some(name)), &whole.dead);
        }
        self.read("nobody", store.load("nobody"), &None);
        for id in [1, 2, 3, 99] {
            let letter = letters.iter().find(|entry| entry.id == DeadId(id)).cloned();
            self.read("a dead letter", store.dead_letter(DeadId(id)), &letter);
        }
        self.read("all dead letters", store.dead_letters(None), &letters);
    }

    /// `None` if it does not open, and says why.
    fn open(&mut self, folder: &Path, check: bool) -> Option<Store> {
        match Store::open(folder, Durability::Os, limits(check)) {
            Ok(store) => Some(store),
            // The format and whose it is are bits as well.
            Err(OpenError::Damaged { .. } | OpenError::Newer { .. } | OpenError::Foreign { .. }) => {
                self.0 = true;
                None
            }
            Err(other) => panic!("it does not open: {other}"),
        }
    }
}

/// Flips one to three bits anywhere, half of them where SQLite keeps its pointers.
fn flip(random: &mut fastrand::Rng, database: &mut [u8]) -> Vec<(usize, u8)> {
    let flips: Vec<(usize, u8)> = (0..random.usize(1..=3))
        .map(|_| {
            let any = random.usize(..database.len());
            let at = if random.bool() { any } else { any - any % PAGE + random.usize(..110) };
            (at, random.u8(..8))
        })
        .collect();
    flips.iter().for_each(|(at, bit)| database[*at] ^= 1 << bit);
    flips
}

#[test]
fn flipped_bits_are_never_taken_for_what_was_committed() {
    let seed = seed("flipped bits");
    let mut random = fastrand::Rng::with_seed(seed);
    let given = std::env::var("BOWLINE_FLIPS").ok().and_then(|flips| flips.parse().ok());
    let (flips, mut told, mut runs) = (given.unwrap_or(FLIPS), 0, 0);
    for _ in 0..10 {
        let built = fast_folder();
        let names = build(&mut random, built.path());
        let file = |folder: &Path| folder.join("bowline.db");
        let database = fs::read(file(built.path())).expect("closed");
        let store = open(built.path());
        let before = state(&store);
        assert!(names.iter().eq(before.keys()));
        for name in &names {
            store.commit(next(name)).wait().expect("commits");
        }
        let after = state(&store);
        drop(store);

        let folder = fast_folder();
        for _ in 0..flips / 10 {
            let mut damaged = database.clone();
            let flipped = flip(&mut random, &mut damaged);
            for entry in fs::read_dir(folder.path()).expect("there") {
                fs::remove_file(entry.expect("there").path()).expect("removed");
            }
            fs::write(file(folder.path()), &damaged).expect("written");
            let check = random.u8(..4) == 0;
            let tried = std::panic::catch_unwind(|| judge(folder.path(), check, &before, &after));
            let Ok(damage) = tried else {
                panic!("BOWLINE_SEED={seed}, flipped {flipped:?}, checked at open: {check}")
            };
            told += u32::from(damage);
            runs += 1;
        }
    }
    println!("{runs} times bits flipped, {told} times that was told; the others changed nothing that is read");
    assert!(told > runs / 10);
}

/// Reads, goes on, and reads again, also in the next life. Says whether damage was told.
fn judge(folder: &Path, check: bool, before: &State, after: &State) -> bool {
    let mut told = Told::default();
    let Some(store) = told.open(folder, check) else { return true };
    told.store(&store, before);
    let whole = !told.0;
    let mut expected = State::new();
    for (name, old) in before {
        match store.commit(next(name)).wait() {
            Ok(_) => expected.extend(after.get(name).map(|new| (name.clone(), new.clone()))),
            Err(CommitError::Damaged { .. }) => {
                told.0 = true;
                expected.insert(name.clone(), old.clone());
            }
            Err(other) => panic!("{name}: {other}"),
        }
    }
    told.store(&store, &expected);
    drop(store);
    if let Some(store) = told.open(folder, false) {
        told.store(&store, &expected);
    }
    assert!(!(whole && check && told.0), "checked, read, and only then damaged");
    told.0
}

/// A closed store with rows in every table, two devices, and a row of the one beside each of the other.
fn filled() -> tempfile::TempDir {
    let folder = fast_folder();
    let store = open(folder.path());
    for name in ["a", "b"] {
        let transaction = Transaction::from(Change::device(name, true, Millis(1)))
            .with(Change::Session { device: name.into(), format: 1, state: b"state".to_vec() })
            .with(Change::Ledger { device: name.into(), counters: b"counters".to_vec() })
            .with(receive(name, 2, b"two"))
            .with(receive(name, 3, b"three"))
            .with(send(name, 2, &[9; 10_000]))
            .with(send(name, 3, b"three"))
            .with(Change::Bury { device: name.into(), letter: letter(Direction::Sent, b"dead") });
        store.commit(transaction).wait().expect("commits");
        store.commit(receive(name, 4, b"four")).wait().expect("commits");
    }
    drop(store);
    folder
}

/// Whose damage each statement is, if it is one device's: the others are not hindered, and it can be forgotten.
fn tells(sql: &str) {
    let folder = filled();
    let database = rusqlite::Connection::open(folder.path().join("bowline.db")).unwrap();
    assert!(database.execute(sql, ()).expect(sql) > 0, "{sql}");
    drop(database);
    let error = Store::open(folder.path(), Durability::Os, limits(true)).expect_err(sql);
    assert!(matches!(error, OpenError::Damaged { .. }), "{sql}: {error}");
    assert!(error.to_string().contains("table"), "{sql}: {error}");

    let store = open(folder.path());
    if store.ids().is_err() || sql.contains(" numbers ") {
        let new = Transaction::from(Change::device("c", true, Millis(1)))
            .with(Change::Bury { device: "c".into(), letter: letter(Direction::Sent, b"") });
        let refused = (0..64).map(|_| store.commit(new.clone()).wait()).any(|answer| answer.is_err());
        assert!(refused || store.ids().is_err(), "{sql}");
        return;
    }
    let error = store.load("a").err().or(store.dead_letters(Some("a")).err()).expect(sql);
    assert!(matches!(&error, ReadError::Damaged(what) if what.starts_with("device \"a\"")), "{sql}: {error}");
    assert!(store.dead_letters(None).is_err() || store.load("a").is_err(), "{sql}");
    assert!(error.to_string().contains("forget the device"), "{error}");
    assert!(store.load("b").expect("readable").is_some());
    assert_eq!(store.dead_letters(Some("b")).expect("readable").len(), 1, "{sql}");
    store.commit(receive("b", 5, b"goes on")).wait().expect("commits");
    store.commit(Change::Forget { device: "a".into() }).wait().expect("commits");
    store.commit(Change::device("a", true, Millis(2))).wait().expect("commits");
    assert_eq!(store.load("a").expect("readable").expect("known").inbox, []);
}

#[test]
fn every_column_is_watched() {
    let folder = filled();
    let database = rusqlite::Connection::open(folder.path().join("bowline.db")).unwrap();
    let columns = "SELECT t.name, c.name, c.type FROM sqlite_schema t, pragma_table_info(t.name) c \
                   WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'";
    let mut select = database.prepare(columns).unwrap();
    let get = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let columns: Vec<(String, String, String)> = select.query_map((), get).unwrap().map(Result::unwrap).collect();
    assert_eq!(columns.len(), 60);
    for (table, column, kind) in columns {
        let changed = match kind.as_str() {
            // All but 0 is read as yes.
            "INTEGER" if ["persistent", "qos", "sent"].contains(&&*column) => format!("1 - {column}"),
            "INTEGER" => format!("{column} + 16777216"),
            "TEXT" => format!("{column} || 'x'"),
            "BLOB" => format!("CAST({column} || x'00' AS BLOB)"),
            other => panic!("{table}.{column} is {other}"),
        };
        let row = match table.as_str() {
            "device" | "numbers" | "dead_letter" => "id = 1",
            "directory" => "bucket = 5",
            _ => "device = 1",
        };
        tells(&format!("UPDATE {table} SET {column} = {changed} WHERE {row}"));
    }
}

#[test]
fn rows_that_are_gone_or_come_twice_are_missed() {
    for table in ["session", "ledger", "inbox", "outbox", "dead_letter"] {
        tells(&format!("DELETE FROM {table} WHERE device = 1"));
    }
    tells("DELETE FROM inbox WHERE device = 1 AND last = 3");
    tells("DELETE FROM outbox WHERE device = 1 AND seq = 3");
    tells("DELETE FROM device WHERE id = 1");
    tells("DELETE FROM directory WHERE bucket = 5");
    tells("DELETE FROM numbers WHERE id = 1");
    tells(
        "INSERT INTO inbox SELECT device, 1, first, count, bytes, messages_sum, checksum, messages FROM inbox \
           WHERE device = 1 AND last = 3",
    );
    tells("UPDATE inbox SET last = last - 1 WHERE device = 1");
    tells("UPDATE session SET state = (SELECT state FROM session WHERE device = 2), format = 2 WHERE device = 1");
}

/// A processed message that damage kept from being deleted is not delivered again.
#[test]
fn what_was_processed_does_not_come_back() {
    let folder = filled();
    let row = "(SELECT * FROM inbox WHERE device = 1 AND last = 3)";
    let database = rusqlite::Connection::open(folder.path().join("bowline.db")).unwrap();
    database.execute_batch(&format!("CREATE TABLE kept AS SELECT * FROM {row}")).unwrap();
    let counts = "SELECT inbox_count, inbox_bytes, inbox_sum FROM device WHERE id = 1";
    let before: (i64, i64, i64) =
        database.query_row(counts, (), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    assert_eq!(before.0, 3);
    drop(database);
    let store = open(folder.path());
    store.commit(processed("a", 3)).wait().expect("commits");
    drop(store);
    let database = rusqlite::Connection::open(folder.path().join("bowline.db")).unwrap();
    database.execute_batch("INSERT INTO inbox SELECT * FROM kept").unwrap();
    drop(database);
    assert!(matches!(open(folder.path()).load("a"), Err(ReadError::Damaged(_))));
}

/// What goes is counted and not read: so what a row says of its messages has a checksum by itself. Without that, the counts
/// of what was left were wrong and agreed with all checksums.
#[test]
fn rows_are_not_counted_by_what_damage_says_of_them() {
    for change in ["count = count + 1", "bytes = bytes - 1", "first = first + 1", "messages_sum = messages_sum + 1"] {
        let folder = filled();
        let database = rusqlite::Connection::open(folder.path().join("bowline.db")).unwrap();
        let changed = database.execute(&format!("UPDATE inbox SET {change} WHERE device = 1 AND last = 3"), ());
        assert_eq!(changed, Ok(1));
        drop(database);
        let store = open(folder.path());
        store.commit(processed("a", 3)).wait().expect_err(change);
        assert!(matches!(store.load("a"), Err(ReadError::Damaged(_))), "{change}");
        assert!(matches!(store.summary("a"), Err(ReadError::Damaged(_))), "{change}");
    }
}

/// The version that SQLite needs to write is in the header, too: with another one every commit failed, as if by the disk.
#[test]
fn a_header_that_forbids_to_write_is_damage() {
    let folder = filled();
    let file = folder.path().join("bowline.db");
    let mut database = fs::read(&file).unwrap();
    assert_eq!(database[18], 2);
    database[18] ^= 1 << 4;
    fs::write(&file, database).unwrap();
    let error = Store::open(folder.path(), Durability::Os, limits(false)).expect_err("damaged");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

/// What damage hid while it was to be deleted is there again later, and all counts agree with it. Only where its queue begins
/// tells; that is asked for counts, too.
#[test]
fn counts_do_not_tell_of_what_was_to_be_deleted() {
    let folder = filled();
    let file = folder.path().join("bowline.db");
    let hides = "CREATE TABLE kept AS SELECT * FROM outbox WHERE device = 1 AND seq = 2; \
                 DELETE FROM outbox WHERE device = 1 AND seq = 2";
    rusqlite::Connection::open(&file).unwrap().execute_batch(hides).unwrap();
    let store = open(folder.path());
    store.commit(acked("a", 2)).wait().expect("nothing is seen of it yet");
    drop(store);
    let shows = "INSERT INTO outbox SELECT * FROM kept; DROP TABLE kept";
    rusqlite::Connection::open(&file).unwrap().execute_batch(shows).unwrap();
    let store = open(folder.path());
    assert!(matches!(store.load("a"), Err(ReadError::Damaged(_))));
    assert!(matches!(store.summary("a"), Err(ReadError::Damaged(_))));
    assert!(matches!(store.devices(), Err(ReadError::Damaged(_))));
    assert!(store.summary("b").is_ok());
}

/// Damage that changes where a message stands leaves its checksum in the row. Counted by that, and not read, a message that
/// waits went with others that were acknowledged, and one that was to be taken back stayed, and nothing told.
#[test]
fn what_goes_from_an_outbox_is_read_first() {
    let becomes = |seq: u64| {
        let folder = filled();
        let database = rusqlite::Connection::open(folder.path().join("bowline.db")).unwrap();
        let changed = database.execute("UPDATE outbox SET seq = ?1 WHERE device = 1 AND seq = 3", [seq]);
        assert_eq!(changed, Ok(1));
        let store = open(folder.path());
        (folder, store)
    };
    let damaged = |store: &Store, change: Change| {
        let error = store.commit(change).wait().expect_err("damaged");
        assert!(matches!(error, CommitError::Damaged { .. }), "{error}");
    };
    let (_folder, store) = becomes(1);
    damaged(&store, acked("a", 2));
    let (_folder, store) = becomes(4);
    damaged(&store, Change::TakeSent { device: "a".into(), seq: Seq(3) });
    damaged(&store, acked("a", 3));
}

/// As in outboxes.
#[test]
fn a_dead_letter_that_damage_made_older_is_not_dropped_for_the_oldest() {
    let folder = filled();
    let store = open(folder.path());
    let bury = || Change::Bury { device: "a".into(), letter: letter(Direction::Sent, b"") };
    // As many as it may have.
    (0..5).for_each(|_| drop(store.commit(bury()).wait().expect("commits")));
    drop(store);
    let database = rusqlite::Connection::open(folder.path().join("bowline.db")).unwrap();
    let changed = database.execute("UPDATE dead_letter SET id = 0 WHERE id = (SELECT max(id) FROM dead_letter)", ());
    assert_eq!(changed, Ok(1));
    drop(database);
    let store = open(folder.path());
    let error = store.commit(bury()).wait().expect_err("damaged");
    assert!(matches!(error, CommitError::Damaged { .. }), "{error}");
}

/// The row of a message that says of itself to be another device's stands where it stood: whoever looks for the one before it comes
/// upon both.
#[test]
fn a_message_out_of_its_place_does_not_go_with_the_one_before_it() {
    let folder = filled();
    let path = folder.path().join("bowline.db");
    let whole = fs::read(&path).unwrap();
    let of_device_2_with_seq_3 = (0..whole.len()).filter(|at| whole[*at..].starts_with(&[2, 3]));
    let made = of_device_2_with_seq_3.into_iter().any(|at| {
        let mut bytes = whole.clone();
        bytes[at] = 1;
        fs::write(&path, bytes).unwrap();
        let database = rusqlite::Connection::open(&path).unwrap();
        let told = database.query_row("PRAGMA integrity_check", (), |row| row.get::<_, String>(0));
        told.is_ok_and(|told| told.contains("not in PRIMARY KEY order for outbox"))
    });
    assert!(made, "the outbox is stored otherwise");
    let store = open(folder.path());
    let take = Change::TakeSent { device: "b".into(), seq: Seq(2) };
    let error = store.commit(take).wait().expect_err("damaged");
    assert!(matches!(error, CommitError::Damaged { .. }), "{error}");
}

/// An index that has another name for a letter than its row: all are there, and those that come later are read before it.
#[test]
fn dead_letters_are_read_in_order_or_not_at_all() {
    let folder = filled();
    let bury = || Change::Bury { device: "a".into(), letter: letter(Direction::Sent, b"") };
    let store = open(folder.path());
    (0..2).for_each(|_| drop(store.commit(bury()).wait().expect("commits")));
    drop(store);
    let path = folder.path().join("bowline.db");
    let mut bytes = fs::read(&path).unwrap();
    // Device 1, letter 4: its name to sort by, and to find its row by.
    let entry = [6, 4, 9, 1, 1, 4, 4];
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(&entry)).collect();
    assert_eq!(places.len(), 1, "the index is stored otherwise");
    bytes[places[0] + 5] = 99;
    fs::write(&path, bytes).unwrap();
    let store = open(folder.path());
    assert_eq!(store.dead_letters(Some("a")).expect("readable").len(), 3);
    store.commit(bury()).wait().expect("commits");
    let error = store.dead_letters(Some("a")).expect_err("damaged");
    assert!(matches!(&error, ReadError::Damaged(what) if what.starts_with("device \"a\"")), "{error}");
}

/// A key that is new by all counts, and that a row has: the row has become so by damage, and is not the transaction's fault.
#[test]
fn a_key_that_damage_has_taken_is_told_as_damage() {
    for takes in
        ["UPDATE outbox SET seq = 4 WHERE device = 1 AND seq = 2", "UPDATE dead_letter SET id = 3 WHERE id = 2"]
    {
        let folder = filled();
        let database = rusqlite::Connection::open(folder.path().join("bowline.db")).unwrap();
        assert_eq!(database.execute(takes, ()), Ok(1));
        drop(database);
        let store = open(folder.path());
        let bury = Change::Bury { device: "a".into(), letter: letter(Direction::Sent, b"") };
        let transaction = Transaction::from(if takes.contains("outbox") { send("a", 4, b"new") } else { bury });
        let error = store.commit(transaction).wait().expect_err("damaged");
        assert!(matches!(error, CommitError::Damaged { .. }), "{takes}: {error}");
    }
}
