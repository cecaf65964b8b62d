//! The server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bowline_link::{Limits, Outside, Storage};
use bowline_proto::legacy::{Config, Pace};
use bowline_proto::{DeviceId, Side, native};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Mutex, Notify, Semaphore, watch};
use tokio::task::JoinSet;

use crate::admission::Gate;
use crate::app::{Host, UNHEARD};
use crate::listener::Kind;
use crate::lobby::Lobby;
use crate::login::Refused;
use crate::rate::Rate;
use crate::registry::{Entry, Registry};
use crate::stats::Counters;
use crate::{
    AppStats, Builder, Device, KeyChanges, KeyId, Keys, KeysError, Listener, Port, StartError, Stats, listener,
};

/// Connections beyond those that may be links or in the lobby: on their way in or out.
const SPARE: usize = 16;

/// How long apps that did not stop in time may take to be dropped.
const ABORT: Duration = Duration::from_secs(1);

/// A running server. Cheap to clone; stops when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Server(Arc<Running>);

/// What the server's handles share.
#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    tasks: Mutex<JoinSet<()>>,
}

/// What the server's tasks share.
pub(crate) struct Shared {
    pub(crate) registry: Arc<Registry>,
    pub(crate) gate: Gate,
    pub(crate) lobby: Arc<Lobby>,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) counters: Counters,
    pub(crate) refused: Refused,
    /// A connection has ended.
    pub(crate) ended: Notify,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) storage: Option<Storage>,
    /// Held by whoever takes letters out of the box.
    pub(crate) dead: Arc<Mutex<()>>,
    pub(crate) config: Config,
    pub(crate) native: native::Config,
    pub(crate) login_timeout: Duration,
    pub(crate) outside: Outside,
    pub(crate) keys: Keys,
    pub(crate) handshakes: Rate,
    pub(crate) max_devices: usize,
    pub(crate) on_device: Option<Arc<dyn Fn(Device) + Send + Sync>>,
    pub(crate) host: Option<Arc<Host>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// The devices of a server that was shut down, for [`Builder::sessions`] of the next one.
/// Dropping it closes them.
#[derive(Debug, Default)]
#[must_use = "dropping the sessions closes their devices"]
pub struct Sessions(BTreeMap<Arc<str>, Entry>);

impl Sessions {
    /// Closes all devices: whoever waits for one gets an error. With a store, waits until everything is
    /// in it, for at most `limit`, and says whether it is.
    pub async fn close(self, limit: Duration) -> bool {
        let endpoints: Vec<_> = self.devices().map(|device| device.endpoint.clone()).collect();
        drop(self);
        let stored = async {
            for endpoint in &endpoints {
                endpoint.stored_all().await;
            }
        };
        tokio::time::timeout(limit, stored).await.is_ok()
    }

    /// The devices.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.0.values().map(|entry| &entry.device)
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        for entry in self.0.values() {
            entry.device.endpoint.close();
        }
    }
}

/// Why waiting for a device is in vain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The caller's mistake, or the configuration's: no such device may log in.
    #[error("no device with the id {id:?} may log in here: it has no key, and is neither expected nor allowed")]
    NotAllowed {
        /// The id.
        id: String,
    },
    /// The server was shut down.
    #[error("the server was shut down")]
    Stopped,
}

