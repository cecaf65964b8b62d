//! The mqtt app: boards publish and subscribe at a real broker.
//!
//! What boards say and hear, and what is promised, is in `docs/apps/mqtt.md`.
//!
//! - `command.rs`: the messages of boards; `topic.rs`: topics, filters, prefixes.
//! - `hub.rs`: one connection and the boards it serves. `hub/member.rs`: a board on it, `hub/arrivals.rs`: what
//!   the broker has sent and is not told yet that it is safe.
//! - `wire.rs`: the libraries for MQTT 3.1.1 and 5, behind one face.

mod command;
mod hub;
mod instance;
mod settings;
mod shared;
mod tls;
mod topic;
mod wire;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bowline_server::{App, Port};

use self::shared::Shared;

pub use self::instance::MqttInstance;
pub use self::settings::{BoardDown, Broker, Connection, Credentials, Qos, Settings, SettingsError, Tls, Version};
pub use self::shared::MqttStats;

/// Publishes and subscribes for boards. Cheap to clone. Its ident is 1 by custom of the boards in the field.
#[derive(Clone)]
pub struct Mqtt {
    shared: Arc<Shared>,
}

impl Mqtt {
    /// The app with these settings. It connects when a board has asked for something. Reads the system's
    /// certificates if there are no others, and so blocks for a moment.
    ///
    /// # Errors
    /// If a setting makes no sense, or a certificate cannot be used.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        let tls = settings.broker.tls.then(|| tls::configuration(&settings.tls)).transpose()?;
        Ok(Mqtt { shared: Arc::new(Shared::new(settings, tls)) })
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> MqttStats {
        self.shared.counters.read()
    }
}

impl App for Mqtt {
    type Instance = MqttInstance;

    /// # Panics
    /// Outside of a tokio runtime.
    fn instance(&self, port: Port) -> MqttInstance {
        MqttInstance::new(&self.shared, self.shared.next.fetch_add(1, Ordering::Relaxed), port)
    }
}

impl std::fmt::Debug for Mqtt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mqtt").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}
