//! Connecting, for as long as the policy says.

use std::io;
use std::time::Duration;

use bowline_link::{DownReason, Drive, Endpoint, Lines, Speech as Spoken};
use bowline_proto::legacy::Config;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Backoff;
use crate::connect::Connect;
use crate::opener::Opener;

/// How long each step to a link may take at least, however short the timeout: the epoch may have to be stored at both
/// ends.
pub(crate) const SHORTEST_ATTEMPT: Duration = Duration::from_millis(500);
/// An attempt to connect that failed, for the policy to judge.
#[derive(Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// Attempts in a row that gave no lasting link, this one included.
    pub failures: u32,
    /// Links that came up so far; 0 if there has not been a server yet.
    pub connects: u64,
    /// What went wrong.
    pub error: io::Error,
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try again after a pause.
    Retry,
    /// Close the client: its callers get an error.
    GiveUp,
}

/// What is spoken, with what it takes.
pub(crate) enum Speech {
    Lines { dialect: bowline_proto::Dialect, config: Config },
    Native(Opener),
}

/// Keeps a link to the server.
pub(crate) struct Runner {
    pub(crate) endpoint: Endpoint,
    pub(crate) id: Box<str>,
    pub(crate) server: String,
    pub(crate) connect: Connect,
    pub(crate) speech: Speech,
    pub(crate) timeout: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) on_failure: Box<dyn FnMut(&Attempt) -> Next + Send>,
}

impl Runner {
    /// Runs until `stop` says so and nothing is left to send, or until the policy gives up. Whatever
    /// happens, callers find the endpoint closed then.
    pub(crate) async fn run(mut self, stop: watch::Receiver<bool>) {
        self.connect_until(stop).await;
        self.endpoint.close();
    }

    async fn connect_until(&mut self, mut stop: watch::Receiver<bool>) {
        let mut failures = 0_u32;
        loop {
            if *stop.borrow_and_update() && self.endpoint.ledger().unsent == 0 {
                return;
            }
            let before = self.endpoint.status().connects;
            let start = Instant::now();
            let ended = self.link().await;
            let connects = self.endpoint.status().connects;
            let was_up = connects > before;
            // Said under the seal, or by a server that has none: otherwise anybody could say it.
            let final_word = matches!(&ended, Ok(DownReason::Native(reason)) if reason.is_final());
            let error = match ended {
                Ok(DownReason::Shutdown) => return,
                Ok(DownReason::PeerClosed) if !was_up => io::Error::new(
                    io::ErrorKind::ConnectionRefused,
                    "the server closed the connection at the login: is this id allowed there? Its log says why",
                ),
                Ok(reason) => io::Error::other(reason.to_string()),
                Err(error) => error,
            };
            tracing::debug!(server = %self.server, %error, was_up, "no link");
            if !was_up {
                failures = failures.saturating_add(1);
                let attempt = Attempt { failures, connects, error };
                if (self.on_failure)(&attempt) == Next::GiveUp {
                    tracing::warn!(server = %self.server, error = %attempt.error, "gave up connecting");
                    return;
                }
            } else if start.elapsed() > self.timeout {
                failures = 0;
            } else {
                // Up for a moment only: another device may have this id.
                failures = failures.saturating_add(1);
            }
            // At once after an outage, or nearly: not all boards in the same moment.
            let pause = self.backoff.pause(failures.max(1), fastrand::f64());
            let pause =
                if final_word { self.backoff.longest.saturating_mul(bowline_proto::Backoff::LONG) } else { pause };
            tokio::select! {
                biased;
                () = tokio::time::sleep(pause) => {}
                // Asked to stop: no use in waiting, unless something is left to send.
                _ = stop.changed(), if !*stop.borrow() => {}
            }
        }
    }

    /// One link, from connecting to its end. Whatever it has come to, it waits for the server no longer than a link
    /// would: else an attempt that has begun in an outage is still waited for long after its end (P2).
    async fn link(&mut self) -> io::Result<DownReason> {
        let patience = self.timeout.max(SHORTEST_ATTEMPT);
        let connecting = (self.connect)(&self.server);
        let (mut stream, peer) = tokio::time::timeout(patience, connecting)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer to the attempt to connect"))??;
        let (speech, early) = match &self.speech {
            Speech::Lines { dialect, config } => {
                let lines = Lines { dialect: *dialect, config: *config, login: Some(self.id.clone()) };
                (Spoken::Lines(lines), Vec::new())
            }
            Speech::Native(opener) => {
                let opening = opener.open(&mut stream, &self.id, self.endpoint.clock());
                let (native, early) = tokio::time::timeout(patience, opening)
                    .await
                    .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer to the opening of the link"))??;
                (Spoken::Native(native), early)
            }
        };
        Ok(self.endpoint.drive(Drive { stream, peer, speech, early }).await)
    }
}
