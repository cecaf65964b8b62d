//! Transactions waiting for the writer.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::commit::Reply;
use crate::{NotQueued, Transaction};

/// Names a waiting transaction. Later ones have higher tickets.
pub(crate) type Ticket = u64;

/// One transaction and who is told.
pub(crate) struct Job {
    ticket: Ticket,
    pub(crate) transaction: Transaction,
    pub(crate) reply: Reply,
}

/// One queue, so that the order of calls is the order of transactions. The first `capacity` are
/// accepted: they are committed whatever becomes of their callers. Those behind wait for room.
pub(crate) struct Waiting {
    state: Mutex<State>,
    work: Condvar,
    /// Told of work when no thread waits for it.
    call: Option<Call>,
    /// Told of what was pushed quietly.
    gatherer: OnceLock<Call>,
    capacity: usize,
}

/// Called when there is work. Must not wait, nor call the store.
pub(crate) type Call = Box<dyn Fn() + Send + Sync>;

struct State {
    jobs: VecDeque<Job>,
    next: Ticket,
    closed: bool,
    /// Somebody commits: the writer, or a caller in its place.
    busy: bool,
    /// The writer is to commit what waits, and not the gatherer.
    wanted: bool,
}

impl State {
    fn take(&mut self, most: usize) -> Vec<Job> {
        self.busy = true;
        self.wanted &= self.jobs.len() > most;
        let count = self.jobs.len().min(most.max(1));
        self.jobs.drain(..count).collect()
    }
}

impl Waiting {
    pub(crate) fn new(capacity: usize, call: Option<Call>) -> Self {
        Waiting {
            state: Mutex::new(State { jobs: VecDeque::new(), next: 0, closed: false, busy: false, wanted: false }),
            work: Condvar::new(),
            call,
            gatherer: OnceLock::new(),
            capacity: capacity.max(1),
        }
    }

    /// Queues a transaction, behind the accepted ones if there is no room. Closed: drops the reply,
    /// which answers.
    pub(crate) fn push(&self, transaction: Transaction, reply: Reply) -> Ticket {
        let mut state = self.lock();
        let ticket = state.next;
        if !state.closed {
            state.next += 1;
            state.jobs.push_back(Job { ticket, transaction, reply });
            state.wanted = true;
            self.tell();
        }
        ticket
    }

    /// Queues a transaction only if it is accepted. `quietly` if the gatherer, which there is, is to take it.
    pub(crate) fn push_if_room(&self, transaction: Transaction, reply: Reply, quietly: bool) -> Result<(), NotQueued> {
        let mut state = self.lock();
        if state.closed || state.jobs.len() >= self.capacity {
            let closed = state.closed;
            drop(state);
            // The caller learns it here.
            reply.disarm();
            return Err(match closed {
                true => NotQueued::Closed,
                false => NotQueued::Full { capacity: self.capacity, transaction },
            });
        }
        let ticket = state.next;
        state.next += 1;
        state.jobs.push_back(Job { ticket, transaction, reply });
        if quietly {
            drop(state);
            self.tell_gatherer();
        } else {
            state.wanted = true;
            self.tell();
        }
        Ok(())
    }

    /// The caller is gone: so is the transaction, if it has not been accepted.
    pub(crate) fn withdraw(&self, ticket: Ticket) {
        let mut state = self.lock();
        let found = state.jobs.binary_search_by_key(&ticket, |job| job.ticket);
        let withdrawn = found.ok().filter(|at| *at >= self.capacity).and_then(|at| state.jobs.remove(at));
        // Its reply locks the caller's slot; not under our lock.
        drop(state);
        drop(withdrawn);
    }

    /// Lets the caller commit in the writer's place, if nothing is to be committed before: until
    /// [`Waiting::done`].
    pub(crate) fn begin(&self) -> bool {
        let mut state = self.lock();
        let free = state.jobs.is_empty() && !state.closed && !state.busy;
        state.busy |= free;
        free
    }

    /// What was taken or begun is committed.
    pub(crate) fn done(&self) {
        let mut state = self.lock();
        state.busy = false;
        // Waking a thread for nothing takes longer than a commit without a sync.
        let waits = !state.jobs.is_empty();
        let wanted = state.closed || state.wanted && waits;
        drop(state);
        if wanted {
            self.work.notify_all();
        } else if waits {
            self.tell_gatherer();
        }
    }

    /// Waits for transactions and takes the first ones, which are to be [`Waiting::done`]. `None` when the
    /// queue is closed and empty.
    pub(crate) fn take(&self, most: usize) -> Option<Vec<Job>> {
        let mut state = self.lock();
        while state.jobs.is_empty() || state.busy {
            if state.closed && !state.busy {
                return None;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Some(state.take(most))
    }

    /// The first transactions, which are to be [`Waiting::done`], if there are any and nobody commits.
    pub(crate) fn take_now(&self, most: usize) -> Option<Vec<Job>> {
        let mut state = self.lock();
        if state.jobs.is_empty() || state.busy {
            return None;
        }
        Some(state.take(most))
    }

    pub(crate) fn is_driven(&self) -> bool {
        self.call.is_some()
    }

    /// Takes no more transactions.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Somebody commits.
    pub(crate) fn is_busy(&self) -> bool {
        self.lock().busy
    }

    /// From now on `call` is told of what is pushed quietly. Says whether it is the first one.
    pub(crate) fn gathers(&self, call: Call) -> bool {
        self.gatherer.set(call).is_ok()
    }

    pub(crate) fn has_gatherer(&self) -> bool {
        self.gatherer.get().is_some()
    }

    fn tell_gatherer(&self) {
        if let Some(call) = self.gatherer.get() {
            call();
        }
    }

    fn tell(&self) {
        match &self.call {
            Some(call) => call(),
            None => self.work.notify_one(),
        }
    }

    /// Takes no more transactions. Those that wait are still committed.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
    }

    /// The writer is gone: whoever waits is told.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        drop(jobs);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics in between.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
