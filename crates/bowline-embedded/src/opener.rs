//! How a link begins (§8.2, §15).

use bowline_proto::DeviceId;
use bowline_proto::native::wire::{Answer, Mode, Opening};
use bowline_secure::{AnswerError, MAX_ANSWER};
#[cfg(feature = "keys")]
use bowline_secure::{Carrier, Ephemeral, Handshake, Keyed, Resumed, Resumption};
use embedded_io_async::{Read, Write};

#[cfg(feature = "keys")]
use crate::clock;
use crate::seal::{Ticket, Transport};
use crate::wire::{Wire, write_all};
use crate::{DownReason, Security};

/// More than an answer holds.
const _: () = assert!(crate::wire::MIN_BUFFER > MAX_ANSWER);

/// Never comes about: every buffer has room for an opening.
#[cfg(feature = "keys")]
const NO_ROOM: DownReason = DownReason::Opening(AnswerError::Malformed);

/// What an opening takes.
#[cfg_attr(not(feature = "keys"), expect(dead_code, reason = "an open link needs neither randomness nor tickets"))]
pub(crate) struct Opener<'o, R> {
    pub(crate) id: DeviceId<'o>,
    pub(crate) security: &'o Security,
    pub(crate) random: &'o mut R,
    pub(crate) ticket: &'o mut Option<Ticket>,
}

impl<R: FnMut(&mut [u8])> Opener<'_, R> {
    /// Exchanges the opening: what seals the link's bodies, `None` in open mode. What came behind the answer is left in
    /// the input.
    pub(crate) async fn open<C: Read + Write>(
        &mut self,
        connection: &mut C,
        wire: &mut Wire<'_>,
    ) -> Result<Option<Transport>, DownReason> {
        match self.security {
            Security::Open => {
                let opening = Opening { id: self.id, mode: Mode::Open, handshake: &[] };
                let len = wire.opening().and_then(|place| opening.emit(place)).unwrap_or(0);
                exchange(connection, wire, len, open_answer).await?;
                Ok(None)
            }
            #[cfg(feature = "keys")]
            Security::Keyed(key_id, key) => {
                let nonce = self.bytes::<16>();
                // Ids that are too long have made no client.
                let place = wire.opening().ok_or(NO_ROOM)?;
                let (mut keyed, len) = Keyed::start(self.id, *key_id, key, &nonce, Carrier::Lossless, place)
                    .map_err(|_| DownReason::Opening(AnswerError::Malformed))?;
                exchange(connection, wire, len, |input| keyed.finish(input)).await.map(Some)
            }
            #[cfg(feature = "keys")]
            Security::Encrypted(key_id, key) => {
                let nonce = self.bytes::<16>();
                let begun = self.ticket.as_mut().and_then(|ticket| {
                    let (now, place) = (clock::now(), wire.opening()?);
                    Resumption::start(ticket, self.id, *key_id, &nonce, now, Carrier::Lossless, place).ok().flatten()
                });
                if let Some((mut resumption, len)) = begun {
                    match exchange(connection, wire, len, |input| resumption.finish(input)).await? {
                        Resumed::Transport(transport) => return Ok(Some(transport)),
                        Resumed::FullHandshake => *self.ticket = None,
                    }
                }
                let ephemeral = Ephemeral::new(&self.bytes::<32>());
                let place = wire.opening().ok_or(NO_ROOM)?;
                let (mut handshake, len) = Handshake::start(self.id, *key_id, key, ephemeral, Carrier::Lossless, place)
                    .map_err(|_| DownReason::Opening(AnswerError::Malformed))?;
                exchange(connection, wire, len, |input| handshake.finish(input)).await.map(Some)
            }
        }
    }

    #[cfg(feature = "keys")]
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.random)(&mut bytes);
        bytes
    }
}

/// Without a key.
fn open_answer(input: &[u8]) -> Result<Option<((), usize)>, AnswerError> {
    let Some((answer, len)) = Answer::parse(input).map_err(|_| AnswerError::Malformed)? else { return Ok(None) };
    match answer.verdict.checked_sub(0x80) {
        Some(code) => Err(AnswerError::Refused { code, version: answer.version }),
        None => Ok(Some(((), len))),
    }
}

/// Sends the opening of `len` bytes, and reads the answer.
async fn exchange<C: Read + Write, T>(
    connection: &mut C,
    wire: &mut Wire<'_>,
    len: usize,
    mut finish: impl FnMut(&[u8]) -> Result<Option<(T, usize)>, AnswerError>,
) -> Result<T, DownReason> {
    write_all(connection, wire.opening().and_then(|opening| opening.get(..len)).unwrap_or_default()).await?;
    loop {
        if let Some((answer, len)) = finish(wire.input()).map_err(DownReason::Opening)? {
            wire.consume(len);
            return Ok(answer);
        }
        wire.fill(connection).await?;
    }
}
