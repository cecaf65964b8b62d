//! embassy's time.

use core::hint::black_box;
use core::sync::atomic::{AtomicU32, Ordering};
use core::task::Waker;

use embassy_time_driver::Driver;

/// Passes when it is looked at.
struct Clock(AtomicU32);

impl Driver for Clock {
    fn now(&self) -> u64 {
        let now = self.0.load(Ordering::Relaxed) + 1;
        self.0.store(now, Ordering::Relaxed);
        now.into()
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        black_box(at);
        waker.wake_by_ref();
    }
}

embassy_time_driver::time_driver_impl!(static CLOCK: Clock = Clock(AtomicU32::new(0)));