/// Why there is no port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// There is no app with this name.
    #[error("there is no app {name:?}")]
    UnknownApp {
        /// The name.
        name: String,
    },
    /// There is no such device.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl Server {
    /// Settings for a new server.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) async fn start(mut builder: Builder) -> Result<Self, StartError> {
        builder.check()?;
        let mut listeners = Vec::new();
        for (address, kind) in builder.listen {
            let listener = listen(address).map_err(|error| StartError::Listen { address, error })?;
            listeners.push((listener, kind));
        }
        let addresses = listeners.iter().filter_map(|(listener, _)| listener.local_addr().ok()).collect();
        let boxed = |(listener, kind)| (Box::new(listener) as Box<dyn Listener>, kind);
        let listeners =
            listeners.into_iter().map(boxed).chain(builder.listeners.drain(..).map(|other| (other, Kind::Any)));
        let listeners: Vec<_> = listeners.collect();

        let limits = Arc::new(builder.limits);
        let mut devices = std::mem::take(&mut builder.sessions.0);
        let storage = match builder.store {
            Some(store) => {
                let storage = Storage::new(store, builder.outside);
                devices = load(storage.clone(), &limits).await?;
                Some(storage)
            }
            None => None,
        };
        let stored: Vec<_> =
            if storage.is_some() { devices.values().map(|entry| entry.device.clone()).collect() } else { Vec::new() };
        let stored: Vec<_> = stored.into_iter().filter(|device: &Device| device.damage().is_none()).collect();
        let host = Host::start(builder.apps);
        let registry =
            Registry::new(builder.max_devices, builder.max_links, limits, storage.clone(), host.clone(), devices);
        let shared = Arc::new(Shared {
            registry,
            gate: Gate::new(&builder.admission),
            lobby: Lobby::new(builder.max_logins),
            permits: Arc::new(Semaphore::new(builder.max_links + builder.max_logins + SPARE)),
            counters: Counters::default(),
            refused: Refused::default(),
            ended: Notify::new(),
            stop: watch::Sender::new(false),
            storage,
            dead: Arc::default(),
            config: config(builder.timeout, builder.settle, builder.pace),
            native: native_config(builder.timeout, builder.limits),
            login_timeout: builder.login_timeout,
            outside: builder.outside,
            keys: builder.keys,
            handshakes: Rate::new(builder.handshakes.0, builder.handshakes.1),
            max_devices: builder.max_devices,
            on_device: builder.on_device,
            host,
        });
        // From here on apps run, and they may ask for other devices than their own.
        if let Some(host) = &shared.host {
            host.directory(&shared);
        }
        for device in shared.registry.all().into_iter().filter(|device| device.damage().is_none()) {
            device.endpoint.resume();
            if let Some(host) = &shared.host {
                host.adopt(&device);
            }
        }
        for id in &builder.admission.expected {
            shared.registry.expect(id);
        }
        let mut tasks = JoinSet::new();
        for (listener, kind) in listeners {
            tasks.spawn(listener::run(Arc::clone(&shared), listener, kind, shared.stop.subscribe()));
        }
        if let Some(callback) = &shared.on_device {
            stored.into_iter().for_each(|device| callback(device));
        }
        tasks.spawn(expire(Arc::clone(&shared), builder.expiry, shared.stop.subscribe()));
        Ok(Server(Arc::new(Running { shared, addresses, tasks: Mutex::new(tasks) })))
    }

    /// The addresses listened on, in the order they were given, with the ports the system chose.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.0.addresses
    }

    /// Waits until the device with this id is connected. Cancel-safe.
    ///
    /// # Errors
    /// If no such device may log in, or the server is shut down.
    pub async fn device(&self, id: &str) -> Result<Device, DeviceError> {
        self.may_log_in(id)?;
        let mut stop = self.0.shared.stop.subscribe();
        let connected = async {
            loop {
                let device = self.0.shared.registry.known(id).await;
                // It may expire while we wait, and then come back as another one.
                if device.connected().await.is_ok() {
                    return device;
                }
            }
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => Err(DeviceError::Stopped),
            device = connected => Ok(device),
        }
    }

    /// Waits until all of these devices are connected. Cancel-safe.
    ///
    /// # Errors
    /// If one of them may not log in, or the server is shut down.
    pub async fn wait_all(&self, ids: &[&str]) -> Result<Vec<Device>, DeviceError> {
        for id in ids {
            self.may_log_in(id)?;
        }
        let mut devices = Vec::with_capacity(ids.len());
        for id in ids {
            devices.push(self.device(id).await?);
        }
        Ok(devices)
    }

    /// The device with this id, whether it has ever connected or not. It is persistent from now on,
    /// so that messages can be queued for it.
    ///
    /// # Errors
    /// If no such device may log in.
    pub fn expect(&self, id: &str) -> Result<Device, DeviceError> {
        self.may_log_in(id)?;
        Ok(self.0.shared.registry.expect(id))
    }

    /// The device with this id, if it is known.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Device> {
        self.0.shared.registry.get(id)
    }

    /// All devices known, in no particular order.
    #[must_use]
    pub fn devices(&self) -> Vec<Device> {
        self.0.shared.registry.all()
    }

    /// Reads the keys again, after another process has changed them, and says what is different. Links
    /// whose key was revoked end, as do those without a key of devices that have one now.
    ///
    /// Reads a file: from asynchronous code, call it where blocking is allowed.
    ///
    /// # Errors
    /// If they cannot be read. The keys are then as before.
    pub fn reload_keys(&self) -> Result<KeyChanges, KeysError> {
        self.0.shared.keys.reload()
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let stats = self.0.shared.counters.read();
        match &self.0.shared.host {
            Some(host) => Stats {
                messages_without_app: host.unheard.without_app.get(),
                messages_not_allowed: host.unheard.not_allowed.get(),
                messages_without_instance: host.unheard.without_instance.get(),
                ..stats
            },
            None => stats,
        }
    }

    /// What was counted of each app, in the order they were registered.
    #[must_use]
    pub fn app_stats(&self) -> Vec<AppStats> {
        self.0.shared.host.as_ref().map(|host| host.stats()).unwrap_or_default()
    }

    /// For writing to an instance of an app on a device, whatever the device has said so far. It belongs to
    /// no life of the device. The device is persistent from now on.
    ///
    /// # Errors
    /// If no such device may log in, or there is no such app.
    pub fn port(&self, device: &str, app: &str, instance: u8) -> Result<Port, PortError> {
        let host = self.0.shared.host.as_ref();
        let (host, at) = host
            .and_then(|host| Some((host, host.by_name(app)?)))
            .ok_or_else(|| PortError::UnknownApp { name: app.to_owned() })?;
        let device = self.expect(device)?;
        let channel = host.channel(&device, at, instance);
        Ok(host.port(&device, at, channel, UNHEARD))
    }

    /// Stops accepting connections and messages, gives what is queued `drain` to reach its devices,
    /// then ends all links. Messages that were not accepted are still with their devices.
    ///
    /// Returns the devices, for the next server or to be closed. A second call returns none.
    pub async fn shutdown(&self, drain: Duration) -> Sessions {
        let shared = &self.0.shared;
        shared.stop.send_replace(true);
        for device in shared.registry.all() {
            device.endpoint.drain();
        }
        if let Some(host) = &shared.host {
            host.stop();
        }
        // Dropping this future leaves the tasks to the next call, or to the last handle.
        let mut tasks = self.0.tasks.lock().await;
        let all = async {
            while tasks.join_next().await.is_some() {}
            if let Some(host) = &shared.host {
                host.ended().await;
            }
        };
        if tokio::time::timeout(drain, all).await.is_err() {
            tasks.shutdown().await;
            if let Some(host) = &shared.host {
                host.abort();
                // One that blocks its thread does not hear of it.
                let _ = tokio::time::timeout(ABORT, host.ended()).await;
            }
        }
        Sessions(shared.registry.take())
    }

    /// The store, if there is one.
    #[must_use]
    pub fn store(&self) -> Option<&bowline_store::Store> {
        self.0.shared.storage.as_ref().map(Storage::store)
    }

    /// Forgets a device with everything queued and stored for it; its link ends. It may log in again as
    /// a new one. Says whether it was known.
    pub fn forget(&self, id: &str) -> bool {
        self.0.shared.registry.forget(id)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    fn may_log_in(&self, id: &str) -> Result<(), DeviceError> {
        self.0.shared.may_log_in(id)
    }
}

