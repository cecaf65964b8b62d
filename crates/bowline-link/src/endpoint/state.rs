//! What the lock of an endpoint guards, and how it comes back from a store.

use std::sync::Arc;

use bowline_proto::{Side, legacy, native};
use bowline_secure::Protection;

use super::lines::LinesSession;
use super::status::Outages;
use crate::driver::Kick;
use crate::inbox::Inbox;
use crate::journal::Journal;
use crate::ledger::Totals;
use crate::outbox::Outbox;
use crate::saved::{self, Bases};
use crate::{Attendant, Clock, Dialect, Limits, Message, Policy, SendError};

/// What the endpoint's users and its link share. Locked for the time of one turn, never across an await.
#[derive(Debug)]
pub(crate) struct State {
    /// What the peer speaks, or last spoke.
    pub(crate) dialect: Option<Dialect>,
    /// How the link is protected, or the last one was.
    pub(crate) protection: Option<Protection>,
    /// The session on H, U and P.
    pub(crate) lines: LinesSession,
    /// The session on N.
    pub(crate) native: native::Session,
    pub(crate) bases: Bases,
    pub(crate) inbox: Inbox,
    pub(crate) outbox: Outbox,
    pub(crate) journal: Journal,
    /// The link that has the session now.
    pub(crate) link: Option<Current>,
    /// Numbers links.
    pub(crate) links: u64,
    /// Under the lock: whether the link is having its turn.
    pub(crate) turn: Turn,
    /// Tickets of messages on H, U and P that wait to be durable, in order.
    pub(crate) waiting: Vec<legacy::Ticket>,
    /// Tickets of messages that are durable, for the link to give back.
    pub(crate) tickets: Vec<legacy::Ticket>,
    /// The last message or gap received on N.
    pub(crate) received: Option<native::Ticket>,
    /// Counted here; the engines count the rest.
    pub(crate) totals: Totals,
    pub(crate) outage: Outages,
    /// Who is called when there is something to do.
    pub(crate) attendant: Option<Arc<dyn Attendant>>,
    /// A planted bug: what the last link had received in part.
    #[cfg(planted)]
    pub(crate) partial: Vec<u8>,
}

/// The link that has the session now.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) number: u64,
    pub(crate) dialect: Dialect,
    /// Wakes the task that drives it.
    pub(crate) kick: Arc<Kick>,
}

/// Whether the task that drives the link is at work, holding the lock: then it need not be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    No,
    Quiet,
    /// There is something to do that it may not have seen to.
    Kicked,
}

impl Turn {
    /// What there is to do is seen to from here on.
    pub(crate) fn settle(&mut self) {
        if *self == Turn::Kicked {
            *self = Turn::Quiet;
        }
    }
}

impl State {
    pub(super) fn new(side: Side, limits: &Limits, durable: bool) -> Self {
        State {
            dialect: None,
            protection: None,
            lines: LinesSession::new(side, durable),
            native: native::Session::new(side),
            bases: Bases::default(),
            inbox: Inbox::new(limits.inbox, limits.queue_bytes, limits.dead_letters),
            outbox: Outbox::new(limits.outbox, limits.queue_bytes, limits.best_effort),
            journal: Journal::default(),
            link: None,
            links: 0,
            turn: Turn::No,
            waiting: Vec::new(),
            tickets: Vec::new(),
            received: None,
            totals: Totals::default(),
            outage: Outages::default(),
            attendant: None,
            #[cfg(planted)]
            partial: Vec::new(),
        }
    }

