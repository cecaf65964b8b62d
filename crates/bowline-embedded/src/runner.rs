//! Keeps a link to the server, for ever.

use core::pin::Pin;
use core::task::{Context, Poll};

use bowline_proto::Backoff;
use bowline_proto::time::Instant;
use embassy_time::{Timer, with_deadline};
use embedded_nal_async::TcpConnect;

use crate::network::{Network, Wired};
use crate::shared::Shared;
use crate::speaker::{Native, Speaker};
use crate::status::{DownReason, LinkState, Status};
use crate::{Config, Outbox, Supervision, clock};

/// Connects, and keeps the link going. Nothing of a [`Client`](crate::Client) happens while it does not run.
pub struct Runner<'a, O, R, S = Native> {
    pub(crate) shared: &'a Shared<O>,
    pub(crate) speaker: S,
    pub(crate) input: &'a mut [u8],
    pub(crate) output: &'a mut [u8],
    pub(crate) config: Config<'a>,
    pub(crate) random: R,
    /// Attempts in a row that gave no lasting link.
    pub(crate) failures: u32,
}

/// What is known of the network.
#[derive(Debug, Clone, Copy, Default)]
struct Supervised {
    /// It was joined once.
    joined: bool,
    /// Attempts to join it since it was joined.
    attempts: u32,
    /// Attempts in a row in which the server was not reached through it.
    unreached: u32,
}

impl<O: Outbox, R: FnMut(&mut [u8]), S: Speaker<O>> Runner<'_, O, R, S> {
    /// Connects by `tcp`, and again whenever the link is lost. Never returns.
    ///
    /// Connections of `tcp` must be such that a read whose future was dropped has read nothing, and that
    /// what was written goes out without a flush: so are those of embassy-net.
    ///
    /// Cancel-safe: dropping the future ends the link, and the next call goes on where this one was.
    pub async fn run<N: TcpConnect>(&mut self, tcp: &N) -> ! {
        let mut state = Supervised::default();
        loop {
            let reason = self.link_on(tcp, &mut Wired, &mut state).await;
            self.pauses(reason).await;
        }
    }

    /// As [`Runner::run`], on a network that has to be joined: it is joined, left when the server cannot be reached
    /// through it ([`Config::supervision`]), and joined again.
    pub async fn run_on<N: TcpConnect, W: Network>(&mut self, tcp: &N, network: &mut W) -> ! {
        let supervision = self.config.supervision;
        let mut state = Supervised::default();
        loop {
            let is_of_use = state.unreached < supervision.leave_after && network.is_up();
            let reason = if is_of_use || self.joins(network, &supervision, &mut state).await {
                self.shared.signal.set(network.signal());
                self.link_on(tcp, network, &mut state).await
            } else {
                self.is_down(DownReason::Network, false)
            };
            self.pauses(reason).await;
        }
    }

    async fn joins<W: Network>(&mut self, network: &mut W, supervision: &Supervision, state: &mut Supervised) -> bool {
        let Supervision { join_timeout, stable, .. } = *supervision;
        self.shared.due.set(clock::now() + clock::span(join_timeout).scaled(2, 1) + clock::span(stable));
        if state.attempts > 0 || state.joined {
            // Whether it could or not, the next attempt follows.
            let _ = with_deadline(clock::after(join_timeout), network.leave()).await;
        }
        state.attempts = state.attempts.saturating_add(1);
        if supervision.joins(network).await {
            *state = Supervised { joined: true, attempts: 0, unreached: 0 };
            return true;
        }
        if !state.joined {
            // As long as it likes.
            self.shared.due.set(Instant::from_micros(u64::MAX));
            network.not_joined_yet(state.attempts).await;
        }
        false
    }

    /// One link, and what follows from its end for the network.
    async fn link_on<N: TcpConnect, W: Network>(
        &mut self,
        tcp: &N,
        network: &mut W,
        state: &mut Supervised,
    ) -> DownReason {
        let before = self.shared.status().connects;
        let start = clock::now();
        let reason = {
            let _end = Dropped(self.shared);
            let reason = S::link(self, tcp).await;
            let was_up = self.shared.status().connects != before;
            // Up for a moment only: another device may have this id.
            let lasted = was_up && clock::now().since(start) > clock::span(self.config.timeout);
            self.is_down(reason, lasted)
        };
        let connects = self.shared.status().connects;
        if connects == 0 {
            self.shared.due.set(Instant::from_micros(u64::MAX));
            network.no_server_yet(self.failures).await;
        }
        // Who refuses has been reached, and a flash that fails says nothing of the network.
        let unreached = connects == before
            && matches!(reason, DownReason::Connect(_) | DownReason::NoAnswer | DownReason::Transport(_));
        state.unreached = if unreached { state.unreached.saturating_add(1) } else { 0 };
        reason
    }

    /// There is no link, for this reason. `lasted`: there was one that was of use.
    fn is_down(&mut self, reason: DownReason, lasted: bool) -> DownReason {
        self.failures = if lasted { 0 } else { self.failures.saturating_add(1) };
        self.shared.tell(Status { link: LinkState::Down(reason), failures: self.failures, ..self.shared.status() });
        reason
    }

    async fn pauses(&mut self, reason: DownReason) {
        // Said under the seal, or by a server that has none: otherwise anybody could say it.
        let pause = if matches!(reason, DownReason::Engine(reason) if reason.is_final()) {
            self.config.backoff.longest.scaled(Backoff::LONG.into(), 1)
        } else {
            let mut random = [0; 4];
            (self.random)(&mut random);
            self.config.backoff.pause(self.failures.max(1), u32::from_le_bytes(random))
        };
        self.shared.is_due_in(pause);
        Timer::after(clock::wait(pause)).await;
    }
}

/// Polls it in a function of its own: what is a large state machine in a larger one takes more code to get at.
#[inline(never)]
pub(crate) fn polls<F: Future>(future: Pin<&mut F>, context: &mut Context<'_>) -> Poll<F::Output> {
    future.poll(context)
}

/// Says that there is no link, however it has ended.
struct Dropped<'a, O: Outbox>(&'a Shared<O>);

impl<O: Outbox> Drop for Dropped<'_, O> {
    fn drop(&mut self) {
        let status = self.0.status();
        if status.is_up() {
            self.0.tell(Status { link: LinkState::Down(DownReason::Dropped), ..status });
        }
    }
}
