//! The record app: what boards measure, kept on disk in SQLite files that people's own tools read.
//!
//! [`Record`] is the app; it writes. [`Archive`] reads, in the same process or another, whether the server
//! runs or not. `docs/apps/record.md` has the messages and the schema.
//!
//! A message is in the record exactly once, however often it is handled: its samples go in with one
//! transaction, under a key made of nothing but the message ([`Arrival`]), and a key that is there already is
//! left alone. All devices share one writer with one thread, which commits what has gathered while it
//! committed what came before.

mod archive;
mod error;
mod file;
mod folder;
mod payload;
mod period;
mod schema;
mod writer;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use bowline_server::{App, AppError, AppMessage, Handled, Instance, Port};
use tokio::sync::{mpsc, oneshot};

pub use archive::{Archive, Filter, Sample, Series};
pub use error::{OpenError, ReadError, WriteError};
pub use payload::{PayloadError, Readings, Value};
pub use period::Rotate;

use writer::{Job, Writer};

/// Messages that may wait for the writer. Each instance waits for its own, so that more devices than this
/// make some of them wait, and nothing else.
const QUEUE: usize = 1024;

/// How and where telemetry is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The folder for the files; made with the first message.
    pub folder: PathBuf,
    /// Whether a message is synced to the disk before it counts as handled: it survives power cuts. If not,
    /// it survives the end of the process only.
    pub sync: bool,
    /// What time one file is for.
    pub rotate: Rotate,
    /// Bytes after which a file is followed by another for the same time.
    pub file_bytes: u64,
    /// Days after which a file is removed, counted from the end of its time. `None`: never.
    pub keep_days: Option<u32>,
    /// Bytes of all files together beyond which the oldest is removed. `None`: no bound.
    pub keep_bytes: Option<u64>,
    /// Different series that a device may have in a file.
    pub series: usize,
    /// Names of series for messages that are a number alone, by their tag.
    pub names: BTreeMap<u8, String>,
}

impl Settings {
    /// The defaults: a file a month of 128 MiB at most, 1 GiB in all, synced.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Settings {
            folder: folder.into(),
            sync: true,
            rotate: Rotate::Month,
            file_bytes: 128 << 20,
            keep_days: None,
            keep_bytes: Some(1 << 30),
            series: 256,
            names: BTreeMap::new(),
        }
    }
}

/// Which message samples come from: what makes them the same ones when it is handled again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The device's id.
    pub device: String,
    /// The message's number among the device's; `None` for best effort, which does not come again.
    pub seq: Option<u64>,
    /// When it came, in milliseconds since 1970. A device that was forgotten numbers its messages anew: the
    /// number alone would take a new message for an old one.
    pub received_at: i64,
}

/// The record app. Cheap to clone; its writer ends when the last clone and the last instance are gone.
#[derive(Debug, Clone)]
pub struct Record(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    names: BTreeMap<u8, String>,
    /// `None` only while the writer is being waited for.
    queue: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl Record {
    /// Opens the record in its folder, which need not exist. Blocks.
    ///
    /// # Errors
    /// When the newest file cannot be written to, or another process writes here.
    pub fn open(settings: Settings) -> Result<Self, OpenError> {
        let mut writer = Writer::new(settings);
        writer.find()?;
        Self::start(writer)
    }

    /// As [`Record::open`], but nothing is touched before the first message: what is wrong is said then.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn lazy(settings: Settings) -> Result<Self, OpenError> {
        Self::start(Writer::new(settings))
    }

    fn start(writer: Writer) -> Result<Self, OpenError> {
        let Settings { folder, names, .. } = writer.settings.clone();
        let (queue, jobs) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("bowline-record".into());
        let writer =
            thread.spawn(move || writer.run(jobs)).map_err(|error| OpenError::io(&folder, error.to_string()))?;
        Ok(Record(Arc::new(Shared { names, queue: Some(queue), writer: Some(writer) })))
    }

    /// Reads the samples out of a message's payload.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn read(&self, tag: u8, payload: &[u8]) -> Result<Readings, PayloadError> {
        payload::read(payload, tag, &self.0.names)
    }

    /// Writes the samples of a message, once. Returns when they are durable.
    ///
    /// # Errors
    /// When nothing of it was written, or it is not known whether: then the same call may be made again.
    pub async fn write(&self, arrival: Arrival, readings: Readings) -> Result<(), WriteError> {
        let (reply, answer) = oneshot::channel();
        let Some(queue) = &self.0.queue else { return Err(WriteError::Closed) };
        queue.send(Job { arrival, readings, reply }).await.map_err(|_| WriteError::Closed)?;
        answer.await.unwrap_or(Err(WriteError::Closed))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // A panic of the writer has been reported by its hook, and whoever waited was told.
            let _ = writer.join();
        }
    }
}

impl App for Record {
    type Instance = Recorder;

    fn instance(&self, _: Port) -> Recorder {
        Recorder(self.clone())
    }
}

/// Records the messages of one instance id of one device.
#[derive(Debug)]
pub struct Recorder(Record);

impl Instance for Recorder {
    async fn handle(&mut self, message: &AppMessage) -> Result<Handled, AppError> {
        let readings =
            self.0.read(message.tag(), message.payload()).map_err(|error| AppError::reject(error.to_string()))?;
        let received = message.message().received_at().unwrap_or_else(SystemTime::now);
        let arrival = Arrival {
            device: message.port().device().id().to_owned(),
            seq: message.seq(),
            received_at: received.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64),
        };
        match self.0.write(arrival, readings).await {
            Ok(()) => Ok(Handled::done()),
            Err(error @ WriteError::TooManySeries { .. }) => Err(AppError::reject(error.to_string())),
            Err(error) => Err(AppError::wait(error.to_string())),
        }
    }
}
