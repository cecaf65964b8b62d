//! The local API of a running server: HTTP over a Unix socket in its data folder.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`] |
//! | `GET /v1/devices` | a list of [`Device`] |
//! | `POST /v1/devices/{id}/messages` with [`Send`] | [`Sent`], or [`Problem`] |
//! | `POST /v1/keys/reload` | [`KeysReloaded`], or [`Problem`] |
//! | `GET /v1/tail` | one [`Event`](crate::hub::Event) a line, as it happens |
//!
//! The socket is readable and writable for the server's user only.

mod client;
mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use client::{Client, escape};
pub(crate) use server::Socket;

/// Where the socket is.
fn socket(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// The server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) addresses: Vec<String>,
    pub(crate) devices: usize,
    /// What was counted since the start, by name.
    pub(crate) stats: BTreeMap<String, u64>,
}

/// A device.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) id: String,
    pub(crate) up: bool,
    /// `up`, `never connected`, or why the link went down.
    pub(crate) link: String,
    pub(crate) dialect: Option<String>,
    pub(crate) peer: Option<String>,
    pub(crate) connects: u64,
    pub(crate) received: u64,
    pub(crate) acked: u64,
    pub(crate) unread: usize,
    pub(crate) unsent: usize,
    pub(crate) resent: u64,
    pub(crate) duplicates: u64,
    pub(crate) dead_letters: u64,
}

/// A message for a device.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Send {
    pub(crate) payload: String,
    /// In hexadecimal.
    #[serde(default)]
    pub(crate) header: String,
    #[serde(default = "yes")]
    pub(crate) qos: bool,
    /// Sent as it is even on H, where JSON is expected.
    #[serde(default)]
    pub(crate) raw: bool,
    /// How long to wait for the acknowledgement.
    #[serde(default = "ten_seconds")]
    pub(crate) timeout_ms: u64,
}

fn yes() -> bool {
    true
}

fn ten_seconds() -> u64 {
    10_000
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(crate) enum Sent {
    /// The device has it.
    Acknowledged { micros: u64 },
    /// Best effort, or a dialect without acknowledgements: it was written to the device's link.
    Written { micros: u64 },
    /// The device has not acknowledged it in time. It stays queued.
    Queued { device_is_up: bool },
}

/// The keys were read again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeysReloaded {
    /// How many ids have or had a key.
    pub(crate) ids: usize,
}

/// Why a request was refused.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Problem {
    pub(crate) error: String,
}
