//! What is sent: a representation that emits into the caller's buffer.

use super::{MessageId, headers, hex};
use crate::Dialect;

/// A line to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// An empty line.
    Keepalive,
    /// "I have accepted the message with this id." Not on P.
    Ack(MessageId),
    /// A message. P ignores the id.
    Message(MessageId, MessageRepr<'a>),
}

/// A message to send, not yet checked against a dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageRepr<'a> {
    /// Whether the peer is asked for an acknowledgement. H says so on the wire, U always asks, P never.
    pub qos: bool,
    /// User header, at most 255 bytes. H only.
    pub header: &'a [u8],
    /// UTF-8 text without a newline.
    pub payload: &'a [u8],
}

/// Why a message cannot be sent in a dialect. The caller's mistake: nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageError {
    /// The payload has a newline in it, and a newline ends a message.
    Newline,
    /// The payload is not UTF-8.
    NotUtf8,
    /// The payload is empty, which this dialect cannot tell from something else.
    Empty(Dialect),
    /// There is a user header, and this dialect has no place for one.
    NoHeader(Dialect),
    /// The user header is longer than 255 bytes.
    HeaderTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The whole line is longer than the limit.
    TooLong {
        /// Its length in bytes, newline not counted.
        len: usize,
        /// The limit, newline not counted.
        limit: usize,
    },
}

impl core::fmt::Display for MessageError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            MessageError::Newline => f.write_str(
                "the payload has a newline in it, which would end the message: send several messages, or encode it (JSON does)",
            ),
            MessageError::NotUtf8 => {
                f.write_str("the payload is not UTF-8 text: encode binary data, for example as base64 in JSON")
            }
            MessageError::Empty(Dialect::Plain) => {
                f.write_str("the payload is empty, which a plain-line device (dialect P) takes for a keepalive")
            }
            MessageError::Empty(dialect) => write!(
                f,
                "the payload is empty, which on dialect {dialect} cannot be told from an acknowledgement: send at least one character"
            ),
            MessageError::NoHeader(dialect) => write!(
                f,
                "the message has a user header, and dialect {dialect} has no place for one: only H does"
            ),
            MessageError::HeaderTooLong { len } => write!(f, "the user header has {len} bytes, at most 255 fit"),
            MessageError::TooLong { len, limit } => {
                write!(f, "the message takes a line of {len} bytes, the limit is {limit}")
            }
        }
    }
}

impl core::error::Error for MessageError {}

impl MessageRepr<'_> {
    /// Checks that `dialect` can carry this message in a line of at most `limit` bytes.
    ///
    /// # Errors
    /// Says what stands in the way.
    pub fn check(&self, dialect: Dialect, limit: usize) -> Result<(), MessageError> {
        if !self.header.is_empty() && !dialect.has_header() {
            return Err(MessageError::NoHeader(dialect));
        }
        if self.header.len() > usize::from(u8::MAX) {
            return Err(MessageError::HeaderTooLong { len: self.header.len() });
        }
        if self.payload.is_empty() && !dialect.has_header() {
            return Err(MessageError::Empty(dialect));
        }
        if self.payload.contains(&b'\n') {
            return Err(MessageError::Newline);
        }
        if core::str::from_utf8(self.payload).is_err() {
            return Err(MessageError::NotUtf8);
        }
        let len = self.line_len(dialect);
        if len > limit {
            return Err(MessageError::TooLong { len, limit });
        }
        Ok(())
    }

    /// Length of the message's line in bytes, newline not counted.
    fn line_len(&self, dialect: Dialect) -> usize {
        self.payload.len()
            + match dialect {
                Dialect::Headers => headers::PREHEADER + self.header.len() * 2,
                Dialect::Upstream => 2,
                Dialect::Plain => 0,
            }
    }
}

impl Frame<'_> {
    /// Bytes that [`Frame::emit`] writes, newline included.
    #[must_use]
    pub fn len(&self, dialect: Dialect) -> usize {
        1 + match self {
            Frame::Keepalive => 0,
            Frame::Ack(_) => match dialect {
                Dialect::Headers => headers::PREHEADER,
                Dialect::Upstream => 2,
                Dialect::Plain => 0,
            },
            Frame::Message(_, message) => message.line_len(dialect),
        }
    }

    /// Never: even a keepalive has its newline.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Writes the line with its newline at the front of `buffer` and says how many bytes that took,
    /// or `None` if the buffer is shorter than [`Frame::len`]. A message must have passed
    /// [`MessageRepr::check`] for this dialect.
    #[must_use]
    pub fn emit(&self, dialect: Dialect, buffer: &mut [u8]) -> Option<usize> {
        let len = self.len(dialect);
        let mut rest = buffer.get_mut(..len)?;
        let mut put = |bytes: &[u8]| {
            // `len` is the sum of all that is put, so the split is always within `rest`.
            let (front, back) = core::mem::take(&mut rest).split_at_mut(bytes.len());
            front.copy_from_slice(bytes);
            rest = back;
        };
        match (self, dialect) {
            (Frame::Keepalive, _) | (Frame::Ack(_), Dialect::Plain) => {}
            (Frame::Ack(id), Dialect::Headers) => put(&headers::ack(*id)),
            (Frame::Ack(id), Dialect::Upstream) => put(&hex::digits(id.number())),
            (Frame::Message(id, message), Dialect::Headers) => {
                put(&headers::preheader(*id, message));
                for &byte in message.header {
                    put(&hex::digits(byte));
                }
                put(message.payload);
            }
            (Frame::Message(id, message), Dialect::Upstream) => {
                put(&hex::digits(id.number()));
                put(message.payload);
            }
            (Frame::Message(_, message), Dialect::Plain) => put(message.payload),
        }
        put(b"\n");
        Some(len)
    }
}
