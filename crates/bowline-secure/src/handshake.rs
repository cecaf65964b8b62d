//! The device's side of a full handshake (§15.1).

use bowline_proto::native::wire::{Answer, Mode, Opening};
use bowline_proto::{DeviceId, Side};

use crate::noise::{self, State};
use crate::transport::Protection;
use crate::wire::{HANDSHAKE, verdict};
use crate::{Carrier, Ephemeral, Key, KeyId, MAX_OPENING, Transport, VERSION};

/// A full handshake that waits for the server's answer.
pub struct Handshake {
    /// `None` once there is a transport: a second one would use its nonces again.
    state: Option<State>,
    carrier: Carrier,
}

impl Handshake {
    /// Writes the opening of mode 01 into `out`, says its length, and waits for the answer.
    ///
    /// # Errors
    /// If the id is too long for the native protocol.
    pub fn start(
        id: DeviceId<'_>,
        key_id: KeyId,
        key: &Key,
        ephemeral: Ephemeral,
        carrier: Carrier,
        out: &mut [u8; MAX_OPENING],
    ) -> Result<(Self, usize), StartError> {
        let prologue = Opening::emit_prologue(Mode::Noise { key: key_id.get() }, id, out).ok_or(StartError)?;
        let (prologue, rest) = out.split_at_mut_checked(prologue).ok_or(StartError)?;
        let mut state = noise::state(true, prologue, key, ephemeral);
        let message = noise::write(&mut state).ok_or(StartError)?;
        *rest.first_chunk_mut().ok_or(StartError)? = message;
        Ok((Handshake { state: Some(state), carrier }, prologue.len() + HANDSHAKE))
    }

    /// Reads the answer at the front of `input`: the transport and how long the answer was, or `None`
    /// if it is not whole yet.
    ///
    /// # Errors
    /// If it is none that the server made for this opening, or a refusal. A lossless link is then to be
    /// closed. On a lossy one only a refusal counts, and other answers can be tried.
    pub fn finish(&mut self, input: &[u8]) -> Result<Option<(Transport, usize)>, AnswerError> {
        let Some((answer, len)) = Answer::parse(input).map_err(|_| AnswerError::Malformed)? else { return Ok(None) };
        check_answer(&answer)?;
        let message = match (answer.verdict, answer.handshake.try_into()) {
            (verdict::GO_ON, Ok(message)) => message,
            _ => return Err(AnswerError::Malformed),
        };
        let state = self.state.as_ref().ok_or(AnswerError::Finished)?;
        let keys = noise::read_second(state, message).ok_or(AnswerError::NotAuthentic)?;
        self.state = None;
        Ok(Some((Transport::new(Side::Device, keys, self.carrier, Protection::Handshake), len)))
    }
}

impl core::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Handshake").field("carrier", &self.carrier).finish_non_exhaustive()
    }
}

/// What goes for the answers of all modes: refusals, and the version (§15.1).
pub(crate) fn check_answer(answer: &Answer<'_>) -> Result<(), AnswerError> {
    if let Some(code) = answer.verdict.checked_sub(verdict::REFUSED) {
        return if answer.handshake.is_empty() {
            Err(AnswerError::Refused { code, version: answer.version })
        } else {
            Err(AnswerError::Malformed)
        };
    }
    if answer.version == VERSION { Ok(()) } else { Err(AnswerError::Malformed) }
}

/// The id is too long for the native protocol: more than [`crate::MAX_ID`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartError;

/// Why there is no transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnswerError {
    /// No answer, or none that fits what was asked.
    Malformed,
    /// Refused. Anybody between the ends can say this: it is reported and tried again later, never
    /// with a lower version or in open mode (§8.2).
    Refused {
        /// A close code of §16.2.
        code: u8,
        /// The highest version the server says it speaks.
        version: u8,
    },
    /// It was not made with the device's key, or not for this opening.
    NotAuthentic,
    /// There is a transport already.
    Finished,
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "on the native protocol a device id has at most {} bytes: take a shorter one", crate::MAX_ID)
    }
}

impl core::fmt::Display for AnswerError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            AnswerError::Malformed => f.write_str("expected the answer to an opening, got something else"),
            AnswerError::Refused { code: crate::code::KEY, .. } => {
                f.write_str("the server knows no such device with this key: provision the device, or look whether its key was revoked")
            }
            AnswerError::Refused { code: crate::code::VERSION, version } => {
                write!(f, "the server speaks version {version} at most, this device {VERSION}")
            }
            AnswerError::Refused { code, .. } => write!(f, "the server refused the link with code {code}"),
            AnswerError::NotAuthentic => f.write_str("the answer was not made with this device's key: not the right server"),
            AnswerError::Finished => f.write_str("the handshake has its answer already"),
        }
    }
}

impl core::error::Error for StartError {}
impl core::error::Error for AnswerError {}
