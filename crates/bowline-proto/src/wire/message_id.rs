//! The 8-bit message ids of dialects H and U.

/// A message id: 0 for the first message of a process, then 1 to 255 and round again without 0 (§2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageId(u8);

impl MessageId {
    /// The id of a process's first message.
    pub const FIRST: MessageId = MessageId(0);

    /// The id with this number.
    #[must_use]
    pub const fn new(number: u8) -> Self {
        MessageId(number)
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether this is the first message of a process.
    #[must_use]
    pub const fn is_first(self) -> bool {
        self.0 == 0
    }

    /// The id after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.0 {
            255 => MessageId(1),
            number => MessageId(number + 1),
        }
    }

    /// Whether `other` lies at least a quarter of the id space away, before or after: too far for
    /// `self` to be sent again by a sender that stands at `other`.
    pub(crate) const fn is_far_from(self, other: MessageId) -> bool {
        let steps = self.steps_to(other);
        steps >= 64 && steps <= 191
    }

    /// How often [`MessageId::next`] leads from here to `other`: 0 to 254. 0 stands where 255 does,
    /// just before 1.
    pub(crate) const fn steps_to(self, other: MessageId) -> u8 {
        ((other.0 as u16 + 255 - self.0 as u16) % 255) as u8
    }
}

impl core::fmt::Display for MessageId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}
