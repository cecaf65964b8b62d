//! Dialect U (§4): two digits of id, then text. Nothing after the id makes it an acknowledgement.

use super::hex::{self, HexBytes};
use super::{Fault, Line, LineError, MessageId, MessageView};

/// Reads a non-empty line.
pub(super) fn parse(line: &[u8]) -> Result<Line<'_>, LineError> {
    let (id, payload) = match line {
        [high, low, payload @ ..] => (hex::pair(*high, *low).ok_or(LineError::Malformed)?, payload),
        _ => return Err(LineError::Malformed),
    };
    let id = MessageId::new(id);
    if payload.is_empty() {
        return Ok(Line::Ack(id));
    }
    match core::str::from_utf8(payload) {
        Ok(payload) => {
            Ok(Line::Message(MessageView { id: Some(id), wants_ack: true, header: HexBytes::EMPTY, payload }))
        }
        Err(_) => Err(LineError::Undecodable { id: Some(id), wants_ack: true, fault: Fault::NotUtf8 }),
    }
}
