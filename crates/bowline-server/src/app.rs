//! Apps: what handles the messages of devices.
//!
//! An [`App`] is registered under an ident and a name. It makes an [`Instance`] for each instance id that a
//! device uses; the instance has a queue and a task of its own, so that a slow or failing one hurts nobody else.

mod desk;
mod directory;
mod erased;
mod host;
mod instance;
mod reception;
mod rules;
mod stats;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bowline_link::{Dialect, DownReason, Message, Sending};

pub(crate) use self::desk::UNHEARD;
pub use self::directory::Directory;
pub use self::host::AppEvent;
use self::host::Observer;
pub(crate) use self::host::{Apps, Host, Makes, Registered};
pub use self::rules::{AppLimits, AppRule};
pub use self::stats::AppStats;
use crate::Device;

/// Makes instances.
pub trait App: Send + Sync + 'static {
    /// What handles the messages of one instance id of one device.
    type Instance: Instance;

    /// Makes the instance that `port` is for: when its first message comes, or ahead of it. Must not block;
    /// what takes time belongs into [`Instance::start`].
    fn instance(&self, port: Port) -> Self::Instance;

    /// Instance ids that are made as soon as the device is known, before it has said anything. For apps
    /// that write first. Default: none.
    fn ahead(&self, device: &str) -> Vec<u8> {
        let _ = device;
        Vec::new()
    }
}

/// What handles messages, one after the other. Its calls never overlap.
pub trait Instance: Send + 'static {
    /// The device's link is up: at the beginning, and again after each [`Instance::pause`]. An error is
    /// handled as one of [`Instance::handle`]; messages wait until it succeeds, or their attempts are used up.
    fn start(&mut self) -> impl Future<Output = Result<(), AppError>> + Send {
        async { Ok(()) }
    }

    /// The device's link is down. Messages received before may still come.
    fn pause(&mut self, reason: DownReason) -> impl Future<Output = ()> + Send {
        let _ = reason;
        async {}
    }

    /// Handles a message. Until it says that it has, the message stays in the device's inbox; after an
    /// error, a panic, a crash, or when it has taken too long, the same message comes again under the same
    /// [`AppMessage::seq`]. A reply in [`Handled`] happens in one transaction with that: exactly once.
    fn handle(&mut self, message: &AppMessage) -> impl Future<Output = Result<Handled, AppError>> + Send;

    /// The instance ends: it has said so, the device restarted or was forgotten, or the server shuts down.
    fn stop(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// A message for an instance.
#[derive(Debug, Clone)]
pub struct AppMessage {
    pub(crate) message: Message,
    pub(crate) port: Port,
    pub(crate) attempt: u32,
}

impl AppMessage {
    /// The app's own byte in the header; 0 for a line, which has none.
    #[must_use]
    pub fn tag(&self) -> u8 {
        self.message.header().get(2).copied().unwrap_or(0)
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.message.payload()
    }

    /// The payload as text, if it is UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.message.text()
    }

    /// Whether its sender waits for an acknowledgement. Best effort is not retried.
    #[must_use]
    pub fn is_qos(&self) -> bool {
        self.message.is_qos()
    }

    /// A number that names the message for ever among those of its device; `None` for best effort.
    #[must_use]
    pub fn seq(&self) -> Option<u64> {
        self.message.seq()
    }

    /// 1 when the message is handled for the first time since it came or the server started.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Where it came from, and where answers go.
    #[must_use]
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// The message with its header and what else is known of it.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }
}

/// What an instance has done with a message.
#[derive(Debug, Default)]
#[must_use]
pub struct Handled {
    pub(crate) reply: Option<Reply>,
    pub(crate) end: bool,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) tag: u8,
    pub(crate) payload: bytes::Bytes,
}

impl Handled {
    /// It is handled.
    pub fn done() -> Self {
        Handled::default()
    }

    /// It is handled, and `payload` goes back to the instance it came from: both, or neither. An answer to
    /// best effort is best effort.
    pub fn reply(tag: u8, payload: impl Into<bytes::Bytes>) -> Self {
        Handled { reply: Some(Reply { tag, payload: payload.into() }), end: false }
    }

    /// With this the instance ends; a later message makes a new one.
    pub fn and_end(mut self) -> Self {
        self.end = true;
        self
    }
}

/// Why a message was not handled. Every error becomes one by `?`, and then the message comes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppError {
    pub(crate) reason: String,
    pub(crate) again: bool,
    /// Whether the message was tried.
    pub(crate) counts: bool,
}

