//! Frames on a lossy transport: COBS, link number, CRC (§8.5).

use crate::crc::Crc;

/// Bytes of link number and CRC beside a body.
const OVERHEAD: usize = 6;

/// Longest encoding of a body of `len` bytes, delimiter included.
#[must_use]
pub const fn max_len(len: usize) -> usize {
    let inner = len + OVERHEAD;
    inner + inner / 254 + 2
}

/// What [`next`] found.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "consumed bytes must leave the buffer"]
pub struct Step<'a> {
    /// Bytes to drop from the front of the buffer.
    pub consumed: usize,
    /// What they were; `None` when no delimiter is there.
    pub found: Option<Found<'a>>,
}

/// What stood before a delimiter.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A body, decoded in place.
    Body {
        /// The number of the link it belongs to.
        link: u16,
        /// At least 1 byte.
        body: &'a mut [u8],
    },
    /// Nothing, or damage: read on.
    Nothing {
        /// Bytes were there: count them as a damaged frame.
        damaged: bool,
    },
}

/// Looks at the front of `buffer`, one frame a call; to be called again until it finds nothing. If
/// that happens with a full buffer, the driver drops its bytes and counts one damaged frame.
pub fn next(buffer: &mut [u8]) -> Step<'_> {
    let Some(end) = buffer.iter().position(|&byte| byte == 0) else { return Step { consumed: 0, found: None } };
    let found = match decode(&mut buffer[..end]) {
        Some(len) => Found::Body { link: u16::from_be_bytes([buffer[0], buffer[1]]), body: &mut buffer[2..len - 4] },
        None => Found::Nothing { damaged: end > 0 },
    };
    Step { consumed: end + 1, found: Some(found) }
}

/// Undoes COBS in place and checks the CRC. The length of the result, which is more than [`OVERHEAD`].
fn decode(bytes: &mut [u8]) -> Option<usize> {
    let (mut from, mut to) = (0, 0);
    while from < bytes.len() {
        let code = usize::from(bytes[from]);
        let run = from + 1..from + code;
        if run.end > bytes.len() {
            return None;
        }
        // Decoding only shortens: `to` never passes `from`.
        bytes.copy_within(run.clone(), to);
        to += code - 1;
        from = run.end;
        if code < 255 && from < bytes.len() {
            bytes[to] = 0;
            to += 1;
        }
    }
    let (content, crc) = bytes[..to].split_last_chunk::<4>()?;
    let whole = content.len() > 2 && Crc::new().with(content).value() == u32::from_be_bytes(*crc);
    whole.then_some(to)
}

/// Writes `body` as a frame of link `link` to the front of `out` and says its length; `None` if
/// `out` is too short ([`max_len`] always does).
#[must_use]
pub fn encode(link: u16, body: &[u8], out: &mut [u8]) -> Option<usize> {
    let link = link.to_be_bytes();
    let crc = Crc::new().with(&link).with(body).value().to_be_bytes();
    let (mut code_at, mut at) = (0, 1);
    for &byte in link.iter().chain(body).chain(&crc) {
        if byte != 0 {
            *out.get_mut(at)? = byte;
            at += 1;
        }
        if byte == 0 || at - code_at == 255 {
            *out.get_mut(code_at)? = (at - code_at) as u8;
            code_at = at;
            at += 1;
        }
    }
    *out.get_mut(code_at)? = (at - code_at) as u8;
    *out.get_mut(at)? = 0;
    Some(at + 1)
}
