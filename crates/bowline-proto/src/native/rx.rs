//! What a link knows of the messages it receives: order, credit, what was said of both (§11).

use super::config::Room;
use super::session::Session;
use super::wire::{Ack, Credit, MAX_CREDIT};

/// The receiving half of a link.
#[derive(Debug, Clone, Default, Hash)]
pub(super) struct LinkRx {
    /// Received before this link, as told to the peer. Fixed once told.
    pub(super) claimed: Option<u64>,
    /// The seq expected next on this link.
    pub(super) next: u64,
    /// Payload bytes of DATA on this link, resends not counted.
    pub(super) bytes: u64,
    /// What the driver can hold beside everything received.
    pub(super) room: Room,
    /// What the peer was told last.
    pub(super) told: Told,
    /// Lowest and highest seq that asked for an acknowledgement which is outstanding.
    asked: (u64, u64),
    /// The last seq that the peer was told is missing.
    pub(super) missed: u64,
    /// Told last that the app has handled.
    pub(super) told_processed: u64,
}

/// Limits and cursors as the peer knows them.
#[derive(Debug, Clone, Default, Hash)]
pub(super) struct Told {
    pub(super) durable: u64,
    pub(super) received: u64,
    /// Highest seq it may send.
    pub(super) limit: u64,
    /// Sum of payloads it may send.
    pub(super) byte_limit: u64,
}

/// How much a new acknowledgement is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// It would say nothing new.
    No,
    /// Within the ack delay, or with the next frame (§11.3, 3 and 4).
    Soon,
    /// At once (§11.3, 1 and 2).
    Now,
}

impl LinkRx {
    pub(super) fn new(room: Room) -> Self {
        LinkRx { room, ..LinkRx::default() }
    }

    /// The cursor `received` that goes with START or WELCOME, and the credit that `room` allows beside
    /// it. The cursor is that of the first time.
    pub(super) fn claim(&mut self, received: u64, room: Room) -> (u64, Credit) {
        let claimed = *self.claimed.get_or_insert(received);
        self.next = self.next.max(claimed + 1);
        self.told.received = self.told.received.max(claimed);
        (self.told.limit, self.told.byte_limit) = self.limits(claimed, room);
        (claimed, self.credit(claimed))
    }

    /// The peer wants the acknowledgement of `seq`, the highest so far, at once.
    pub(super) fn asks(&mut self, seq: u64) {
        let (lowest, _) = self.asked;
        self.asked = (if lowest > self.told.durable { lowest } else { seq }, seq);
    }

    /// Everything up to here has come on this link or was claimed.
    pub(super) const fn seen(&self) -> u64 {
        self.next - 1
    }

    /// The acknowledgement to send now; the peer then knows it.
    pub(super) fn ack(&mut self, session: &Session, missing: bool) -> Ack {
        let received = self.seen();
        let durable = session.rx.durable.min(received);
        (self.told.limit, self.told.byte_limit) = self.limits(session.rx.received, self.room);
        self.told.durable = durable;
        if self.asked.0 <= durable {
            self.asked.0 = self.asked.1;
        }
        self.told.received = received;
        Ack { durable, received, credit: self.credit(received), missing }
    }

    /// The limits as they could be told now. They never shrink (§11.2).
    fn limits(&self, received: u64, room: Room) -> (u64, u64) {
        let limit = received + room.messages.min(MAX_CREDIT / 2);
        // What came on the link before this one and is repeated on this one takes no room twice.
        let limit = limit.min(self.seen() + MAX_CREDIT);
        (self.told.limit.max(limit), self.told.byte_limit.max(self.bytes + room.bytes))
    }

    const fn credit(&self, received: u64) -> Credit {
        Credit { messages: self.told.limit.saturating_sub(received), bytes: self.told.byte_limit }
    }

    /// Whether an acknowledgement has something to say, and how soon (§11.3).
    #[cfg_attr(not(feature = "server"), inline(never))]
    pub(super) fn need(&self, session: &Session, lossy: bool) -> Need {
        let seen = self.seen();
        let durable = session.rx.durable.min(seen);
        let (limit, byte_limit) = self.limits(session.rx.received, self.room);
        let news = durable.saturating_sub(self.told.durable);
        let asked = durable >= self.asked.0 && self.asked.0 > self.told.durable;
        let window = self.told.limit.saturating_sub(self.told.durable);
        if asked
            || (news > 0 && news * 2 >= window)
            || grown(self.told.limit, limit, seen)
            || grown(self.told.byte_limit, byte_limit, self.bytes)
        {
            return Need::Now;
        }
        let more = limit > self.told.limit || byte_limit > self.told.byte_limit;
        let received = lossy && seen > self.told.received;
        if news > 0 || more || received { Need::Soon } else { Need::No }
    }
}

/// Whether what may be sent beyond `used` could be told to be twice as much, or more.
#[cfg_attr(not(feature = "server"), inline(never))]
const fn grown(told: u64, limit: u64, used: u64) -> bool {
    limit > told && told.saturating_sub(used) * 2 <= limit.saturating_sub(used)
}
