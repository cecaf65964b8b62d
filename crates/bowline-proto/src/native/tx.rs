//! What a link knows of the messages it sends: position, credit, resends (§11, §13.2).

use super::link::Item;
use super::session::Session;
use super::wire::{Ack, Credit, Cursors};

/// The sending half of a link.
#[derive(Debug, Clone, Default, Hash)]
pub(super) struct LinkTx {
    /// The seq to send next.
    pub(super) next: u64,
    /// Highest seq sent on this link, or received by the peer before.
    pub(super) high: u64,
    /// The peer has received everything up to here.
    pub(super) received: u64,
    /// Payload bytes of DATA on this link, resends not counted.
    pub(super) bytes: u64,
    /// Highest seq that may be sent.
    pub(super) limit: u64,
    /// Sum of payloads that may be sent.
    pub(super) byte_limit: u64,
    /// What the driver says is under `next`; forgotten when `next` moves.
    pub(super) item: Option<Item>,
    /// Resends in a row without progress.
    pub(super) backoff: u8,
    /// The seq to which an ACK, missing made it go back last.
    went_back: u64,
}

/// An acknowledgement that cannot be.
pub(super) struct Impossible;

impl LinkTx {
    /// The link has started: goes on behind what the peer has received (§10.4).
    pub(super) fn start(&mut self, session: &mut Session, peer: &Cursors, credit: Credit) {
        acked(session, peer.durable);
        let resent_from =
            if crate::planted!(DroppedResend) { session.tx.sent.max(peer.received) } else { peer.received };
        *self = LinkTx {
            next: resent_from + 1,
            high: peer.received,
            received: peer.received,
            limit: peer.received + credit.messages,
            byte_limit: credit.bytes,
            ..LinkTx::default()
        };
    }

    /// Takes an acknowledgement. Says whether it is news that something was received.
    pub(super) fn acked(&mut self, session: &mut Session, ack: &Ack) -> Result<bool, Impossible> {
        if ack.received > self.high {
            return Err(Impossible);
        }
        acked(session, ack.durable);
        self.limit = self.limit.max(ack.received + ack.credit.messages);
        self.byte_limit = self.byte_limit.max(ack.credit.bytes);
        let progress = ack.received > self.received;
        if progress {
            self.received = ack.received;
            if self.next <= ack.received {
                self.goes_to(ack.received + 1);
            }
        }
        Ok(progress)
    }

    /// The peer misses the seq behind what it has received: goes back there, unless it did for the same one.
    pub(super) fn missing(&mut self, received: u64) {
        let lost = received + 1;
        if received == self.received && lost < self.next && self.went_back != lost {
            self.went_back = lost;
            self.goes_to(lost);
        }
    }

    pub(super) fn goes_to(&mut self, seq: u64) {
        self.next = seq;
        self.item = None;
    }

    /// Whether there is a stored message that message credit allows.
    pub(super) fn may_ask(&self, session: &Session) -> bool {
        self.next <= session.tx.last && self.next <= self.limit + u64::from(crate::planted!(WindowOffByOne))
    }

    /// Whether `len` bytes of payload may go under `next`.
    pub(super) fn fits(&self, len: u32) -> bool {
        self.next <= self.high || self.bytes.saturating_add(len.into()) <= self.byte_limit
    }

    /// Something stored cannot go for want of credit.
    pub(super) fn is_blocked(&self, session: &Session) -> bool {
        let bytes = matches!(self.item, Some(Item::Message { len }) if !self.fits(len));
        self.next <= session.tx.last && (self.next > self.limit || bytes)
    }

    /// DATA of `len` bytes goes out under `next`.
    pub(super) fn sent(&mut self, len: u32) {
        if self.next > self.high {
            self.bytes += u64::from(len);
        }
        self.passed(self.next);
    }

    /// Everything up to `last` went out.
    pub(super) fn passed(&mut self, last: u64) {
        self.high = self.high.max(last);
        self.goes_to(last + 1);
    }
}

fn acked(session: &mut Session, durable: u64) {
    session.counters.acked += durable.saturating_sub(session.tx.acked);
    session.tx.acked = session.tx.acked.max(durable);
}