    /// Goes on where an earlier process stopped.
    pub(super) fn restore(&mut self, side: Side, stored: bowline_store::Device, clock: Clock) -> Result<(), String> {
        let sessions = stored.session.map(|session| saved::read(side, session.format, &session.state)).transpose();
        let problem = match sessions {
            Ok(Some(sessions)) => {
                (self.dialect, self.bases, self.native) = (sessions.dialect, sessions.bases, sessions.native);
                self.lines = LinesSession::restored(side, sessions.lines);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(problem) => Err(problem),
        };
        self.totals = Totals::from_bytes(&stored.ledger);
        let has_epoch = self.native.epoch() != 0;

        let processed = stored.inbox_cursor.0;
        // Where messages are all that was new, they were stored without the session.
        let base = self.bases.rx;
        if !bowline_proto::planted!(CursorOutsideCommit) {
            self.native.handle_inbox(stored.inbox_last.0.saturating_sub(base), processed.saturating_sub(base));
        }
        // A gap behind the last message is not in the queue: the next message tells of it.
        self.inbox.start_behind(stored.inbox_last.0.max(self.bases.rx), processed);
        let (epoch, base) = (self.native.epoch(), self.bases.rx);
        for message in stored.inbox {
            let seq = message.seq.0;
            let of_epoch = has_epoch && message.epoch == epoch && seq > base;
            let ticket = of_epoch.then(|| native::Ticket::stored(epoch, seq - base));
            let origin = crate::message::Origin { seq, epoch: message.epoch, gap: 0, received_at: message.received_at };
            let message = Message::from_store(&message.header, &message.payload, message.qos);
            self.inbox.restore(message.with_origin(origin), ticket);
        }

        let first = stored.outbox.first().map(|message| message.seq.0);
        let (mut outbox_last, mut acked) =
            (stored.outbox_last.0, first.map_or(stored.outbox_last.0, |first| first - 1));
        if has_epoch {
            outbox_last = outbox_last.max(self.bases.tx + self.native.last());
            acked = acked.min(self.bases.tx + self.native.acked());
        }
        self.outbox.start_behind(acked);
        let (wall, now) = (clock.wall().0, clock.now());
        for message in stored.outbox {
            if bowline_proto::planted!(OutboxForgotten) {
                break;
            }
            let expires = message.expires_at.map(|at| {
                // However the clock was set meanwhile, it lives at most as long as it was to live.
                let life = at.0.saturating_sub(message.created_at.0);
                let left = at.0.saturating_sub(wall).min(life);
                now + bowline_proto::time::Duration::from_micros(left.saturating_mul(1_000))
            });
            let policy = Policy::of_code(message.policy);
            let content = Message::from_store(&message.header, &message.payload, true);
            self.outbox.restore(message.seq.0, content, policy, expires);
        }
        self.outbox.restore_holes(outbox_last);
        self.native.handle_outbox(outbox_last.saturating_sub(self.bases.tx));
        self.journal = Journal::restored(stored.inbox_last.0, processed, stored.outbox_last.0, acked);
        problem
    }

    /// The peer has changed its dialect: it is another program.
    pub(crate) fn speaks(&mut self, dialect: Dialect) {
        if dialect == Dialect::Native {
            // What N delivers now, the lines' session knows nothing of.
            if self.lines.dialect().is_some() {
                self.lines.handle_other_program();
            }
        } else {
            self.outbox.forget_handled();
        }
        self.dialect = Some(dialect);
        self.journal.touch();
    }

    /// The epoch of the peer's numbering.
    pub(crate) fn epoch(&self) -> u64 {
        match self.dialect {
            Some(Dialect::Native) => self.native.epoch(),
            _ => self.lines.epoch().into(),
        }
    }

    /// Fails if the peer's epoch is another one than this.
    pub(crate) fn is_in(&self, epoch: Option<u64>) -> Result<(), SendError> {
        if epoch.is_none_or(|epoch| epoch == self.epoch()) { Ok(()) } else { Err(SendError::PastEpoch) }
    }

    /// A new epoch of N begins: what was not acknowledged is numbered anew.
    pub(crate) fn begins_epoch(&mut self) {
        // What lines have parked would get the numbers of what comes on N.
        let parked = self.inbox.unpark_all();
        self.waiting.extend(parked);
        self.bases = Bases { tx: self.outbox.acked(), rx: self.inbox.last() };
        self.received = None;
        self.outbox.forget_handled();
        self.journal.touch();
    }

    /// Wakes the task that drives the link, unless it is just at work.
    pub(crate) fn kick(&mut self) {
        match (&self.link, self.turn) {
            (Some(link), Turn::No) => link.kick.call(),
            (_, Turn::Quiet) => self.turn = Turn::Kicked,
            (None, _) | (_, Turn::Kicked) => {}
        }
    }

    /// Messages of the outbox up to here may have been sent.
    pub(crate) fn sent(&self) -> u64 {
        let lines = self.outbox.acked() + u64::from(self.lines.in_flight().is_some());
        let native = if self.native.epoch() == 0 { 0 } else { self.bases.tx + self.native.sent() };
        lines.max(native)
    }

    pub(crate) fn all_totals(&self) -> Totals {
        self.totals.with_engines(self.lines.counters(), self.native.counters())
    }
}
