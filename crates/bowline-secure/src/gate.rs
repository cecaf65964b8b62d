//! What the server decides on an opening (§8.2, §15).

use bowline_proto::time::Instant;
use bowline_proto::{DeviceId, Side};

use crate::kdf::{Extracted, Purpose};
use crate::noise::{self, Ephemeral};
use crate::tickets::{Redeemed, Redemption};
use crate::transport::Protection;
use crate::wire::{self, Asked, HANDSHAKE, NONCE, RESUME, Whole, verdict};
use crate::{Carrier, Key, KeyId, KeyRing, MAX_ANSWER, Transport, code};

/// What the server knows of a device id.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Its keys; `None` for an id that never had one.
    pub keys: Option<KeyRing>,
    /// Whether the configuration allows open mode for this id on this listener. An id that has, or
    /// had, a key is refused in open mode all the same.
    pub open: bool,
    /// Whether the configuration allows this id to use a key without encryption (§15.6).
    pub unencrypted: bool,
}

/// Decides on the openings of one link.
#[derive(Debug)]
pub struct Gate {
    carrier: Carrier,
    /// A resumption was refused, and a full handshake is to follow.
    fallen_back: bool,
}

/// What is to be done with a link. Where there is an answer, its `answer` bytes are at the front of the
/// buffer given to [`Gate::decide`]; `consumed` bytes of the input were the opening.
#[derive(Debug)]
#[must_use]
pub enum Decision<'i> {
    /// The opening is not whole yet: call again with all of the link's bytes. It is whole before 160.
    More,
    /// Not the native protocol: close without an answer.
    Foreign,
    /// Send the answer and close.
    Refused {
        /// A close code of §16.2, for the log.
        code: u8,
        /// Length of the answer.
        answer: usize,
    },
    /// Send the answer and go on without encryption.
    Open {
        /// Who the device says it is.
        id: DeviceId<'i>,
        /// Length of the opening.
        consumed: usize,
        /// Length of the answer.
        answer: usize,
    },
    /// Send the answer and go on with the transport, which encrypts unless the device asked for a keyed
    /// link ([`Transport::protection`]). The device is who it says; that it is there now, and
    /// that the opening is not a recording, it shows with its first body ([`Transport::confirmed`]).
    Secured {
        /// Who the device is.
        id: DeviceId<'i>,
        /// The key it has shown, or got its ticket with. When this is revoked, the link ends.
        key_id: KeyId,
        /// Seals and opens this link's bodies.
        transport: Transport,
        /// Length of the opening.
        consumed: usize,
        /// Length of the answer.
        answer: usize,
    },
    /// Send the answer, drop the consumed bytes, and call again with what follows, which is an opening
    /// of mode 01.
    Again {
        /// Length of the opening.
        consumed: usize,
        /// Length of the answer.
        answer: usize,
    },
}

impl Gate {
    /// For a new link.
    #[must_use]
    pub const fn new(carrier: Carrier) -> Self {
        Gate { carrier, fallen_back: false }
    }

    /// Decides on the opening at the front of `input`.
    ///
    /// `standing` says what is known of an id; it is called at most once. `redeem` is
    /// [`crate::Tickets::redeem`] of the server's table, or `|_| None` where there is none; it is called
    /// only for a resumption, so that the table can be locked in it. `random` is used for nothing else and
    /// for one call only.
    ///
    /// An unknown id, an unknown key id, a wrong and a revoked key get the same answer after the same
    /// work (§15.3); none of them costs a multiplication.
    pub fn decide<'i>(
        &mut self,
        input: &'i [u8],
        random: &[u8; 32],
        now: Instant,
        standing: impl FnOnce(DeviceId<'_>) -> Standing,
        redeem: impl FnOnce(&Redemption<'_>) -> Option<Redeemed>,
        answer: &mut [u8; MAX_ANSWER],
    ) -> Decision<'i> {
        let opening = match Whole::parse(input) {
            Ok(Some(opening)) => opening,
            Ok(None) => return Decision::More,
            Err(error) => {
                return wire::refusal(error).map_or(Decision::Foreign, |code| refuse(code, answer));
            }
        };
        match opening.asked {
            _ if self.fallen_back && !matches!(opening.asked, Asked::Handshake { .. }) => {
                refuse(code::PROTOCOL, answer)
            }
            Asked::Open => open(opening, &standing(opening.id), answer),
            Asked::Handshake { key_id, message } => {
                let standing = standing(opening.id);
                self.handshake(opening, key_id, message, &standing, random, answer)
            }
            Asked::Resumption { key_id, message } => {
                let standing = standing(opening.id);
                self.resume(opening, key_id, message, &standing, random, now, redeem, answer)
            }
            Asked::Keyed { key_id } => {
                let standing = standing(opening.id);
                self.keyed(opening, key_id, &standing, random, answer)
            }
        }
    }

