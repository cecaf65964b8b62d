//! Random bytes and the time of day as the world has them. A world lives in one thread.

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime};

use bowline_client::Outside;
use fastrand::Rng;

thread_local! {
    static RANDOM: RefCell<Rng> = const { RefCell::new(Rng::with_seed(0)) };
    /// Milliseconds since 1970.
    static WALL: Cell<u64> = const { Cell::new(0) };
}

/// For everything that is started in this thread.
pub(crate) fn outside() -> Outside {
    Outside {
        random: |bytes| {
            fill(bytes);
            Ok(())
        },
        wall: || SystemTime::UNIX_EPOCH + Duration::from_millis(WALL.get()),
    }
}

/// For a board.
pub(crate) fn fill(bytes: &mut [u8]) {
    RANDOM.with_borrow_mut(|random| random.fill(bytes));
}

/// Seconds since 1970, for a board.
pub(crate) fn seconds() -> Option<u32> {
    u32::try_from(WALL.get() / 1_000).ok()
}

/// A new world begins in this thread.
pub(crate) fn begin(seed: u64) {
    RANDOM.set(Rng::with_seed(seed));
    // What draws its jitter from the thread's own.
    fastrand::seed(seed);
    WALL.set(1_700_000_000_000);
}

/// Somebody sets the clocks.
pub(crate) fn set_clock(jump: i64) {
    WALL.set(WALL.get().saturating_add_signed(jump));
}

thread_local! {
    /// What a panic in this thread said.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics of tasks are kept for their worlds.
pub(crate) fn keep_panics() {
    std::panic::set_hook(Box::new(|panic| {
        PANIC.with_borrow_mut(|kept| {
            kept.get_or_insert_with(|| format!("a panic: {panic}"));
        })
    }));
}

/// The panic in this thread, if there was one.
pub(crate) fn panicked() -> Option<String> {
    PANIC.take()
}
