//! What wakes the task of a link.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A call to the one task that waits for it. One that nobody waits for is there for the next who does.
#[derive(Debug, Default)]
pub(crate) struct Kick(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    called: bool,
    waker: Option<Waker>,
}

impl Kick {
    pub(crate) fn call(&self) {
        let mut state = self.lock();
        state.called = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready if there was a call since this was last ready.
    pub(super) fn poll_called(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if std::mem::take(&mut state.called) {
            return Poll::Ready(());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
