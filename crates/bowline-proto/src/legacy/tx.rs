//! The sending half of a session: which id comes next, what is in flight, what of that is stored
//! (§2.4, §6.2).

use super::recent;
use super::session::{PENDING, Session};
use crate::Dialect;
use crate::wire::MessageId;

/// Best-effort messages that may pass a qos message in flight. Receivers of the reference forget an
/// id 128 steps later, and an acknowledgement must never fit two messages.
const BESIDE: u8 = 32;

/// In a durable session: ids between two messages that are sure to arrive, taken by best effort or
/// left out at a restart.
///
/// Receivers of the reference remember ids in 32 bytes of 8 bits, and empty a byte only when they
/// see an id of the byte half a lap away. A byte of which no id arrives leaves marks half a lap
/// ahead, and what comes to those a lap later is taken for a duplicate and lost. The smallest byte
/// has the 7 ids 1 to 7. With at most 6 between two that are sure to arrive, each byte has one that
/// does, whatever is lost and however often either end restarts (§6.2).
pub(super) const UNSURE: u8 = 6;

/// Most steps from the id in flight to where a restored session goes on.
const MAX_AHEAD: u8 = 1 + BESIDE + UNSURE;

#[derive(Debug, Clone)]
pub(super) struct Tx {
    pub(super) next: MessageId,
    pub(super) in_flight: Option<InFlight>,
    /// Messages sent on this link since the last one known to have arrived.
    unseen: u8,
    /// Ids taken or left out since the last one that is sure to arrive: a qos one, or on U any that
    /// was acknowledged. At most [`UNSURE`], and that until id 0 is acknowledged.
    pub(super) unsure: u8,
    /// Ids taken in this life of the process: the place of the next one.
    taken: u64,
    /// Counts changes of dialect, each of which starts the ids anew.
    life: u32,
    /// `None` where nothing needs to be stored before it is sent.
    stored: Option<Stored>,
}

/// A qos message that has its id and is not acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct InFlight {
    pub(super) id: MessageId,
    stage: Stage,
}

/// How far the message in flight has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has the id of this place, and that is not known to be stored.
    Reserved(u64),
    /// It may be sent.
    Ready,
    /// It was sent, or may have been by an earlier process.
    Sent,
}

/// What is known to be stored of a durable session's ids.
#[derive(Debug, Clone, Copy, Default)]
struct Stored {
    /// Best effort may take the ids before this place.
    granted: u64,
    /// Best effort waits for more of them.
    waited_for: bool,
}

/// Says how much a save contains. Goes back by [`Session::handle_saved`] when that is committed.
///
/// Marks may come late, more than once or never. What a save with this mark lets the engine do,
/// another one with an equal mark does not add to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark {
    life: u32,
    /// Ids before this place were taken.
    taken: u64,
    /// Ids before this place are left out by a restored session.
    granted: u64,
    /// How often the window of received messages had been cut.
    pub(super) cuts: u64,
}

impl Tx {
    pub(super) const fn new(life: u32, durable: bool) -> Self {
        let stored = if durable { Some(Stored { granted: 0, waited_for: false }) } else { None };
        // Id 0 must arrive before any other.
        Tx { next: MessageId::FIRST, in_flight: None, unseen: 0, unsure: UNSURE, taken: 0, life, stored }
    }

    /// As stored. Whatever a grant allowed has been left out, and the message in flight may have been sent.
    pub(super) const fn restored(next: MessageId, in_flight: Option<MessageId>, durable: bool) -> Self {
        let in_flight = match in_flight {
            Some(id) => Some(InFlight { id, stage: Stage::Sent }),
            None => None,
        };
        Tx { next, in_flight, ..Tx::new(0, durable) }
    }

    /// Whether a session whose next id is `next` can have `in_flight` in flight.
    pub(super) const fn may_stand(in_flight: MessageId, next: MessageId) -> bool {
        match in_flight.number() {
            0 => next.number() == 1,
            _ => !next.is_first() && matches!(in_flight.steps_to(next), 1..=MAX_AHEAD),
        }
    }

    /// The sending half for a link of another dialect.
    pub(super) const fn anew(&self, durable: bool) -> Self {
        Tx::new(self.life.wrapping_add(1), durable)
    }

