//! The thread that writes.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};

use super::error::{OpenError, WriteError};
use super::file::RecordFile;
use super::payload::Readings;
use super::period::{Name, Period};
use super::{Arrival, Settings, folder};

/// Messages in one commit, at most.
const GROUP: usize = 512;

/// Files that are open at a time: the newest, and those in which earlier messages may be.
const FILES: usize = 4;

/// How often files that are too old or too many are looked for, at most.
const SWEEP: Duration = Duration::from_secs(60);

/// One message, and who is told.
pub(crate) struct Job {
    pub(crate) arrival: Arrival,
    pub(crate) readings: Readings,
    pub(crate) reply: oneshot::Sender<Result<(), WriteError>>,
}

/// One message as it is written.
pub(crate) struct Entry {
    pub(crate) arrival: Arrival,
    pub(crate) readings: Readings,
    /// The message's number; one below 0 for best effort, which has none.
    pub(crate) number: i64,
}

impl Entry {
    /// When its samples were taken: by the device's clock, or when the message came.
    pub(crate) fn at(&self) -> i64 {
        self.readings.at.unwrap_or(self.arrival.received_at)
    }
}

type Reply = oneshot::Sender<Result<(), WriteError>>;

/// Commits groups of messages, each into the file that its time of arrival belongs to.
pub(crate) struct Writer {
    pub(crate) settings: Settings,
    /// Held while files are written; taken with the first.
    lock: Option<File>,
    /// The last used at the end.
    open: Vec<(Name, RecordFile)>,
    /// The files there are, oldest first, once somebody has looked.
    names: Vec<Name>,
    found: bool,
    /// When the last message of a file came, for files that were looked into since they were last written to.
    ended: HashMap<Name, Option<i64>>,
    /// Files whose last commit failed.
    suspect: HashSet<Name>,
    /// The last commit failed, and that was said.
    in_trouble: bool,
    swept: Option<Instant>,
    /// The next number for best effort, below 0 and never used before.
    best_effort: i64,
}

impl Writer {
    pub(crate) fn new(settings: Settings) -> Self {
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        Writer {
            settings,
            lock: None,
            open: Vec::new(),
            names: Vec::new(),
            found: false,
            ended: HashMap::new(),
            suspect: HashSet::new(),
            in_trouble: false,
            swept: None,
            best_effort: -micros.max(1),
        }
    }

    /// Finds the files there are, once. The newest must be one that can be written to; if there is none,
    /// nothing is written.
    pub(crate) fn find(&mut self) -> Result<(), OpenError> {
        if self.found {
            return Ok(());
        }
        let folder = &self.settings.folder;
        self.names = folder::list(folder).map_err(|error| OpenError::io(folder, error.to_string()))?;
        if let Some(newest) = self.names.last().copied() {
            self.file(newest)?;
            self.sweep(newest);
        }
        self.found = true;
        Ok(())
    }

