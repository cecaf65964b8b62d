//! When what an endpoint holds is stored, and what follows from that.
//!
//! One transaction of an endpoint is on its way at a time; what changes meanwhile goes into the next. A
//! transaction is made from the queues as they are, so that one that has failed is simply made again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bowline_proto::{legacy, native};
use bowline_store::{Change, CommitError, InboxMessage, Millis, NotQueued, OutboxMessage, Seq, Transaction};

use crate::endpoint::{Shared, State};
use crate::storage::Storage;
use crate::{Dialect, Endpoint, Message, saved};

/// Between two stored ledgers, in milliseconds: it is for people, and a crash may cost it the last moment.
const LEDGER_EVERY: u64 = 1_000;

/// Changes beside the queues that may wait before links of lines stop reading.
const EXTRA: usize = 64;

/// How long it may take until what was handled is stored as such, if no other transaction comes before.
const SOON: Duration = Duration::from_millis(20);

/// Most handled messages that do not count as such yet when new ones are taken in: their sender waits for the
/// acknowledgement, and moving the cursor takes as long as storing a message, however far it moves.
const CURSOR_LAG: u64 = 32;

/// Most ends of transactions that are remembered.
const ENDS: usize = 32;

/// When a ledger is stored if nothing else is.
const LEDGER_LATEST: Duration = Duration::from_secs(5);

/// What is stored, and what is on its way there.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Something is not on its way.
    dirty: bool,
    /// Something is not on its way and can wait a moment.
    soon: bool,
    /// Somebody sees to it that it does not wait for longer.
    soon_alarm: bool,
    /// What was handled is to be stored with the next transaction.
    cursor_due: bool,
    /// A transaction is on its way.
    busy: bool,
    /// The store knows the device.
    announced: bool,
    /// The device was forgotten: nothing is stored any more.
    ended: bool,
    failures: u32,
    /// Changes that do not follow from the queues.
    extra: Vec<Change>,
    inbox: u64,
    processed: u64,
    outbox: u64,
    acked: u64,
    /// The highest seqs of messages the store was given.
    inbox_last: u64,
    outbox_last: u64,
    /// Where in the inbox transactions have ended: what each has brought is stored together, and leaves at the least
    /// expense together.
    ends: VecDeque<u64>,
    /// What is stored of the sessions, if the inbox tells the rest.
    session: Option<saved::Essence>,
    ledger_at: Millis,
    /// The ledger is older than what else is stored.
    ledger_old: bool,
    /// Someone will see to that.
    ledger_alarm: bool,
}

/// How far a transaction goes.
#[derive(Debug)]
struct Mark {
    inbox: u64,
    inbox_last: u64,
    outbox: u64,
    outbox_last: u64,
    processed: u64,
    acked: u64,
    epoch: u64,
    native: Option<native::Ticket>,
    /// So many of the tickets of messages that wait to be durable.
    tickets: usize,
    lines: Option<legacy::Mark>,
    session: Option<saved::Essence>,
    extra: Vec<Change>,
}

impl Journal {
    /// Goes on with what is stored.
    pub(crate) fn restored(inbox: u64, processed: u64, outbox_last: u64, acked: u64) -> Self {
        let (inbox_last, outbox) = (inbox, outbox_last);
        Journal { announced: true, inbox, processed, outbox, acked, inbox_last, outbox_last, ..Journal::default() }
    }

    /// Something is to be stored.
    pub(crate) fn touch(&mut self) {
        self.dirty = true;
    }

    /// Something is to be stored, and in the same transaction that everything up to the inbox's cursor was handled.
    pub(crate) fn touch_with_cursor(&mut self) {
        self.dirty = true;
        self.cursor_due = true;
    }

    /// Something is to be stored that nobody waits for: with the next transaction, or in a moment.
    pub(crate) fn touch_soon(&mut self) {
        self.soon = true;
    }

    /// What was to be stored in a moment is to be stored now.
    pub(crate) fn hurry(&mut self) {
        self.dirty |= self.soon;
        self.cursor_due = true;
    }

    /// How far the next transaction moves the cursor, if everything up to `last` is in the inbox and everything up to
    /// `processed` was handled.
    fn cursor(&self, last: u64, processed: u64) -> u64 {
        let takes_in = last > self.inbox;
        if self.cursor_due || !takes_in {
            return processed;
        }
        if processed - self.processed < CURSOR_LAG {
            return self.processed;
        }
        let end = self.ends.iter().rev().find(|end| **end <= processed);
        end.map_or(processed, |end| *end)
    }

