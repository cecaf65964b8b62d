//! The device's side of a keyed link: authenticated, not encrypted (§15.6).

use bowline_proto::native::wire::{Answer, Mode, Opening};
use bowline_proto::{DeviceId, Side};

use crate::handshake::{AnswerError, StartError, check_answer};
use crate::kdf::{Extracted, Purpose, digest};
use crate::transport::Protection;
use crate::wire::{PROOF, verdict};
use crate::{Carrier, Key, KeyId, MAX_OPENING, Transport};

/// The beginning of a keyed link that waits for the server's answer.
///
/// Nothing on such a link is secret. It is for devices that cannot afford a [`crate::Handshake`], and a
/// server lets in only those it was told of.
pub struct Keyed {
    extracted: Extracted,
    opening: [u8; 32],
    carrier: Carrier,
    finished: bool,
}

impl Keyed {
    /// Writes the opening of mode 03 into `out`, says its length, and waits for the answer.
    ///
    /// `nonce` must never come twice under one key: random bytes, or a number counted in flash. It need not
    /// be secret.
    ///
    /// # Errors
    /// If the id is too long for the native protocol.
    pub fn start(
        id: DeviceId<'_>,
        key_id: KeyId,
        key: &Key,
        nonce: &[u8; 16],
        carrier: Carrier,
        out: &mut [u8; MAX_OPENING],
    ) -> Result<(Self, usize), StartError> {
        let prologue = Opening::emit_prologue(Mode::Keyed { key: key_id.get() }, id, out).ok_or(StartError)?;
        let extracted = Extracted::new(key, Purpose::Keyed);
        let opening = out.get_mut(..prologue + PROOF).ok_or(StartError)?;
        opening.iter_mut().skip(prologue).zip(nonce).for_each(|(to, from)| *to = *from);
        extracted.sign_opening(opening);
        Ok((Keyed { extracted, opening: digest(opening), carrier, finished: false }, opening.len()))
    }

    /// Reads the answer at the front of `input`: the transport and how long the answer was, or `None`
    /// if it is not whole yet.
    ///
    /// # Errors
    /// As of [`crate::Handshake::finish`].
    pub fn finish(&mut self, input: &[u8]) -> Result<Option<(Transport, usize)>, AnswerError> {
        let Some((answer, len)) = Answer::parse(input).map_err(|_| AnswerError::Malformed)? else { return Ok(None) };
        check_answer(&answer)?;
        if self.finished {
            return Err(AnswerError::Finished);
        }
        if (answer.verdict, answer.handshake.len()) != (verdict::GO_ON, PROOF) {
            return Err(AnswerError::Malformed);
        }
        let bytes = input.get(..len).ok_or(AnswerError::Malformed)?;
        let keys = self.extracted.accept(&self.opening, bytes).ok_or(AnswerError::NotAuthentic)?;
        self.finished = true;
        Ok(Some((Transport::new(Side::Device, keys, self.carrier, Protection::Keyed), len)))
    }
}

impl core::fmt::Debug for Keyed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Keyed").field("carrier", &self.carrier).finish_non_exhaustive()
    }
}
