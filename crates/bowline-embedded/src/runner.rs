//! Keeps a link to the server, for ever.

use bowline_proto::Backoff;
use bowline_proto::native::{self, Link};
use bowline_proto::time::Duration;
use bowline_secure::Ticket;
use embassy_time::{Timer, with_timeout};
use embedded_io_async::Error as _;
use embedded_nal_async::TcpConnect;

use crate::link::Pump;
use crate::opener::Opener;
use crate::shared::Shared;
use crate::status::{DownReason, LinkState, Status};
use crate::wire::Wire;
use crate::{Config, Outbox, clock};

/// How long a link has at least to start: its epoch may have to be stored at both ends.
const SHORTEST_HANDSHAKE: Duration = Duration::from_millis(500);

/// Connects, and keeps the link going. Nothing of a [`Client`](crate::Client) happens while it does not run.
pub struct Runner<'a, O, R> {
    pub(crate) shared: &'a Shared<O>,
    pub(crate) input: &'a mut [u8],
    pub(crate) output: &'a mut [u8],
    pub(crate) config: Config<'a>,
    pub(crate) random: R,
    /// Of an earlier link, for the next one.
    pub(crate) ticket: Option<Ticket>,
}

impl<O: Outbox, R: FnMut(&mut [u8])> Runner<'_, O, R> {
    /// Connects by `network`, and again whenever the link is lost. Never returns.
    ///
    /// Connections of `network` must be such that a read whose future was dropped has read nothing, and that
    /// what was written goes out without a flush: so are those of embassy-net.
    ///
    /// Cancel-safe: dropping the future ends the link, and the next call goes on where this one was.
    pub async fn run<N: TcpConnect>(&mut self, network: &N) -> ! {
        let mut failures = 0_u32;
        loop {
            let before = self.shared.status().connects;
            let start = clock::now();
            let reason = {
                let _end = Dropped(self.shared);
                let reason = self.link(network).await;
                let was_up = self.shared.status().connects != before;
                // Up for a moment only: another device may have this id.
                let lasted = was_up && clock::now().since(start) > clock::span(self.config.timeout);
                failures = if lasted { 0 } else { failures.saturating_add(1) };
                self.shared.tell(Status { link: LinkState::Down(reason), failures, ..self.shared.status() });
                reason
            };
            // Said under the seal, or by a server that has none: otherwise anybody could say it.
            let pause = if matches!(reason, DownReason::Engine(reason) if reason.is_final()) {
                self.config.backoff.longest.scaled(Backoff::LONG.into(), 1)
            } else {
                let mut random = [0; 4];
                (self.random)(&mut random);
                self.config.backoff.pause(failures.max(1), u32::from_le_bytes(random))
            };
            Timer::after(clock::wait(pause)).await;
        }
    }

    /// One link, from connecting to its end.
    async fn link<N: TcpConnect>(&mut self, network: &N) -> DownReason {
        if self.shared.settle(&mut *self.shared.outbox.lock().await).await.is_err() {
            return DownReason::Storage;
        }
        let timeout = self.config.timeout;
        let mut connection = match with_timeout(timeout * 3, network.connect(self.config.server)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return DownReason::Connect(error.kind()),
            Err(_) => return DownReason::NoAnswer,
        };
        let mut wire = Wire::new(self.input, self.output);
        let opener = Opener {
            id: self.config.id,
            security: &self.config.security,
            random: &mut self.random,
            ticket: &mut self.ticket,
        };
        let seal = match with_timeout(timeout * 2, opener.open(&mut connection, &mut wire)).await {
            Ok(Ok(seal)) => seal,
            Ok(Err(reason)) => return reason,
            Err(_) => return DownReason::NoAnswer,
        };
        // Three times the keepalive is an outage.
        let span = clock::span(timeout);
        let config = native::Config::new(native::Transport::Lossless, span.scaled(1, 3), wire.max_body());
        // A server that dies at this moment costs no more than one that dies later.
        let handshake = config.handshake.min(span.max(SHORTEST_HANDSHAKE));
        let config = native::Config { handshake, ..config };
        let room = self.shared.inbox.borrow().room();
        let link = Link::open(&mut self.shared.session.borrow_mut(), config, room, clock::now());
        // Borrowed and not moved, or it would be in the future twice.
        let mut pump = Pump::new(self.shared, link, seal, &mut self.ticket, wire);
        pump.run(&mut connection).await
    }
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
