//! How a client is set up.

use std::fmt;
use std::time::Duration;

use bowline_link::{Dialect, Endpoint, Limits, Outside, Storage};
use bowline_proto::time::Duration as Span;
use bowline_proto::{DeviceId, IdError, Side, legacy, native};
use bowline_secure::{Key, KeyId, Provision};
use bowline_store::{ReadError, Store};
use tokio::sync::watch;

use crate::channels::Channels;
use crate::connect::{self, Connect, Connecting};
use crate::opener::Opener;
use crate::runner::{Attempt, Next, Runner, SHORTEST_ATTEMPT, Speech};
use crate::{Backoff, Client};

/// Settings of a [`Client`].
pub struct Builder {
    id: String,
    server: String,
    dialect: Dialect,
    timeout: Duration,
    backoff: Option<Backoff>,
    limits: Limits,
    key: Option<(KeyId, Key)>,
    encrypts: bool,
    store: Option<Store>,
    quarantine: Duration,
    connect: Connect,
    outside: Outside,
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
    /// The provisioning line is none.
    #[error("the key is none: {0}")]
    Key(bowline_secure::ProvisionError),
    /// The provisioning line is for another device.
    #[error("the key is that of {other:?}, and this device is {id:?}")]
    KeyOfAnother {
        /// This device's id.
        id: String,
        /// The id in the line.
        other: String,
    },
    /// There is a key, and the dialect has none.
    #[error("dialect {0} has no keys: leave the key out, or speak N")]
    NoKeys(Dialect),
    /// There is no key that could be used without encryption.
    #[error("there is no key: without one nothing is encrypted anyway, and nothing proven")]
    NoKey,
    /// The store cannot be read.
    #[error("the stored queues cannot be read: {0}")]
    Store(ReadError),
    /// The timeout is too short to tell a slow server from a dead one.
    #[error("the timeout of {0:?} is too short: use 100 ms or more, and the same as the server")]
    Timeout(Duration),
}

impl Builder {
    pub(crate) fn new(id: impl Into<String>, server: impl Into<String>) -> Self {
        Builder {
            id: id.into(),
            server: server.into(),
            dialect: Dialect::Native,
            timeout: Duration::from_secs(3),
            backoff: None,
            limits: Limits::default(),
            key: None,
            encrypts: true,
            store: None,
            quarantine: Duration::from_secs(600),
            connect: Box::new(connect::tcp),
            outside: Outside::default(),
            on_failure: Box::new(|_| Next::Retry),
        }
    }

    /// The dialect to speak. Default: N.
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

    /// The line the device was provisioned with: its id and its key. Only N has keys; with one nothing
    /// goes out that is not encrypted, unless [`Builder::unencrypted`] says so.
    ///
    /// # Errors
    /// If the line is none, or for another id.
    pub fn key(mut self, line: &str) -> Result<Self, BuildError> {
        let provision = Provision::parse(line.trim()).map_err(BuildError::Key)?;
        if provision.id.as_str() != self.id {
            return Err(BuildError::KeyOfAnother { id: self.id, other: provision.id.as_str().to_owned() });
        }
        self.key = Some((provision.key_id, provision.key.clone()));
        Ok(self)
    }

    /// Uses the key to prove who is who, and encrypts nothing: everybody on the way can read all messages, and
    /// nobody can add, change or repeat one (§15.6). For what a board does that cannot encrypt. The server lets
    /// in only ids that its configuration names for this.
    #[must_use]
    pub fn unencrypted(mut self) -> Self {
        self.encrypts = false;
        self
    }

    /// Keeps session and queues in `store`: what [`Client::send`] has accepted survives this process,
    /// and goes on with the next one. One store serves one client. Default: everything is in memory.
    #[must_use]
    pub fn store(mut self, store: Store) -> Self {
        self.store = Some(store);
        self
    }

    /// How long the instance id of a request that was not answered, or of a channel that was closed, is not used
    /// again while the app may still write to it. It is not used again anyhow while there are others. Default:
    /// 10 minutes.
    #[must_use]
    pub fn quarantine(mut self, quarantine: Duration) -> Self {
        self.quarantine = quarantine;
        self
    }

    /// How to come to a connection to the server's address, `host:port`. Default: by TCP.
    #[must_use]
    pub fn connect(mut self, connect: impl Fn(&str) -> Connecting + Send + Sync + 'static) -> Self {
        self.connect = Box::new(connect);
        self
    }

    /// Where random bytes and the time of day come from. Default: the system.
    #[must_use]
    pub fn outside(mut self, outside: Outside) -> Self {
        self.outside = outside;
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
        let fits = |id: DeviceId<'_>| {
            let len = id.as_str().len();
            let fits = self.dialect.lines().map_or(len <= bowline_secure::MAX_ID, |lines| id.fits(lines));
            if fits { Ok(()) } else { Err(IdError::TooLong { len }) }
        };
        DeviceId::new(&self.id).and_then(fits).map_err(|error| BuildError::Id { id: self.id.clone(), error })?;
        if !self.server.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
            return Err(BuildError::Server(self.server));
        }
        if self.timeout < Duration::from_millis(100) {
            return Err(BuildError::Timeout(self.timeout));
        }
        if self.key.is_some() && self.dialect != Dialect::Native {
            return Err(BuildError::NoKeys(self.dialect));
        }
        if self.key.is_none() && !self.encrypts {
            return Err(BuildError::NoKey);
        }
        let endpoint = match self.store {
            None => Endpoint::new(Side::Device, self.limits),
            Some(store) => {
                let stored = store.load(&self.id).map_err(BuildError::Store)?;
                Endpoint::stored(Side::Device, self.limits, &*self.id, Storage::new(store, self.outside), stored)
            }
        };
        endpoint.set_persistent(true);
        let span = |time: Duration| Span::from_micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        let timeout = span(self.timeout);
        let speech = match self.dialect.lines() {
            Some(dialect) => Speech::Lines { dialect, config: legacy::Config::new(Side::Device, timeout) },
            None => {
                let body = self.limits.line + usize::from(native::wire::DATA_OVERHEAD);
                let body = u16::try_from(body).unwrap_or(native::wire::MAX_BODY).min(native::wire::MAX_BODY);
                // Three times the keepalive is an outage.
                let config = native::Config::new(native::Transport::Lossless, timeout.scaled(1, 3), body);
                // A server that dies at this moment costs no more than one that dies later (P2).
                let handshake = config.handshake.min(span(self.timeout.max(SHORTEST_ATTEMPT)));
                let config = native::Config { handshake, ..config };
                Speech::Native(Opener::new(self.key, self.encrypts, config, self.outside))
            }
        };
        let (stop, stopped) = watch::channel(false);
        let runner = Runner {
            endpoint: endpoint.clone(),
            id: self.id.into(),
            server: self.server,
            connect: self.connect,
            speech,
            timeout: self.timeout,
            backoff: self.backoff.unwrap_or_else(|| Backoff::within(self.timeout)),
            on_failure: self.on_failure,
        };
        let task = tokio::spawn(runner.run(stopped));
        let channels = Channels::new(endpoint.clone(), self.quarantine);
        Ok(Client::new(channels, endpoint, self.dialect, stop, task))
    }
}
