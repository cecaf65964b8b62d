//! Tickets to resume with (§15.5). They go with the keys they were made under.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bowline_link::{Clock, Outside};
use bowline_proto::DeviceId;
use bowline_proto::time::Instant;
use bowline_secure::{Grant, KeyId, Redeemed, Redemption, TICKET_BODY, TicketSlot, Tickets, Transport};

use super::KeyChanges;

/// Slots for each device, so that nearly every ticket finds a place.
const SLOTS: usize = 2;

const _: () = assert!(size_of::<TicketSlot>() <= 96);

/// One ticket at most for each device, in memory. The table is made with the first ticket, of a fixed
/// size: 192 bytes for each device there may be, 3.8 MB for 20,000.
#[derive(Debug)]
pub(super) struct Drawer {
    clock: Clock,
    tickets: Mutex<Option<Tickets<Box<[TicketSlot]>>>>,
}

impl Drawer {
    pub(super) fn new() -> Self {
        Drawer { clock: Clock::start(Outside::default()), tickets: Mutex::new(None) }
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(super) fn issue(
        &self,
        id: DeviceId<'_>,
        key_id: KeyId,
        transport: &Transport,
        devices: usize,
        random: &[u8; 40],
    ) -> Option<[u8; TICKET_BODY]> {
        // Everybody could read its secret. `Tickets` makes none either; here not even a table is made.
        if !transport.protection().encrypts() {
            return None;
        }
        let now = self.now();
        let mut tickets = self.lock();
        let tickets = tickets.get_or_insert_with(|| {
            let slots = (SLOTS * devices).next_multiple_of(8);
            Tickets::new(vec![TicketSlot::FREE; slots].into_boxed_slice())
        });
        tickets.issue(id, key_id, transport, Grant::default(), random, now)
    }

    pub(super) fn redeem(&self, asked: &Redemption<'_>) -> Option<Redeemed> {
        self.lock().as_mut()?.redeem(asked)
    }

    /// Forgets the tickets of keys that are not in force any more.
    pub(super) fn revoke(&self, changes: &KeyChanges) {
        let mut tickets = self.lock();
        let Some(tickets) = tickets.as_mut() else { return };
        for (id, key_id) in &changes.revoked {
            if let Ok(id) = DeviceId::new(id) {
                tickets.revoke(id, *key_id);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Tickets<Box<[TicketSlot]>>>> {
        // Each change of the table is whole in itself.
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
