//! Dialect P (§5): the line is the message.

use super::hex::HexBytes;
use super::{Fault, Line, LineError, MessageView};

/// Reads a non-empty line.
pub(super) fn parse(line: &[u8]) -> Result<Line<'_>, LineError> {
    match core::str::from_utf8(line) {
        Ok(payload) => Ok(Line::Message(MessageView { id: None, wants_ack: false, header: HexBytes::EMPTY, payload })),
        Err(_) => Err(LineError::Undecodable { id: None, wants_ack: false, fault: Fault::NotUtf8 }),
    }
}
