//! What a process writes down, so that it is known after it was killed: lines of a word and numbers.
//!
//! | line | what |
//! |---|---|
//! | `send 7` | message 7 is about to be given to `send` |
//! | `accepted 7` | it was accepted |
//! | `end` | everything has arrived, and no more will be sent |
//! | `take 9 7` | message 7 came under seq 9 and was not known |
//! | `again 9 7` | the same, and it was known already: only its handling was not |

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// So many bytes at the end hold the last line of every kind.
const TAIL: u64 = 64 * 1024;

/// A diary that is written on.
#[derive(Debug)]
pub(crate) struct Diary(File);

impl Diary {
    /// Goes on with the diary at `path`, and says what is at its end. A line that a kill has torn is as
    /// if it was never written: what it was to say had no effect yet.
    pub(crate) fn open(path: &Path) -> (Self, Tail) {
        let file = OpenOptions::new().create(true).append(true).read(true).open(path).unwrap();
        let tail = Tail::read(&file);
        file.set_len(tail.end).unwrap();
        (Diary(file), tail)
    }

    /// Writes one line, in one call to the system: it survives this process from here on.
    pub(crate) fn line(&mut self, line: fmt::Arguments<'_>) {
        self.0.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

/// A diary that another process may be writing, or has not begun.
pub(crate) fn whole_lines(path: &Path) -> String {
    let mut lines = std::fs::read_to_string(path).unwrap_or_default();
    lines.truncate(lines.rfind('\n').map_or(0, |at| at + 1));
    lines
}

/// The last lines of a diary.
#[derive(Debug)]
pub(crate) struct Tail {
    lines: String,
    /// Where in the file its last whole line ends.
    end: u64,
}

impl Tail {
    /// Of a diary that another process may be writing, or has not begun.
    pub(crate) fn of(path: &Path) -> Self {
        File::open(path).map_or(Tail { lines: String::new(), end: 0 }, |file| Self::read(&file))
    }

    fn read(mut file: &File) -> Self {
        let start = file.metadata().unwrap().len().saturating_sub(TAIL);
        file.seek(SeekFrom::Start(start)).unwrap();
        let mut lines = String::new();
        file.read_to_string(&mut lines).unwrap();
        let whole = lines.rfind('\n').map_or(0, |at| at + 1);
        lines.truncate(whole);
        Tail { end: start + whole as u64, lines }
    }

    /// The first number behind the last `word`.
    pub(crate) fn last(&self, word: &str) -> u64 {
        self.numbers(word).map_or(0, |(first, _)| first)
    }

    /// The number of the last message taken.
    pub(crate) fn last_taken(&self) -> u64 {
        self.numbers("take").and_then(|(_, second)| second).unwrap_or(0)
    }

    fn numbers(&self, word: &str) -> Option<(u64, Option<u64>)> {
        let line = self.lines.lines().rev().find(|line| line.split(' ').next() == Some(word))?;
        let mut numbers = line.split(' ').skip(1).map(|number| number.parse().unwrap());
        Some((numbers.next().unwrap(), numbers.next()))
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.lines.ends_with("end\n")
    }
}