impl Shared {
    pub(crate) fn may_log_in(&self, id: &str) -> Result<(), DeviceError> {
        let known = DeviceId::new(id).is_ok() && (self.gate.knows(id) || self.keys.knows(id));
        if known { Ok(()) } else { Err(DeviceError::NotAllowed { id: id.to_owned() }) }
    }

    /// A device has shown this key: an older one is revoked, on disk too. When that fails, the device's
    /// next link is the next chance.
    pub(crate) fn shown(&self, id: &str, key_id: KeyId) {
        let Some(old) = self.keys.outdated_by(id, key_id) else { return };
        let (keys, id) = (self.keys.clone(), id.to_owned());
        tokio::task::spawn_blocking(move || match keys.retire_older(&id, key_id) {
            Ok(_) => tracing::info!(device = %id, "key {key_id} was shown: key {old} is revoked"),
            Err(error) => {
                tracing::warn!(device = %id, %error, "key {key_id} was shown, but key {old} is still in force");
            }
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(host) = &self.shared.host {
            host.abort();
        }
        // The tasks are aborted with their set. Nobody waits for devices that nothing serves.
        for device in self.shared.registry.all() {
            device.endpoint.close();
        }
    }
}

fn config(timeout: Duration, settle: Duration, (burst, interval): (u32, Duration)) -> Config {
    let config = Config::new(Side::Server, span(timeout));
    Config { settle: span(settle), pace: Pace { burst, interval: span(interval) }, ..config }
}

/// Devices on N say how often they want to be heard; three times that is an outage.
fn native_config(timeout: Duration, limits: Limits) -> native::Config {
    let body = limits.line + usize::from(native::wire::DATA_OVERHEAD);
    let body = u16::try_from(body).unwrap_or(native::wire::MAX_BODY).min(native::wire::MAX_BODY);
    let config = native::Config::new(native::Transport::Lossless, span(timeout / 3), body);
    let (shortest, longest) = config.keepalive_bounds;
    native::Config { keepalive_bounds: (shortest.min(span(timeout / 3)), longest), ..config }
}

fn span(duration: Duration) -> bowline_proto::time::Duration {
    bowline_proto::time::Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// The devices that an earlier process has stored.
async fn load(storage: Storage, limits: &Arc<Limits>) -> Result<BTreeMap<Arc<str>, Entry>, StartError> {
    let driven = storage.store().is_driven();
    let limits = Arc::clone(limits);
    let load = move || {
        let mut devices = BTreeMap::new();
        for id in storage.store().ids()? {
            match storage.store().load(&id) {
                Ok(Some(stored)) => {
                    let persistent = stored.summary.persistent;
                    let device = Device::stored(stored, Arc::clone(&limits), &storage);
                    devices.insert(id, Entry::stored(device, persistent));
                }
                Ok(None) => {}
                Err(bowline_store::ReadError::Damaged(damage)) => {
                    tracing::error!(
                        device = %id,
                        damage,
                        "what is stored for it is damaged, and it may not log in: put a backup of the store in its \
                         place, or forget the device (`bowline device forget`)"
                    );
                    let device = Device::damaged(Arc::clone(&id), Arc::clone(&limits), &damage);
                    devices.insert(id, Entry::stored(device, true));
                }
                Err(other) => return Err(other),
            }
        }
        Ok(devices)
    };
    let loaded = if driven {
        // Everything in one thread.
        load()
    } else {
        // Reading the disk blocks.
        tokio::task::spawn_blocking(load).await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    };
    loaded.map_err(StartError::Store)
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted server must not wait for its old connections to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    // All devices come back at once after a restart.
    socket.listen(4096)
}

/// Forgets temporary devices that stay away.
async fn expire(shared: Arc<Shared>, expiry: Duration, mut stop: watch::Receiver<bool>) {
    let period = (expiry / 10).clamp(Duration::from_millis(50), Duration::from_secs(60));
    loop {
        tokio::select! {
            biased;
            () = tokio::time::sleep(period) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        for (device, messages) in shared.registry.expire(expiry) {
            shared.counters.expired_devices.one();
            shared.counters.expired_messages.add(messages);
            tracing::info!(%device, messages, "forgotten: away for longer than the expiry");
        }
    }
}
