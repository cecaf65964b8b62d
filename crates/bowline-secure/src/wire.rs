//! What this layer puts into openings and answers. Their bytes are those of
//! [`bowline_proto::native::wire`] (§8.2).

use bowline_proto::DeviceId;
use bowline_proto::native::wire::{Answer, Mode, Opening, OpeningError};

use crate::{MAX_ANSWER, VERSION, code};

/// Handshake bytes of either message in mode 01: an ephemeral key and a tag.
pub(crate) const HANDSHAKE: usize = 48;
/// Handshake bytes of an opening in mode 02: ticket id, use number, nonce, tag.
pub(crate) const RESUME: usize = 41;
/// Handshake bytes of an opening in mode 03, and of an answer in modes 02 and 03: nonce, tag.
pub(crate) const PROOF: usize = NONCE + TAG;
/// Bytes of a nonce.
pub(crate) const NONCE: usize = 16;
/// Bytes of a tag.
pub(crate) const TAG: usize = 16;

const _: () = assert!(HANDSHAKE == Mode::Noise { key: 1 }.handshake_len());
const _: () = assert!(RESUME == Mode::Resume { key: 1 }.handshake_len());
const _: () = assert!(PROOF == Mode::Keyed { key: 1 }.handshake_len());

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
    Keyed { key_id: u8 },
}

/// A whole opening.
#[derive(Clone, Copy)]
pub(crate) struct Whole<'a> {
    pub(crate) id: DeviceId<'a>,
    pub(crate) asked: Asked<'a>,
    /// All of its bytes.
    pub(crate) bytes: &'a [u8],
    /// Its bytes before the handshake bytes.
    pub(crate) prologue: &'a [u8],
}

impl<'a> Whole<'a> {
    /// The opening at the front of `input`; `None` if it is not whole yet.
    pub(crate) fn parse(input: &'a [u8]) -> Result<Option<Self>, OpeningError> {
        let Some((opening, len)) = Opening::parse(input)? else { return Ok(None) };
        let (bytes, handshake) = (&input[..len], opening.handshake);
        let asked = match opening.mode {
            Mode::Open => Some(Asked::Open),
            Mode::Noise { key } => handshake.first_chunk().map(|message| Asked::Handshake { key_id: key, message }),
            Mode::Resume { key } => handshake.first_chunk().map(|message| Asked::Resumption { key_id: key, message }),
            Mode::Keyed { key } => Some(Asked::Keyed { key_id: key }),
        };
        let prologue = &bytes[..len - handshake.len()];
        Ok(asked.map(|asked| Whole { id: opening.id, asked, bytes, prologue }))
    }
}

/// The close code that refuses what is no opening; `None` if it is to be closed without an answer.
pub(crate) const fn refusal(error: OpeningError) -> Option<u8> {
    match error {
        OpeningError::Magic => None,
        OpeningError::Version(_) => Some(code::VERSION),
        OpeningError::Mode(4..) => Some(code::NOT_ALLOWED),
        _ => Some(code::PROTOCOL),
    }
}

/// Writes an answer and says its length. `message` has at most [`HANDSHAKE`] bytes, so that it fits.
pub(crate) fn write_answer(verdict: u8, message: &[u8], out: &mut [u8; MAX_ANSWER]) -> usize {
    Answer { version: VERSION, verdict, handshake: message }.emit(out).unwrap_or_default()
}
