//! Reading what was recorded.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bowline_server::IdPattern;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Rows, Statement};

use super::error::{OpenError, ReadError};
use super::payload::Value;
use super::schema::{self, Kind};
use super::{folder, period::Name};

/// How long a writer may be in the way.
const PATIENCE: Duration = Duration::from_secs(5);

/// Memory for a file's pages, in KiB; sorting needs about as much and goes on in temporary files.
const CACHE: i64 = 2048;

/// Which samples are meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Devices whose id matches; `*` stands for any text, `?` for one character.
    pub device: Option<String>,
    /// Series whose name matches.
    pub series: Option<String>,
    /// Taken at this time or later, in milliseconds since 1970.
    pub since: Option<i64>,
    /// Taken before this time.
    pub until: Option<i64>,
}

/// A series of a device: what is recorded of it, in all files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// The device's id.
    pub device: String,
    /// The series' name.
    pub name: String,
    /// How many samples there are.
    pub samples: u64,
    /// When the first was taken, in milliseconds since 1970.
    pub first_at: i64,
    /// When the last was taken.
    pub last_at: i64,
}

/// A sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'a> {
    /// The device's id.
    pub device: &'a str,
    /// The series' name.
    pub series: &'a str,
    /// When it was taken, in milliseconds since 1970: by the device's clock, or when it came.
    pub at: i64,
    /// When it came, by the server's clock.
    pub received_at: i64,
    /// The number of its message; `None` for best effort.
    pub seq: Option<u64>,
    /// What was measured.
    pub value: Value,
}

/// The record as it is read. Holds nothing open between calls; a server may write meanwhile.
#[derive(Debug, Clone)]
pub struct Archive {
    folder: PathBuf,
}

impl Archive {
    /// The record in `folder`. One that is not there is empty.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Archive { folder: folder.into() }
    }

    /// What is recorded, by device and name; of times, only whole series are left out.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn series(&self, filter: &Filter) -> Result<Vec<Series>, ReadError> {
        let mut all = BTreeMap::<_, Series>::new();
        for name in self.names()? {
            let Some(file) = self.open(name)? else { continue };
            for (_, series) in file.series(filter)? {
                let key = (series.device.clone(), series.name.clone());
                all.entry(key)
                    .and_modify(|all| {
                        all.samples += series.samples;
                        all.first_at = all.first_at.min(series.first_at);
                        all.last_at = all.last_at.max(series.last_at);
                    })
                    .or_insert(series);
            }
        }
        Ok(all.into_values().collect())
    }

    /// Calls `each` with every sample in the order of time, until it fails. Memory is bounded, whatever
    /// there is: files are read as their time comes, and more than one at once only where their times overlap.
    ///
    /// # Errors
    /// When a file cannot be read, and what `each` returns.
    pub fn samples<E: From<ReadError>>(
        &self,
        filter: &Filter,
        mut each: impl FnMut(Sample<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for group in self.groups(filter)? {
            // Opened again, so that no more are open than are read.
            let mut files = Vec::new();
            for name in group {
                let Some(file) = self.open(name)? else { continue };
                let series: HashMap<_, _> = file.series(filter)?.into_iter().collect();
                files.push((file, series));
            }
            let engine = |path: &Path, error| ReadError(OpenError::engine(path, &error));
            let mut statements = Vec::with_capacity(files.len());
            for (file, series) in &files {
                let statement = file.select(series).map_err(|error| engine(&file.path, error))?;
                statements.push((file, series, statement));
            }
            let mut cursors = Vec::with_capacity(statements.len());
            for (file, series, statement) in &mut statements {
                let rows = query(statement, series, filter).map_err(|error| engine(&file.path, error))?;
                let mut cursor = Cursor { file, series, rows, next: None };
                cursor.step().map_err(|error| engine(&file.path, error))?;
                cursors.push(cursor);
            }
            // The files of one time are few.
            while let Some(cursor) = cursors.iter_mut().filter(|c| c.next.is_some()).min_by_key(|c| c.at()) {
                if let Some(sample) = cursor.sample() {
                    each(sample)?;
                }
                cursor.step().map_err(|error| engine(&cursor.file.path, error))?;
            }
        }
        Ok(())
    }

    /// Files that have samples to be read, in groups whose times do not overlap.
    fn groups(&self, filter: &Filter) -> Result<Vec<Vec<Name>>, ReadError> {
        let mut ranges = Vec::new();
        for name in self.names()? {
            let Some(file) = self.open(name)? else { continue };
            let series = file.series(filter)?;
            let first = series.iter().map(|(_, series)| series.first_at).min();
            let last = series.iter().map(|(_, series)| series.last_at).max();
            if let (Some(first), Some(last)) = (first, last) {
                let (since, until) = (filter.since.unwrap_or(i64::MIN), filter.until.unwrap_or(i64::MAX));
                ranges.push((first.max(since), last.min(until), name));
            }
        }
        ranges.sort_by_key(|(first, ..)| *first);
        let mut groups = Vec::<Vec<Name>>::new();
        let mut end = i64::MIN;
        for (first, last, name) in ranges {
            match groups.last_mut() {
                Some(group) if first <= end => group.push(name),
                _ => groups.push(vec![name]),
            }
            end = end.max(last);
        }
        Ok(groups)
    }

    fn names(&self) -> Result<Vec<Name>, ReadError> {
        folder::list(&self.folder).map_err(|error| ReadError(OpenError::io(&self.folder, error.to_string())))
    }

    /// `None`: it was removed meanwhile, or has nothing in it yet.
    fn open(&self, name: Name) -> Result<Option<File>, ReadError> {
        let path = self.folder.join(name.to_string());
        let engine = |error: rusqlite::Error| ReadError(OpenError::engine(&path, &error));
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match Connection::open_with_flags(&path, flags) {
            Ok(connection) => connection,
            Err(_) if !path.exists() => return Ok(None),
            Err(error) => return Err(engine(error)),
        };
        connection.busy_timeout(PATIENCE).map_err(engine)?;
        connection.pragma_update(None, "cache_size", -CACHE).map_err(engine)?;
        match schema::recognise(&connection, &path)? {
            Kind::Empty => Ok(None),
            Kind::Record(_) => Ok(Some(File { path, connection })),
        }
    }
}

