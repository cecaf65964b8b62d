//! What the app is told about its broker, and what is wrong with it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::topic;

/// Where the placeholder for the device's id may stand, in `client_id` and `prefix`.
pub(super) const DEVICE: &str = "{device}";

/// How the app talks to a broker. [`Settings::new`] has the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the broker is.
    pub broker: Broker,
    /// The protocol to speak. Default: [`Version::V5`].
    pub version: Version,
    /// The client id of a connection. `{device}` stands for the device's id. Default: `{device}`; a shared
    /// connection needs one without.
    pub client_id: String,
    /// Who the app is to the broker. Default: nobody.
    pub credentials: Option<Credentials>,
    /// Whom the app trusts, and how it proves who it is, if the broker is asked for by `mqtts`.
    pub tls: Tls,
    /// Of publications and subscriptions. Default: [`Qos::ExactlyOnce`].
    pub qos: Qos,
    /// Put before every topic of a board, and taken away again. `{device}` stands for the device's id,
    /// in which `/`, `+`, `#`, `%` and `$` are percent-encoded. Default: empty.
    pub prefix: String,
    /// Default: [`Connection::Device`].
    pub connection: Connection,
    /// Default: [`BoardDown::Will`].
    pub board_down: BoardDown,
    /// Silence after which broker and app make sure of each other. Default: 30 s.
    pub keepalive: Duration,
    /// How long an attempt to connect may take. Default: 10 s.
    pub connect_timeout: Duration,
    /// The pause after a failed attempt to connect: the first, and the longest; between them it doubles, and
    /// a quarter of it is left to chance. Default: 0.5 s to 15 s.
    pub backoff: (Duration, Duration),
    /// How long the broker keeps subscriptions and messages while the app is away. With 3.1.1 the broker decides.
    /// `None`: for ever. Default: a day.
    pub session_expiry: Option<Duration>,
    /// Largest payload that is passed on to a board, in bytes. Default: 8 KiB.
    pub payload: usize,
    /// Messages of a connection on their way into outboxes. 1 to 1024. Default: 16.
    pub in_flight: u16,
}

impl Settings {
    /// The defaults, for this broker.
    #[must_use]
    pub fn new(broker: Broker) -> Self {
        Settings {
            broker,
            version: Version::V5,
            client_id: DEVICE.to_owned(),
            credentials: None,
            tls: Tls::default(),
            qos: Qos::ExactlyOnce,
            prefix: String::new(),
            connection: Connection::Device,
            board_down: BoardDown::Will,
            keepalive: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            backoff: (Duration::from_millis(500), Duration::from_secs(15)),
            session_expiry: Some(Duration::from_secs(24 * 3600)),
            payload: 8 * 1024,
            in_flight: 16,
        }
    }

    /// What the types cannot say.
    ///
    /// # Errors
    /// With the first setting that makes no sense, by the name it has in the configuration file.
    pub fn check(&self) -> Result<(), SettingsError> {
        let shared = self.connection == Connection::Shared;
        let wrong = |setting, what: String| Err(SettingsError::Value { setting, what });
        if self.client_id.is_empty() {
            return wrong("client_id", "is empty: expected a text such as \"bowline-{device}\"".to_owned());
        }
        if shared && self.client_id.contains(DEVICE) {
            let what = "names the device, and one connection serves all: expected a text such as \"bowline\"";
            return wrong("client_id", what.to_owned());
        }
        if !shared && !self.client_id.contains(DEVICE) {
            let what = "is the same for all devices, of which each has its own connection, and a broker lets in one: \
                        expected {device} in it";
            return wrong("client_id", what.to_owned());
        }
        if shared && !self.prefix.contains(DEVICE) {
            let what = "does not tell the devices of a shared connection apart: expected {device} in it, as in \
                        \"bowline/{device}/\"";
            return wrong("prefix", what.to_owned());
        }
        if let Err(what) = topic::check_name(&format!("{}x", self.prefix.replace(DEVICE, "x"))) {
            return wrong("prefix", what.to_owned());
        }
        if !(1..=1024).contains(&self.in_flight) {
            return wrong("in_flight", format!("= {}: expected 1 to 1024", self.in_flight));
        }
        if !(1..=1024 * 1024).contains(&self.payload) {
            return wrong("payload", format!("= {}: expected 1 to 1048576 bytes", self.payload));
        }
        if !(1..=65_535).contains(&self.keepalive.as_secs()) {
            return wrong("keepalive_s", format!("= {}: expected 1 to 65535", self.keepalive.as_secs()));
        }
        if !self.broker.tls && self.tls != Tls::default() {
            let what = "is set, but the broker is not asked for by mqtts://".to_owned();
            return wrong("tls", what);
        }
        Ok(())
    }
}

/// Why settings are refused. The caller's mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A setting makes no sense.
    #[error("mqtt: {setting} {what}")]
    Value {
        /// Its name.
        setting: &'static str,
        /// What is wrong, and what was expected.
        what: String,
    },
    /// The certificates cannot be used.
    #[error("mqtt: {0}")]
    Tls(String),
}

