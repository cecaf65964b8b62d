//! The server's table of tickets (§15.5).

use bowline_proto::time::Instant;
use bowline_proto::{DeviceId, Side};

use crate::kdf::{Extracted, Purpose, digest};
use crate::resumption::{MAX_LIFETIME, MAX_USES, TICKET, seconds};
use crate::transport::Protection;
use crate::wire::{NONCE, RESUME, Whole};
use crate::{Carrier, Key, KeyId, MAX_ANSWER, TICKET_BODY, Transport};

/// How many places a device's ticket can be in. A look-up reads all of them, whoever asks.
const WAYS: usize = 8;

/// A place for one ticket.
#[derive(Debug, Clone, Default)]
pub struct TicketSlot(Option<Entry>);

impl TicketSlot {
    /// A free place.
    pub const FREE: TicketSlot = TicketSlot(None);
}

#[derive(Debug, Clone)]
struct Entry {
    /// SHA-256 of the device id.
    owner: [u8; 32],
    key_id: KeyId,
    id: [u8; 8],
    secret: Key,
    uses: u8,
    used: u8,
    expires: Instant,
}

/// What a ticket allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// How often it can be used: 1 to 16, more counts as 16.
    pub uses: u8,
    /// For how long, in seconds: 1 to 86400, more counts as 86400.
    pub lifetime: u32,
}

impl Default for Grant {
    /// The most that is allowed.
    fn default() -> Self {
        Grant { uses: MAX_USES, lifetime: MAX_LIFETIME }
    }
}

/// Tickets that devices can resume with, in storage of the caller's: a slice, an array, a `Vec`.
///
/// A device has one at most. Twice as many slots as devices, and in eights, leave a place for nearly
/// everyone; a ticket without a place takes that of the ticket that would expire first, and its owner
/// does a full handshake.
#[derive(Debug)]
pub struct Tickets<S> {
    slots: S,
}

impl<S: AsRef<[TicketSlot]> + AsMut<[TicketSlot]>> Tickets<S> {
    /// A table in `slots`.
    pub const fn new(slots: S) -> Self {
        Tickets { slots }
    }

    /// Makes a ticket of 40 random bytes; its TICKET body is to be sealed and sent.
    ///
    /// `None`, and nothing is made, if `transport` does not encrypt, so that everybody could read the secret; if
    /// it began with a resumption, which would extend it without end; if the device has not shown yet that it is there (§15.4: else a recorded opening
    /// would take away the true device's ticket); if the grant allows nothing; if there are no slots.
    pub fn issue(
        &mut self,
        id: DeviceId<'_>,
        key_id: KeyId,
        transport: &Transport,
        grant: Grant,
        random: &[u8; 40],
        now: Instant,
    ) -> Option<[u8; TICKET_BODY]> {
        let uses = grant.uses.min(MAX_USES);
        let lifetime = grant.lifetime.min(MAX_LIFETIME);
        let (ticket_id, secret) = random.split_first_chunk::<8>()?;
        let secret = Key::new(secret.try_into().ok()?).ok()?;
        if transport.protection() != Protection::Handshake || !transport.confirmed() || uses == 0 || lifetime == 0 {
            return None;
        }
        let owner = digest(id.as_str().as_bytes());
        let mut body = [TICKET; TICKET_BODY];
        body[1..9].copy_from_slice(ticket_id);
        body[9..41].copy_from_slice(secret.expose());
        body[41] = uses;
        body[42..].copy_from_slice(&lifetime.to_be_bytes());

        let entry = Entry { owner, key_id, id: *ticket_id, secret, uses, used: 0, expires: now + seconds(lifetime) };
        let ways = self.ways(&owner);
        let own = ways.iter().position(|slot| slot.0.as_ref().is_some_and(|entry| entry.owner == owner));
        let place = match own {
            Some(own) => ways.get_mut(own),
            // A free slot sorts before all others, an expired one before those that are not.
            None => ways.iter_mut().min_by_key(|slot| slot.0.as_ref().map(|entry| entry.expires)),
        };
        *place? = TicketSlot(Some(entry));
        Some(body)
    }

