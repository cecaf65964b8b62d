//! A record in a folder of its own, and messages for it.

use std::path::Path;

use bowline_apps::record::{Archive, Arrival, Filter, OpenError, Record, Settings, Value, WriteError};
use rusqlite::Connection;
use tempfile::TempDir;

/// 2026-11-23 02:03:04 UTC.
pub(crate) const NOW: i64 = 1_795_399_384_000;

pub(crate) const DAY: i64 = 86_400_000;

pub(crate) struct Bench {
    folder: TempDir,
    settings: Settings,
    record: Option<Record>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = TempDir::new().unwrap();
        let mut settings = Settings::new(folder.path());
        settings.sync = false;
        change(&mut settings);
        let mut bench = Bench { folder, settings, record: None };
        bench.starts().unwrap();
        bench
    }

    pub(crate) fn starts(&mut self) -> Result<(), OpenError> {
        self.record = Some(Record::open(self.settings.clone())?);
        Ok(())
    }

    /// Everything written is written, and the files are closed.
    pub(crate) fn stops(&mut self) {
        self.record = None;
    }

    pub(crate) fn restarts_with(&mut self, change: impl FnOnce(&mut Settings)) {
        self.stops();
        change(&mut self.settings);
        self.starts().unwrap();
    }

    pub(crate) fn record(&self) -> &Record {
        self.record.as_ref().unwrap()
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Handles a message of "kitchen" as the instance does.
    pub(crate) async fn handles(&self, seq: u64, received_at: i64, payload: &str) -> Result<(), WriteError> {
        self.handles_of("kitchen", Some(seq), received_at, payload).await
    }

    pub(crate) async fn handles_of(
        &self,
        device: &str,
        seq: Option<u64>,
        received_at: i64,
        payload: &str,
    ) -> Result<(), WriteError> {
        let readings = self.record().read(0, payload.as_bytes()).unwrap();
        self.record().write(Arrival { device: device.to_owned(), seq, received_at }, readings).await
    }

    /// Names of the record's files.
    pub(crate) fn files(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.retain(|name| name.ends_with(".db"));
        names.sort();
        names
    }

    /// A file as other programs open it.
    pub(crate) fn database(&self, name: &str) -> Connection {
        Connection::open(self.path().join(name)).unwrap()
    }

    /// Every sample that is meant, in order.
    pub(crate) fn samples(&self, filter: &Filter) -> Vec<(i64, String, String, String)> {
        let mut all = Vec::new();
        let read = Archive::new(self.path()).samples(filter, |sample| {
            let value = match sample.value {
                Value::Integer(value) => value.to_string(),
                Value::Real(value) => value.to_string(),
                Value::Text(value) => value,
            };
            all.push((sample.at, sample.device.to_owned(), sample.series.to_owned(), value));
            Ok::<_, bowline_apps::record::ReadError>(())
        });
        read.unwrap();
        all
    }

    /// The values of all samples, in order.
    pub(crate) fn values(&self) -> Vec<String> {
        self.samples(&Filter::default()).into_iter().map(|(.., value)| value).collect()
    }
}