/// A broker: `mqtt://HOST[:PORT]`, or `mqtts://` with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Name or address.
    pub host: String,
    /// 1883, or 8883 with TLS, unless another is given.
    pub port: u16,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

impl FromStr for Broker {
    type Err = SettingsError;

    fn from_str(url: &str) -> Result<Self, SettingsError> {
        let wrong = |what: &str| SettingsError::Value {
            setting: "broker",
            what: format!("{what}: expected mqtt://HOST, mqtt://HOST:PORT, or mqtts:// for TLS"),
        };
        let (tls, rest) = match url.split_once("://") {
            Some(("mqtt", rest)) => (false, rest),
            Some(("mqtts", rest)) => (true, rest),
            _ => return Err(wrong("begins with neither mqtt:// nor mqtts://")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // A password in the address would end up in logs.
        if rest.contains('@') {
            return Err(wrong("has a user in it, which has a setting of its own"));
        }
        if rest.contains(['/', '?', '#']) {
            return Err(wrong("has more than host and port"));
        }
        let default = if tls { 8883 } else { 1883 };
        let number = |port: &str| match port.parse() {
            Ok(0) | Err(_) => Err(wrong("has a port that is none")),
            Ok(port) => Ok(port),
        };
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, default),
            Some((host, port)) => (host, number(port.strip_prefix(':').unwrap_or(""))?),
            None => match rest.rsplit_once(':') {
                Some((host, port)) => (host, number(port)?),
                None => (rest, default),
            },
        };
        if host.is_empty() {
            return Err(wrong("has no host"));
        }
        Ok(Broker { host: host.to_owned(), port, tls })
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Broker { host, port, tls } = self;
        let scheme = if *tls { "mqtts" } else { "mqtt" };
        if host.contains(':') { write!(f, "{scheme}://[{host}]:{port}") } else { write!(f, "{scheme}://{host}:{port}") }
    }
}

/// Who the app is to the broker.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub username: String,
    /// The password; it is in no log and in no message.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Certificates, as PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Who may vouch for the broker. `None`: whom the system trusts.
    pub ca: Option<Vec<u8>>,
    /// The app's own certificate with its chain, and its key.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("ca", &self.ca.is_some()).field("client", &self.client.is_some()).finish()
    }
}

/// A version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1.
    V311,
    /// 5.
    V5,
}

/// What a broker promises of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// 0: it may be lost.
    AtMostOnce,
    /// 1: it may come twice.
    AtLeastOnce,
    /// 2.
    ExactlyOnce,
}

/// How many connections there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// One for each device, with its will.
    Device,
    /// One for all. Wills are published by the app, and by nobody if it dies.
    Shared,
}

/// What happens to a device's subscriptions while its link is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoardDown {
    /// Its will is published and its subscriptions end; the board says again what it wants when it is back.
    Will,
    /// They go on, and messages wait in the device's outbox. The will is published if the app dies.
    Keep,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new("mqtt://localhost".parse().unwrap())
    }

    #[test]
    fn brokers_are_read_and_shown() {
        for (url, shown) in [
            ("mqtt://localhost", "mqtt://localhost:1883"),
            ("mqtts://broker.example/", "mqtts://broker.example:8883"),
            ("mqtt://10.0.0.1:1884", "mqtt://10.0.0.1:1884"),
            ("mqtts://[fe80::1]:18", "mqtts://[fe80::1]:18"),
            ("mqtt://[::1]", "mqtt://[::1]:1883"),
        ] {
            assert_eq!(url.parse::<Broker>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_broker_that_is_none_is_refused_with_what_was_expected() {
        for url in
            ["", "localhost", "http://x", "mqtt://", "mqtt://x:0", "mqtt://x:99999", "mqtt://me:secret@x", "mqtt://x/y"]
        {
            let error = url.parse::<Broker>().unwrap_err().to_string();
            assert!(error.contains("expected mqtt://HOST"), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_shared_connection_needs_a_prefix_that_tells_devices_apart() {
        let shared = Settings { connection: Connection::Shared, client_id: "bowline".to_owned(), ..settings() };
        assert!(shared.check().unwrap_err().to_string().contains("prefix"));
        assert_eq!(Settings { prefix: "b/{device}/".to_owned(), ..shared.clone() }.check(), Ok(()));
        let per_device = Settings { connection: Connection::Device, ..shared };
        assert!(per_device.check().unwrap_err().to_string().contains("client_id"));
    }

    #[test]
    fn a_password_is_not_shown() {
        let credentials = Credentials { username: "me".to_owned(), password: "secret".to_owned() };
        let shown = format!("{:?}", Settings { credentials: Some(credentials), ..settings() });
        assert!(shown.contains("me") && !shown.contains("secret"));
    }
}
