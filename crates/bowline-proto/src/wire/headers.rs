//! Dialect H (§3): `mm hh ff`, user header, payload.

use super::hex::{self, HexBytes};
use super::{Fault, Line, LineError, MessageId, MessageRepr, MessageView};

/// Six digits: id, user header length, flags.
pub(crate) const PREHEADER: usize = 6;
/// Flag: the sender waits for an acknowledgement.
const QOS: u8 = 0x01;
/// Flags that together mark an acknowledgement.
const ACK: u8 = 0x2c;
/// Flags of a login line. They contain those of an acknowledgement, but a login acknowledges nothing.
const LOGIN: u8 = 0xff;

/// Reads a non-empty line.
pub(super) fn parse(line: &[u8]) -> Result<Line<'_>, LineError> {
    let byte = |at: usize| match line.get(at..at + 2) {
        Some(two) => hex::pair(two[0], two[1]).ok_or(LineError::Malformed),
        None => Err(LineError::Malformed),
    };
    let (id, header_len, flags) = (MessageId::new(byte(0)?), usize::from(byte(2)?), byte(4)?);
    // Some reference servers send two more zero bytes after an ACK: what follows is not looked at.
    if flags == LOGIN {
        return Err(LineError::Malformed);
    }
    if flags & ACK == ACK {
        return Ok(Line::Ack(id));
    }
    let wants_ack = flags & QOS != 0;
    let undecodable = |fault| LineError::Undecodable { id: Some(id), wants_ack, fault };
    let (header, payload) = line[PREHEADER..]
        .split_at_checked(header_len * 2)
        .and_then(|(digits, payload)| Some((HexBytes::parse(digits)?, payload)))
        .ok_or(undecodable(Fault::Header))?;
    let payload = core::str::from_utf8(payload).map_err(|_| undecodable(Fault::NotUtf8))?;
    Ok(Line::Message(MessageView { id: Some(id), wants_ack, header, payload }))
}

/// What stands before the user header in a message's line.
pub(super) fn preheader(id: MessageId, message: &MessageRepr<'_>) -> [u8; PREHEADER] {
    // `MessageRepr::check` keeps the header within 255 bytes.
    let header_len = u8::try_from(message.header.len()).unwrap_or(u8::MAX);
    join(id, header_len, if message.qos { QOS } else { 0 })
}

/// The line of an acknowledgement, without its newline.
pub(super) fn ack(id: MessageId) -> [u8; PREHEADER] {
    join(id, 0, ACK)
}

fn join(id: MessageId, header_len: u8, flags: u8) -> [u8; PREHEADER] {
    let ([a, b], [c, d], [e, f]) = (hex::digits(id.number()), hex::digits(header_len), hex::digits(flags));
    [a, b, c, d, e, f]
}