    /// Works until nobody can send any more and the queue is empty.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            let mut group = vec![first];
            while group.len() < GROUP {
                let Ok(job) = queue.try_recv() else { break };
                group.push(job);
            }
            self.serve(group);
        }
        for (_, file) in self.open {
            file.close();
        }
    }

    /// Writes a group, a commit for each file, and answers everyone in it.
    fn serve(&mut self, group: Vec<Job>) {
        let mut files: Vec<(Period, Vec<Entry>, Vec<Reply>)> = Vec::new();
        for Job { arrival, readings, reply } in group {
            let period = Period::of(self.settings.rotate, arrival.received_at);
            let number = match arrival.seq {
                Some(seq) => i64::try_from(seq).unwrap_or(i64::MAX),
                None => {
                    self.best_effort -= 1;
                    self.best_effort
                }
            };
            let entry = Entry { arrival, readings, number };
            match files.iter_mut().find(|(other, ..)| *other == period) {
                Some((_, entries, replies)) => {
                    entries.push(entry);
                    replies.push(reply);
                }
                None => files.push((period, vec![entry], vec![reply])),
            }
        }
        for (period, entries, replies) in files {
            let answers = self.write(period, &entries);
            self.report(answers.as_ref().err());
            match answers {
                Ok(answers) => {
                    for (reply, answer) in replies.into_iter().zip(answers) {
                        // Whoever waited may have given up; the message comes again then.
                        let _ = reply.send(answer);
                    }
                }
                Err(error) => {
                    for reply in replies {
                        let _ = reply.send(Err(WriteError::Unavailable(error.clone())));
                    }
                }
            }
        }
    }

    /// Writes messages of one period that are not there yet: an answer for each, or an error for all.
    fn write(&mut self, period: Period, entries: &[Entry]) -> Result<Vec<Result<(), WriteError>>, OpenError> {
        self.find()?;
        let target = self.target(period)?;
        let known = entries.iter().map(|entry| self.is_elsewhere(target, entry)).collect::<Result<Vec<_>, _>>()?;
        let new = entries.iter().zip(&known).filter(|(_, known)| !**known).map(|(entry, _)| entry);
        let written = self.file(target)?.write(new);
        let mut written = written.map_err(|error| self.failed(target, &error))?.into_iter();
        self.ended.remove(&target);
        if self.swept.is_none_or(|swept| swept.elapsed() >= SWEEP) {
            self.sweep(target);
        }
        // As many answers as there were new ones.
        Ok(known.into_iter().map(|known| if known { Ok(()) } else { written.next().unwrap_or(Ok(())) }).collect())
    }

    /// The file to write to: the last one of the period, or the next one if that is full.
    fn target(&mut self, period: Period) -> Result<Name, OpenError> {
        let last = self.names.iter().rev().find(|name| name.period() == period).copied();
        let Some(last) = last else { return Ok(Name::first(period)) };
        let full = self.file(last)?.bytes >= self.settings.file_bytes;
        if full {
            // So that it is whole without its log.
            self.close(last);
        }
        Ok(if full { last.next() } else { last })
    }

    /// Whether the message was written to another file, before that was full or other settings came.
    ///
    /// A file is looked into only if it has a message that came as late: that is few of them, the time
    /// around a change of files, unless the clock went back.
    fn is_elsewhere(&mut self, target: Name, entry: &Entry) -> Result<bool, OpenError> {
        if entry.arrival.seq.is_none() {
            return Ok(false);
        }
        let others: Vec<_> =
            self.names.iter().rev().copied().filter(|name| *name != target && name.overlaps(target)).collect();
        for other in others {
            let ended = match self.ended.get(&other) {
                Some(ended) => *ended,
                None => {
                    let ended = self.file(other)?.last_received_at().map_err(|error| self.failed(other, &error))?;
                    self.ended.insert(other, ended);
                    ended
                }
            };
            if ended.is_some_and(|ended| ended >= entry.arrival.received_at) {
                let has = self.file(other)?.has(entry);
                if has.map_err(|error| self.failed(other, &error))? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The file, open.
    fn file(&mut self, name: Name) -> Result<&mut RecordFile, OpenError> {
        let at = match self.open.iter().position(|(open, _)| *open == name) {
            Some(at) => at,
            None => {
                let Settings { folder, sync, series, .. } = &self.settings;
                if self.lock.is_none() {
                    self.lock = Some(folder::claim(folder)?);
                }
                let path = folder.join(name.to_string());
                let file = RecordFile::open(&path, *sync, *series, self.suspect.contains(&name))?;
                self.suspect.remove(&name);
                if !self.names.contains(&name) {
                    self.names.push(name);
                    self.names.sort_by_key(|name| name.age());
                    // It adds to the bytes there are.
                    self.swept = None;
                }
                if self.open.len() >= FILES {
                    self.open.remove(0).1.close();
                }
                self.open.push((name, file));
                self.open.len() - 1
            }
        };
        // The last used goes to the end.
        self.open[at..].rotate_left(1);
        let last = self.open.len() - 1;
        Ok(&mut self.open[last].1)
    }

    fn close(&mut self, name: Name) {
        if let Some(at) = self.open.iter().position(|(open, _)| *open == name) {
            self.open.remove(at).1.close();
        }
    }

    /// A file has failed: it is opened anew before anything is written to it.
    fn failed(&mut self, name: Name, error: &rusqlite::Error) -> OpenError {
        self.open.retain(|(open, _)| *open != name);
        let path = self.settings.folder.join(name.to_string());
        let error = OpenError::engine(&path, error);
        if matches!(error, OpenError::Io { .. }) {
            self.suspect.insert(name);
        }
        error
    }

    /// Says once that nothing can be written, and once that it can.
    fn report(&mut self, error: Option<&OpenError>) {
        let was = std::mem::replace(&mut self.in_trouble, error.is_some());
        match error {
            Some(error) if !was => {
                tracing::error!("cannot record: {error}. Messages wait, and are recorded when that works again");
            }
            None if was => tracing::info!("the record can be written again"),
            _ => {}
        }
    }

    /// Removes files that are too old or too many. `current` is written to, and stays.
    fn sweep(&mut self, current: Name) {
        let Settings { folder, keep_days, keep_bytes, .. } = self.settings.clone();
        self.swept = Some(Instant::now());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let removed = folder::outdated(&folder, current, now, keep_days, keep_bytes).and_then(|names| {
            for name in names {
                self.close(name);
                folder::remove(&folder.join(name.to_string()))?;
                self.names.retain(|other| *other != name);
                self.ended.remove(&name);
                self.suspect.remove(&name);
                tracing::warn!("removed {name}: the record keeps no more by apps.record.keep_days and keep_mb");
            }
            Ok(())
        });
        if let Err(error) = removed {
            tracing::error!("cannot remove old files of the record in {}: {error}", folder.display());
        }
    }
}
