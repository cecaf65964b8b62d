//! What a received line says: a checked view over its bytes.

use super::{HexBytes, MessageId, headers, plain, upstream};
use crate::Dialect;

/// A received line, checked. Borrows from the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// An empty line: the peer is alive.
    Keepalive,
    /// The peer has accepted the message with this id.
    Ack(MessageId),
    /// A message.
    Message(MessageView<'a>),
}

/// A message in a received line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageView<'a> {
    /// The sender's id for it. Plain lines have none.
    pub id: Option<MessageId>,
    /// Whether the sender waits for an acknowledgement. On U it always does.
    pub wants_ack: bool,
    /// The user header; empty on U and P.
    pub header: HexBytes<'a>,
    /// The payload: text without a newline, on H usually JSON.
    pub payload: &'a str,
}

/// Why a line is not one of its dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LineError {
    /// The line does not start as every line of the dialect does; there is no id to acknowledge.
    Malformed,
    /// The line has an id, but what follows cannot be read. Sending it again would not help.
    Undecodable {
        /// Its id. Plain lines have none.
        id: Option<MessageId>,
        /// Whether the sender waits for an acknowledgement.
        wants_ack: bool,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with an undecodable message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The pre-header announces more user header than there is, or it is not hexadecimal.
    Header,
    /// The payload is not UTF-8.
    NotUtf8,
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Fault::Header => "the user header is cut short or not hexadecimal",
            Fault::NotUtf8 => "the payload is not UTF-8",
        })
    }
}

impl<'a> Line<'a> {
    /// Reads `line` (without its newline) as `dialect`.
    ///
    /// # Errors
    /// If it is no line of that dialect.
    pub fn parse(dialect: Dialect, line: &'a [u8]) -> Result<Self, LineError> {
        if line.is_empty() {
            return Ok(Line::Keepalive);
        }
        match dialect {
            Dialect::Headers => headers::parse(line),
            Dialect::Upstream => upstream::parse(line),
            Dialect::Plain => plain::parse(line),
        }
    }
}
