//! A session as bytes, for the store (§14.1).

use super::session::{Rx, Session, Ticket, Tx};
use super::wire::NUMBER_LIMIT;
#[cfg(feature = "server")]
use super::wire::Reader;
use crate::SavedError;
#[cfg(feature = "server")]
use crate::Side;
use crate::crc::Crc;

/// Length of a saved session.
pub const SAVED_LEN: usize = 56;

const MAGIC: [u8; 4] = *b"BWS\x01";

/// What a saved session says of the messages sent, see [`Session::save_sent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavedSent {
    epoch: u64,
    acked: u64,
    last: u64,
    processed: u64,
}

/// What a device's outbox keeps of its session, beside the messages: enough to go on after a power cut (§14.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// The epoch, 0 if there is none yet.
    pub epoch: u64,
    /// The peer has everything up to this seq.
    pub acked: u64,
    /// The last seq given.
    pub last: u64,
    /// Everything up to this seq of the peer was received and handled.
    pub received: u64,
}

impl Session {
    /// The device's session as its outbox has kept it. What was received and not handled will come again. What was received
    /// before the first epoch, if anything, was another dialect's, and is not looked at.
    ///
    /// # Errors
    /// If the numbers contradict each other.
    pub fn resume(kept: Kept) -> Result<Self, SavedError> {
        let Kept { epoch, acked, last, received } = kept;
        let in_range = [epoch, acked, last, received].iter().all(|&number| number < NUMBER_LIMIT);
        if !in_range || acked > last {
            return Err(SavedError::Contradiction);
        }
        // Before the first epoch: by another dialect.
        let received = if epoch == 0 { 0 } else { received };
        Ok(Session {
            epoch,
            offered: epoch,
            tx: Tx { acked, last, processed: 0, sent: acked },
            rx: Rx { received, durable: received, processed: received },
            ..Session::device()
        })
    }

    /// What the store must keep, at the latest at the points of §14.2; for received messages see
    /// [`Session::save_with`].
    #[must_use]
    pub fn save(&self) -> [u8; SAVED_LEN] {
        self.save_as(self.tx.last, self.rx.durable)
    }

    /// What to store in one transaction with the messages up to `ticket`. After the commit the ticket
    /// goes back by [`Session::handle_persisted`]. `None` if the ticket is of an earlier epoch, or was
    /// forgotten since: those messages are stored without.
    #[must_use]
    pub fn save_with(&self, ticket: Ticket) -> Option<[u8; SAVED_LEN]> {
        self.knows(ticket).then(|| self.save_as(self.tx.last, self.rx.durable.max(ticket.seq)))
    }

    /// What to store in one transaction with messages both ways: those received up to `received`, if
    /// that ticket is still valid as in [`Session::save_with`], and the outbox's up to seq `last`.
    /// After the commit both are told, the outbox's end by [`Session::handle_outbox`].
    #[must_use]
    pub fn save_both(&self, received: Option<Ticket>, last: u64) -> [u8; SAVED_LEN] {
        self.save_as(self.tx.last.max(last), self.durable_with(received))
    }

    /// What [`Session::save_both`] says beside what the inbox says as well ([`Session::handle_inbox`]): as
    /// long as this is the same, messages received can be stored without a new saved session.
    #[must_use]
    pub fn save_sent(&self, last: u64) -> SavedSent {
        SavedSent {
            epoch: self.epoch,
            acked: self.tx.acked,
            last: self.tx.last.max(last),
            processed: self.tx.processed,
        }
    }

    /// Received and durable, or durable when messages up to `received` are.
    #[must_use]
    pub fn durable_with(&self, received: Option<Ticket>) -> u64 {
        self.rx.durable.max(received.filter(|ticket| self.knows(*ticket)).map_or(0, Ticket::seq))
    }

    /// The inbox has the epoch's messages up to seq `durable` stored, and those up to `processed` were
    /// handled, which the saved session may not know. To be said behind [`Session::restore`].
    pub fn handle_inbox(&mut self, durable: u64, processed: u64) {
        if self.epoch != 0 {
            self.rx.durable = self.rx.durable.max(durable);
            self.rx.received = self.rx.received.max(durable);
            self.rx.processed = self.rx.processed.max(processed.min(self.rx.durable));
        }
    }

    fn knows(&self, ticket: Ticket) -> bool {
        ticket.epoch == self.epoch && ticket.seq <= self.rx.received
    }

    fn save_as(&self, last: u64, durable: u64) -> [u8; SAVED_LEN] {
        let numbers = [self.epoch, self.tx.acked, last, durable, self.rx.processed, self.tx.processed];
        let mut bytes = [0; SAVED_LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        for (slot, number) in bytes[4..52].chunks_exact_mut(8).zip(numbers) {
            slot.copy_from_slice(&number.to_be_bytes());
        }
        let crc = Crc::new().with(&bytes[..52]).value();
        bytes[52..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// The session as it was saved. What had been received and not stored will come again. With the feature `server`.
    ///
    /// # Errors
    /// If the bytes are no saved session.
    #[cfg(feature = "server")]
    pub fn restore(side: Side, bytes: &[u8; SAVED_LEN]) -> Result<Self, SavedError> {
        if bytes[..4] != MAGIC {
            return Err(SavedError::Format);
        }
        let mut reader = Reader::new(&bytes[4..]);
        let numbers: [u64; 6] = core::array::from_fn(|_| reader.u64());
        if reader.u32() != Crc::new().with(&bytes[..52]).value() {
            return Err(SavedError::Checksum);
        }
        let [epoch, acked, last, durable, processed, peer_processed] = numbers;
        if numbers.iter().any(|&number| number >= NUMBER_LIMIT)
            || acked > last
            || processed > durable
            || peer_processed > last
        {
            return Err(SavedError::Contradiction);
        }
        Ok(Session {
            epoch,
            offered: epoch,
            epoch_stored: true,
            tx: Tx { acked, last, processed: peer_processed, sent: acked },
            rx: Rx { received: durable, durable, processed },
            ..Session::new(side)
        })
    }
}
