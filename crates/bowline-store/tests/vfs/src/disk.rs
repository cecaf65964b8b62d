//! What a disk may hold after the power is cut, by what was written to it and synced.

use std::collections::BTreeMap;

use crate::{Files, Inode, Op};

/// Bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A disk that keeps what was synced, and of the rest any part in any order, down to single sectors.
///
/// Names appear and go in order, as in every file system with a journal, up to any point behind the
/// last sync of the folder. Bytes whose sync failed are never promised again: later syncs say yes and
/// do not write them.
#[derive(Debug, Default)]
pub struct Disk {
    /// Files that were there before anything happened, and were not opened since.
    found: Files,
    files: BTreeMap<Inode, File>,
    names: BTreeMap<String, Inode>,
    /// Names not synced.
    later_names: Vec<(String, Option<Inode>)>,
}

#[derive(Debug, Default)]
struct File {
    synced: Vec<u8>,
    later: Vec<(Fate, Change)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Will be synced by the next sync.
    Open,
    /// Will not be synced.
    Doubtful,
    /// Is synced, behind something that is not.
    Synced,
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { len: usize },
}

impl Disk {
    /// A disk with these files on it.
    #[must_use]
    pub fn of(mut files: Files) -> Self {
        // The log's index is made anew.
        files.retain(|name, _| !name.ends_with("-shm"));
        Disk { found: files, ..Disk::default() }
    }

    /// Something happens.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Create { name, inode } => {
                if let Some(bytes) = self.found.remove(name) {
                    self.files.entry(*inode).or_default().synced = bytes;
                    self.names.insert(name.clone(), *inode);
                    return;
                }
                self.later_names.push((name.clone(), Some(*inode)));
            }
            Op::Delete { name, names } => {
                self.later_names.push((name.clone(), None));
                if *names {
                    self.sync_names();
                }
            }
            Op::Write { inode, offset, bytes } => {
                self.change(*inode, Change::Write { offset: *offset, bytes: bytes.clone() });
            }
            Op::Truncate { inode, len } => self.change(*inode, Change::Truncate { len: *len }),
            Op::Sync { inode, names } => {
                self.files.entry(*inode).or_default().sync();
                if *names {
                    self.sync_names();
                }
            }
            Op::SyncFailed { inode } => {
                let open = self.files.entry(*inode).or_default().later.iter_mut();
                open.filter(|(fate, _)| *fate == Fate::Open).for_each(|(fate, _)| *fate = Fate::Doubtful);
            }
            Op::Mark(_) => {}
        }
    }

    fn change(&mut self, inode: Inode, change: Change) {
        self.files.entry(inode).or_default().later.push((Fate::Open, change));
    }

    fn sync_names(&mut self) {
        let later = std::mem::take(&mut self.later_names);
        rename(&mut self.names, &later);
    }

    /// Cuts the power: what is left.
    #[must_use]
    pub fn cut(&self, random: &mut fastrand::Rng) -> Files {
        let mut names = self.names.clone();
        rename(&mut names, &self.later_names[..random.usize(..=self.later_names.len())]);
        // How much of what was not synced is kept; everything and nothing are likely.
        let kept = [0.0, 0.1, 0.5, 0.9, 1.0][random.usize(..5)];
        let mut left = self.found.clone();
        for (name, inode) in names {
            let bytes = self.files.get(&inode).map(|file| file.cut(random, kept)).unwrap_or_default();
            left.insert(name, bytes);
        }
        if random.bool() {
            // The log's index is not synced at all.
            let mut garbage = vec![0; 32_768];
            random.fill(&mut garbage);
            left.insert("bowline.db-shm".to_owned(), garbage);
        }
        left
    }
}

fn rename(names: &mut BTreeMap<String, Inode>, changes: &[(String, Option<Inode>)]) {
    for (name, inode) in changes {
        match inode {
            Some(inode) => names.insert(name.clone(), *inode),
            None => names.remove(name),
        };
    }
}

impl File {
    fn sync(&mut self) {
        for (fate, _) in &mut self.later {
            if *fate == Fate::Open {
                *fate = Fate::Synced;
            }
        }
        let synced = self.later.iter().take_while(|(fate, _)| *fate == Fate::Synced).count();
        for (_, change) in self.later.drain(..synced) {
            change.apply(&mut self.synced, |_| true);
        }
    }

    fn cut(&self, random: &mut fastrand::Rng, kept: f64) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for (fate, change) in &self.later {
            if *fate == Fate::Synced {
                change.apply(&mut bytes, |_| true);
            } else if random.f64() < kept {
                change.apply(&mut bytes, |_| true);
            } else if random.u8(..4) == 0 {
                change.apply(&mut bytes, |_| random.bool());
            }
        }
        bytes
    }
}

impl Change {
    /// Changes those sectors that `reach` the disk.
    fn apply(&self, file: &mut Vec<u8>, mut reach: impl FnMut(usize) -> bool) {
        match self {
            Change::Truncate { len } => {
                if reach(0) {
                    file.resize(*len, 0);
                }
            }
            Change::Write { offset, bytes } => {
                let end = offset + bytes.len();
                let mut at = *offset;
                while at < end {
                    let next = end.min((at / SECTOR + 1) * SECTOR);
                    if reach(at / SECTOR) {
                        if file.len() < next {
                            file.resize(next, 0);
                        }
                        file[at..next].copy_from_slice(&bytes[at - offset..next - offset]);
                    }
                    at = next;
                }
            }
        }
    }
}