    /// Something beside the queues is to be stored.
    pub(crate) fn push(&mut self, change: Change) {
        if matches!(change, Change::Device { .. }) {
            // The last word counts, however often a link comes up while the store does not work.
            self.extra.retain(|earlier| !matches!(earlier, Change::Device { .. }));
        }
        self.extra.push(change);
        self.dirty = true;
    }

    /// These changes are not stored: they come before the later ones.
    fn give_back(&mut self, mut earlier: Vec<Change>) {
        earlier.append(&mut self.extra);
        self.extra = earlier;
    }

    /// The store does not keep up with what comes beside the queues: nothing that adds to it may be read.
    pub(crate) fn is_behind(&self) -> bool {
        self.extra.len() >= EXTRA
    }

    /// The store knows the device.
    pub(crate) fn knows_device(&self) -> bool {
        self.announced
    }

    /// Everything received up to here is stored.
    pub(crate) fn inbox_stored(&self) -> u64 {
        self.inbox
    }

    /// Nothing is to be stored any more.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// Nothing is to be stored, and nothing is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.ended || !self.dirty && !self.soon && !self.busy
    }
}

impl Endpoint {
    /// Whether what is flushed is mostly stored when that returns.
    pub(crate) fn stores_at_once(&self) -> bool {
        self.0.storage.as_ref().is_none_or(|storage| storage.store().commits_in_place())
    }

    /// Hands what has changed to the store, unless something is on its way there. Without a store, what
    /// follows from it being stored happens now.
    pub(crate) fn flush(&self, state: &mut State) {
        if state.lines.wants_save() {
            state.journal.dirty = true;
        }
        if self.0.storage.is_none() {
            state.journal.hurry();
        }
        if !state.journal.dirty || state.journal.busy || state.journal.ended {
            self.flush_soon(state);
            return;
        }
        (state.journal.dirty, state.journal.soon) = (false, false);
        let Some(storage) = &self.0.storage else {
            state.inbox.take_taken();
            state.outbox.take_taken();
            state.journal.extra.clear();
            let mark = state.mark();
            self.committed(state, mark);
            return;
        };
        let (transaction, mark) = state.transaction(&self.0);
        state.journal.cursor_due = false;
        // What the cursor has not passed yet.
        state.journal.soon = mark.processed < state.inbox.processed();
        self.keep_ledger_young(state, storage);
        let together = storage.is_busy(Arc::as_ptr(&self.0).addr());
        let in_place = if together { Err(transaction) } else { storage.store().commit_in_place(transaction) };
        let transaction = match in_place {
            Ok(answer) => {
                self.answered(state, mark, answer.map(drop));
                return;
            }
            Err(transaction) => transaction,
        };
        state.journal.busy = true;
        let extra = mark.extra.clone();
        let endpoint = self.clone();
        let then = move |answer: Result<_, CommitError>| {
            let mut state = endpoint.lock();
            state.journal.busy = false;
            endpoint.answered(&mut state, mark, answer.map(drop));
        };
        let queued = storage.store().gather(transaction, then);
        if let Err(NotQueued::Full { .. }) = queued {
            // More devices have something to store than the store's queue has places.
            state.journal.give_back(extra);
            self.try_again(state, storage);
        }
    }

    /// Sees to it that what can wait a moment does not wait for longer.
    fn flush_soon(&self, state: &mut State) {
        let journal = &mut state.journal;
        let Some(storage) = &self.0.storage else { return };
        if !journal.soon || journal.ended || std::mem::replace(&mut journal.soon_alarm, true) {
            return;
        }
        let weak = Arc::downgrade(&self.0);
        storage.runtime().spawn(async move {
            tokio::time::sleep(SOON).await;
            if let Some(endpoint) = weak.upgrade().map(Endpoint) {
                let mut state = endpoint.lock();
                state.journal.soon_alarm = false;
                state.journal.hurry();
                endpoint.flush(&mut state);
            }
        });
    }

    /// Sees to it that the ledger is stored, should nothing else be.
    fn keep_ledger_young(&self, state: &mut State, storage: &Storage) {
        if !state.journal.ledger_old || std::mem::replace(&mut state.journal.ledger_alarm, true) {
            return;
        }
        storage.wait_with(Arc::downgrade(&self.0), LEDGER_LATEST);
    }

    /// The ledger has waited for long enough.
    pub(crate) fn store_ledger(&self) {
        let mut state = self.lock();
        state.journal.ledger_alarm = false;
        if state.journal.ledger_old {
            state.journal.touch();
            self.flush(&mut state);
        }
    }

