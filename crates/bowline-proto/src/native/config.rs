//! Times and limits of a link.

use crate::time::Duration;

/// What carries the link (§8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A reliable ordered byte stream.
    Lossless,
    /// Anything that may lose, damage, repeat or reorder. With the feature `lossy`.
    #[cfg(feature = "lossy")]
    Lossy,
}

/// How well a device keeps what it has received (§14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Inbox {
    /// Its receive cursor survives a restart, or its epoch does not either.
    Kept,
    /// Its epoch survives a restart and its receive cursor does not.
    Volatile,
}

/// What a receiver can hold beside everything it has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Room {
    /// Messages.
    pub messages: u64,
    /// Bytes of payload. When empty, a receiver has room for one message of the largest payload.
    pub bytes: u64,
}

/// Times and limits of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// What carries it.
    pub transport: Transport,
    /// Device: the keepalive interval it wishes.
    pub keepalive: Duration,
    /// Server: the shortest and the longest interval it agrees to.
    pub keepalive_bounds: (Duration, Duration),
    /// From its opening, the link must have started within this.
    pub handshake: Duration,
    /// An acknowledgement waits this long for others, at most.
    pub ack_delay: Duration,
    /// Largest body taken, in bytes without a seal: [`MIN_BODY`](super::wire::MIN_BODY) to [`MAX_BODY`](super::wire::MAX_BODY).
    pub max_body: u16,
    /// Device: what its receive cursor survives.
    pub inbox: Inbox,
    /// Features offered (§17).
    pub features: u32,
}

impl Config {
    /// The defaults of §11.3 and §12, with a keepalive wish.
    #[must_use]
    pub const fn new(transport: Transport, keepalive: Duration, max_body: u16) -> Self {
        Config {
            transport,
            keepalive,
            keepalive_bounds: (Duration::from_millis(1_000), Duration::from_millis(600_000)),
            handshake: Duration::from_millis(5_000),
            ack_delay: Duration::from_millis(25),
            max_body,
            inbox: Inbox::Kept,
            features: 0,
        }
    }
}
