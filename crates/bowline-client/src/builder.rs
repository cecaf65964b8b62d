//! How a client is set up.

use std::fmt;
use std::time::Duration;

use bowline_link::{Endpoint, Limits};
use bowline_proto::legacy::Config;
use bowline_proto::time::Duration as Span;
use bowline_proto::{DeviceId, Dialect, IdError, Side};
use tokio::sync::watch;

use crate::runner::{Attempt, Next, Runner};
use crate::{Backoff, Client};

/// Settings of a [`Client`].
pub struct Builder {
    id: String,
    server: String,
    dialect: Dialect,
    timeout: Duration,
    backoff: Option<Backoff>,
    limits: Limits,
    on_failure: Box<dyn FnMut(&Attempt) -> Next + Send>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("id", &self.id)
            .field("server", &self.server)
            .field("dialect", &self.dialect)
            .finish_non_exhaustive()
    }
}

/// Why a client was not made. The caller's mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The id is not one.
    #[error("{id:?} cannot be a device id: {error}")]
    Id {
        /// The id.
        id: String,
        /// What is wrong with it.
        error: IdError,
    },
    /// The server's address has no port.
    #[error("{0:?} is no server address: expected host:port, for example 192.168.0.41:9999")]
    Server(String),
    /// The timeout is too short to tell a slow server from a dead one.
    #[error("the timeout of {0:?} is too short: use 100 ms or more, and the same as the server")]
    Timeout(Duration),
}

impl Builder {
    pub(crate) fn new(id: impl Into<String>, server: impl Into<String>) -> Self {
        Builder {
            id: id.into(),
            server: server.into(),
            dialect: Dialect::Headers,
            timeout: Duration::from_secs(3),
            backoff: None,
            limits: Limits::default(),
            on_failure: Box::new(|_| Next::Retry),
        }
    }

    /// The dialect to speak. Default: H.
    #[must_use]
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Silence after which the link is given up; the same as the server's. Default: 3 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Pauses between attempts to connect. Default: from a twelfth of the timeout, doubling up to it.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// What the client may hold.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Asked after each failed attempt to connect whether to go on. Default: for ever.
    /// [`Attempt::connects`] of zero means that there has not been a server yet.
    #[must_use]
    pub fn on_failure(mut self, policy: impl FnMut(&Attempt) -> Next + Send + 'static) -> Self {
        self.on_failure = Box::new(policy);
        self
    }

    /// Starts the client on the current tokio runtime. It connects in the background.
    ///
    /// # Errors
    /// If a setting makes no sense.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(self) -> Result<Client, BuildError> {
        let fits = |id: DeviceId<'_>| match id.fits(self.dialect) {
            true => Ok(()),
            false => Err(IdError::TooLong { len: id.as_str().len() }),
        };
        DeviceId::new(&self.id).and_then(fits).map_err(|error| BuildError::Id { id: self.id.clone(), error })?;
        if !self.server.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
            return Err(BuildError::Server(self.server));
        }
        if self.timeout < Duration::from_millis(100) {
            return Err(BuildError::Timeout(self.timeout));
        }
        let timeout = Span::from_micros(u64::try_from(self.timeout.as_micros()).unwrap_or(u64::MAX));
        let endpoint = Endpoint::new(Side::Device, self.limits);
        let (stop, stopped) = watch::channel(false);
        let runner = Runner {
            endpoint: endpoint.clone(),
            id: self.id.into(),
            server: self.server,
            dialect: self.dialect,
            config: Config::new(Side::Device, timeout),
            timeout: self.timeout,
            backoff: self.backoff.unwrap_or_else(|| Backoff::within(self.timeout)),
            on_failure: self.on_failure,
        };
        let task = tokio::spawn(runner.run(stopped));
        Ok(Client::new(endpoint, stop, task))
    }
}