    fn answered(&self, state: &mut State, mark: Mark, answer: Result<(), CommitError>) {
        let Some(storage) = &self.0.storage else { return };
        let lied = bowline_proto::planted!(FailedCommitTaken) && !matches!(answer, Err(CommitError::Closed));
        match if lied { Ok(()) } else { answer } {
            Ok(()) => {
                storage.succeeded();
                state.journal.failures = 0;
                state.journal.announced = true;
                self.committed(state, mark);
                self.flush(state);
                self.0.stored.notify_waiters();
            }
            Err(CommitError::UnknownDeadLetter { id }) => {
                // The box was full and dropped it meanwhile. What was made of it stands.
                state.journal.give_back(mark.extra);
                state.journal.extra.retain(|change| *change != Change::DropDead { id });
                state.journal.touch_with_cursor();
                self.flush(state);
            }
            // Nobody is left to store for.
            Err(CommitError::Closed) => {}
            Err(error) => {
                storage.failed(&error);
                if let CommitError::UnknownDevice { .. } = error {
                    state.stores_anew();
                }
                state.journal.give_back(mark.extra);
                self.try_again(state, storage);
            }
        }
    }

    fn try_again(&self, state: &mut State, storage: &Storage) {
        state.journal.failures = state.journal.failures.saturating_add(1);
        // Until then nothing is tried, whatever happens.
        state.journal.busy = true;
        let pause = Storage::pause(state.journal.failures);
        let weak = Arc::downgrade(&self.0);
        storage.runtime().spawn(async move {
            tokio::time::sleep(pause).await;
            if let Some(endpoint) = weak.upgrade().map(Endpoint) {
                let mut state = endpoint.lock();
                state.journal.busy = false;
                state.journal.touch_with_cursor();
                endpoint.flush(&mut state);
            }
        });
    }

    /// Everything up to `mark` is durable: it may be handed out, acknowledged, and sent.
    fn committed(&self, state: &mut State, mark: Mark) {
        let journal = &mut state.journal;
        (journal.inbox, journal.processed, journal.acked) = (mark.inbox, mark.processed, mark.acked);
        if mark.inbox_last > journal.inbox_last {
            journal.ends.push_back(mark.inbox_last);
        }
        while journal.ends.len() > ENDS || journal.ends.front().is_some_and(|end| *end <= mark.processed) {
            journal.ends.pop_front();
        }
        (journal.outbox, journal.inbox_last, journal.outbox_last) = (mark.outbox, mark.inbox_last, mark.outbox_last);
        journal.session = mark.session;
        if state.inbox.handle_durable(mark.inbox) {
            self.notify_arrival(state);
        }
        let by_lines = state.link.as_ref().is_some_and(|link| link.dialect != Dialect::Native);
        for ticket in state.waiting.drain(..mark.tickets.min(state.waiting.len())) {
            if by_lines {
                state.tickets.push(ticket);
            } else {
                // No link: the acknowledgement goes out when the message comes again.
                let _ = state.lines.accepted(ticket);
            }
        }
        if let Some(mark) = mark.lines {
            state.lines.handle_saved(mark);
        }
        if let Some(ticket) = mark.native {
            state.native.handle_persisted(ticket);
        }
        state.outbox.handle_taken();
        state.outbox.handle_stored(mark.outbox);
        state.native.handle_outbox(mark.outbox.saturating_sub(state.bases.tx));
        state.native.handle_epoch_stored(mark.epoch);
        state.kick();
    }
}

impl State {
    /// Somebody has deleted what was stored of the device: what is still queued is stored once more.
    fn stores_anew(&mut self) {
        let journal = &mut self.journal;
        journal.announced = false;
        journal.inbox = self.inbox.first().map_or(self.inbox.last(), |seq| seq - 1);
        (journal.outbox, journal.acked) = (self.outbox.acked(), self.outbox.acked());
        (journal.inbox_last, journal.outbox_last) = (0, 0);
    }

    fn mark(&mut self) -> Mark {
        Mark {
            inbox: self.inbox.last(),
            inbox_last: self.journal.inbox_last,
            outbox: self.outbox.last(),
            outbox_last: self.journal.outbox_last,
            processed: self.journal.cursor(self.inbox.last(), self.inbox.processed()),
            acked: self.outbox.acked(),
            epoch: self.native.epoch(),
            native: self.received,
            tickets: self.waiting.len(),
            lines: None,
            session: None,
            extra: Vec::new(),
        }
    }

