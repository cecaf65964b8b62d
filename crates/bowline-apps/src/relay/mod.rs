//! The relay app: messages from device to device, by rules. The payloads are in `docs/apps/relay.md`.

mod form;
mod rules;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bowline_server::{App, AppError, AppMessage, Device, Handled, Instance, Policy, Port, Receipt, SendError};
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::json;

pub use self::rules::{RelayError, RelayQos, RelayRule, RelaySettings};

use self::form::Letter;
use self::rules::{NotRelayed, Rules};

/// How long a message waits for room in its targets' outboxes before it is tried again: less than the
/// host gives an instance, so that the reason can be told.
const ROOM: Duration = Duration::from_secs(20);

/// Passes messages on from device to device. Its ident is 4 by custom.
#[derive(Debug, Clone)]
pub struct Relay(Arc<Rules>);

/// The relay of one instance of a device.
#[derive(Debug)]
pub struct RelayInstance {
    rules: Arc<Rules>,
    port: Port,
    /// Which targets have got the message with this number, so that those do not get it again when others
    /// have no room.
    reached: (Option<u64>, HashSet<String>),
    /// Targets that may not log in, which was said.
    complained: HashSet<String>,
}

/// Why a message was not relayed, as the sender is told.
struct Refusal {
    code: &'static str,
    detail: String,
}

impl Relay {
    /// Checks the rules.
    ///
    /// # Errors
    /// If they make no sense, or messages could go round in a circle and that is not allowed.
    pub fn new(settings: RelaySettings) -> Result<Self, RelayError> {
        Ok(Relay(Arc::new(Rules::new(settings)?)))
    }
}

impl App for Relay {
    type Instance = RelayInstance;

    fn instance(&self, port: Port) -> RelayInstance {
        RelayInstance { rules: Arc::clone(&self.0), port, reached: (None, HashSet::new()), complained: HashSet::new() }
    }
}

impl Instance for RelayInstance {
    async fn handle(&mut self, message: &AppMessage) -> Result<Handled, AppError> {
        match self.targets(message) {
            Ok(targets) => {
                self.relay(message, targets).await?;
                Ok(Handled::done())
            }
            Err(Refusal { code, detail }) => {
                tracing::debug!(device = self.port.device().id(), code, detail, "not relayed");
                Ok(Handled::reply(message.tag(), json!({ "error": code, "detail": detail }).to_string()))
            }
        }
    }
}

/// A message for one target.
struct Parcel {
    port: Port,
    payload: Vec<u8>,
    qos: bool,
    policy: Policy,
    expires: Option<Duration>,
}

impl RelayInstance {
    /// What is to be sent to whom.
    fn targets(&mut self, message: &AppMessage) -> Result<Vec<Parcel>, Refusal> {
        let refusal = |code, detail| Refusal { code, detail };
        let (sender, directory) = (self.port.device().id(), self.port.directory());
        let letter = Letter::read(message.payload(), self.rules.names_targets(sender))
            .map_err(|detail| refusal("bad-request", detail))?;
        if letter.hops >= self.rules.hops {
            let detail = format!("the message was relayed {} times already, which is the most", letter.hops);
            return Err(refusal("loop", detail));
        }
        let known = || directory.devices().iter().map(|device| device.id().to_owned()).collect();
        let plan = self.rules.plan(sender, letter.to.as_deref(), known).map_err(|problem| match problem {
            NotRelayed::NoRule => refusal("no-rule", format!("no rule is about such messages of {sender:?}")),
            NotRelayed::NoSuchTarget(name) => refusal("no-target", format!("{name:?} is none of your targets")),
            NotRelayed::TooMany => refusal("too-many", format!("these are more than {} targets", rules::FAN_OUT)),
        })?;
        let mut parcels = Vec::new();
        for (id, rule) in plan {
            let device = match directory.get(&id).map_or_else(|| directory.expect(&id), Ok) {
                Ok(device) => device,
                Err(error) => {
                    // The others are to get theirs all the same.
                    if self.complained.insert(id) {
                        tracing::warn!(device = sender, "a target of the relay is left out: {error}");
                    }
                    continue;
                }
            };
            let payload = letter.payload(rule.raw, sender, message.seq());
            let qos = match rule.qos {
                RelayQos::AsSent => message.is_qos(),
                RelayQos::Always => true,
                RelayQos::Never => false,
            };
            let port = self.port.peer(&device, rule.instance);
            parcels.push(Parcel { port, payload, qos, policy: rule.policy, expires: rule.expires });
        }
        if parcels.is_empty() {
            return Err(refusal("no-target", "there is no such device now".to_owned()));
        }
        Ok(parcels)
    }

    /// Returns when the outboxes of all targets have it, as durably as the server's store is.
    async fn relay(&mut self, message: &AppMessage, parcels: Vec<Parcel>) -> Result<(), AppError> {
        if message.seq().is_none() || self.reached.0 != message.seq() {
            self.reached = (message.seq(), HashSet::new());
        }
        let reached = &mut self.reached.1;
        let mut waiting: HashSet<String> = parcels
            .iter()
            .map(|parcel| parcel.port.device().id().to_owned())
            .filter(|id| !reached.contains(id))
            .collect();
        let mut under_way: FuturesUnordered<_> = parcels
            .iter()
            .filter(|parcel| waiting.contains(parcel.port.device().id()))
            .map(|parcel| async move { (parcel, parcel.send(message.tag()).await) })
            .collect();
        let all = async {
            while let Some((parcel, sent)) = under_way.next().await {
                let device = parcel.port.device();
                if let Err(error) = sent {
                    parcel.undeliverable(message.tag(), &error)?;
                }
                waiting.remove(device.id());
                reached.insert(device.id().to_owned());
            }
            Ok(())
        };
        match tokio::time::timeout(ROOM, all).await {
            Ok(done) => done,
            Err(_) => {
                let mut waiting: Vec<_> = waiting.into_iter().collect();
                waiting.sort();
                Err(AppError::retry(format!("the outbox has no room: of {}", waiting.join(", "))))
            }
        }
    }
}

impl Parcel {
    async fn send(&self, tag: u8) -> Result<(), SendError> {
        if !self.qos {
            return self.port.send_best_effort(tag, &self.payload).await;
        }
        let sending = self.port.send(tag, &self.payload).policy(self.policy).until(Receipt::Accepted);
        match self.expires {
            Some(ttl) => sending.expires_in(ttl).await,
            None => sending.await,
        }
    }

    /// What was not sent and never will be, is not tried again: the others have got theirs.
    fn undeliverable(&self, tag: u8, error: &SendError) -> Result<(), AppError> {
        let device: &Device = self.port.device();
        match error {
            SendError::Message(problem) => {
                device.bury_unsent(&self.port.message(tag, &self.payload), format!("not relayed: {problem}"));
            }
            // It was forgotten, or the server stops: the next attempt knows.
            SendError::Closed => return Err(AppError::retry(format!("{:?} was closed", device.id()))),
            // By the rule's policy, or best effort.
            _ => tracing::debug!(device = device.id(), %error, "a relayed message was dropped"),
        }
        Ok(())
    }
}