    pub(super) fn start_link(&mut self) {
        self.unseen = 0;
        if let Some(stored) = &mut self.stored {
            stored.waited_for = false;
        }
    }

    /// Where a save made now has a restored session go on: behind all that best effort may take
    /// before the next save.
    pub(super) fn resumes_at(&self) -> MessageId {
        (self.unsure..UNSURE).fold(self.next, |id, _| id.next())
    }

    pub(super) const fn mark(&self, cuts: u64) -> Mark {
        Mark { life: self.life, taken: self.taken, granted: self.grantable(), cuts }
    }

    /// The place before which a save made now grants ids. Never goes back within a life.
    const fn grantable(&self) -> u64 {
        self.taken + (UNSURE - self.unsure) as u64
    }

    fn take_id(&mut self) -> MessageId {
        self.unseen = self.unseen.saturating_add(1);
        self.taken += 1;
        let id = self.next;
        self.next = id.next();
        id
    }

    /// Whether the peer has seen id 0, as it must before any other.
    fn is_open(&self) -> bool {
        !self.next.is_first() && self.in_flight.is_none_or(|message| !message.id.is_first())
    }

    /// Best-effort ids behind that of the message in flight, or left out behind it.
    fn beside(&self) -> u8 {
        self.in_flight.map_or(0, |InFlight { id, .. }| id.steps_to(self.next).saturating_sub(1))
    }
}

impl Session {
    /// The message that has its id and is not acknowledged. In a durable session it need not have
    /// been sent yet.
    #[must_use]
    pub const fn in_flight(&self) -> Option<MessageId> {
        match self.tx.in_flight {
            Some(message) => Some(message.id),
            None => None,
        }
    }

    /// Whether the next message is the first of this session's life. That one opens the epoch of ids
    /// at the peer, so it must arrive: send it as qos, whatever was asked for (§2.4).
    ///
    /// A durable session has one such message for each dialect it changes to, not for each process:
    /// restored, it goes on with its ids.
    #[must_use]
    pub const fn is_fresh(&self) -> bool {
        self.tx.next.is_first()
    }

    /// Whether the next message has to be qos: best effort waits until one was sent. To be sent as
    /// qos, whatever was asked for, is the way on for one that would wait (§6.2).
    ///
    /// The same as [`Session::is_fresh`] in a volatile session. In a durable one also when best
    /// effort has taken all ids that may lie between two messages that are sure to arrive.
    #[must_use]
    pub fn wants_qos(&self) -> bool {
        let used_up = self.tx.stored.is_some() && self.tx.unsure == UNSURE;
        self.tx.in_flight.is_none() && (self.is_fresh() || used_up)
    }

    /// The head of the driver's outbox cannot be read any more: it counts as arrived, and its id as used. To be followed by
    /// the end of the link.
    pub fn give_up(&mut self) {
        self.tx.in_flight = None;
    }

    /// Gives the head of the driver's outbox, which must not be empty, its id now, if nothing is in
    /// flight. Says whether it did.
    ///
    /// The link does this by itself when the message could go. A driver that calls it before a save
    /// has the id in that save, and needs no other for it. From here on the head stays the head until
    /// it is acknowledged, or a link of another dialect has forgotten it.
    ///
    /// Ids belong to a dialect: without one, and on P, which has none, this does nothing.
    pub fn reserve(&mut self) -> bool {
        let possible = self.tx.in_flight.is_none() && self.dialect().is_some_and(Dialect::acknowledges);
        if possible {
            self.take_qos_id();
        }
        possible
    }

    /// Whether the engine cannot go on before a save is committed: the message in flight waits for
    /// that, or best effort does, or a restored session would take a later message for an old one.
    /// Never in a volatile session. Stays so until [`Session::handle_saved`].
    #[must_use]
    pub fn wants_save(&self) -> bool {
        let Some(stored) = self.tx.stored else { return false };
        let reserved = self.tx.in_flight.is_some_and(|message| matches!(message.stage, Stage::Reserved(_)));
        reserved || stored.waited_for && self.tx.grantable() > stored.granted || self.has_cuts_to_save()
    }

