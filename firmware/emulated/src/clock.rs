//! embassy's time, counted by the core's own timer, SysTick.
//!
//! A tick that comes while the one before still waits is lost. On a board nothing masks interrupts for so long; here the host
//! works for the board while the board stands still, and its time goes slower: timeouts are longer, never shorter.

use core::cell::{Cell, RefCell};
use core::task::Waker;

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::exception;
use critical_section::Mutex;
use embassy_time_driver::{Driver, TICK_HZ, time_driver_impl};
use embassy_time_queue_utils::Queue;

struct Clock {
    /// Ticks since the start. 64 bits: it does not come round.
    now: Mutex<Cell<u64>>,
    /// When somebody is to be woken.
    next: Mutex<Cell<u64>>,
    waiting: Mutex<RefCell<Queue>>,
}

time_driver_impl!(static CLOCK: Clock = Clock {
    now: Mutex::new(Cell::new(0)),
    next: Mutex::new(Cell::new(u64::MAX)),
    waiting: Mutex::new(RefCell::new(Queue::new())),
});

/// Starts it. `core_hz` is how many cycles the core has in a second.
pub fn starts(timer: &mut SYST, core_hz: u32) {
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(core_hz / TICK_HZ as u32 - 1);
    timer.clear_current();
    timer.enable_interrupt();
    timer.enable_counter();
}

impl Driver for Clock {
    fn now(&self) -> u64 {
        critical_section::with(|section| self.now.borrow(section).get())
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|section| {
            let mut waiting = self.waiting.borrow_ref_mut(section);
            if waiting.schedule_wake(at, waker) {
                self.next.borrow(section).set(waiting.next_expiration(self.now.borrow(section).get()));
            }
        });
    }
}

#[exception]
fn SysTick() {
    critical_section::with(|section| {
        let now = CLOCK.now.borrow(section).get() + 1;
        CLOCK.now.borrow(section).set(now);
        let next = CLOCK.next.borrow(section);
        if next.get() <= now {
            next.set(CLOCK.waiting.borrow_ref_mut(section).next_expiration(now));
        }
    });
}
