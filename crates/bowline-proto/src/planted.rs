//! Bugs that a build for the simulator can switch on, to see that it finds them.
//!
//! They exist only where the compiler is told `--cfg planted`, which `cargo xtask mutants` does in a target folder of its
//! own. Everywhere else [`planted!`](crate::planted) is the constant `false`, and nothing of this is compiled.

#[cfg(planted)]
use core::sync::atomic::{AtomicU8, Ordering};

/// Whether this bug is switched on: `planted!(AckBeforePersist)`.
#[macro_export]
#[doc(hidden)]
macro_rules! planted {
    ($bug:ident) => {{
        #[cfg(planted)]
        let on = $crate::planted::is_on($crate::planted::Bug::$bug);
        #[cfg(not(planted))]
        let on = false;
        on
    }};
}

macro_rules! bugs {
    ($($bug:ident $text:literal,)+) => {
        /// A bug. One is on at a time, in the whole process.
        #[cfg(planted)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Bug {
            $(#[doc = $text] $bug,)+
        }

        /// All of them, each with what is wrong with it.
        #[cfg(planted)]
        pub const ALL: &[(Bug, &str)] = &[$((Bug::$bug, $text)),+];
    };
}

bugs! {
    AckBeforePersist "a message is acknowledged on N before it is stored",
    IdReset "a restored session on H or U numbers from 00, what was in flight too",
    DroppedResend "a new link does not send again what the dead one had sent",
    EpochReuse "a device that begins a new life is offered the epoch of its last one",
    CursorOutsideCommit "what is in the inbox is not what the session has received",
    WindowOffByOne "one message more is sent than there is credit for",
    DedupeWrap "ids on H and U come round after 32 where resends are told from new messages",
    GapNotReported "the application is not told of what was dropped",
    CreditLeak "room in the inbox is never told again",
    TakeoverBeforeProof "an opening takes the session before its device has shown that it is there",
    KeepaliveStarved "what is sent counts as having been heard",
    PartialFrameKept "what a dead link had received in part goes before what the next one receives",
    FailedCommitTaken "a commit that failed counts as done",
    OutboxForgotten "a new process sends nothing of what an earlier one had accepted",
}

#[cfg(planted)]
static ON: AtomicU8 = AtomicU8::new(u8::MAX);

/// Switches one on, or all off.
#[cfg(planted)]
pub fn plant(bug: Option<Bug>) {
    ON.store(bug.map_or(u8::MAX, |bug| bug as u8), Ordering::Relaxed);
}

#[cfg(planted)]
#[doc(hidden)]
pub fn is_on(bug: Bug) -> bool {
    ON.load(Ordering::Relaxed) == bug as u8
}
