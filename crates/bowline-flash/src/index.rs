//! Where the messages are: what is kept in memory, in slots the caller owns.

use core::cell::Cell;

use bowline_proto::native::wire::Channel;

use crate::message::{Clock, Flags, Policy, Range};

/// The reason of a gap whose own is not known any more (§11.5).
pub(crate) const LOST: u8 = 0;
/// It made room for a later one of its stream.
pub(crate) const OLDEST: u8 = 1;
/// A later one of its stream took its place.
pub(crate) const REPLACED: u8 = 2;
/// Its time was up.
pub(crate) const EXPIRED: u8 = 3;

/// The memory for one message of an outbox: 24 bytes.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    pub(crate) number: u64,
    /// The address of its record.
    pub(crate) at: u32,
    /// See [`Flags::deadline`].
    pub(crate) expires: u32,
    /// Bytes of the record's body.
    pub(crate) len: u16,
    pub(crate) channel: [u8; 3],
    pub(crate) flags: Flags,
    /// Why those directly before it are missing.
    pub(crate) reason: u8,
}

impl Slot {
    /// A slot without a message.
    pub const EMPTY: Slot =
        Slot { number: 0, at: 0, expires: 0, len: 0, channel: [0; 3], flags: Flags(0), reason: LOST };

    pub(crate) const fn channel(&self) -> Channel {
        let [app, instance, tag] = self.channel;
        Channel { app, instance, tag }
    }

    pub(crate) fn payload(&self) -> usize {
        usize::from(self.len).saturating_sub(self.flags.prefix())
    }

    pub(crate) fn is_of(&self, policy: Policy, channel: [u8; 3]) -> bool {
        self.flags.policy() == policy && self.channel == channel
    }
}

/// The messages that are left, by their numbers.
#[derive(Debug)]
pub(crate) struct Index<'a> {
    slots: &'a mut [Slot],
    len: usize,
    /// Why those behind the last message are missing.
    tail: u8,
}

impl<'a> Index<'a> {
    pub(crate) fn new(slots: &'a mut [Slot]) -> Self {
        Index { slots, len: 0, tail: LOST }
    }

    /// The memory, given back.
    pub(crate) fn into_slots(self) -> &'a mut [Slot] {
        self.slots
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        self.slots.get(..self.len).unwrap_or_default()
    }

    pub(crate) fn slots_mut(&mut self) -> &mut [Slot] {
        self.slots.get_mut(..self.len).unwrap_or_default()
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// The first slot whose number is not below `number`.
    fn place(&self, number: u64) -> usize {
        self.slots().partition_point(|slot| slot.number < number)
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Slot> {
        self.slots().get(self.place(number)).filter(|slot| slot.number == number)
    }

    /// Those behind `number`.
    pub(crate) fn behind(&self, number: u64) -> &[Slot] {
        self.slots().get(self.place(number.saturating_add(1))..).unwrap_or_default()
    }

    /// `number` is not there: where the hole ends, given the last number there is, and why it is.
    pub(crate) fn hole(&self, number: u64, last: u64) -> (u64, u8) {
        match self.slots().get(self.place(number)) {
            Some(next) => (next.number - 1, next.reason),
            None => (last, self.tail),
        }
    }

    /// Puts a message in, or in the place of the one with its number. False if there is no slot for it.
    pub(crate) fn insert(&mut self, slot: Slot) -> bool {
        let at = self.place(slot.number);
        if let Some(there) = self.slots_mut().get_mut(at).filter(|there| there.number == slot.number) {
            *there = Slot { reason: there.reason, ..slot };
            return true;
        }
        if self.len == self.slots.len() {
            return false;
        }
        let reason = if at == self.len { core::mem::replace(&mut self.tail, LOST) } else { LOST };
        self.len += 1;
        let mut slot = Slot { reason, ..slot };
        // Each takes the place of the one behind it.
        for place in self.slots_mut().iter_mut().skip(at) {
            slot = core::mem::replace(place, slot);
        }
        true
    }

    /// The peer has everything up to `number`.
    pub(crate) fn remove_through(&mut self, number: u64) {
        let gone = self.place(number.saturating_add(1));
        close_up(self.slots_mut(), 0, gone);
        self.len -= gone;
    }

    /// The message is dropped. There may be holes behind `acked`, up to `last`.
    pub(crate) fn remove(&mut self, number: u64, reason: u8, (acked, last): (u64, u64)) {
        let at = self.place(number);
        let Some(slot) = self.slots().get(at).filter(|slot| slot.number == number) else { return };
        let before = at.checked_sub(1).and_then(|at| self.slots().get(at)).map_or(acked, |slot| slot.number);
        let merged = if number - 1 == before || slot.reason == reason { reason } else { LOST };
        close_up(self.slots_mut(), at, at + 1);
        self.len -= 1;
        let next = self.slots.get_mut(..self.len).and_then(|slots| slots.get_mut(at));
        let touches = next.as_ref().map_or(number >= last, |next| next.number == number + 1);
        // A hole behind it becomes one with it.
        let behind = next.map_or(&mut self.tail, |next| &mut next.reason);
        *behind = if touches || *behind == merged { merged } else { LOST };
    }

    /// Drops what a message of this stream takes the place of.
    pub(crate) fn remove_range(&mut self, range: Range, policy: Policy, channel: [u8; 3], holes: (u64, u64)) {
        let reason = if policy == Policy::KeepLatest { REPLACED } else { OLDEST };
        let mut from = range.after;
        while let Some(slot) =
            self.behind(from).iter().find(|slot| slot.is_of(policy, channel)).filter(|slot| slot.number <= range.up_to)
        {
            from = slot.number;
            self.remove(from, reason, holes);
        }
    }

    /// What must go for a message of `size` bytes, if there is room then for it among `room` bytes. Nothing up to
    /// `after` is touched.
    pub(crate) fn range(
        &self,
        channel: [u8; 3],
        policy: Policy,
        after: u64,
        (size, room): (u32, u32),
        bytes_of: impl Fn(&Slot) -> u32,
    ) -> Result<Option<Range>, NoRoom> {
        let bytes: u32 = self.slots().iter().map(&bytes_of).sum();
        let mut left = (self.len, bytes);
        let has_room = |(count, bytes): (usize, u32)| count < self.capacity() && bytes + size <= room;
        let mut range = None;
        for slot in self.behind(after).iter().filter(|slot| slot.is_of(policy, channel)) {
            let goes = match policy {
                Policy::Block => false,
                Policy::DropOldest => !has_room(left),
                Policy::KeepLatest => true,
            };
            if !goes {
                break;
            }
            left = (left.0 - 1, left.1 - bytes_of(slot));
            range = Some(Range { after, up_to: slot.number });
        }
        if has_room(left) { Ok(range) } else { Err(NoRoom) }
    }

    /// The first message behind `number` whose time is up.
    pub(crate) fn expired(&self, number: u64, clock: Clock) -> Option<&Slot> {
        self.behind(number).iter().find(|slot| slot.flags.is_over(slot.expires, clock))
    }
}

/// Moves what is at `from` and behind it forward to `to`. Cannot panic, which [`slice::copy_within`] could.
pub(crate) fn close_up<T: Copy>(all: &mut [T], to: usize, from: usize) {
    let cells = Cell::from_mut(all).as_slice_of_cells();
    for (to, from) in cells.iter().skip(to).zip(cells.iter().skip(from)) {
        to.set(from.get());
    }
}

/// There is none, not even with what the policy gives up.
pub(crate) struct NoRoom;
