//! How a server is set up.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bowline_link::{Limits, Outside};
use bowline_proto::DeviceId;

use crate::app::{Apps, Makes, Registered};
use crate::listener::Kind;
use crate::{Admission, App, AppEvent, AppLimits, AppRule, Device, Instance, Keys, Listener, Server, Sessions};

/// Settings of a [`Server`]. The defaults suit some thousand boards on a LAN.
pub struct Builder {
    pub(crate) listen: Vec<(SocketAddr, Kind)>,
    pub(crate) listeners: Vec<Box<dyn Listener>>,
    pub(crate) outside: Outside,
    pub(crate) admission: Admission,
    pub(crate) timeout: Duration,
    pub(crate) login_timeout: Duration,
    pub(crate) expiry: Duration,
    pub(crate) limits: Limits,
    pub(crate) pace: (u32, Duration),
    pub(crate) settle: Duration,
    pub(crate) max_devices: usize,
    pub(crate) max_links: usize,
    pub(crate) max_logins: usize,
    pub(crate) on_device: Option<Arc<dyn Fn(Device) + Send + Sync>>,
    pub(crate) sessions: Sessions,
    pub(crate) store: Option<bowline_store::Store>,
    pub(crate) keys: Keys,
    pub(crate) handshakes: (u32, u32),
    pub(crate) apps: Apps,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("listen", &self.listen).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The caller gave no address.
    #[error("there is no address to listen on: give at least one")]
    NoAddress,
    /// An expected id is not one.
    #[error("the expected id {id:?} cannot log in: {error}")]
    Id {
        /// The id.
        id: String,
        /// What is wrong with it.
        error: bowline_proto::IdError,
    },
    /// The timeout is too short to tell a slow board from a dead one.
    #[error("the timeout of {0:?} is too short: boards answer within some hundred milliseconds, use 1 s or more")]
    Timeout(Duration),
    /// Two apps have one ident.
    #[error("the apps {names:?} have the same ident ({}): give each its own", shown(*ident))]
    SameAppIdent {
        /// The ident.
        ident: Option<u8>,
        /// The apps.
        names: [String; 2],
    },
    /// Two apps have one name.
    #[error("two apps are named {name:?}: give each its own name")]
    SameAppName {
        /// The name.
        name: String,
    },
    /// No app can be named so.
    #[error("an app cannot be named {name:?}: rules could not tell it")]
    AppName {
        /// The name.
        name: String,
    },
    /// A setting names an app that is not registered.
    #[error("there is no app {name:?}: expected one of {known:?}")]
    UnknownApp {
        /// The name.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// Apps could not work within their limits.
    #[error("the limits of apps make no sense: {0}")]
    AppLimits(&'static str),
    /// The store cannot be read.
    #[error("the stored devices cannot be read: {0}")]
    Store(bowline_store::ReadError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
}

fn shown(ident: Option<u8>) -> String {
    ident.map_or_else(|| "none".to_owned(), |ident| ident.to_string())
}

impl Builder {
    pub(crate) fn new() -> Self {
        Builder {
            listen: Vec::new(),
            listeners: Vec::new(),
            outside: Outside::default(),
            admission: Admission::open(),
            timeout: Duration::from_secs(3),
            login_timeout: Duration::from_secs(5),
            expiry: Duration::from_secs(3600),
            limits: Limits::default(),
            pace: (4, Duration::from_millis(50)),
            settle: Duration::from_millis(200),
            max_devices: 20_000,
            max_links: 20_000,
            max_logins: 1024,
            on_device: None,
            sessions: Sessions::default(),
            store: None,
            keys: Keys::default(),
            handshakes: (5, 20),
            apps: Apps::default(),
        }
    }

    /// Listens on `address`, too. Port 0 lets the system choose; see [`Server::addresses`].
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen.push((address, Kind::Any));
        self
    }

    /// Listens on `address` for devices that speak plain lines.
    #[must_use]
    pub fn listen_plain(mut self, address: SocketAddr) -> Self {
        self.listen.push((address, Kind::Plain));
        self
    }

    /// Listens on `address` for devices with keys only.
    #[must_use]
    pub fn listen_secured(mut self, address: SocketAddr) -> Self {
        self.listen.push((address, Kind::Secured));
        self
    }

    /// The keys of devices. Default: none. When they change, links end that they do not let in any more.
    #[must_use]
    pub fn keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self
    }

    /// How many handshakes with a key one address may ask for: `burst` at once, then `per_second`; 0 for
    /// no limit. Resumptions are not counted. Default: 5 a second, 20 at once.
    #[must_use]
    pub fn handshakes(mut self, per_second: u32, burst: u32) -> Self {
        self.handshakes = (per_second, burst);
        self
    }

    /// Who may log in without a key. Default: everyone.
    #[must_use]
    pub fn admission(mut self, admission: Admission) -> Self {
        self.admission = admission;
        self
    }

    /// The timeout that boards are configured with (1 to 5 s in the field). Default: 3 s. A link is
    /// lost after one and a half of it without a byte, a keepalive goes every quarter of it.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long a connection may take to log in. Default: 5 s.
    #[must_use]
    pub fn login_timeout(mut self, timeout: Duration) -> Self {
        self.login_timeout = timeout;
        self
    }

    /// How long a temporary device is remembered after its link has ended. Default: an hour.
    #[must_use]
    pub fn expiry(mut self, expiry: Duration) -> Self {
        self.expiry = expiry;
        self
    }

    /// What each device may hold.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How fast messages may go to a device: `burst` at once, then one every `interval`; zero for no
    /// limit. Default: 4, then one every 50 ms, which the smallest boards can take.
    #[must_use]
    pub fn pace(mut self, burst: u32, interval: Duration) -> Self {
        self.pace = (burst, interval);
        self
    }

    /// Pause between a device's login and the first message to it. Default: 200 ms.
    #[must_use]
    pub fn settle(mut self, settle: Duration) -> Self {
        self.settle = settle;
        self
    }

    /// Most devices known at a time. Default: 20,000.
    #[must_use]
    pub fn max_devices(mut self, count: usize) -> Self {
        self.max_devices = count.max(1);
        self
    }

    /// Most devices with a link at a time; beyond it, logins are refused. Default: 20,000.
    #[must_use]
    pub fn max_links(mut self, count: usize) -> Self {
        self.max_links = count.clamp(1, 1_000_000);
        self
    }

    /// Most connections that have not logged in; beyond it, the oldest goes. Default: 1,024.
    #[must_use]
    pub fn max_logins(mut self, count: usize) -> Self {
        self.max_logins = count.clamp(1, 1_000_000);
        self
    }

    /// Messages with a header of three bytes, of which the first is `ident`, go to `app`: each instance id
    /// (the second byte) of each device has an instance of its own. Ident and name are for one app only.
    ///
    /// A server with apps takes the messages of all devices for them: [`Device::recv`] and
    /// [`Device::next`] are not to be called then.
    #[must_use]
    pub fn app(mut self, ident: u8, name: &str, app: impl App) -> Self {
        self.apps.list.push(Registered::new(Some(ident), name, Makes::Each(Box::new(app))));
        self
    }

    /// As [`Builder::app`], with one instance for all devices and instance ids: one queue, one message after
    /// the other. [`AppMessage::port`](crate::AppMessage::port) is its sender's. It starts with the server and
    /// stops with it, is never paused, cannot end before, and goes on as it is after a panic.
    #[must_use]
    pub fn global_app(mut self, ident: u8, name: &str, instance: impl Instance) -> Self {
        let one = Makes::One(std::sync::Mutex::new(Some(Box::new(instance))));
        self.apps.list.push(Registered::new(Some(ident), name, one));
        self
    }

    /// As [`Builder::app`], for every message that no other app takes, whatever header it has. All of them
    /// that come from one device go to one instance. What it sends has no header.
    #[must_use]
    pub fn other_app(mut self, name: &str, app: impl App) -> Self {
        self.apps.list.push(Registered::new(None, name, Makes::Each(Box::new(app))));
        self
    }

    /// The app with this name also takes messages without a header: those on U and P, and on H and N those
    /// sent so. Default: they become dead letters.
    #[must_use]
    pub fn lines_app(mut self, name: &str) -> Self {
        self.apps.lines = Some(name.to_owned());
        self
    }

    /// Which devices may use which apps. Default: all of them all.
    #[must_use]
    pub fn app_rules(mut self, rules: impl IntoIterator<Item = AppRule>) -> Self {
        self.apps.rules = rules.into_iter().collect();
        self
    }

    /// How much apps may take, and how often they are asked again.
    #[must_use]
    pub fn app_limits(mut self, limits: AppLimits) -> Self {
        self.apps.limits = limits;
        self
    }

    /// Called for everything that happens between devices and apps. Must not block. Not called on a server
    /// without apps.
    #[must_use]
    pub fn observer(mut self, observer: impl Fn(&Device, AppEvent<'_>) + Send + Sync + 'static) -> Self {
        self.apps.observer = Some(Arc::new(observer));
        self
    }

    /// Called for each device when it connects for the first time. Must not block: spawn a task. On a server
    /// with apps ([`Builder::app`]) the device's messages are theirs.
    #[must_use]
    pub fn on_device(mut self, callback: impl Fn(Device) + Send + Sync + 'static) -> Self {
        self.on_device = Some(Arc::new(callback));
        self
    }

    /// Goes on with the devices of a server that was shut down. [`Builder::on_device`] is not called
    /// for them again: handles to them stay valid.
    #[must_use]
    pub fn sessions(mut self, sessions: Sessions) -> Self {
        self.sessions = sessions;
        self
    }

    /// Keeps sessions and queues in `store`, and goes on with the devices that are in it: they are
    /// known from the start, and [`Builder::on_device`] is called for each before any link. Takes the
    /// place of [`Builder::sessions`]. Default: everything is in memory.
    #[must_use]
    pub fn store(mut self, store: bowline_store::Store) -> Self {
        self.store = Some(store);
        self
    }

    /// Accepts connections from `listener`, too, as from an address given to [`Builder::listen`].
    #[must_use]
    pub fn listener(mut self, listener: impl Listener) -> Self {
        self.listeners.push(Box::new(listener));
        self
    }

    /// Where random bytes and the time of day come from. Default: the system.
    #[must_use]
    pub fn outside(mut self, outside: Outside) -> Self {
        self.outside = outside;
        self
    }

    /// Checks the settings, without starting anything.
    ///
    /// # Errors
    /// Says which setting makes no sense.
    pub fn check(&self) -> Result<(), StartError> {
        if self.listen.is_empty() && self.listeners.is_empty() {
            return Err(StartError::NoAddress);
        }
        if self.timeout < Duration::from_millis(100) {
            return Err(StartError::Timeout(self.timeout));
        }
        for id in &self.admission.expected {
            DeviceId::new(id).map_err(|error| StartError::Id { id: id.clone(), error })?;
        }
        self.apps.check()
    }

    /// Starts the server. It runs until [`Server::shutdown`], or until its last handle is dropped.
    ///
    /// # Errors
    /// If a setting makes no sense or an address cannot be listened on. Nothing runs then.
    pub async fn start(self) -> Result<Server, StartError> {
        Server::start(self).await
    }
}
