//! Which devices there are, and which numbers were given.
//!
//! That a row of a table is not found proves nothing where a flipped bit may hide it. So the names of devices
//! are in rows that always exist, each with those names that fall to it: a name that is not in its row
//! is not known, and a row that is not there is damage.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::checksum::Checksum;
use crate::device::Key;
use crate::error::Failure;

/// Rows of the directory. With 20,000 devices, each has 300.
const BUCKETS: u64 = 64;

const DIRECTORY: u64 = 1;
const NUMBERS: u64 = 2;

/// One row: each device's key (8 bytes), the length of its name (2) and the name.
struct Bucket(Vec<u8>);

impl Bucket {
    fn load(db: &Connection, bucket: u64) -> Result<Self, Failure> {
        let sql = "SELECT devices, checksum FROM directory WHERE bucket = ?1";
        let get = |row: &Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?));
        Self::checked(bucket, db.prepare_cached(sql)?.query_row([bucket], get).optional()?)
    }

    /// The row that was found, with its checksum.
    fn checked(bucket: u64, found: Option<(Vec<u8>, i64)>) -> Result<Self, Failure> {
        match found {
            Some((devices, sum)) if Self::checksum(bucket, &devices) == sum => Ok(Bucket(devices)),
            Some(_) => Err(Failure::damaged(format!("row {bucket} does not match its checksum")).in_table("directory")),
            None => Err(Failure::damaged(format!("row {bucket} is missing")).in_table("directory")),
        }
    }

    fn store(&self, db: &Connection, bucket: u64) -> rusqlite::Result<()> {
        let sql = "REPLACE INTO directory (bucket, devices, checksum) VALUES (?1, ?2, ?3)";
        let sum = Self::checksum(bucket, &self.0);
        db.prepare_cached(sql)?.execute(params![bucket, self.0, sum]).map(drop)
    }

    fn checksum(bucket: u64, devices: &[u8]) -> i64 {
        Checksum::new(DIRECTORY).with(bucket).with_bytes(devices).value()
    }

    /// The devices: where each begins, its key and its name. What the checksum lets pass was written here.
    fn entries(&self) -> impl Iterator<Item = (usize, Key, &[u8])> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (key, rest) = self.0.get(at..)?.split_first_chunk()?;
            let (len, rest) = rest.split_first_chunk()?;
            let name = rest.get(..usize::from(u16::from_le_bytes(*len)))?;
            let start = at;
            at += 10 + name.len();
            Some((start, Key::from_le_bytes(*key), name))
        })
    }

    fn find(&self, name: &str) -> Option<(usize, Key)> {
        self.entries().find(|(.., found)| *found == name.as_bytes()).map(|(at, key, _)| (at, key))
    }
}

fn bucket_of(name: &str) -> u64 {
    Checksum::new(DIRECTORY).with_bytes(name.as_bytes()).value().cast_unsigned() % BUCKETS
}

/// Makes the rows, for a new store.
pub(crate) fn create(db: &Connection) -> rusqlite::Result<()> {
    (0..BUCKETS).try_for_each(|bucket| Bucket(Vec::new()).store(db, bucket))
}

/// The key of the device of this name, if it is known.
pub(crate) fn find(db: &Connection, name: &str) -> Result<Option<Key>, Failure> {
    Ok(Bucket::load(db, bucket_of(name))?.find(name).map(|(_, key)| key))
}

/// Adds a device that is not known.
pub(crate) fn add(db: &Connection, name: &str, key: Key) -> Result<(), Failure> {
    let too_big = || rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_TOOBIG);
    let len = u16::try_from(name.len()).map_err(|_| rusqlite::Error::SqliteFailure(too_big(), None))?;
    let number = bucket_of(name);
    let mut bucket = Bucket::load(db, number)?;
    bucket.0.extend_from_slice(&key.to_le_bytes());
    bucket.0.extend_from_slice(&len.to_le_bytes());
    bucket.0.extend_from_slice(name.as_bytes());
    Ok(bucket.store(db, number)?)
}

/// Takes a device out.
pub(crate) fn remove(db: &Connection, name: &str) -> Result<(), Failure> {
    let number = bucket_of(name);
    let mut bucket = Bucket::load(db, number)?;
    if let Some((at, _)) = bucket.find(name) {
        bucket.0.drain(at..at + 10 + name.len());
        bucket.store(db, number)?;
    }
    Ok(())
}

/// All devices, by name.
pub(crate) fn all(db: &Connection) -> Result<Vec<(Arc<str>, Key)>, Failure> {
    let mut select = db.prepare_cached("SELECT devices, checksum FROM directory ORDER BY bucket")?;
    let mut rows = select.query(())?;
    let mut all = Vec::new();
    for number in 0..BUCKETS {
        let found = match rows.next()? {
            Some(row) => Some((row.get(0)?, row.get(1)?)),
            None => None,
        };
        let names = Bucket::checked(number, found)?;
        all.extend(names.entries().map(|(_, key, name)| (String::from_utf8_lossy(name).into(), key)));
    }
    all.sort_unstable();
    Ok(all)
}

/// The highest numbers that were given. None is given twice, so that nothing left of what is gone is
/// taken for something that came later.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    pub(crate) device: Key,
    pub(crate) dead: i64,
}

impl Numbers {
    pub(crate) fn load(db: &Connection) -> Result<Self, Failure> {
        let sql = "SELECT device, dead_letter, checksum FROM numbers WHERE id = 1";
        let get = |row: &Row<'_>| Ok((Numbers { device: row.get(0)?, dead: row.get(1)? }, row.get(2)?));
        match db.prepare_cached(sql)?.query_row((), get).optional()? {
            Some((numbers, sum)) if numbers.checksum() == sum => Ok(numbers),
            Some(_) => Err(Failure::damaged("the row does not match its checksum").in_table("numbers")),
            None => Err(Failure::damaged("the row is missing").in_table("numbers")),
        }
    }

    pub(crate) fn store(self, db: &Connection) -> rusqlite::Result<()> {
        let sql = "REPLACE INTO numbers (id, device, dead_letter, checksum) VALUES (1, ?1, ?2, ?3)";
        db.prepare_cached(sql)?.execute([self.device, self.dead, self.checksum()]).map(drop)
    }

    fn checksum(self) -> i64 {
        Checksum::new(NUMBERS).with(self.device.cast_unsigned()).with(self.dead.cast_unsigned()).value()
    }
}
