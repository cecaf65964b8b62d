//! Who is who, and who sends what.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bowline_client::Dialect;
use bowline_store::Durability;
use serde::{Deserialize, Serialize};

use crate::diary::{self, Tail};
use crate::ledger::{self, Counts, Extent};

/// The environment variable with a process's role.
pub(crate) const ROLE: &str = "BOWLINE_KILL_ROLE";

/// A device of the fleet.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) id: &'static str,
    pub(crate) dialect: Dialect,
    pub(crate) has_key: bool,
    ways: &'static [&'static str],
}

const fn kind(id: &'static str, dialect: Dialect, has_key: bool, ways: &'static [&'static str]) -> Kind {
    Kind { id, dialect, has_key, ways }
}

/// The device asks and the server answers.
const ASKS: &[&str] = &["echo"];
/// Both sides send, each as it likes.
const TALKS: &[&str] = &["up", "down"];
const LISTENS: &[&str] = &["down"];

/// The devices of a server that is a program of the test's own.
pub(crate) const FLEET: [Kind; 10] = [
    kind("key-1", Dialect::Native, true, TALKS),
    kind("key-2", Dialect::Native, true, TALKS),
    kind("key-3", Dialect::Native, true, TALKS),
    kind("key-4", Dialect::Native, true, TALKS),
    kind("key-5", Dialect::Native, true, ASKS),
    kind("open-1", Dialect::Native, false, TALKS),
    kind("open-2", Dialect::Native, false, ASKS),
    kind("lines-1", Dialect::Headers, false, TALKS),
    kind("lines-2", Dialect::Headers, false, TALKS),
    kind("lines-3", Dialect::Headers, false, ASKS),
];

/// The devices of a `bowline serve`.
pub(crate) const CREW: [Kind; 9] = [
    kind("key-1", Dialect::Native, true, ASKS),
    kind("key-2", Dialect::Native, true, ASKS),
    kind("key-3", Dialect::Native, true, LISTENS),
    kind("open-1", Dialect::Native, false, ASKS),
    kind("headers-1", Dialect::Headers, false, ASKS),
    kind("headers-2", Dialect::Headers, false, ASKS),
    kind("headers-3", Dialect::Headers, false, LISTENS),
    kind("upstream-1", Dialect::Upstream, false, ASKS),
    kind("upstream-2", Dialect::Upstream, false, LISTENS),
];

/// The messages of one device in one direction, or its questions and their answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) id: &'static str,
    /// `up` from the device, `down` to it, `echo` from it and back.
    pub(crate) way: &'static str,
}

impl Kind {
    pub(crate) fn streams(&self) -> Vec<Stream> {
        self.ways.iter().map(|&way| Stream { id: self.id, way }).collect()
    }
}

impl Stream {
    /// Where its sender writes down what it does.
    pub(crate) fn sent(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.{}.sent", self.id, self.way))
    }

    /// Where its receiver does.
    pub(crate) fn received(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.{}.received", self.id, self.way))
    }

    /// The message with this number: small ones, and now and then one that takes several packets.
    pub(crate) fn payload(&self, number: u64) -> String {
        let padding = if number.is_multiple_of(50) { 4_000 } else { number * 37 % 200 };
        format!("{} {} {number} {:.<width$}", self.id, self.way, "", width = padding as usize)
    }

    /// The number of a message, if it is one of this stream and whole.
    pub(crate) fn number(&self, payload: &[u8]) -> Option<u64> {
        let number = std::str::from_utf8(payload).ok()?.split(' ').nth(2)?.parse().ok()?;
        (self.payload(number).as_bytes() == payload).then_some(number)
    }
}

impl Stream {
    /// Compares what its sender and its receiver have written down.
    pub(crate) fn compare(&self, diaries: &Path, extent: Extent) -> Result<Counts, String> {
        // The receiver's first: whatever is in it, its sender has written before.
        let received = diary::whole_lines(&self.received(diaries));
        let sent = diary::whole_lines(&self.sent(diaries));
        ledger::compare(&sent, &received, extent).map_err(|problem| format!("{self}: {problem}"))
    }

    /// The number of the message that has come last.
    pub(crate) fn taken(&self, diaries: &Path) -> u64 {
        Tail::of(&self.received(diaries)).last_taken()
    }

    /// What is still to come, if anything is.
    pub(crate) fn pending(&self, diaries: &Path) -> Option<String> {
        let (sent, received) = (Tail::of(&self.sent(diaries)), Tail::of(&self.received(diaries)));
        let (last, taken) = (sent.last("send"), received.last_taken());
        (!sent.has_ended() || taken < last).then(|| format!("{self} ({taken} of {last})"))
    }
}

impl std::fmt::Display for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.id, self.way)
    }
}

/// What a process is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Role {
    /// Its place in the fleet or the crew; the server has none.
    pub(crate) device: Option<usize>,
    /// It is one of the [`CREW`].
    pub(crate) is_crew: bool,
    /// The fleet's folder.
    pub(crate) folder: PathBuf,
    /// The server's address.
    pub(crate) address: SocketAddr,
    /// A device's line of provision.
    pub(crate) key: Option<String>,
    pub(crate) fsync: bool,
    pub(crate) seed: u64,
    /// It sends one more message, and is done when that has arrived.
    pub(crate) is_last: bool,
}

impl Role {
    pub(crate) fn of_this_process() -> Option<Self> {
        let role = std::env::var(ROLE).ok()?;
        Some(serde_json::from_str(&role).expect("a role is what the fleet wrote"))
    }

    pub(crate) fn name(&self) -> &'static str {
        self.kind().map_or("server", |kind| kind.id)
    }

    pub(crate) fn kind(&self) -> Option<&'static Kind> {
        let devices: &'static [Kind] = if self.is_crew { &CREW } else { &FLEET };
        self.device.map(|place| &devices[place])
    }

    pub(crate) const fn durability(&self) -> Durability {
        if self.fsync { Durability::Fsync } else { Durability::Os }
    }

    /// Where the process keeps its store, and the server its keys.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.join(self.name())
    }

    /// Where all processes write down what they do.
    pub(crate) fn diaries(&self) -> PathBuf {
        self.folder.join("diaries")
    }
}
