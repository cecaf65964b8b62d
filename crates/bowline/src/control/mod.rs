//! The local API of a running server: HTTP over a Unix socket in its data folder.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`] |
//! | `GET /v1/devices` | a list of [`Device`] |
//! | `GET /v1/devices/{id}` | [`DeviceDetail`], or [`Problem`] |
//! | `DELETE /v1/devices/{id}` | [`Forgotten`], or [`Problem`] |
//! | `POST /v1/devices/{id}/messages` with [`Send`] | [`Sent`], or [`Problem`] |
//! | `GET /v1/dead`, `GET /v1/dead?device={id}` | a list of [`DeadLetter`] without payloads, or [`Problem`] |
//! | `GET /v1/dead/{number}` | [`DeadLetter`], or [`Problem`] |
//! | `POST /v1/dead/{number}/retry` | the [`DeadLetter`] that is none any more, or [`Problem`] |
//! | `DELETE /v1/dead/{number}` | the [`DeadLetter`] that is no more, or [`Problem`] |
//! | `POST /v1/keys/reload` | [`KeysReloaded`], or [`Problem`] |
//! | `GET /v1/apps` | a list of [`App`] |
//! | `GET /v1/apps/{name}` | [`App`]; or, with an upgrade, a WebSocket that takes the app's messages |
//! | `POST /v1/apps/{name}/next` | messages of the app, or [`Problem`] |
//! | `POST /v1/apps/{name}/answers` | what became of each answer, or [`Problem`] |
//! | `GET /v1/tail` | one [`Event`](crate::hub::Event) a line, as it happens |
//!
//! The socket is readable and writable for the server's user only. The same is offered on TCP, for those who know
//! the token, if the configuration says so ([`Tcp`]). `docs/api/openapi.yaml` describes all of it.

mod apps;
mod bounded;
mod client;
mod dead;
mod devices;
mod server;
mod tcp;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::how::How;

pub(crate) use client::{Client, escape};
pub(crate) use server::{Api, Socket, routes};
pub(crate) use tcp::Tcp;

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
    /// `up`, `never connected`, `not since the server started`, or why the link went down.
    pub(crate) link: String,
    /// What it speaks, or last spoke.
    pub(crate) dialect: Option<String>,
    /// How its link is protected, or the last one of this process was; `None` before there was one.
    pub(crate) protection: Option<LinkProtection>,
    pub(crate) peer: Option<String>,
    /// How long there has been no link, if the server saw it go.
    pub(crate) away_ms: Option<u64>,
    /// When the store was last told that a link came up, in milliseconds since 1970.
    pub(crate) last_seen_ms: Option<u64>,
    /// Messages from it that no app has taken yet.
    pub(crate) unread: usize,
    /// Messages to it that it has not acknowledged.
    pub(crate) unsent: usize,
    /// Dead letters in the box.
    pub(crate) dead_letters: u64,
    /// Counts by name; with a store, since the device was first seen.
    pub(crate) totals: BTreeMap<String, u64>,
}

impl Device {
    pub(crate) fn total(&self, name: &str) -> u64 {
        self.totals.get(name).copied().unwrap_or(0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LinkProtection {
    /// Nobody proves anything.
    None,
    /// With a key, and without encryption.
    Keyed,
    Encrypted,
}

/// A device with everything known of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DeviceDetail {
    #[serde(flatten)]
    pub(crate) device: Device,
    /// Kept until forgotten; otherwise it expires when it stays away.
    pub(crate) persistent: bool,
    pub(crate) epoch: u64,
    pub(crate) keys: KeyState,
    /// Links since the server started.
    pub(crate) connects: u64,
    pub(crate) outages: Outages,
    pub(crate) limits: QueueLimits,
    /// Dead letters that the box had no room for; only a store counts them.
    pub(crate) dead_letters_dropped: Option<u64>,
    /// The queues are in a store.
    pub(crate) stored: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub(crate) enum KeyState {
    /// It may connect without one, where the server is open.
    None,
    /// It gets in with one of these.
    Live { key_ids: Vec<u8> },
    /// It does not get in.
    Revoked,
}

/// Times without a link.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outages {
    pub(crate) count: u64,
    pub(crate) total_ms: u64,
    pub(crate) longest_ms: u64,
    /// The last one, or the one there is; only since the server started.
    pub(crate) last_ms: Option<u64>,
    /// Why the last link was lost; only since the server started.
    pub(crate) last_reason: Option<String>,
}

/// How many messages the queues hold, and bytes each of the first two.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct QueueLimits {
    pub(crate) unread: usize,
    pub(crate) unsent: usize,
    pub(crate) bytes: usize,
    pub(crate) dead_letters: usize,
}

/// What went with a device.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Forgotten {
    pub(crate) unread: usize,
    pub(crate) unsent: usize,
    pub(crate) dead_letters: u64,
}

/// A message that nobody could handle.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DeadLetter {
    pub(crate) number: u64,
    pub(crate) device: String,
    /// It came from the device, or was to go there.
    pub(crate) direction: Direction,
    pub(crate) reason: String,
    /// When it was given up, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    pub(crate) qos: bool,
    pub(crate) epoch: u64,
    /// In hexadecimal; empty if there is none.
    pub(crate) header: String,
    /// Bytes of payload.
    pub(crate) bytes: usize,
    /// The payload, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    /// The payload in hexadecimal, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hex: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Direction {
    Received,
    Sent,
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
    /// Policy, lifetime, and what to wait for; qos only.
    #[serde(default)]
    pub(crate) how: How,
    /// How long to wait for it.
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
    /// It is in the device's queue, and stored if there is a store.
    Accepted { micros: u64 },
    /// The device has it.
    Acknowledged { micros: u64 },
    /// The device's app has handled it.
    Processed { micros: u64 },
    /// Best effort, or a dialect without acknowledgements: it was written to the device's link.
    Written { micros: u64 },
    /// The device has not acknowledged it in time. It stays queued, and survives the server if it is `stored`.
    Queued { device_is_up: bool, stored: bool },
}

/// An app outside of the server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) ident: u8,
    /// Messages that are offered and that no program has taken; at most one of each instance.
    pub(crate) waiting: usize,
    /// Messages that programs have and have not answered.
    pub(crate) in_hand: usize,
}

/// The keys were read again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeysReloaded {
    /// How many ids have or had a key.
    pub(crate) ids: usize,
}

/// Bytes as pairs of hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a request was refused.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Problem {
    pub(crate) error: String,
}
