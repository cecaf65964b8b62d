//! How a client is set up.

use core::net::SocketAddr;

use bowline_proto::{Backoff, DeviceId};
use bowline_secure::MAX_ID;
#[cfg(feature = "keys")]
use bowline_secure::{Key, KeyId, Provision};
use embassy_time::Duration;

use crate::clock::span;
use crate::{Status, Supervision};

/// Settings of a client.
#[derive(Debug, Clone)]
pub struct Config<'a> {
    /// Who this is, in at most [`MAX_ID`] bytes.
    pub id: DeviceId<'a>,
    /// Where the server is.
    pub server: SocketAddr,
    /// How links are protected.
    pub security: Security,
    /// Silence after which the link is given up; the same as the server's. 100 ms to a day.
    pub timeout: Duration,
    /// Pauses between attempts to connect.
    pub backoff: Backoff,
    /// When a network that is joined counts as of use, for [`Runner::run_on`](crate::Runner::run_on).
    pub supervision: Supervision,
    /// Instance ids for [`Client::request`](crate::Client::request), first and last. What the server sends to one that
    /// no request has is an answer that has come too late: it is discarded and counted.
    pub request_instances: (u8, u8),
    /// Seconds of a clock that goes on over power cuts, if it is known, for messages that expire by it.
    pub wall: fn() -> Option<u32>,
    /// Called at every change of the status, in the runner. Must not block.
    pub on_change: fn(&Status),
}

/// How links are protected. Nothing that comes over the network changes it.
#[derive(Debug, Clone)]
pub enum Security {
    /// Not at all: no key.
    Open,
    /// By a key, and encrypted. With the feature `keys`, which is on unless it is turned off.
    #[cfg(feature = "keys")]
    Encrypted(KeyId, Key),
    /// By a key that proves who is who. Everybody on the way can read all messages, and nobody can add, change or
    /// repeat one (§15.6). The server lets in only ids that its configuration names for this. With the feature `keys`.
    #[cfg(feature = "keys")]
    Keyed(KeyId, Key),
}

impl<'a> Config<'a> {
    /// The defaults: open mode, a timeout of 3 s.
    #[must_use]
    pub const fn new(id: DeviceId<'a>, server: SocketAddr) -> Self {
        let timeout = Duration::from_millis(3_000);
        Config {
            id,
            server,
            security: Security::Open,
            timeout,
            backoff: Backoff::within(span(timeout)),
            supervision: Supervision::DEFAULT,
            // Not 255: what has no header travels on the channel ff ff ff.
            request_instances: (128, 254),
            wall: || None,
            on_change: |_| {},
        }
    }

    /// The defaults for a device that was provisioned: with its id and key, encrypted. With the feature `keys`.
    #[cfg(feature = "keys")]
    #[must_use]
    pub fn provisioned(provision: &Provision<'a>, server: SocketAddr) -> Self {
        let security = Security::Encrypted(provision.key_id, provision.key.clone());
        Config { security, ..Config::new(provision.id, server) }
    }

    /// With another timeout, and the pauses that go with it.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self.backoff = Backoff::within(span(timeout));
        self
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let len = self.id.as_str().len();
        if len > MAX_ID {
            return Err(ConfigError::Id { len });
        }
        self.check_times()
    }

    /// What no dialect does without.
    pub(crate) fn check_times(&self) -> Result<(), ConfigError> {
        if !(Duration::from_millis(100)..=Duration::from_secs(86_400)).contains(&self.timeout) {
            return Err(ConfigError::Timeout);
        }
        let (first, last) = self.request_instances;
        if first > last || last == u8::MAX {
            return Err(ConfigError::RequestInstances);
        }
        Ok(())
    }
}

/// Why a client was not made. The caller's mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The id is too long for dialect N.
    Id {
        /// Its length in bytes.
        len: usize,
    },
    /// The timeout is too short to tell a slow server from a dead one, or longer than a day.
    Timeout,
    /// `BUFFER` is too small, see [`buffer_for`](crate::buffer_for).
    Buffer {
        /// Bytes it needs.
        needed: usize,
    },
    /// `INBOX` is too small, see [`inbox_for`](crate::inbox_for).
    Inbox {
        /// Bytes it needs.
        needed: usize,
    },
    /// The outbox's numbers contradict each other.
    Outbox,
    /// There is no instance for requests, or 255 is among them.
    RequestInstances,
    /// There is a key, and dialect H has none.
    Keys,
}

impl core::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ConfigError::Id { len } => {
                write!(f, "on dialect N a device id has at most {MAX_ID} bytes, this one has {len}")
            }
            ConfigError::Timeout => f.write_str("expected a timeout of 100 ms to a day, the same as the server's"),
            ConfigError::Buffer { needed } => {
                write!(f, "for what the outbox takes, BUFFER must be {needed} or more: see buffer_for")
            }
            ConfigError::Inbox { needed } => {
                write!(f, "for one message, INBOX must be {needed} or more: see inbox_for")
            }
            ConfigError::Outbox => {
                f.write_str("the outbox's numbers contradict each other: it is not one of this device")
            }
            ConfigError::RequestInstances => {
                f.write_str("expected a first and a last instance for requests, below 255 and in order")
            }
            ConfigError::Keys => f.write_str(
                "dialect H has no keys, everybody on the way can read and change what is sent: expected Security::Open",
            ),
        }
    }
}

impl core::error::Error for ConfigError {}
