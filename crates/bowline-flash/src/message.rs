//! A message, its policy and its time, as they are given and as they stand on flash.

use bowline_proto::native::wire::Channel;

use crate::format::{MAX_PREFIX, STATE, copy, u64_at};

/// What happens to a message for which the outbox has no room. Messages with the same channel and the same
/// policy are one stream; a policy never touches other streams, nor what was sent already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Policy {
    /// It is refused, with [`PushError::Full`](crate::PushError::Full), and waits at its sender's.
    #[default]
    Block,
    /// The stream's oldest messages that were not sent yet go; if they do not suffice, it is refused.
    DropOldest,
    /// The stream's earlier messages that were not sent yet go, whether there is room or not: only the
    /// latest counts.
    KeepLatest,
}

/// When a message is worth nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Expiry {
    /// Never.
    #[default]
    Never,
    /// When [`Clock::wall`] shows this, in seconds. As long as the board does not know the time, it is kept.
    At(u32),
    /// So many seconds after it was accepted, by [`Clock::uptime`]. A power cut takes no time by that
    /// clock and stops it: what is found at the start has its whole time again.
    After(u32),
}

/// What time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock {
    /// Seconds since the start of the board.
    pub uptime: u32,
    /// Seconds of a clock that goes on over power cuts, such as Unix time, if it is known.
    pub wall: Option<u32>,
}

/// A message to store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Where it belongs.
    pub channel: Channel,
    /// What becomes of it without room.
    pub policy: Policy,
    /// When it is worth nothing.
    pub expiry: Expiry,
    /// Any bytes, at most [`Outbox::max_payload`](crate::Outbox::max_payload).
    pub payload: &'a [u8],
}

/// Messages of a stream that a newer one takes the place of: those behind `after`, up to `up_to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) after: u64,
    pub(crate) up_to: u64,
}

/// The flags of a message's record: policy, kind of expiry, whether there is a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags(pub(crate) u8);

impl Flags {
    const POLICY: u8 = 0b11;
    const AT: u8 = 0b100;
    const AFTER: u8 = 0b1000;
    const RANGE: u8 = 0b1_0000;

    pub(crate) fn new(policy: Policy, expiry: Expiry, range: Option<Range>) -> Self {
        let expiry = match expiry {
            Expiry::Never => 0,
            Expiry::At(_) => Flags::AT,
            Expiry::After(_) => Flags::AFTER,
        };
        Flags(policy as u8 | expiry | if range.is_some() { Flags::RANGE } else { 0 })
    }

    /// A policy that a later version has stored, and this one does not know, waits.
    pub(crate) const fn policy(self) -> Policy {
        match self.0 & Flags::POLICY {
            1 => Policy::DropOldest,
            2 => Policy::KeepLatest,
            _ => Policy::Block,
        }
    }

    pub(crate) const fn expires(self) -> bool {
        self.0 & (Flags::AT | Flags::AFTER) != 0
    }

    /// Whether `at` has come. The end of a time to live is meant by the clock since the start.
    pub(crate) const fn is_over(self, at: u32, clock: Clock) -> bool {
        match clock.wall {
            _ if self.0 & Flags::AFTER != 0 => clock.uptime >= at,
            Some(wall) if self.0 & Flags::AT != 0 => wall >= at,
            _ => false,
        }
    }

    /// When a message with this number of seconds expires, if it was accepted or found now.
    pub(crate) const fn deadline(self, seconds: u32, clock: Clock) -> u32 {
        if self.0 & Flags::AFTER != 0 { clock.uptime.saturating_add(seconds) } else { seconds }
    }

    /// Bytes in front of the payload.
    pub(crate) const fn prefix(self) -> usize {
        let deadline = if self.expires() { 4 } else { 0 };
        deadline + if self.0 & Flags::RANGE != 0 { 16 } else { 0 }
    }
}

/// What stands in front of the payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prefix {
    bytes: [u8; MAX_PREFIX],
    len: usize,
}

impl Prefix {
    pub(crate) fn emit(expiry: Expiry, range: Option<Range>) -> Self {
        let mut prefix = Prefix { bytes: [0; MAX_PREFIX], len: 0 };
        if let Expiry::At(seconds) | Expiry::After(seconds) = expiry {
            prefix.push(&seconds.to_le_bytes());
        }
        if let Some(range) = range {
            prefix.push(&range.after.to_le_bytes());
            prefix.push(&range.up_to.to_le_bytes());
        }
        prefix
    }

    fn push(&mut self, bytes: &[u8]) {
        copy(self.bytes.get_mut(self.len..).unwrap_or_default(), bytes);
        self.len += bytes.len();
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The seconds and the range at the beginning of a message's body.
    pub(crate) fn parse(flags: Flags, bytes: &[u8; STATE]) -> (u32, Option<Range>) {
        let seconds = if flags.expires() { u64_at(bytes, 0) as u32 } else { 0 };
        let at = if flags.expires() { 4 } else { 0 };
        let range =
            (flags.0 & Flags::RANGE != 0).then(|| Range { after: u64_at(bytes, at), up_to: u64_at(bytes, at + 8) });
        (seconds, range)
    }
}
