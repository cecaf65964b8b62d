//! embassy's time on tokio's clock: what runs on boards runs in a test's runtime then, also where that has paused its
//! clock. Whoever links this crate has it; there can be no other time driver in a program.
//!
//! Each thread has its own time and its own timers, as each current-thread runtime has. Wakers end with the runtime.

use std::cell::{Cell, RefCell};
use std::task::Waker;
use std::time::Duration;

use embassy_time_driver::{Driver, TICK_HZ};
use tokio::task::AbortHandle;
use tokio::time::Instant;

thread_local! {
    static BEGIN: Cell<Option<Instant>> = const { Cell::new(None) };
    static TIMERS: RefCell<Vec<Timer>> = const { RefCell::new(Vec::new()) };
}

/// The next time a task is to be woken. A task asks again when it was woken too early for one of its timers.
struct Timer {
    at: u64,
    waker: Waker,
    sleep: AbortHandle,
}

/// Begins anew at time 0 in this thread: a new runtime has a clock of its own.
pub fn begin() {
    BEGIN.set(Some(Instant::now()));
    TIMERS.with_borrow_mut(Vec::clear);
}

fn beginning() -> Instant {
    BEGIN.get().unwrap_or_else(|| {
        let now = Instant::now();
        BEGIN.set(Some(now));
        now
    })
}

struct Tokio;

impl Driver for Tokio {
    fn now(&self) -> u64 {
        ticks(beginning().elapsed())
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        let (now, begin) = (self.now(), beginning());
        TIMERS.with_borrow_mut(|timers| {
            timers.retain(|timer| timer.at > now);
            let known = timers.iter().position(|timer| timer.waker.will_wake(waker));
            if let Some(known) = known {
                if timers[known].at <= at {
                    return;
                }
                timers.swap_remove(known).sleep.abort();
            }
            let called = waker.clone();
            let sleep = tokio::spawn(async move {
                tokio::time::sleep_until(begin + duration(at)).await;
                called.wake();
            });
            timers.push(Timer { at, waker: waker.clone(), sleep: sleep.abort_handle() });
        });
    }
}

embassy_time_driver::time_driver_impl!(static DRIVER: Tokio = Tokio);

fn ticks(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros() * u128::from(TICK_HZ) / 1_000_000).unwrap_or(u64::MAX)
}

/// Not before `ticks`. A century stands for what is further away than tokio's clock goes.
fn duration(ticks: u64) -> Duration {
    const CENTURY: u64 = 100 * 365 * 86_400 * 1_000_000;
    let micros = (u128::from(ticks) * 1_000_000).div_ceil(u128::from(TICK_HZ));
    Duration::from_micros(u64::try_from(micros).unwrap_or(CENTURY).min(CENTURY))
}
