//! What survives a process: a store that commits late, in order, whole transactions.

use std::collections::VecDeque;

use bowline_proto::Side;
use bowline_proto::native::{SAVED_LEN, Session, Ticket};
use bowline_proto::time::Instant;

/// How much of a node survives its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    Everything,
    /// The outbox and its cursors.
    Outbox,
    Nothing,
}

/// A message to send, or the place of one that was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) text: String,
    pub(crate) dropped: bool,
}

/// What the inbox holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arrival {
    Text(String),
    Gap(u64),
}

/// Work for the store.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Queue(String),
    Arrival(Ticket, Arrival),
    Epoch(u64),
}

/// The durable part.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    pub(crate) saved: Option<[u8; SAVED_LEN]>,
    pub(crate) outbox: VecDeque<Entry>,
    /// With the epoch each came in.
    pub(crate) inbox: Vec<(u64, Arrival)>,
    /// Everything `send` has ever accepted here, in order.
    pub(crate) accepted: Vec<String>,
}

/// The disk with what waits to be written to it.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) keeps: Keeps,
    pub(crate) disk: Disk,
    pub(crate) waiting: VecDeque<(Instant, Op)>,
    /// Not acknowledged, as the running process knows it: the first one is `acked` + 1.
    pub(crate) outbox: VecDeque<Entry>,
}

impl Store {
    pub(crate) fn new(keeps: Keeps) -> Self {
        Store { keeps, disk: Disk::default(), waiting: VecDeque::new(), outbox: VecDeque::new() }
    }

    pub(crate) fn add(&mut self, at: Instant, op: Op) {
        let at = self.waiting.back().map_or(at, |(last, _)| at.max(*last));
        self.waiting.push_back((at, op));
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.waiting.front().map(|(at, _)| *at)
    }

    /// Commits the next transaction, if its time has come, and tells the session.
    pub(crate) fn commits(&mut self, session: &mut Session, now: Instant) -> bool {
        let Some((_, op)) = self.waiting.pop_front_if(|(at, _)| *at <= now) else { return false };
        match op {
            Op::Queue(text) => {
                self.disk.accepted.push(text.clone());
                self.outbox.push_back(Entry { text, dropped: false });
                session.handle_outbox(session.last() + 1);
                self.writes(session.save());
            }
            Op::Arrival(ticket, arrival) => {
                self.disk.inbox.push((ticket.epoch(), arrival));
                let saved = session.save_with(ticket);
                if self.keeps == Keeps::Everything {
                    self.writes(saved.unwrap_or_else(|| session.save()));
                }
                session.handle_persisted(ticket);
            }
            Op::Epoch(epoch) => {
                self.writes(session.save());
                session.handle_epoch_stored(epoch);
            }
        }
        true
    }

    fn writes(&mut self, saved: [u8; SAVED_LEN]) {
        self.disk.saved = Some(saved);
        self.disk.outbox.clone_from(&self.outbox);
    }

    /// Storing what has arrived fails; what was to be sent is stored later.
    pub(crate) fn fails(&mut self) {
        self.waiting.retain(|(_, op)| !matches!(op, Op::Arrival(..)));
    }

    /// The peer has acknowledged up to `acked`; before it was `before`.
    pub(crate) fn forgets_acked(&mut self, before: u64, acked: u64) {
        self.outbox.drain(..(acked - before) as usize);
    }

    /// The process ends and starts again. Returns the session of the new one, and what the old one held
    /// if that is gone.
    pub(crate) fn restarts(&mut self, side: Side) -> (Session, Option<Disk>) {
        self.waiting.clear();
        let gone = match self.keeps {
            Keeps::Everything => None,
            Keeps::Outbox => {
                let kept = Disk { inbox: vec![], ..self.disk.clone() };
                Some(std::mem::replace(&mut self.disk, kept))
            }
            Keeps::Nothing => Some(std::mem::take(&mut self.disk)),
        };
        self.outbox.clone_from(&self.disk.outbox);
        let session = match &self.disk.saved {
            Some(saved) => Session::restore(side, saved).expect("a saved session"),
            None => Session::new(side),
        };
        (session, gone)
    }
}
