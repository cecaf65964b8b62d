//! The answer to a transaction: who waits for it, and how it gets there.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::queue::{Ticket, Waiting};
use crate::{CommitError, Committed};

type Answer = Result<Committed, CommitError>;

/// A transaction on its way: a future of its answer, for any runtime or none ([`Commit::wait`]).
///
/// The answer comes after the commit. Dropping it does not cancel the transaction once that is among
/// the first [`Limits::queue`](crate::Limits) that wait; one behind them waits for room and leaves with
/// its `Commit`, so that nobody can fill the memory by giving up. Either way all or nothing of it
/// happens.
#[must_use = "the answer tells whether the transaction was committed"]
pub struct Commit {
    slot: Arc<Slot>,
    queue: Arc<Waiting>,
    ticket: Ticket,
}

impl Commit {
    pub(crate) fn new(slot: Arc<Slot>, queue: Arc<Waiting>, ticket: Ticket) -> Self {
        Commit { slot, queue, ticket }
    }

    /// Blocks until the answer is there. Not for the inside of an async task or a callback.
    ///
    /// # Errors
    /// Why the transaction was not committed.
    pub fn wait(self) -> Result<Committed, CommitError> {
        let mut state = self.slot.lock();
        loop {
            if let State::Answered(answer) = &*state {
                return answer.clone();
            }
            state = self.slot.answered.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Future for Commit {
    type Output = Result<Committed, CommitError>;

    /// Cancel-safe in the sense above. May be polled again after the answer, which stays.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.slot.lock();
        if let State::Answered(answer) = &*state {
            return Poll::Ready(answer.clone());
        }
        *state = State::Waiting(Some(context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        if !matches!(&*self.slot.lock(), State::Answered(_)) {
            self.queue.withdraw(self.ticket);
        }
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

/// Where an answer is put and picked up.
pub(crate) struct Slot {
    state: Mutex<State>,
    answered: Condvar,
}

enum State {
    Waiting(Option<Waker>),
    Answered(Answer),
}

impl Slot {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Slot { state: Mutex::new(State::Waiting(None)), answered: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics in between.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, answer: Answer) {
        let before = std::mem::replace(&mut *self.lock(), State::Answered(answer));
        self.answered.notify_all();
        if let State::Waiting(Some(waker)) = before {
            waker.wake();
        }
    }
}

type Callback = Box<dyn FnOnce(Answer) + Send>;

/// The duty to answer a transaction. Dropped without an answer, it says that the store is closed.
pub(crate) struct Reply(Option<To>);

enum To {
    Slot(Arc<Slot>),
    Callback(Callback),
}

impl Reply {
    pub(crate) fn to_slot(slot: Arc<Slot>) -> Self {
        Reply(Some(To::Slot(slot)))
    }

    pub(crate) fn to_callback(callback: Callback) -> Self {
        Reply(Some(To::Callback(callback)))
    }

    pub(crate) fn answer(mut self, answer: Answer) {
        self.give(answer);
    }

    /// Nobody is to be told.
    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }

    fn give(&mut self, answer: Answer) {
        match self.0.take() {
            Some(To::Slot(slot)) => slot.answer(answer),
            // A caller's panic is the caller's: the writer goes on for the others. The panic has been
            // reported by its hook.
            Some(To::Callback(callback)) => drop(catch_unwind(AssertUnwindSafe(|| callback(answer)))),
            None => {}
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.give(Err(CommitError::Closed));
    }
}
