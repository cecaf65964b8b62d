//! What all devices' apps share: who is registered, who may use what, and when everything stops.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bowline_link::{Dialect, DownReason, Message};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::desk::Desk;
use super::directory::Directory;
use super::erased::{AnyApp, AnyInstance, caught_in};
use super::instance;
use super::reception::Reception;
use super::rules::Rules;
use super::stats::{AppCounters, Quiet};
use super::{AppLimits, AppRule, AppStats, Port};
use crate::stats::Counter;
use crate::{Device, StartError};

/// Something that happened between a device and the apps, for [`Builder::observer`](crate::Builder::observer).
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum AppEvent<'a> {
    /// A message came from the device; an app is about to get it.
    Received(&'a Message),
    /// An app sends a message to the device, or has answered one.
    Sent {
        /// The message.
        message: &'a Message,
        /// Whether it was sent as qos.
        qos: bool,
    },
    /// The device's link came up. [`Device::status`] knows more.
    Up,
    /// The device's link went down.
    Down(DownReason),
}

pub(crate) type Observer = Arc<dyn Fn(&Device, AppEvent<'_>) + Send + Sync>;

/// What a builder knows of apps.
#[derive(Default)]
pub(crate) struct Apps {
    pub(crate) list: Vec<Registered>,
    pub(crate) lines: Option<String>,
    pub(crate) rules: Vec<AppRule>,
    pub(crate) limits: AppLimits,
    pub(crate) observer: Option<Observer>,
}

/// An app and what it is known by.
pub(crate) struct Registered {
    /// `None`: it takes what no other app takes.
    pub(crate) ident: Option<u8>,
    pub(crate) name: Arc<str>,
    pub(crate) makes: Makes,
    pub(crate) counters: AppCounters,
}

/// Where an app's instances come from.
pub(crate) enum Makes {
    /// As many as there are devices and instance ids.
    Each(Box<dyn AnyApp>),
    /// There is one, until it is taken by its task.
    One(Mutex<Option<Box<dyn AnyInstance>>>),
}

impl Registered {
    pub(crate) fn new(ident: Option<u8>, name: &str, makes: Makes) -> Self {
        Registered { ident, name: name.into(), makes, counters: AppCounters::default() }
    }

    pub(crate) const fn is_global(&self) -> bool {
        matches!(self.makes, Makes::One(_))
    }
}

impl Apps {
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let known = |name: &str| self.list.iter().any(|app| *app.name == *name);
        for (at, app) in self.list.iter().enumerate() {
            let (before, name) = (&self.list[..at], app.name.to_string());
            if name.is_empty() || name == "*" {
                return Err(StartError::AppName { name });
            }
            if before.iter().any(|other| other.name == app.name) {
                return Err(StartError::SameAppName { name });
            }
            if let Some(other) = before.iter().find(|other| other.ident == app.ident) {
                return Err(StartError::SameAppIdent { ident: app.ident, names: [other.name.to_string(), name] });
            }
        }
        let of_rules = self.rules.iter().flat_map(|rule| &rule.allow).filter(|name| *name != "*");
        if let Some(name) = self.lines.iter().chain(of_rules).find(|name| !known(name)) {
            let known = self.list.iter().map(|app| app.name.to_string()).collect();
            return Err(StartError::UnknownApp { name: name.clone(), known });
        }
        self.limits.problem().map_or(Ok(()), |problem| Err(StartError::AppLimits(problem)))
    }
}

/// How far the apps' tasks go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Run,
    /// What is in hand is handled, and no more.
    Stop,
    Abort,
}

/// Counts of messages that no app gets.
#[derive(Debug, Default)]
pub(crate) struct Unheard {
    pub(crate) without_app: Counter,
    pub(crate) not_allowed: Counter,
    pub(crate) without_instance: Counter,
    pub(crate) said: Quiet,
}

/// Where a message goes, as an index of the apps and the channel to answer on.
pub(crate) type Route = (usize, Option<(u8, u8)>);

/// Why a message goes to no app.
pub(crate) enum NoRoute {
    NoApp(String),
    NotAllowed(String),
}

/// Runs the apps of all devices.
pub(crate) struct Host {
    pub(crate) apps: Vec<Registered>,
    by_ident: HashMap<u8, usize>,
    lines: Option<usize>,
    rest: Option<usize>,
    pub(crate) rules: Rules,
    pub(crate) limits: AppLimits,
    pub(crate) observer: Option<Observer>,
    /// Of the apps there is one instance of.
    pub(crate) global: Arc<Desk>,
    pub(crate) unheard: Unheard,
    stage: watch::Sender<Stage>,
    /// Tasks of devices and instances.
    working: watch::Sender<usize>,
    runtime: Handle,
    /// The server's devices; not there before the server is.
    directory: OnceLock<Directory>,
    me: Weak<Host>,
}

impl Host {
    /// Starts the apps there is one instance of. To be called in a runtime. `None` if there are no apps.
    pub(crate) fn start(apps: Apps) -> Option<Arc<Self>> {
        let Apps { list, lines, rules, limits, observer } = apps;
        if list.is_empty() {
            return None;
        }
        let by_name = |name: &String| list.iter().position(|app| *app.name == **name);
        let lines = lines.as_ref().and_then(by_name);
        let by_ident = list.iter().enumerate().filter_map(|(at, app)| Some((app.ident?, at))).collect();
        let rest = list.iter().position(|app| app.ident.is_none());
        let host = Arc::new_cyclic(|me| Host {
            apps: list,
            by_ident,
            lines,
            rest,
            rules: Rules::new(rules),
            limits,
            observer,
            global: Desk::of_all(),
            unheard: Unheard::default(),
            stage: watch::Sender::new(Stage::Run),
            working: watch::Sender::new(0),
            runtime: Handle::current(),
            directory: OnceLock::new(),
            me: Weak::clone(me),
        });
        for (at, app) in host.apps.iter().enumerate() {
            if app.is_global() {
                let (seat, wake) = host.global.opens(at);
                instance::spawn(&host, &host.global, seat, &wake, None);
            }
        }
        Some(host)
    }

