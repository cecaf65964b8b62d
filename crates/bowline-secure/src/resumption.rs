//! The device's side of a resumption (§15.5).

use bowline_proto::native::wire::{Answer, Mode, Opening};
use bowline_proto::time::{Duration, Instant};
use bowline_proto::{DeviceId, Side};

use crate::handshake::{AnswerError, StartError, check_answer};
use crate::kdf::{Extracted, Purpose, digest};
use crate::transport::Protection;
use crate::wire::{PROOF, RESUME, verdict};
use crate::{Carrier, Key, KeyId, MAX_OPENING, TICKET_BODY, Transport};

/// The frame type of TICKET.
pub(crate) const TICKET: u8 = 0x20;
/// Most uses a ticket may have.
pub(crate) const MAX_USES: u8 = 16;
/// Longest lifetime a ticket may have, in seconds.
pub(crate) const MAX_LIFETIME: u32 = 24 * 60 * 60;

const _: () = assert!(TICKET_BODY == 1 + 8 + 32 + 1 + 4);

/// What lets a device resume, in its memory.
#[derive(Debug)]
pub struct Ticket {
    id: [u8; 8],
    secret: Key,
    uses: u8,
    used: u8,
    expires: Instant,
}

impl Ticket {
    /// Reads a TICKET body (see [`crate::is_security_body`]) that came at `now`. The new ticket takes
    /// the place of any earlier one.
    ///
    /// # Errors
    /// If it is none, or grants more than is allowed. The link is then closed with
    /// [`crate::code::PROTOCOL`]. Also what a server does that is sent one.
    pub fn receive(body: &[u8], now: Instant) -> Result<Self, TicketError> {
        let body: &[u8; TICKET_BODY] = body.try_into().map_err(|_| TicketError)?;
        let (&[kind], body) = body.split_first_chunk::<1>().ok_or(TicketError)?;
        let (id, body) = body.split_first_chunk::<8>().ok_or(TicketError)?;
        let (secret, body) = body.split_first_chunk::<32>().ok_or(TicketError)?;
        let (&[uses], body) = body.split_first_chunk::<1>().ok_or(TicketError)?;
        let lifetime = u32::from_be_bytes(body.try_into().map_err(|_| TicketError)?);
        if kind != TICKET || !(1..=MAX_USES).contains(&uses) || !(1..=MAX_LIFETIME).contains(&lifetime) {
            return Err(TicketError);
        }
        let secret = Key::new(secret).map_err(|_| TicketError)?;
        Ok(Ticket { id: *id, secret, uses, used: 0, expires: now + seconds(lifetime) })
    }

    /// Whether it can be used once more at `now`.
    #[must_use]
    pub fn usable(&self, now: Instant) -> bool {
        self.used < self.uses && now < self.expires
    }
}

/// A resumption that waits for the server's answer.
pub struct Resumption {
    extracted: Extracted,
    opening: [u8; 32],
    carrier: Carrier,
    finished: bool,
}

/// What became of a resumption.
#[derive(Debug)]
pub enum Resumed {
    /// The link is secured.
    Transport(Transport),
    /// The server does not take the ticket: forget it, and send the opening of a full handshake on this
    /// same link.
    FullHandshake,
}

impl Resumption {
    /// Writes the opening of mode 02 into `out`, says its length, and waits for the answer. It takes a
    /// use of the ticket, whatever becomes of it. `None` if the ticket is not usable at `now`.
    ///
    /// The ticket is one that came on a link with this id and key id; `nonce` is of random bytes.
    ///
    /// # Errors
    /// If the id is too long for the native protocol.
    pub fn start(
        ticket: &mut Ticket,
        id: DeviceId<'_>,
        key_id: KeyId,
        nonce: &[u8; 16],
        now: Instant,
        carrier: Carrier,
        out: &mut [u8; MAX_OPENING],
    ) -> Result<Option<(Self, usize)>, StartError> {
        if !ticket.usable(now) {
            return Ok(None);
        }
        let prologue = Opening::emit_prologue(Mode::Resume { key: key_id.get() }, id, out).ok_or(StartError)?;
        ticket.used += 1;
        let extracted = Extracted::new(&ticket.secret, Purpose::Resumption);
        let opening = out.get_mut(..prologue + RESUME).ok_or(StartError)?;
        let message = ticket.id.iter().chain([&ticket.used]).chain(nonce);
        opening.iter_mut().skip(prologue).zip(message).for_each(|(to, from)| *to = *from);
        extracted.sign_opening(opening);
        Ok(Some((Resumption { extracted, opening: digest(opening), carrier, finished: false }, opening.len())))
    }

    /// Reads the answer at the front of `input`: what became of it and how long the answer was, or `None`
    /// if it is not whole yet.
    ///
    /// # Errors
    /// As of [`crate::Handshake::finish`].
    pub fn finish(&mut self, input: &[u8]) -> Result<Option<(Resumed, usize)>, AnswerError> {
        let Some((answer, len)) = Answer::parse(input).map_err(|_| AnswerError::Malformed)? else { return Ok(None) };
        check_answer(&answer)?;
        if self.finished {
            return Err(AnswerError::Finished);
        }
        let bytes = input.get(..len).ok_or(AnswerError::Malformed)?;
        let resumed = match (answer.verdict, answer.handshake.len()) {
            (verdict::GO_ON, PROOF) => {
                let keys = self.extracted.accept(&self.opening, bytes).ok_or(AnswerError::NotAuthentic)?;
                Resumed::Transport(Transport::new(Side::Device, keys, self.carrier, Protection::Resumed))
            }
            (verdict::FULL_HANDSHAKE, 0) => Resumed::FullHandshake,
            _ => return Err(AnswerError::Malformed),
        };
        self.finished = true;
        Ok(Some((resumed, len)))
    }
}

impl core::fmt::Debug for Resumption {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Resumption").field("carrier", &self.carrier).finish_non_exhaustive()
    }
}

pub(crate) const fn seconds(seconds: u32) -> Duration {
    Duration::from_millis(seconds as u64 * 1_000)
}

/// No ticket, or one that grants more than is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TicketError;

impl core::fmt::Display for TicketError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "expected a ticket of 1 to {MAX_USES} uses and 1 to {MAX_LIFETIME} s, got something else")
    }
}

impl core::error::Error for TicketError {}