/// A file, open for reading.
struct File {
    path: PathBuf,
    connection: Connection,
}

impl File {
    /// The series with samples that may be meant, by their id.
    fn series(&self, filter: &Filter) -> Result<Vec<(i64, Series)>, ReadError> {
        let device = filter.device.as_deref().map(IdPattern::new);
        let name = filter.series.as_deref().map(IdPattern::new);
        let (since, until) = (filter.since.unwrap_or(i64::MIN), filter.until.unwrap_or(i64::MAX));
        let read = || {
            let sql = "SELECT id, device, name, samples, first_at, last_at FROM series
                       WHERE samples > 0 AND last_at >= ? AND first_at < ?";
            let mut statement = self.connection.prepare(sql)?;
            let mut rows = statement.query([since, until])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let of_device = device.as_ref().is_none_or(|it| row.get_ref(1).is_ok_and(|id| matches(it, id)));
                if of_device && name.as_ref().is_none_or(|it| row.get_ref(2).is_ok_and(|name| matches(it, name))) {
                    all.push((
                        row.get(0)?,
                        Series {
                            device: row.get(1)?,
                            name: row.get(2)?,
                            samples: row.get::<_, i64>(3)?.max(0).unsigned_abs(),
                            first_at: row.get(4)?,
                            last_at: row.get(5)?,
                        },
                    ));
                }
            }
            Ok(all)
        };
        read().map_err(|error| ReadError(OpenError::engine(&self.path, &error)))
    }

    /// One series is in the order of time as it is; several are sorted, in memory and temporary files.
    fn select(&self, series: &HashMap<i64, Series>) -> rusqlite::Result<Statement<'_>> {
        let of = if series.len() == 1 { "= ?1" } else { "IN (SELECT value FROM json_each(?1))" };
        self.connection.prepare(&format!(
            "SELECT series, at, received_at, seq, value FROM sample
             WHERE series {of} AND at >= ?2 AND at < ?3 ORDER BY at, series, received_at, seq"
        ))
    }
}

fn matches(pattern: &IdPattern, text: ValueRef<'_>) -> bool {
    text.as_str().is_ok_and(|text| pattern.matches(text))
}

fn query<'a>(
    statement: &'a mut Statement<'_>,
    series: &HashMap<i64, Series>,
    filter: &Filter,
) -> rusqlite::Result<Rows<'a>> {
    let (since, until) = (filter.since.unwrap_or(i64::MIN), filter.until.unwrap_or(i64::MAX));
    match series.keys().next() {
        Some(id) if series.len() == 1 => statement.query((id, since, until)),
        _ => {
            let ids = series.keys().map(ToString::to_string).collect::<Vec<_>>().join(",");
            statement.query((format!("[{ids}]"), since, until))
        }
    }
}

/// How far a file has been read.
struct Cursor<'a> {
    file: &'a File,
    series: &'a HashMap<i64, Series>,
    rows: Rows<'a>,
    next: Option<Row>,
}

struct Row {
    series: i64,
    at: i64,
    received_at: i64,
    seq: i64,
    value: Value,
}

impl Cursor<'_> {
    fn step(&mut self) -> rusqlite::Result<()> {
        self.next = None;
        if let Some(row) = self.rows.next()? {
            let value = match row.get_ref(4)? {
                ValueRef::Integer(value) => Value::Integer(value),
                ValueRef::Real(value) => Value::Real(value),
                ValueRef::Text(text) | ValueRef::Blob(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
                ValueRef::Null => Value::Text(String::new()),
            };
            self.next =
                Some(Row { series: row.get(0)?, at: row.get(1)?, received_at: row.get(2)?, seq: row.get(3)?, value });
        }
        Ok(())
    }

    fn at(&self) -> i64 {
        self.next.as_ref().map_or(i64::MAX, |row| row.at)
    }

    /// The next sample, which is taken.
    fn sample(&mut self) -> Option<Sample<'_>> {
        let row = self.next.take()?;
        let series = self.series.get(&row.series)?;
        Some(Sample {
            device: &series.device,
            series: &series.name,
            at: row.at,
            received_at: row.received_at,
            seq: u64::try_from(row.seq).ok(),
            value: row.value,
        })
    }
}
