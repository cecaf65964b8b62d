//! What wakes the task of a link.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A call to the one task that waits for it. One that nobody waits for is there for the next who does.
#[derive(Debug, Default)]
pub(crate) struct Kick {
    /// Whoever calls sets it and wakes; who waits leaves its waker and looks. Calls behind the first one cost nothing more.
    called: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Kick {
    pub(crate) fn call(&self) {
        if self.called.swap(true, Ordering::SeqCst) {
            return;
        }
        let waker = self.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready if there was a call since this was last ready.
    pub(super) fn poll_called(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut waker = self.lock();
        // Under the lock: a call that comes from here on finds the waker.
        if self.called.swap(false, Ordering::SeqCst) {
            return Poll::Ready(());
        }
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        // Nothing panics while it holds the lock.
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
