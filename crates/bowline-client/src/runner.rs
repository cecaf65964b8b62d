//! Connecting, for as long as the policy says.

use std::io;
use std::time::Duration;

use bowline_link::{DownReason, Drive, Endpoint};
use bowline_proto::Dialect;
use bowline_proto::legacy::Config;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::Backoff;

/// An attempt to connect that failed, for the policy to judge.
#[derive(Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// Failures in a row, this one included.
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

/// Keeps a link to the server.
pub(crate) struct Runner {
    pub(crate) endpoint: Endpoint,
    pub(crate) id: Box<str>,
    pub(crate) server: String,
    pub(crate) dialect: Dialect,
    pub(crate) config: Config,
    pub(crate) connect_timeout: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) on_failure: Box<dyn FnMut(&Attempt) -> Next + Send>,
}

impl Runner {
    /// Runs until `stop` says so and nothing is left to send, or until the policy gives up.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut failures = 0_u32;
        loop {
            if *stop.borrow_and_update() && self.endpoint.ledger().unsent == 0 {
                return;
            }
            let before = self.endpoint.status().connects;
            let error = match self.link().await {
                Ok(DownReason::Shutdown) => return,
                Ok(reason) => {
                    tracing::info!(server = %self.server, "link down: {reason}");
                    io::Error::other(reason.to_string())
                }
                Err(error) => {
                    tracing::debug!(server = %self.server, %error, "no link");
                    error
                }
            };
            let connects = self.endpoint.status().connects;
            if connects > before {
                // There was a server. Back at once, but not all boards in the same moment.
                failures = 0;
            } else {
                let attempt = Attempt { failures: failures.saturating_add(1), connects, error };
                if (self.on_failure)(&attempt) == Next::GiveUp {
                    tracing::warn!(server = %self.server, error = %attempt.error, "gave up connecting");
                    self.endpoint.close();
                    return;
                }
            }
            failures = failures.saturating_add(1);
            let pause = self.backoff.pause(failures, fastrand::f64());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Asked to stop: no use in waiting, unless something is left to send.
                _ = stop.changed(), if !*stop.borrow() => {}
            }
        }
    }

    /// One link, from connecting to its end.
    async fn link(&mut self) -> io::Result<DownReason> {
        let stream = match tokio::time::timeout(self.connect_timeout, TcpStream::connect(&self.server)).await {
            Ok(stream) => stream?,
            Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer to the attempt to connect")),
        };
        // A small message is worth sending at once; failing to say so is no reason not to.
        let _ = stream.set_nodelay(true);
        let peer = stream.peer_addr()?;
        let drive = Drive {
            stream,
            peer,
            dialect: self.dialect,
            config: self.config,
            login: Some(self.id.clone()),
            early: Vec::new(),
        };
        Ok(self.endpoint.drive(drive).await)
    }
}
