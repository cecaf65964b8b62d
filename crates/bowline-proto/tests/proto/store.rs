//! A node's store: transactions that are committed some time later, or fail, or are cut off by a crash.

use std::collections::VecDeque;

use bowline_proto::legacy::{Mark, Saved, Ticket};
use bowline_proto::time::Instant;

use crate::common::NEVER;

/// One change that a transaction makes.
pub(crate) enum Op {
    /// A message was received. Its ticket goes back after the commit.
    Accepted(Ticket, String),
    /// A message was queued.
    Queued(String),
    /// The head of the outbox was acknowledged.
    Acked,
}

/// What is on the disk, and on its way there.
pub(crate) struct Store {
    /// The newest committed session.
    pub(crate) session: Option<Vec<u8>>,
    /// The committed outbox.
    pub(crate) outbox: VecDeque<String>,
    /// Changes that are in no transaction yet, oldest first.
    pub(crate) changes: Vec<Op>,
    under_way: VecDeque<Transaction>,
    /// When what is waiting becomes a transaction.
    pub(crate) submit_at: Instant,
    /// Marks of committed saves, to be told again.
    pub(crate) old_marks: Vec<Mark>,
    pub(crate) commits: u64,
    pub(crate) failures: u64,
}

struct Transaction {
    at: Instant,
    fails: bool,
    changes: Vec<Op>,
    saved: Saved,
}

/// A transaction that has come to its end.
pub(crate) enum Outcome {
    Committed(Vec<Op>, Mark),
    /// This one and all behind it.
    Failed(Vec<Op>),
}

impl Store {
    pub(crate) fn new() -> Self {
        Store {
            session: None,
            outbox: VecDeque::new(),
            changes: vec![],
            under_way: VecDeque::new(),
            submit_at: NEVER,
            old_marks: vec![],
            commits: 0,
            failures: 0,
        }
    }

    /// Tickets of messages received and not known to be stored, oldest first.
    pub(crate) fn tickets(&self) -> impl Iterator<Item = &Ticket> {
        self.uncommitted().filter_map(|op| match op {
            Op::Accepted(ticket, _) => Some(ticket),
            Op::Queued(_) | Op::Acked => None,
        })
    }

    pub(crate) fn uncommitted(&self) -> impl Iterator<Item = &Op> {
        self.under_way.iter().flat_map(|transaction| &transaction.changes).chain(&self.changes)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.changes.is_empty()
    }

    pub(crate) fn next(&self) -> Instant {
        self.under_way.front().map_or(NEVER, |transaction| transaction.at).min(self.submit_at)
    }

    /// Everything that waits becomes a transaction, unless one on its way will do.
    pub(crate) fn submit(&mut self, saved: Saved, at: Instant, fails: bool) {
        self.submit_at = NEVER;
        let last = self.under_way.back();
        if self.changes.is_empty() && last.is_some_and(|last| last.saved.mark() == saved.mark()) {
            return;
        }
        let at = last.map_or(at, |last| last.at.max(at));
        let changes = std::mem::take(&mut self.changes);
        self.under_way.push_back(Transaction { at, fails, changes, saved });
    }

    /// The next transaction that is at its end.
    pub(crate) fn settle(&mut self, now: Instant) -> Option<Outcome> {
        if self.under_way.front().is_none_or(|transaction| transaction.at > now) {
            return None;
        }
        if self.under_way[0].fails {
            self.failures += 1;
            return Some(Outcome::Failed(self.under_way.drain(..).flat_map(|failed| failed.changes).collect()));
        }
        let Transaction { changes, saved, .. } = self.under_way.pop_front()?;
        self.session = Some(saved.as_bytes().to_vec());
        self.commits += 1;
        self.old_marks.push(saved.mark());
        Some(Outcome::Committed(changes, saved.mark()))
    }

    /// The process ends: at most this many of the transactions on their way are still committed.
    pub(crate) fn cut_off(&mut self, count: usize) -> Vec<Op> {
        let mut committed = vec![];
        for _ in 0..count {
            let Some(Outcome::Committed(changes, _)) = self.settle(NEVER) else { break };
            committed.extend(changes);
        }
        self.under_way.clear();
        self.changes.clear();
        self.old_marks.clear();
        self.submit_at = NEVER;
        committed
    }

    pub(crate) fn under_way(&self) -> usize {
        self.under_way.len()
    }
}
