//! Bytes of openings and answers (§8.2).

use bowline_proto::DeviceId;

use crate::{MAX_ANSWER, MAX_ID, MAX_OPENING, VERSION, code};

/// Bytes of an opening before the device id.
pub(crate) const FIXED: usize = 8;
/// Bytes of an answer before its handshake bytes.
pub(crate) const ANSWER_FIXED: usize = 7;
/// Handshake bytes of either message in mode 01: an ephemeral key and a tag.
pub(crate) const HANDSHAKE: usize = 48;
/// Handshake bytes of an opening in mode 02: ticket id, use number, nonce, tag.
pub(crate) const RESUME: usize = 41;
/// Handshake bytes of an answer in mode 02: nonce, tag.
pub(crate) const RESUMED: usize = 32;
/// Bytes of a tag.
pub(crate) const TAG: usize = 16;

const MAGIC: [u8; 4] = [0x00, b'B', b'W', b'L'];

/// The verdicts of §8.2.
pub(crate) mod verdict {
    pub(crate) const GO_ON: u8 = 0x00;
    pub(crate) const FULL_HANDSHAKE: u8 = 0x01;
    pub(crate) const REFUSED: u8 = 0x80;
}

/// What an opening asks for.
#[derive(Clone, Copy)]
pub(crate) enum Asked<'a> {
    Open,
    Handshake { key_id: u8, message: &'a [u8; HANDSHAKE] },
    Resumption { key_id: u8, message: &'a [u8; RESUME] },
}

/// A whole opening.
#[derive(Clone, Copy)]
pub(crate) struct Opening<'a> {
    pub(crate) id: DeviceId<'a>,
    pub(crate) asked: Asked<'a>,
    /// All of its bytes.
    pub(crate) bytes: &'a [u8],
    /// Its bytes before the handshake bytes.
    pub(crate) prologue: &'a [u8],
}

/// Why bytes are not an opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bad {
    /// They do not begin as dialect N does.
    Foreign,
    /// To be refused with this close code.
    Refuse(u8),
}

impl<'a> Opening<'a> {
    /// Reads the opening at the front of `input`; `None` if it is not whole yet. What is wrong is said
    /// as soon as it can be seen.
    pub(crate) fn parse(input: &'a [u8]) -> Result<Option<Self>, Bad> {
        if !starts_with_magic(input) {
            return Err(Bad::Foreign);
        }
        // After the version nothing is known of the layout of another version.
        if input.get(4).is_some_and(|&version| version != VERSION) {
            return Err(Bad::Refuse(code::VERSION));
        }
        let (Some(&mode), Some(&key_id)) = (input.get(5), input.get(6)) else { return Ok(None) };
        let message_len = match (mode, key_id) {
            (0, 0) => 0,
            (1, 1..) => HANDSHAKE,
            (2, 1..) => RESUME,
            (0..=2, _) => return Err(Bad::Refuse(code::PROTOCOL)),
            (3.., _) => return Err(Bad::Refuse(code::NOT_ALLOWED)),
        };
        let Some(&id_len) = input.get(7) else { return Ok(None) };
        let id_len = usize::from(id_len);
        if id_len == 0 || id_len > MAX_ID {
            return Err(Bad::Refuse(code::PROTOCOL));
        }
        let Some((prologue, rest)) = input.split_at_checked(FIXED + id_len) else { return Ok(None) };
        let id = DeviceId::from_bytes(&prologue[FIXED..]).map_err(|_| Bad::Refuse(code::PROTOCOL))?;
        let asked = match message_len {
            HANDSHAKE => rest.first_chunk().map(|message| Asked::Handshake { key_id, message }),
            RESUME => rest.first_chunk().map(|message| Asked::Resumption { key_id, message }),
            _ => Some(Asked::Open),
        };
        Ok(asked.map(|asked| Opening { id, asked, bytes: &input[..prologue.len() + message_len], prologue }))
    }
}

/// Writes an opening's bytes before the handshake bytes and says how many there are; `None` if the id
/// is too long for the native protocol.
pub(crate) fn write_prologue(mode: u8, key_id: u8, id: DeviceId<'_>, out: &mut [u8; MAX_OPENING]) -> Option<usize> {
    let id = id.as_str().as_bytes();
    if id.len() > MAX_ID {
        return None;
    }
    out[..4].copy_from_slice(&MAGIC);
    out[4..FIXED].copy_from_slice(&[VERSION, mode, key_id, id.len() as u8]);
    out[FIXED..FIXED + id.len()].copy_from_slice(id);
    Some(FIXED + id.len())
}

/// An answer.
pub(crate) struct Answer<'a> {
    pub(crate) version: u8,
    pub(crate) verdict: u8,
    pub(crate) message: &'a [u8],
    /// All of its bytes.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Answer<'a> {
    /// Reads the answer at the front of `input`: `Ok(None)` if it is not whole yet, `Err` if it is none.
    pub(crate) fn parse(input: &'a [u8]) -> Result<Option<Self>, ()> {
        if !starts_with_magic(input) {
            return Err(());
        }
        let Some((&[_, _, _, _, version, verdict, len], rest)) = input.split_first_chunk::<ANSWER_FIXED>() else {
            return Ok(None);
        };
        let len = usize::from(len);
        if len > HANDSHAKE {
            return Err(());
        }
        let Some(message) = rest.get(..len) else { return Ok(None) };
        Ok(Some(Answer { version, verdict, message, bytes: &input[..ANSWER_FIXED + len] }))
    }
}

/// Writes an answer and says its length. `message` has at most [`HANDSHAKE`] bytes.
pub(crate) fn write_answer(verdict: u8, message: &[u8], out: &mut [u8; MAX_ANSWER]) -> usize {
    let len = message.len().min(HANDSHAKE);
    out[..4].copy_from_slice(&MAGIC);
    out[4..ANSWER_FIXED].copy_from_slice(&[VERSION, verdict, len as u8]);
    out[ANSWER_FIXED..ANSWER_FIXED + len].copy_from_slice(&message[..len]);
    ANSWER_FIXED + len
}

fn starts_with_magic(input: &[u8]) -> bool {
    input.iter().zip(&MAGIC).all(|(byte, magic)| byte == magic)
}
