//! What survives a link: ids, what is in flight, what was accepted.

use super::Counters;
use super::recent::{self, Recent};
use crate::wire::MessageId;
use crate::{Dialect, Side};

/// Received messages whose tickets may be out at the same time. More are refused and come again.
const PENDING: usize = 16;

/// Messages refused behind a refused one before that is given up.
const GAP: u8 = 32;

/// Best-effort messages that may pass a qos message in flight. Receivers of the reference forget an
/// id 128 steps later, and an acknowledgement must never fit two messages.
const BESIDE: u8 = 32;

/// One device's side of the conversation, across links. About a kilobyte.
#[derive(Debug, Clone)]
pub struct Session {
    side: Side,
    dialect: Option<Dialect>,
    generation: Generation,
    tx: Tx,
    rx: Rx,
    pub(super) counters: Counters,
}

/// Tells one link of a session from the next. What carries an old one cannot touch the new link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Generation(u32);

/// The sending half.
#[derive(Debug, Clone)]
struct Tx {
    next: MessageId,
    in_flight: Option<MessageId>,
    /// Best-effort messages sent since the one in flight.
    beside: u8,
    /// Messages sent on this link since the last one known to have arrived.
    unseen: u8,
}

/// The receiving half.
#[derive(Debug, Clone)]
struct Rx {
    recent: Recent,
    pending: [Option<Pending>; PENDING],
    serial: u32,
    epoch: u32,
    /// Messages behind a refused one are refused too, so that they are not accepted before it.
    gap: Option<Gap>,
}

/// A message there was no room for, of a sender that may have sent others behind it.
///
/// Its sender sends it again, and what is behind it later. If something behind it comes again first, it
/// will not come any more: it was best effort, which U does not tell from qos, or was given up.
#[derive(Debug, Clone, Copy)]
struct Gap {
    id: MessageId,
    /// The ids of those refused for its sake, a bit each.
    behind: [u64; 4],
    /// How many those are. Best effort alone would not come again either.
    count: u8,
}

impl Gap {
    /// Whether the message with this id has to wait for the refused one. Notes that it does.
    fn holds(&mut self, id: MessageId) -> bool {
        let (word, bit) = (usize::from(id.number() / 64), 1 << (id.number() % 64));
        let again = self.behind[word] & bit != 0;
        let holds = id != self.id && !again && self.count < GAP;
        self.behind[word] |= bit;
        self.count += 1;
        holds
    }
}

/// A message handed to the driver and not yet accepted.
#[derive(Debug, Clone, Copy)]
struct Pending {
    serial: u32,
    id: MessageId,
    digest: u64,
    epoch: u32,
    /// The link on which the peer last sent it. An acknowledgement goes to that link or nowhere.
    owed_to: Generation,
}

/// The claim of one received message to be acknowledged. Give it back by
/// [`Link::handle_accepted`](super::Link::handle_accepted) or
/// [`Link::handle_refused`](super::Link::handle_refused): until then the message counts as received,
/// so that it is neither delivered again nor acknowledged.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a message whose ticket is lost is never acknowledged"]
pub struct Ticket(pub(super) Option<u32>);

/// What to do with a received message.
pub(super) enum Verdict {
    /// Hand it to the driver.
    New(Ticket),
    /// It was accepted before: acknowledge again.
    Duplicate,
    /// It is with the driver: the acknowledgement follows when that has accepted it.
    Pending,
    /// Too many are with the driver.
    NoRoom,
}

/// What the link knows about the messages it has received, for the first-message rules (§2.5).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Arrivals {
    /// A message has arrived on this link.
    pub(super) any: bool,
    /// Of those, one that wants an ACK had id 0.
    pub(super) first: bool,
}

impl Session {
    /// A new session: nothing sent, nothing received.
    #[must_use]
    pub const fn new(side: Side) -> Self {
        Session {
            side,
            dialect: None,
            generation: Generation(0),
            tx: Tx { next: MessageId::FIRST, in_flight: None, beside: 0, unseen: 0 },
            rx: Rx { recent: Recent::new(1), pending: [None; PENDING], serial: 0, epoch: 0, gap: None },
            counters: Counters {
                accepted: 0,
                duplicates: 0,
                ambiguous: 0,
                refused: 0,
                undecodable: 0,
                malformed: 0,
                stray_acks: 0,
                restarts: 0,
                sent: 0,
                resent: 0,
                acked: 0,
                best_effort: 0,
            },
        }
    }

