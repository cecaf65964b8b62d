//! What a runner speaks: the seam between keeping a link and what is said on it.

use core::future::poll_fn;
use core::pin::pin;

use bowline_proto::native::{self, Link, Session};
use bowline_proto::time::Duration;
use embassy_time::{TimeoutError, with_timeout};
use embedded_nal_async::TcpConnect;

use crate::link::Pump;
use crate::opener::Opener;
use crate::runner::polls;
use crate::seal::Ticket;
use crate::wire::Wire;
use crate::{DownReason, Outbox, Runner, clock};

/// How long each step to a link may take at least: the epoch may have to be stored at both ends.
pub(crate) const SHORTEST_ATTEMPT: Duration = Duration::from_millis(500);

/// What a [`Runner`] speaks with the server: [`Native`] or [`Headers`](crate::lines::Headers).
#[expect(async_fn_in_trait, reason = "one executor runs client and runner, so no future need be Send")]
pub trait Speaker<O: Outbox>: Sized {
    /// One link, from connecting to its end. Whatever it has come to, it waits for the server no longer than a link
    /// would (P2).
    #[doc(hidden)]
    async fn link<N: TcpConnect, R: FnMut(&mut [u8])>(runner: &mut Runner<'_, O, R, Self>, tcp: &N) -> DownReason;
}

/// What has become of an attempt to connect.
pub(crate) fn connected<C, E: embedded_io_async::Error>(
    attempt: Result<Result<C, E>, TimeoutError>,
) -> Result<C, DownReason> {
    match attempt {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(DownReason::Connect(error.kind())),
        Err(_) => Err(DownReason::NoAnswer),
    }
}

/// Dialect N.
pub struct Native {
    pub(crate) session: Session,
    /// Of an earlier link, for the next one.
    pub(crate) ticket: Option<Ticket>,
}

impl<O: Outbox> Speaker<O> for Native {
    async fn link<N: TcpConnect, R: FnMut(&mut [u8])>(runner: &mut Runner<'_, O, R, Self>, tcp: &N) -> DownReason {
        let Native { session, ticket } = &mut runner.speaker;
        runner.shared.is_due_in(Duration::ZERO);
        if runner.shared.settle(session, &mut *runner.shared.outbox.lock().await).await.is_err() {
            return DownReason::Storage;
        }
        let span = clock::span(runner.config.timeout);
        let patience = span.max(SHORTEST_ATTEMPT);
        runner.shared.is_due_in(patience.scaled(2, 1));
        let patience = clock::wait(patience);
        let mut connection = match connected(with_timeout(patience, tcp.connect(runner.config.server)).await) {
            Ok(connection) => connection,
            Err(reason) => return reason,
        };
        let mut wire = Wire::new(runner.input, runner.output);
        let mut opener =
            Opener { id: runner.config.id, security: &runner.config.security, random: &mut runner.random, ticket };
        let seal = match with_timeout(patience, opener.open(&mut connection, &mut wire)).await {
            Ok(Ok(seal)) => seal,
            Ok(Err(reason)) => return reason,
            Err(_) => return DownReason::NoAnswer,
        };
        // Three times the keepalive is an outage.
        let config = native::Config::new(native::Transport::Lossless, span.scaled(1, 3), wire.max_body());
        let handshake = config.handshake.min(span.max(SHORTEST_ATTEMPT));
        let config = native::Config { handshake, ..config };
        let room = runner.shared.inbox(|inbox| inbox.room());
        let link = Link::open(session, config, room, clock::now());
        // Borrowed and not moved, or it would be in the future twice.
        let mut pump = Pump::new(runner.shared, session, link, seal, ticket, wire);
        let mut run = pin!(pump.run(&mut connection));
        poll_fn(|context| polls(run.as_mut(), context)).await
    }
}