    /// The devices that apps may ask for are those of this server.
    pub(crate) fn directory(&self, server: &Arc<crate::server::Shared>) {
        // It is set once, by the server that has started the host.
        let _ = self.directory.set(Directory::of(server));
    }

    /// Serves a device until it is closed.
    pub(crate) fn adopt(self: &Arc<Self>, device: &Device) {
        Reception::opens(self, device);
    }

    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let working = Working::new(self);
        let mut stage = self.stage();
        self.runtime.spawn(async move {
            let _working = working;
            tokio::select! {
                biased;
                _ = stage.wait_for(|stage| *stage == Stage::Abort) => {}
                () = task => {}
            }
        });
    }

    pub(crate) fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stage.borrow() != Stage::Run
    }

    /// Instances handle what they have in hand, and end.
    pub(crate) fn stop(&self) {
        self.stage.send_if_modified(|stage| {
            let news = *stage == Stage::Run;
            *stage = (*stage).max(Stage::Stop);
            news
        });
        self.global.close();
    }

    /// What still runs ends at its next await. What it has in hand goes back into its inbox.
    pub(crate) fn abort(&self) {
        self.stage.send_replace(Stage::Abort);
    }

    /// Waits until nothing runs any more. Cancel-safe.
    pub(crate) async fn ended(&self) {
        // Fails only without a sender, which this is.
        let _ = self.working.subscribe().wait_for(|working| *working == 0).await;
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<usize> {
        self.apps.iter().position(|app| *app.name == *name)
    }

    /// The channel on which this device talks to an instance of this app, if it has one.
    pub(crate) fn channel(&self, device: &Device, app: usize, instance: u8) -> Option<(u8, u8)> {
        let without = matches!(device.dialect(), Some(Dialect::Upstream | Dialect::Plain)) && self.lines == Some(app);
        self.apps[app].ident.filter(|_| !without).map(|ident| (ident, instance))
    }

    /// Which app gets a message with this header from a device that `rule` decides about.
    pub(crate) fn route(&self, rule: Option<usize>, header: &[u8]) -> Result<Route, NoRoute> {
        let found = match *header {
            [] => self.lines.map(|at| (at, None)),
            [ident, instance, _] => self.by_ident.get(&ident).map(|&at| (at, Some((ident, instance)))),
            _ => None,
        };
        let Some((at, channel)) = found.or(self.rest.map(|at| (at, None))) else {
            return Err(NoRoute::NoApp(match header {
                [] => "no app takes messages without a header".to_owned(),
                [ident, _, _] => {
                    format!("no app takes messages with the header {header:?}: none has the ident {ident}")
                }
                _ => format!(
                    "no app takes messages with the header {header:?}: expected three bytes, ident, instance and tag"
                ),
            }));
        };
        let name = &self.apps[at].name;
        if self.rules.allow(rule, name) {
            Ok((at, channel))
        } else {
            Err(NoRoute::NotAllowed(format!("the device may not use the app {name:?}")))
        }
    }

    /// Instances that an app wants before the device has said anything.
    pub(crate) fn ahead(&self, device: &str, rule: Option<usize>) -> Vec<(usize, u8)> {
        let mut ahead = Vec::new();
        for (at, app) in self.apps.iter().enumerate() {
            let Makes::Each(any) = &app.makes else { continue };
            if !self.rules.allow(rule, &app.name) {
                continue;
            }
            match caught_in(|| any.ahead(device)) {
                Ok(instances) => ahead.extend(instances.into_iter().map(|instance| (at, instance))),
                Err(lapse) => {
                    app.counters.panics.one();
                    tracing::error!(device, app = %app.name, "the app cannot say what it wants ahead: {lapse:?}");
                }
            }
        }
        ahead
    }

    pub(crate) fn port(&self, device: &Device, app: usize, channel: Option<(u8, u8)>, epoch: u64) -> Port {
        Port {
            device: device.clone(),
            app: Arc::clone(&self.apps[app].name),
            channel,
            epoch: Arc::new(epoch.into()),
            observer: self.observer.clone(),
            directory: self.directory.get().cloned().unwrap_or_default(),
            host: Weak::clone(&self.me),
        }
    }

    pub(crate) fn observe(&self, device: &Device, event: AppEvent<'_>) {
        if let Some(observer) = &self.observer {
            // It is not worth a device that it panics.
            if let Err(lapse) = caught_in(|| observer(device, event)) {
                self.unheard.said.warn(device.id(), &format!("the observer of apps does not observe: {lapse:?}"));
            }
        }
    }

    pub(crate) fn stats(&self) -> Vec<AppStats> {
        self.apps.iter().map(|app| app.counters.read(app.ident, &app.name)).collect()
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

/// Counts a task for as long as it lives.
struct Working(Arc<Host>);

impl Working {
    fn new(host: &Arc<Host>) -> Self {
        host.working.send_modify(|working| *working += 1);
        Working(Arc::clone(host))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.working.send_modify(|working| *working -= 1);
    }
}

impl Makes {
    /// Makes an instance for `port`; the one there is, if there is one for all.
    pub(crate) fn instance(&self, port: Option<&Port>) -> Option<Box<dyn AnyInstance>> {
        match (self, port) {
            (Makes::Each(app), Some(port)) => Some(app.instance(port.clone())),
            (Makes::One(one), _) => one.lock().unwrap_or_else(PoisonError::into_inner).take(),
            (Makes::Each(_), None) => None,
        }
    }
}