    /// What was counted so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The dialect of the current or last link.
    #[must_use]
    pub const fn dialect(&self) -> Option<Dialect> {
        self.dialect
    }

    /// How often the peer's ids have started anew. Messages of two epochs are of two lives of the peer.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.rx.epoch
    }

    /// The message sent and not yet acknowledged.
    #[must_use]
    pub const fn in_flight(&self) -> Option<MessageId> {
        self.tx.in_flight
    }

    /// Whether the next message is the first of this process's life. That one opens the epoch of ids
    /// at the peer, so it must arrive: send it as qos, whatever was asked for (§2.4).
    #[must_use]
    pub const fn is_fresh(&self) -> bool {
        self.tx.next.is_first()
    }

    /// Starts the next link: the one before can no longer touch the session. A device that speaks
    /// another dialect than before is another program: its ids mean nothing any more, and ours start anew.
    pub(super) fn start_link(&mut self, dialect: Dialect) -> Generation {
        self.generation = Generation(self.generation.0.wrapping_add(1));
        self.tx.unseen = 0;
        if self.dialect != Some(dialect) {
            self.dialect = Some(dialect);
            self.tx = Tx { next: MessageId::FIRST, in_flight: None, beside: 0, unseen: 0 };
            // A device on H has one message in flight. Servers of the reference may have several, and
            // so may devices on U.
            let depth = if dialect == Dialect::Headers && self.side == Side::Server { 1 } else { recent::DEPTH };
            self.rx.recent = Recent::new(depth);
            self.rx.gap = None;
            self.rx.epoch = self.rx.epoch.wrapping_add(1);
        }
        self.generation
    }

    pub(super) const fn side(&self) -> Side {
        self.side
    }

    pub(super) fn is_current(&self, generation: Generation) -> bool {
        self.generation == generation
    }

    // Sending.

    /// Takes the next id for a qos message.
    pub(super) fn send(&mut self) -> MessageId {
        debug_assert!(self.tx.in_flight.is_none(), "one qos message in flight");
        let id = self.take_id();
        self.tx.in_flight = Some(id);
        self.tx.beside = 0;
        self.counters.sent += 1;
        id
    }

    /// Takes the next id for a best-effort message, if one may go now.
    pub(super) fn send_best_effort(&mut self) -> Option<MessageId> {
        if !self.may_send_best_effort() {
            return None;
        }
        if self.tx.in_flight.is_some() {
            self.tx.beside += 1;
        }
        self.counters.best_effort += 1;
        Some(self.take_id())
    }

    /// Whether a best-effort message may go now, as far as ids are concerned.
    pub(super) fn may_send_best_effort(&self) -> bool {
        match self.tx.in_flight {
            None => !self.is_fresh() && !self.too_many_unseen(),
            // The peer must have seen id 0 before any other.
            Some(id) => !id.is_first() && self.tx.beside < self.max_beside(),
        }
    }

    fn max_beside(&self) -> u8 {
        // On U the receiver acknowledges, and remembers, best effort too.
        if self.dialect == Some(Dialect::Upstream) { (recent::DEPTH - PENDING) as u8 - 1 } else { BESIDE }
    }

    fn too_many_unseen(&self) -> bool {
        self.dialect == Some(Dialect::Upstream) && self.tx.unseen >= 128
    }

    fn take_id(&mut self) -> MessageId {
        self.tx.unseen = self.tx.unseen.saturating_add(1);
        let id = self.tx.next;
        self.tx.next = id.next();
        id
    }

    /// Whether `id` acknowledges the message in flight, which then no longer is. An acknowledgement
    /// of anything else is counted and changes nothing.
    pub(super) fn acked(&mut self, id: MessageId) -> bool {
        let since = (u16::from(self.tx.next.number()) + 509 - u16::from(id.number())) % 255;
        self.tx.unseen = self.tx.unseen.min(since as u8);
        if self.tx.in_flight != Some(id) {
            self.counters.stray_acks += 1;
            return false;
        }
        self.delivered();
        true
    }

    /// The message in flight has arrived, or has been written on a dialect without acknowledgements.
    pub(super) fn delivered(&mut self) {
        if self.tx.in_flight.take().is_some() {
            self.counters.acked += 1;
        }
    }

    // Receiving.

    /// Judges a message that wants an acknowledgement. `line` is all of its bytes.
    pub(super) fn judge(&mut self, id: MessageId, line: &[u8], arrivals: &mut Arrivals) -> Verdict {
        let digest = recent::digest(line);
        let before = *arrivals;
        *arrivals = Arrivals { any: true, first: before.first || id.is_first() };

        let epoch = self.rx.epoch;
        let current = self.generation;
        let again = |pending: &&mut Pending| {
            // Within one link a second 0 is a resend of the first, whatever its bytes.
            pending.id == id && pending.epoch == epoch && (pending.digest == digest || (id.is_first() && before.first))
        };
        if let Some(pending) = self.rx.pending.iter_mut().flatten().find(again) {
            pending.owed_to = current;
            self.counters.duplicates += 1;
            return Verdict::Pending;
        }
        if self.was_accepted(id, digest, before) {
            self.counters.duplicates += 1;
            return Verdict::Duplicate;
        }
        if id.is_first() && !before.any {
            // Ids start anew only here: at the first message after a login.
            self.rx.recent.clear();
            self.rx.epoch = self.rx.epoch.wrapping_add(1);
            self.counters.restarts += 1;
            self.rx.gap = None;
        }
        if self.rx.gap.as_mut().is_some_and(|gap| gap.holds(id)) {
            self.counters.refused += 1;
            return Verdict::NoRoom;
        }
        self.rx.gap = None;
        let Some(slot) = self.rx.pending.iter_mut().find(|slot| slot.is_none()) else {
            self.refuse(id);
            return Verdict::NoRoom;
        };
        self.rx.recent.forget_far_from(id);
        let serial = self.rx.serial;
        self.rx.serial = serial.wrapping_add(1);
        *slot = Some(Pending { serial, id, digest, epoch: self.rx.epoch, owed_to: self.generation });
        Verdict::New(Ticket(Some(serial)))
    }

    fn was_accepted(&mut self, id: MessageId, digest: u64, before: Arrivals) -> bool {
        if !id.is_first() || (before.any && !before.first) {
            // Behind another id on its link, 0 cannot be the first message of a process either.
            return self.rx.recent.contains(id, digest);
        }
        if before.first {
            // Not if it was refused: then it is new again.
            return self.rx.recent.contains_id(id);
        }
        // After a login, 0 is a resend if and only if nothing was accepted after the last 0, and then
        // a rebooted device's first message looks the same: the bytes decide.
        let resend = self.rx.recent.ends_with(id, digest);
        if resend {
            self.counters.ambiguous += 1;
        }
        resend
    }

    /// A best-effort message was seen: it is always new, and says where its sender stands.
    pub(super) fn saw_best_effort(&mut self, id: MessageId, arrivals: &mut Arrivals) {
        if id.is_first() && !arrivals.any {
            self.rx.recent.clear();
            self.rx.epoch = self.rx.epoch.wrapping_add(1);
            self.counters.restarts += 1;
        }
        arrivals.any = true;
        self.rx.recent.forget_far_from(id);
    }

    /// The driver has accepted the message: remembers it, and says which id to acknowledge if the
    /// link it came on is still there. Without a link at hand, this is the call to make.
    #[must_use = "the acknowledgement that is due"]
    pub fn accepted(&mut self, ticket: Ticket) -> Option<MessageId> {
        self.counters.accepted += 1;
        let pending = self.take_pending(ticket)?;
        if pending.epoch == self.rx.epoch {
            self.rx.recent.push(pending.id, pending.digest);
        }
        (pending.owed_to == self.generation).then_some(pending.id)
    }

    /// The driver cannot accept the message: forgets it, so that a resend is new again.
    pub fn refused(&mut self, ticket: Ticket) {
        match self.take_pending(ticket) {
            Some(pending) => self.refuse(pending.id),
            None => self.counters.refused += 1,
        }
    }

    fn refuse(&mut self, id: MessageId) {
        self.counters.refused += 1;
        // A sender with one message in flight has nothing behind it.
        if self.rx.recent.depth() > 1 {
            self.rx.gap.get_or_insert(Gap { id, behind: [0; 4], count: 0 });
        }
    }

    fn take_pending(&mut self, ticket: Ticket) -> Option<Pending> {
        let serial = ticket.0?;
        self.rx.pending.iter_mut().find(|slot| slot.is_some_and(|pending| pending.serial == serial))?.take()
    }
}