    /// The save with this mark is committed. The link, if there is one, is drained after it.
    pub fn handle_saved(&mut self, mark: Mark) {
        self.cuts_are_saved(mark.cuts);
        let Some(stored) = &mut self.tx.stored else { return };
        if mark.life != self.tx.life {
            return;
        }
        stored.granted = stored.granted.max(mark.granted);
        if let Some(InFlight { stage, .. }) = &mut self.tx.in_flight
            && let Stage::Reserved(place) = *stage
            && place < mark.taken
        {
            *stage = Stage::Ready;
        }
    }

    /// Whether ids have to be stored before they are sent.
    pub(super) const fn stores_ids(&self) -> bool {
        self.tx.stored.is_some()
    }

    /// The message in flight, and how far it has got.
    pub(super) fn head(&self) -> Option<(MessageId, Stage)> {
        self.tx.in_flight.map(|message| (message.id, message.stage))
    }

    /// Takes the next id for a qos message.
    pub(super) fn take_qos_id(&mut self) {
        debug_assert!(self.tx.in_flight.is_none(), "one qos message in flight");
        let stage = if self.stores_ids() { Stage::Reserved(self.tx.taken) } else { Stage::Ready };
        let id = self.tx.take_id();
        self.tx.in_flight = Some(InFlight { id, stage });
        if !id.is_first() {
            self.tx.unsure = 0;
        }
    }

    /// The message in flight goes out for the first time.
    pub(super) fn sent(&mut self) {
        if let Some(message) = &mut self.tx.in_flight {
            message.stage = Stage::Sent;
            self.counters.sent += 1;
        }
    }

    /// Whether a best-effort message waits. If only a save can help it, one is wanted.
    pub(super) fn best_effort_waits(&mut self, waits: bool) {
        let may_go = self.ids_allow_best_effort();
        if let Some(stored) = &mut self.tx.stored {
            stored.waited_for = waits && may_go && stored.granted <= self.tx.taken;
        }
    }

    /// Takes the next id for a best-effort message, if one may go now.
    pub(super) fn send_best_effort(&mut self) -> Option<MessageId> {
        if !self.may_send_best_effort() {
            return None;
        }
        self.counters.best_effort += 1;
        self.tx.unsure = (self.tx.unsure + 1).min(UNSURE);
        Some(self.tx.take_id())
    }

    /// Whether a best-effort message may go now, as far as ids are concerned.
    pub(super) fn may_send_best_effort(&self) -> bool {
        self.ids_allow_best_effort() && self.tx.stored.is_none_or(|stored| self.tx.taken < stored.granted)
    }

    fn ids_allow_best_effort(&self) -> bool {
        self.tx.is_open()
            && if self.tx.in_flight.is_some() { self.tx.beside() < self.max_beside() } else { !self.too_many_unseen() }
    }

    fn max_beside(&self) -> u8 {
        // On U the receiver acknowledges, and remembers, best effort too.
        if self.dialect() == Some(Dialect::Upstream) { (recent::DEPTH - PENDING) as u8 - 1 } else { BESIDE }
    }

    fn too_many_unseen(&self) -> bool {
        self.dialect() == Some(Dialect::Upstream) && self.tx.unseen >= 128
    }

    /// Whether `id` acknowledges the message in flight, which then no longer is. An acknowledgement
    /// of anything else is counted and changes nothing.
    pub(super) fn acked(&mut self, id: MessageId) -> bool {
        // Ids taken or left out since this one: 254 if it is the next.
        let since = id.steps_to(self.tx.next).checked_sub(1).unwrap_or(254);
        self.tx.unseen = self.tx.unseen.min(since);
        // What waits to be sent has not arrived: this would be about another message under its id.
        let hit = self.head() == Some((id, Stage::Sent));
        if hit {
            self.delivered();
        } else {
            self.counters.stray_acks += 1;
        }
        if self.tx.is_open() {
            self.tx.unsure = self.tx.unsure.min(since);
        }
        hit
    }

    /// The message in flight has arrived, or has been written on a dialect without acknowledgements.
    pub(super) fn delivered(&mut self) {
        if self.tx.in_flight.take().is_some() {
            self.counters.acked += 1;
        }
    }
}