    /// Forgets the ticket of a device that was made under a key: the key was revoked.
    pub fn revoke(&mut self, id: DeviceId<'_>, key_id: KeyId) {
        self.forget(id, |entry| entry.key_id == key_id);
    }

    /// Forgets a device's ticket.
    pub fn revoke_device(&mut self, id: DeviceId<'_>) {
        self.forget(id, |_| true);
    }

    /// How many tickets there are, expired ones too.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.as_ref().iter().filter(|slot| slot.0.is_some()).count()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Decides on a resumption that [`crate::Gate::decide`] hands over. The work is the same whether
    /// there is such a ticket or not. A use is taken only by who knows the secret.
    pub fn redeem(&mut self, asked: &Redemption<'_>) -> Option<Redeemed> {
        let (&ticket_id, rest) = asked.message.split_first_chunk::<8>()?;
        let use_number = *rest.first()?;
        let owner = digest(asked.opening.id.as_str().as_bytes());
        let ways = self.ways(&owner);
        let slot = ways.iter_mut().find(|slot| {
            slot.0
                .as_ref()
                .is_some_and(|entry| entry.owner == owner && entry.key_id == asked.key_id && entry.id == ticket_id)
        });
        let found = slot.as_ref().and_then(|slot| slot.0.as_ref());
        let extracted = match found {
            Some(entry) => Extracted::new(&entry.secret, Purpose::Resumption),
            None => Extracted::new(&Key::from_any(asked.random), Purpose::Resumption),
        };
        let authentic = extracted.has_signed(asked.opening.bytes);

        let slot = slot?;
        let entry = slot.0.as_mut()?;
        if !authentic || asked.now >= entry.expires || use_number <= entry.used || use_number > entry.uses {
            return None;
        }
        entry.used = use_number;
        if use_number == entry.uses {
            slot.0 = None;
        }
        Some(Redeemed { extracted })
    }

    fn forget(&mut self, id: DeviceId<'_>, which: impl Fn(&Entry) -> bool) {
        let owner = digest(id.as_str().as_bytes());
        for slot in self.ways(&owner) {
            if slot.0.as_ref().is_some_and(|entry| entry.owner == owner && which(entry)) {
                slot.0 = None;
            }
        }
    }

    /// The slots in which a device's ticket can be.
    fn ways(&mut self, owner: &[u8; 32]) -> &mut [TicketSlot] {
        let slots = self.slots.as_mut();
        let [a, b, c, d, ..] = *owner;
        let sets = (slots.len() / WAYS).max(1);
        let set = u32::from_be_bytes([a, b, c, d]) as usize % sets;
        let end = if sets == 1 { slots.len().min(WAYS) } else { (set + 1) * WAYS };
        &mut slots[set * WAYS..end]
    }
}

/// A resumption that a device asks for.
pub struct Redemption<'a> {
    pub(crate) opening: Whole<'a>,
    pub(crate) key_id: KeyId,
    pub(crate) message: &'a [u8; RESUME],
    pub(crate) random: &'a [u8; 32],
    pub(crate) now: Instant,
}

impl core::fmt::Debug for Redemption<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Redemption").field("id", &self.opening.id).field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// A resumption that is granted.
pub struct Redeemed {
    extracted: Extracted,
}

impl Redeemed {
    /// Writes the answer, says its length, and makes the transport.
    pub(crate) fn answer(
        self,
        opening: &[u8],
        random: &[u8; 32],
        carrier: Carrier,
        out: &mut [u8; MAX_ANSWER],
    ) -> (Transport, usize) {
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&random[..NONCE]);
        let (keys, len) = self.extracted.answer(opening, &nonce, out);
        (Transport::new(Side::Server, keys, carrier, Protection::Resumed), len)
    }
}

impl core::fmt::Debug for Redeemed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Redeemed(..)")
    }
}