impl AppError {
    /// It may go better next time.
    pub fn retry(reason: impl Into<String>) -> Self {
        AppError { reason: reason.into(), again: true, counts: true }
    }

    /// It was not tried, because what the app needs for it is away, and for no fault of the message: it comes
    /// again soon, and that is not one of its attempts. The app says to people what it waits for.
    pub fn wait(reason: impl Into<String>) -> Self {
        AppError { reason: reason.into(), again: true, counts: false }
    }

    /// It never will: the message becomes a dead letter at once.
    pub fn reject(reason: impl Into<String>) -> Self {
        AppError { reason: reason.into(), again: false, counts: true }
    }

    /// Why, for people.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl<E: std::error::Error> From<E> for AppError {
    fn from(error: E) -> Self {
        AppError::retry(error.to_string())
    }
}

/// An instance's view of its device. Cheap to clone.
#[derive(Clone)]
pub struct Port {
    pub(crate) device: Device,
    pub(crate) app: Arc<str>,
    /// `None`: an app for whole lines.
    pub(crate) channel: Option<(u8, u8)>,
    /// [`UNHEARD`] as long as the instance has not heard of its device.
    pub(crate) epoch: Arc<AtomicU64>,
    pub(crate) observer: Option<Observer>,
    pub(crate) directory: Directory,
    pub(crate) host: Weak<Host>,
}

impl Port {
    /// The device, with its id, status and ledger.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The name under which the app is registered.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.app
    }

    /// The instance's id; 0 for an app of whole lines.
    #[must_use]
    pub fn instance(&self) -> u8 {
        self.channel.map_or(0, |(_, instance)| instance)
    }

    /// The life of the device that the instance belongs to, see [`Device::epoch`]. One that was made ahead
    /// belongs to the device's present life until it gets a message.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.bound().unwrap_or_else(|| self.device.epoch())
    }

    fn bound(&self) -> Option<u64> {
        Some(self.epoch.load(Ordering::Relaxed)).filter(|epoch| *epoch != UNHEARD)
    }

    /// The devices of the server.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// For writing to an instance of this app on another device, whatever that has said so far. It belongs to
    /// no life of that device. A device that speaks U or P, without channels, gets whole lines.
    #[must_use]
    pub fn peer(&self, device: &Device, instance: u8) -> Port {
        let host = self.host.upgrade();
        let app = host.as_ref().and_then(|host| host.apps.get(host.by_name(&self.app)?));
        let lines = matches!(device.dialect(), Some(Dialect::Upstream | Dialect::Plain));
        let channel = app.and_then(|app| app.ident).filter(|_| !lines).map(|ident| (ident, instance));
        Port { device: device.clone(), channel, epoch: Arc::new(UNHEARD.into()), ..self.clone() }
    }

    /// A message to this instance on the device. Whole lines have no `tag`.
    #[must_use]
    pub fn message(&self, tag: u8, payload: &[u8]) -> Message {
        match self.channel {
            Some((ident, instance)) => Message::on_channel(ident, instance, tag, payload),
            None => Message::new(payload.to_vec()),
        }
    }

    /// Sends to this instance on the device, exactly once and in order; see [`Device::send`]. When the device
    /// has restarted since the instance was made, its instances are others: this fails with
    /// [`SendError::PastEpoch`](crate::SendError::PastEpoch) then.
    pub fn send(&self, tag: u8, payload: &[u8]) -> Sending<'_> {
        self.observed(self.message(tag, payload), true)
    }

    /// Sends to this instance on the device if its link is up; see [`Device::send_best_effort`] and
    /// [`Port::send`].
    pub fn send_best_effort(&self, tag: u8, payload: &[u8]) -> Sending<'_> {
        self.observed(self.message(tag, payload), false)
    }

    fn observed(&self, message: Message, qos: bool) -> Sending<'_> {
        if let Some(observer) = &self.observer {
            observer(&self.device, AppEvent::Sent { message: &message, qos });
        }
        self.sending(message, qos)
    }

    pub(crate) fn sending(&self, message: Message, qos: bool) -> Sending<'_> {
        let sending = if qos { self.device.send(message) } else { self.device.send_best_effort(message) };
        match self.bound() {
            Some(epoch) => sending.in_epoch(epoch),
            None => sending,
        }
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("device", &self.device.id())
            .field("app", &self.app)
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}
