//! The network a board joins and leaves, such as WiFi.

use embassy_time::{Duration, Timer, with_deadline};

use crate::clock;

/// What a board implements so that [`Runner::run_on`](crate::Runner::run_on) joins its network, leaves it when the
/// server cannot be reached through it, and joins it again.
///
/// Futures of `join` and `leave` are dropped when they take too long, or with the runner; what was begun then must
/// not stand in the way of the next call.
#[expect(async_fn_in_trait, reason = "one executor runs client and runner, so no future need be Send")]
pub trait Network {
    /// Why it cannot be joined.
    type Error;

    /// Joins it: returns when there is an address and connections can be made.
    ///
    /// # Errors
    /// If that cannot be.
    async fn join(&mut self) -> Result<(), Self::Error>;

    /// Leaves it, or gives up joining. Called before each attempt but the first.
    async fn leave(&mut self);

    /// Whether connections can be made.
    fn is_up(&self) -> bool;

    /// How well it is received, in dBm, if that is known.
    fn signal(&self) -> Option<i8> {
        None
    }

    /// Called after each failed attempt to join while it has not been joined yet since the start of the board, with their
    /// number: a wrong password, perhaps. May show it, ask somebody, or start the board anew. Default: nothing, and
    /// another attempt follows.
    async fn not_joined_yet(&mut self, attempts: u32) {
        let _ = attempts;
    }

    /// Called after each failed attempt to reach the server while there has not been a link yet since the start of the
    /// board, with their number: a wrong address, perhaps. Default: nothing, and another attempt follows.
    async fn no_server_yet(&mut self, attempts: u32) {
        let _ = attempts;
    }
}

/// When a network counts as joined, and when as of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supervision {
    /// Joining may take this long, and so may leaving.
    pub join_timeout: Duration,
    /// After that it must stay up for this long before it is used. Zero: it is used at once.
    pub stable: Duration,
    /// Attempts in a row to reach the server through it, after which it is left and joined anew.
    pub leave_after: u32,
}

impl Default for Supervision {
    fn default() -> Self {
        Supervision::DEFAULT
    }
}

impl Supervision {
    /// 30 s, 2 s, 5 attempts.
    pub const DEFAULT: Supervision =
        Supervision { join_timeout: Duration::from_secs(30), stable: Duration::from_secs(2), leave_after: 5 };

    /// Joins `network`, and looks whether it stays. False if it does not, or cannot be joined.
    pub(crate) async fn joins<W: Network>(&self, network: &mut W) -> bool {
        if !matches!(with_deadline(clock::after(self.join_timeout), network.join()).await, Ok(Ok(()))) {
            return false;
        }
        /// Looks at it so often.
        const LOOKS: u32 = 10;
        if self.stable.as_ticks() > 0 {
            for _ in 0..LOOKS {
                Timer::at(clock::after(self.stable / LOOKS)).await;
                if !network.is_up() {
                    return false;
                }
            }
        }
        network.is_up()
    }
}

/// A network that is there without anybody's doing.
pub(crate) struct Wired;

impl Network for Wired {
    type Error = core::convert::Infallible;

    async fn join(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn leave(&mut self) {}

    fn is_up(&self) -> bool {
        true
    }
}
