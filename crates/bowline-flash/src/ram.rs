//! The same outbox in memory: for boards without flash to spare.

use core::convert::Infallible;

use bowline_proto::native::Item;
use bowline_proto::native::wire::Channel;

use crate::error::{PushError, ReadError};
use crate::format::MAX_PREFIX;
use crate::index::{EXPIRED, Index, NoRoom, Slot, close_up};
use crate::message::{Clock, Expiry, Flags, Message};
use crate::outbox::Read;

/// Messages on their way to the peer, in memory the caller owns.
///
/// As [`Outbox`](crate::Outbox), and it is gone when the power is: the board's next life begins without an
/// epoch, and with nothing to send (§14.4). Nothing here waits for anything.
#[derive(Debug)]
pub struct RamOutbox<'a> {
    index: Index<'a>,
    /// The payloads, one behind the other, in the order of the slots.
    bytes: &'a mut [u8],
    max_payload: usize,
    epoch: u64,
    acked: u64,
    last: u64,
    received: u64,
}

impl<'a> RamOutbox<'a> {
    /// A new one for as many messages as there are slots, of up to `max_payload` bytes each, with payloads of
    /// together as many bytes as there are in `bytes`.
    pub fn new(slots: &'a mut [Slot], bytes: &'a mut [u8], max_payload: usize) -> Self {
        let max_payload = max_payload.min(bytes.len()).min(usize::from(u16::MAX) - MAX_PREFIX);
        RamOutbox { index: Index::new(slots), bytes, max_payload, epoch: 0, acked: 0, last: 0, received: 0 }
    }

    /// The epoch, 0 if there is none yet.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The peer has everything up to this seq.
    #[must_use]
    pub const fn acked(&self) -> u64 {
        self.acked
    }

    /// The last seq given. The next message has the next one.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// The seq of the peer up to which everything was received, as [`RamOutbox::set_received`] has said.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Messages waiting for their acknowledgement.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.index.len()
    }

    /// Most bytes of a payload.
    #[must_use]
    pub const fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// Takes a message. Returns its seq. What was sent, up to seq `sent`, is not touched by its policy.
    ///
    /// # Errors
    /// If there is no room, or it is too large: the message is not accepted then.
    pub fn push(&mut self, message: &Message<'_>, sent: u64, clock: Clock) -> Result<u64, PushError<Infallible>> {
        let Message { channel: Channel { app, instance, tag }, policy, expiry, payload } = *message;
        let (len, limit) = (payload.len(), self.max_payload);
        if len > limit {
            return Err(PushError::TooLarge { len, limit });
        }
        let channel = [app, instance, tag];
        let size = |slot: &Slot| slot.payload() as u32;
        let room = (len as u32, u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        let after = sent.max(self.acked);
        let range = match self.index.range(channel, policy, after, room, size) {
            Err(NoRoom) => {
                self.expire(sent, clock);
                self.index.range(channel, policy, after, room, size).map_err(|NoRoom| PushError::Full)?
            }
            Ok(range) => range,
        };
        if let Some(range) = range {
            self.index.remove_range(range, policy, channel, (self.acked, self.last));
            self.compact();
        }
        let number = self.last + 1;
        let flags = Flags::new(policy, expiry, None);
        let expires = match expiry {
            Expiry::Never => 0,
            Expiry::At(seconds) | Expiry::After(seconds) => flags.deadline(seconds, clock),
        };
        let at: usize = self.index.slots().iter().map(Slot::payload).sum();
        // There is a slot and there are the bytes: `range` has seen to it.
        if let Some(place) = self.bytes.get_mut(at..at + len) {
            place.copy_from_slice(payload);
        }
        let len = (len + flags.prefix()) as u16;
        self.index.insert(Slot { number, at: at as u32, expires, len, channel, flags, ..Slot::EMPTY });
        self.last = number;
        Ok(number)
    }

    /// Moves the payloads of what is left together.
    fn compact(&mut self) {
        let mut end = 0;
        for slot in self.index.slots_mut() {
            let (from, len) = (slot.at as usize, slot.payload());
            if let Some(bytes) = self.bytes.get_mut(..from + len) {
                close_up(bytes, end, from);
            }
            slot.at = end as u32;
            end += len;
        }
    }

    /// What stands under a seq; `None` if it is acknowledged or was not given yet.
    #[must_use]
    pub fn item(&self, seq: u64) -> Option<Item> {
        if seq <= self.acked || seq > self.last {
            return None;
        }
        Some(match self.index.get(seq) {
            Some(slot) => Item::Message { len: slot.payload() as u32 },
            None => {
                let (last, reason) = self.index.hole(seq, self.last);
                Item::Dropped { last, reason }
            }
        })
    }

    /// Copies a message into `buffer`.
    ///
    /// # Errors
    /// If there is none, or the buffer is too short.
    pub fn read<'b>(&self, seq: u64, buffer: &'b mut [u8]) -> Result<Read<'b>, ReadError<Infallible>> {
        let slot = self.index.get(seq).ok_or(ReadError::Missing)?;
        let (at, len) = (slot.at as usize, slot.payload());
        let payload = buffer.get_mut(..len).ok_or(ReadError::Buffer { needed: len })?;
        payload.copy_from_slice(self.bytes.get(at..at + len).ok_or(ReadError::Missing)?);
        Ok(Read { channel: slot.channel(), payload })
    }

    /// The peer has everything up to `seq`.
    pub fn acknowledge(&mut self, seq: u64) {
        self.acked = self.acked.max(seq.min(self.last));
        self.index.remove_through(self.acked);
        self.compact();
    }

    /// Drops messages whose time is up and which were not sent: those behind seq `sent`. Says how many.
    pub fn expire(&mut self, sent: u64, clock: Clock) -> usize {
        let (mut count, mut from) = (0, sent);
        while let Some(number) = self.index.expired(from, clock).map(|slot| slot.number) {
            self.remove(number, EXPIRED);
            from = number;
            count += 1;
        }
        count
    }

    /// Drops a message, for a reason of §11.5. Says whether there was one.
    pub fn remove(&mut self, seq: u64, reason: u8) -> bool {
        let there = self.index.get(seq).is_some();
        self.index.remove(seq, reason, (self.acked, self.last));
        self.compact();
        there
    }

    /// Begins an epoch: what is not acknowledged is numbered from 1, and nothing was received (§10.1).
    pub fn begin_epoch(&mut self, epoch: u64) {
        for slot in self.index.slots_mut() {
            slot.number -= self.acked;
        }
        (self.epoch, self.last, self.acked, self.received) = (epoch, self.last - self.acked, 0, 0);
    }

    /// Everything the peer has sent up to this seq was received, and need not come again.
    pub fn set_received(&mut self, seq: u64) {
        self.received = self.received.max(seq);
    }
}
