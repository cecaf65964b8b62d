//! Who is who, and who sends what.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bowline_client::Dialect;
use bowline_store::Durability;
use serde::{Deserialize, Serialize};

/// The environment variable with a process's role.
pub(crate) const ROLE: &str = "BOWLINE_KILL_ROLE";

/// A device of the fleet.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) id: &'static str,
    pub(crate) dialect: Dialect,
    pub(crate) has_key: bool,
    /// It asks and the server answers; the others send and receive, each side as it likes.
    pub(crate) asks: bool,
}

const fn kind(id: &'static str, dialect: Dialect, has_key: bool, asks: bool) -> Kind {
    Kind { id, dialect, has_key, asks }
}

/// All devices.
pub(crate) const DEVICES: [Kind; 10] = [
    kind("key-1", Dialect::Native, true, false),
    kind("key-2", Dialect::Native, true, false),
    kind("key-3", Dialect::Native, true, false),
    kind("key-4", Dialect::Native, true, false),
    kind("key-5", Dialect::Native, true, true),
    kind("open-1", Dialect::Native, false, false),
    kind("open-2", Dialect::Native, false, true),
    kind("lines-1", Dialect::Headers, false, false),
    kind("lines-2", Dialect::Headers, false, false),
    kind("lines-3", Dialect::Headers, false, true),
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
        let ways: &[_] = if self.asks { &["echo"] } else { &["up", "down"] };
        ways.iter().map(|&way| Stream { id: self.id, way }).collect()
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

impl std::fmt::Display for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.id, self.way)
    }
}

/// What a process is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Role {
    /// Its place among [`DEVICES`]; the server has none.
    pub(crate) device: Option<usize>,
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
        self.device.map_or("server", |place| DEVICES[place].id)
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