    /// Writes the answer that refuses an opening with a close code of §16.2, for reasons of the
    /// server's own, and says its length.
    pub fn refuse(code: u8, answer: &mut [u8; MAX_ANSWER]) -> usize {
        wire::write_answer(verdict::REFUSED | code, &[], answer)
    }

    fn handshake<'i>(
        &self,
        opening: Whole<'i>,
        key_id: u8,
        message: &[u8; HANDSHAKE],
        standing: &Standing,
        random: &[u8; 32],
        out: &mut [u8; MAX_ANSWER],
    ) -> Decision<'i> {
        let Some(key_id) = KeyId::new(key_id) else { return refuse(code::PROTOCOL, out) };
        let known = live_key(standing, key_id);
        // Nobody knows this one, and what it opens is refused all the same.
        let stand_in = Key::from_any(random);
        let key = known.unwrap_or(&stand_in);
        let response = noise::respond(opening.prologue, message, key, Ephemeral::lazy(random));
        match (known, response) {
            (Some(_), Some((message, keys))) => Decision::Secured {
                id: opening.id,
                key_id,
                transport: Transport::new(Side::Server, keys, self.carrier, Protection::Handshake),
                consumed: opening.bytes.len(),
                answer: wire::write_answer(verdict::GO_ON, &message, out),
            },
            _ => refuse(code::KEY, out),
        }
    }

    fn keyed<'i>(
        &self,
        opening: Whole<'i>,
        key_id: u8,
        standing: &Standing,
        random: &[u8; 32],
        out: &mut [u8; MAX_ANSWER],
    ) -> Decision<'i> {
        let Some(key_id) = KeyId::new(key_id) else { return refuse(code::PROTOCOL, out) };
        let known = live_key(standing, key_id);
        let stand_in = Key::from_any(random);
        let extracted = Extracted::new(known.unwrap_or(&stand_in), Purpose::Keyed);
        let signed = extracted.has_signed(opening.bytes);
        if known.is_none() || !signed {
            return refuse(code::KEY, out);
        }
        // Only who has shown the key is told: what an id may do is nobody else's business.
        if !standing.unencrypted {
            return refuse(code::NOT_ALLOWED, out);
        }
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&random[..NONCE]);
        let (keys, answer) = extracted.answer(opening.bytes, &nonce, out);
        let transport = Transport::new(Side::Server, keys, self.carrier, Protection::Keyed);
        Decision::Secured { id: opening.id, key_id, transport, consumed: opening.bytes.len(), answer }
    }

    #[expect(clippy::too_many_arguments, reason = "those of decide, taken apart")]
    fn resume<'i>(
        &mut self,
        opening: Whole<'i>,
        key_id: u8,
        message: &[u8; RESUME],
        standing: &Standing,
        random: &[u8; 32],
        now: Instant,
        redeem: impl FnOnce(&Redemption<'_>) -> Option<Redeemed>,
        out: &mut [u8; MAX_ANSWER],
    ) -> Decision<'i> {
        let Some(key_id) = KeyId::new(key_id) else { return refuse(code::PROTOCOL, out) };
        let consumed = opening.bytes.len();
        let redeemed = redeem(&Redemption { opening, key_id, message, random, now });
        // Revocation takes the ticket away; that the key is live is asked here so that nothing
        // depends on the order in which the server does the two.
        let live = live_key(standing, key_id).is_some();
        match redeemed.filter(|_| live) {
            Some(redeemed) => {
                let (transport, answer) = redeemed.answer(opening.bytes, random, self.carrier, out);
                Decision::Secured { id: opening.id, key_id, transport, consumed, answer }
            }
            None => {
                self.fallen_back = true;
                Decision::Again { consumed, answer: wire::write_answer(verdict::FULL_HANDSHAKE, &[], out) }
            }
        }
    }
}

fn open<'i>(opening: Whole<'i>, standing: &Standing, out: &mut [u8; MAX_ANSWER]) -> Decision<'i> {
    if standing.open && standing.keys.is_none() {
        let answer = wire::write_answer(verdict::GO_ON, &[], out);
        Decision::Open { id: opening.id, consumed: opening.bytes.len(), answer }
    } else {
        refuse(code::NOT_ALLOWED, out)
    }
}

fn live_key(standing: &Standing, key_id: KeyId) -> Option<&Key> {
    standing.keys.as_ref().and_then(|ring| ring.get(key_id))
}

fn refuse<'i>(code: u8, out: &mut [u8; MAX_ANSWER]) -> Decision<'i> {
    Decision::Refused { code, answer: Gate::refuse(code, out) }
}