    /// Everything that is not stored.
    fn transaction(&mut self, shared: &Shared) -> (Transaction, Mark) {
        let mut mark = self.mark();
        let device = &shared.device;
        let now = shared.clock.wall();
        let mut changes = Vec::with_capacity(8);
        if !self.journal.announced {
            // Forgetting an earlier device of this id may have failed.
            changes.push(Change::Forget { device: Arc::clone(device) });
            changes.push(Change::device(Arc::clone(device), shared.is_persistent(), now));
        }
        // First what makes room.
        for seq in self.outbox.take_taken().into_iter().filter(|seq| *seq <= self.journal.outbox) {
            self.journal.extra.push(Change::TakeSent { device: Arc::clone(device), seq: Seq(seq) });
        }
        for seq in self.inbox.take_taken() {
            self.journal.extra.push(Change::TakeReceived { device: Arc::clone(device), seq: Seq(seq) });
        }
        mark.extra = std::mem::take(&mut self.journal.extra);
        changes.extend(mark.extra.iter().cloned());
        // What the application had of a row that is gone is not in the new one.
        let through = mark.processed.min(self.journal.inbox_last);
        if through > self.journal.processed {
            changes.push(Change::Processed { device: Arc::clone(device), through: Seq(through) });
        }
        // Holes behind the last message are not in the store.
        let through = mark.acked.min(self.journal.outbox_last);
        if through > self.journal.acked {
            changes.push(Change::Acked { device: Arc::clone(device), through: Seq(through) });
        }
        changes.extend(self.inbox.behind(self.journal.inbox).map(|message| Change::Receive {
            device: Arc::clone(device),
            message: InboxMessage {
                seq: Seq(message.seq().unwrap_or(0)),
                epoch: message.epoch(),
                qos: message.is_qos(),
                received_at: message.origin().received_at,
                header: message.header_bytes(),
                payload: message.payload_bytes(),
            },
        }));
        mark.inbox_last =
            self.inbox.behind(self.journal.inbox).last().and_then(Message::seq).unwrap_or(mark.inbox_last);
        let clock = shared.clock.now();
        for entry in self.outbox.behind(self.journal.outbox) {
            mark.outbox_last = entry.seq;
            let left = entry.expires.map(|at| at.since(clock).as_micros() / 1_000);
            changes.push(Change::Send {
                device: Arc::clone(device),
                message: OutboxMessage {
                    seq: Seq(entry.seq),
                    policy: entry.policy.code(),
                    created_at: now,
                    expires_at: left.map(|left| Millis(now.0.saturating_add(left))),
                    header: entry.message.header_bytes(),
                    payload: entry.message.payload_bytes(),
                },
            });
        }
        self.outbox.handle_offered(mark.outbox_last);
        self.add_session(device, &mut changes, &mut mark);
        if now.0.abs_diff(self.journal.ledger_at.0) >= LEDGER_EVERY || self.outbox.closed {
            self.journal.ledger_at = now;
            self.journal.ledger_old = false;
            let counters = self.all_totals().to_bytes();
            changes.push(Change::Ledger { device: Arc::clone(device), counters });
        } else {
            self.journal.ledger_old = true;
        }
        (changes.into(), mark)
    }

    /// Stores the sessions, unless all that is new in them is messages received on N: those tell it themselves.
    fn add_session(&self, device: &Arc<str>, changes: &mut Vec<Change>, mark: &mut Mark) {
        let outbox = mark.outbox.saturating_sub(self.bases.tx);
        // The link has not given back yet what an earlier transaction has stored: it is remembered all the same.
        let tickets = || self.tickets.iter().chain(&self.waiting);
        let lines = self.lines.dialect().map(|_| self.lines.save_with(tickets()));
        // Not so a gap behind the last message.
        let told = self.native.durable_with(mark.native) <= mark.inbox.saturating_sub(self.bases.rx);
        let sent = self.native.save_sent(outbox);
        let essence = saved::Essence { dialect: self.dialect, bases: self.bases, sent };
        mark.session = (lines.is_none() && told && self.native.epoch() != 0).then_some(essence);
        mark.lines = lines.as_ref().map(legacy::Saved::mark);
        if mark.session.is_some() && mark.session == self.journal.session && self.journal.announced {
            return;
        }
        let native = self.native.save_both(mark.native, outbox);
        let state = saved::write(self.dialect, self.bases, &native, lines.as_ref());
        changes.push(Change::Session { device: Arc::clone(device), format: saved::FORMAT, state });
    }
}

#[cfg(test)]
mod tests;
