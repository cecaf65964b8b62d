//! What survives a link: ids, what is in flight, what was accepted.

use super::Counters;
use super::recent::{self, Recent};
use super::tx::Tx;
use crate::wire::MessageId;
use crate::{Dialect, Side};

/// Received messages whose tickets may be out at the same time. More are refused and come again.
pub(super) const PENDING: usize = 16;

/// Messages refused behind a refused one before that is given up.
const GAP: u8 = 32;

/// One device's side of the conversation, across links. About a kilobyte.
///
/// A *durable* session survives its process too: its [saved](Session::save_with) form is stored, and
/// nothing goes on the wire that a restored session could contradict (§6.2). A *volatile* one needs
/// no store, and starts anew with its process.
#[derive(Debug, Clone)]
pub struct Session {
    side: Side,
    durable: bool,
    dialect: Option<Dialect>,
    generation: Generation,
    pub(super) tx: Tx,
    pub(super) rx: Rx,
    pub(super) counters: Counters,
}

/// Tells one link of a session from the next. What carries an old one cannot touch the new link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Generation(u32);

/// The receiving half.
#[derive(Debug, Clone)]
pub(super) struct Rx {
    pub(super) recent: Recent,
    pending: [Option<Pending>; PENDING],
    serial: u32,
    pub(super) epoch: u32,
    /// How often something has left `recent` without a message being accepted, and how much of that
    /// is stored. A restored session that remembers too much could take a new message for an old one.
    cuts: u64,
    cuts_saved: u64,
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
    /// A new volatile session: nothing sent, nothing received.
    #[must_use]
    pub const fn new(side: Side) -> Self {
        Session {
            side,
            durable: false,
            dialect: None,
            generation: Generation(0),
            tx: Tx::new(0, false),
            rx: Rx {
                recent: Recent::new(1),
                pending: [None; PENDING],
                serial: 0,
                epoch: 0,
                cuts: 0,
                cuts_saved: 0,
                gap: None,
            },
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

    /// A new durable session. For its driver's part see [`Session::save_with`].
    #[must_use]
    pub const fn durable(side: Side) -> Self {
        Session { durable: true, ..Session::new(side) }
    }

    /// A durable session with this dialect, as a store had it.
    pub(super) const fn restored(side: Side, dialect: Option<Dialect>, tx: Tx, recent: Recent, epoch: u32) -> Self {
        let new = Session::durable(side);
        Session { dialect, tx, rx: Rx { recent, epoch, ..new.rx }, ..new }
    }

    /// A volatile session with this dialect, whose sending half goes on.
    pub(super) const fn continues(side: Side, dialect: Dialect, tx: Tx) -> Self {
        let new = Session::new(side);
        Session { dialect: Some(dialect), tx, rx: Rx { recent: window(side, dialect), ..new.rx }, ..new }
    }

    /// What was counted so far. Counting starts anew with a restored session.
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

    /// Starts the next link: the one before can no longer touch the session. A device that speaks
    /// another dialect than before is another program: its ids mean nothing any more, and ours start anew.
    pub(super) fn start_link(&mut self, dialect: Dialect) -> Generation {
        self.generation = Generation(self.generation.0.wrapping_add(1));
        self.tx.start_link();
        if self.dialect != Some(dialect) {
            self.start_program(dialect);
        }
        self.generation
    }

    /// The device has spoken another engine's dialect since, and is another program: should it come back
    /// to this one's, ids start anew, as between two dialects of lines. What was in flight is not any more.
    pub fn handle_other_program(&mut self) {
        if let Some(dialect) = self.dialect {
            self.start_program(dialect);
        }
    }

    fn start_program(&mut self, dialect: Dialect) {
        self.dialect = Some(dialect);
        self.tx = self.tx.anew(self.durable && dialect.acknowledges());
        self.rx.recent = window(self.side, dialect);
        self.rx.gap = None;
        self.rx.epoch = self.rx.epoch.wrapping_add(1);
    }

    pub(super) const fn side(&self) -> Side {
        self.side
    }

    pub(super) fn is_current(&self, generation: Generation) -> bool {
        self.generation == generation
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
            self.start_epoch();
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
        let serial = self.rx.serial;
        self.rx.serial = serial.wrapping_add(1);
        *slot = Some(Pending { serial, id, digest, epoch: self.rx.epoch, owed_to: self.generation });
        self.forget_far_from(id);
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
            self.start_epoch();
        }
        arrivals.any = true;
        self.forget_far_from(id);
    }

    /// The peer has restarted: what was accepted before does not come again.
    fn start_epoch(&mut self) {
        self.rx.cuts += u64::from(self.rx.recent.clear());
        self.rx.epoch = self.rx.epoch.wrapping_add(1);
        self.counters.restarts += 1;
    }

    fn forget_far_from(&mut self, id: MessageId) {
        self.rx.cuts += u64::from(self.rx.recent.forget_far_from(id));
    }

    pub(super) const fn cuts(&self) -> u64 {
        self.rx.cuts
    }

    pub(super) const fn has_cuts_to_save(&self) -> bool {
        self.rx.cuts > self.rx.cuts_saved
    }

    pub(super) fn cuts_are_saved(&mut self, cuts: u64) {
        self.rx.cuts_saved = self.rx.cuts_saved.max(cuts);
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

    /// The window of accepted messages as it will be when these tickets have been accepted, in this order.
    pub(super) fn recent_with<'a>(&self, accepted: impl IntoIterator<Item = &'a Ticket>) -> Recent {
        let mut recent = self.rx.recent.clone();
        for ticket in accepted {
            if let Some(pending) = self.rx.pending.iter().flatten().find(|pending| Some(pending.serial) == ticket.0)
                && pending.epoch == self.rx.epoch
            {
                recent.push(pending.id, pending.digest);
            }
        }
        recent
    }

    fn take_pending(&mut self, ticket: Ticket) -> Option<Pending> {
        let serial = ticket.0?;
        self.rx.pending.iter_mut().find(|slot| slot.is_some_and(|pending| pending.serial == serial))?.take()
    }
}

/// What remembers received messages. A device on H has one message in flight. Servers of the reference may have several,
/// and so may devices on U.
const fn window(side: Side, dialect: Dialect) -> Recent {
    let one = matches!((side, dialect), (Side::Server, Dialect::Headers));
    Recent::new(if one { 1 } else { recent::DEPTH })
}
