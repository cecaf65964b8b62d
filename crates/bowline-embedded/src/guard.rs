//! Signs of life: for a watchdog, and for whoever looks at the board.

use core::future::poll_fn;
use core::task::Poll;

use embassy_time::{Duration, Timer};
use embedded_hal::digital::OutputPin;

use crate::{Client, Outbox, clock};

/// A watchdog that is running: it starts the board anew unless it is fed in time.
pub trait Watchdog {
    /// Feeds it.
    fn feed(&mut self);
}

/// When a watchdog is fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    /// How often: well within the watchdog's own time.
    pub every: Duration,
    /// How late the runner may be. Longer than the flash takes to erase a few pages.
    pub runner: Duration,
    /// How much time may pass between two calls of [`Client::alive`].
    pub application: Duration,
}

impl<O: Outbox> Client<'_, O> {
    /// The application is alive: to be called from its loop, where a [guard](Client::guard) looks after it.
    pub fn alive(&self) {
        self.0.alive.set(clock::now());
    }

    /// Whether the runner does what it has said it would by now, and the application is [alive](Client::alive).
    #[must_use]
    pub fn is_alive(&self, guard: &Guard) -> bool {
        let now = clock::now();
        now <= self.0.due.get() + clock::span(guard.runner)
            && now <= self.0.alive.get() + clock::span(guard.application)
    }

    /// Feeds a watchdog, for as long as [runner and application are alive](Client::is_alive). Runs beside them, in
    /// a task of its own. While a [network's](crate::Network) own hooks run, the runner counts as alive.
    ///
    /// Cancel-safe.
    pub async fn guard<W: Watchdog>(&self, watchdog: &mut W, guard: &Guard) -> ! {
        self.alive();
        loop {
            if self.is_alive(guard) {
                watchdog.feed();
            }
            Timer::at(clock::after(guard.every)).await;
        }
    }

    /// Toggles a LED whenever the server was heard, at most twice in a keepalive interval, and about once in it while
    /// nothing else is said. Low while there is no link.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// Of the pin.
    pub async fn heartbeat<P: OutputPin>(&self, led: &mut P) -> Result<core::convert::Infallible, P::Error> {
        let mut seen = self.0.beats.get();
        let (mut is_high, mut was_up) = (false, true);
        loop {
            let is_up = poll_fn(|context| {
                let (is_up, beats) = (self.0.status().is_up(), self.0.beats.get());
                if beats != seen || was_up != is_up {
                    seen = beats;
                    return Poll::Ready(is_up);
                }
                self.0.watchers.register(context.waker());
                Poll::Pending
            })
            .await;
            was_up = is_up;
            is_high = is_up && !is_high;
            if is_high { led.set_high() } else { led.set_low() }?;
        }
    }
}
