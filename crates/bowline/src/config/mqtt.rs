//! The section about the mqtt app.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bowline_apps::mqtt::{BoardDown, Broker, Connection, Credentials, Qos, Settings, Tls, Version};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The app mqtt (ident 1): boards publish and subscribe at a broker. See docs/apps/mqtt.md.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mqtt {
    /// The broker: "mqtt://HOST:PORT", or "mqtts://" for TLS. "": there is no such app.
    broker: String,
    /// The protocol to speak.
    version: VersionName,
    /// The client id of each connection; {device} stands for the device's id. A shared connection needs one without.
    client_id: String,
    /// Who the server is to the broker. "": nobody.
    username: String,
    // Files and variables instead of a password: the configuration is shown to people who ask for help.
    /// File with the password. "": none.
    password_file: PathBuf,
    /// Variable of the environment with the password, instead of a file. "": none.
    password_env: String,
    /// File with the certificates (PEM) of those who may vouch for the broker. "": whom the system trusts.
    tls_ca: PathBuf,
    /// File with the server's own certificate (PEM). "": none.
    tls_cert: PathBuf,
    /// File with the key (PEM) of that certificate. "": none.
    tls_key: PathBuf,
    /// QoS of publications and subscriptions.
    #[schemars(range(min = 0, max = 2))]
    qos: u8,
    /// Put before every topic of a board, and taken away again; {device} stands for the device's id.
    prefix: String,
    /// Who shares a connection to the broker.
    connection: ConnectionName,
    /// What happens while a board's link is down.
    board_down: BoardDownName,
    /// Silence after which broker and server make sure of each other, in seconds.
    #[schemars(range(min = 1, max = 65_535))]
    keepalive_s: u64,
    /// How long an attempt to connect may take, in milliseconds.
    #[schemars(range(min = 100, max = 600_000))]
    connect_timeout_ms: u64,
    /// The pause after the first failed attempt, in milliseconds. Each further one is twice as long.
    #[schemars(range(min = 1, max = 86_400_000))]
    first_pause_ms: u64,
    /// The longest pause, in milliseconds. Not less than the first.
    #[schemars(range(min = 1, max = 86_400_000))]
    longest_pause_ms: u64,
    /// How long the broker keeps a session without a connection, in seconds (MQTT 5). 0: for ever.
    #[schemars(range(min = 0, max = 4_294_967_295u64))]
    session_expiry_s: u64,
    /// Largest payload for a board, in bytes.
    #[schemars(range(min = 1, max = 1_048_576))]
    payload: usize,
    /// Messages of a connection on their way into outboxes.
    #[schemars(range(min = 1, max = 1024))]
    in_flight: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
enum VersionName {
    /// MQTT 3.1.1.
    #[serde(rename = "3.1.1")]
    V311,
    /// MQTT 5.
    #[serde(rename = "5")]
    V5,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ConnectionName {
    /// Each device has one of its own.
    Device,
    /// There is one for all; it needs {device} in `prefix`.
    Shared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum BoardDownName {
    /// Its will is published, and its subscriptions end.
    Will,
    /// Its subscriptions go on, and messages wait in its outbox.
    Keep,
}

impl Default for Mqtt {
    fn default() -> Self {
        Mqtt {
            broker: String::new(),
            version: VersionName::V5,
            client_id: "{device}".to_owned(),
            username: String::new(),
            password_file: PathBuf::new(),
            password_env: String::new(),
            tls_ca: PathBuf::new(),
            tls_cert: PathBuf::new(),
            tls_key: PathBuf::new(),
            qos: 2,
            prefix: String::new(),
            connection: ConnectionName::Device,
            board_down: BoardDownName::Will,
            keepalive_s: 30,
            connect_timeout_ms: 10_000,
            first_pause_ms: 500,
            longest_pause_ms: 15_000,
            session_expiry_s: 86_400,
            payload: 8192,
            in_flight: 16,
        }
    }
}

impl Mqtt {
    /// Without what is in files; `None` if the app is not to be there.
    pub(crate) fn unread(&self) -> anyhow::Result<Option<Settings>> {
        if self.broker.is_empty() {
            return Ok(None);
        }
        let broker: Broker = self.broker.parse().context("in [apps.mqtt]")?;
        let settings = Settings {
            version: match self.version {
                VersionName::V311 => Version::V311,
                VersionName::V5 => Version::V5,
            },
            client_id: self.client_id.clone(),
            qos: match self.qos {
                0 => Qos::AtMostOnce,
                1 => Qos::AtLeastOnce,
                2 => Qos::ExactlyOnce,
                qos => bail!("apps.mqtt.qos = {qos}: expected 0, 1 or 2"),
            },
            prefix: self.prefix.clone(),
            connection: match self.connection {
                ConnectionName::Device => Connection::Device,
                ConnectionName::Shared => Connection::Shared,
            },
            board_down: match self.board_down {
                BoardDownName::Will => BoardDown::Will,
                BoardDownName::Keep => BoardDown::Keep,
            },
            keepalive: Duration::from_secs(self.keepalive_s),
            connect_timeout: Duration::from_millis(self.connect_timeout_ms),
            backoff: (Duration::from_millis(self.first_pause_ms), Duration::from_millis(self.longest_pause_ms)),
            session_expiry: (self.session_expiry_s > 0).then(|| Duration::from_secs(self.session_expiry_s)),
            payload: self.payload,
            in_flight: self.in_flight,
            ..Settings::new(broker)
        };
        settings.check().context("in [apps.mqtt]")?;
        Ok(Some(settings))
    }

    /// With password and certificates. Blocks.
    pub(crate) fn read(&self) -> anyhow::Result<Option<Settings>> {
        let Some(settings) = self.unread()? else { return Ok(None) };
        let file = |name: &str, path: &Path| -> anyhow::Result<Option<Vec<u8>>> {
            let read = |path| std::fs::read(path).with_context(|| format!("apps.mqtt.{name}: cannot read {path:?}"));
            if path.as_os_str().is_empty() { Ok(None) } else { read(path).map(Some) }
        };
        let client = match (file("tls_cert", &self.tls_cert)?, file("tls_key", &self.tls_key)?) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => bail!("apps.mqtt: tls_cert and tls_key go together, and one of them is missing"),
        };
        let tls = Tls { ca: file("tls_ca", &self.tls_ca)?, client };
        Ok(Some(Settings { credentials: self.credentials()?, tls, ..settings }))
    }

    fn credentials(&self) -> anyhow::Result<Option<Credentials>> {
        let (in_file, in_env) = (!self.password_file.as_os_str().is_empty(), !self.password_env.is_empty());
        if self.username.is_empty() {
            if in_file || in_env {
                bail!("apps.mqtt has a password and no username: MQTT 3.1.1 knows no such thing");
            }
            return Ok(None);
        }
        let password = match (in_file, in_env) {
            (true, true) => bail!("apps.mqtt: the password is in password_file or in password_env, not in both"),
            (true, false) => std::fs::read_to_string(&self.password_file)
                .with_context(|| format!("apps.mqtt.password_file: cannot read {:?}", self.password_file))?,
            (false, true) => std::env::var(&self.password_env)
                .with_context(|| format!("apps.mqtt.password_env: the variable {:?}", self.password_env))?,
            (false, false) => String::new(),
        };
        let password = password.trim_end_matches(['\r', '\n']).to_owned();
        Ok(Some(Credentials { username: self.username.clone(), password }))
    }

    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let Mqtt { first_pause_ms, longest_pause_ms, .. } = *self;
        if longest_pause_ms < first_pause_ms {
            bail!(
                "apps.mqtt.longest_pause_ms = {longest_pause_ms}: expected {first_pause_ms} or more, the first pause"
            );
        }
        self.unread().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn checked(text: &str) -> Result<(), String> {
        Config::parse(text).and_then(|config| config.check()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn the_defaults_are_those_of_the_app() {
        let section = Mqtt { broker: "mqtt://localhost".to_owned(), ..Mqtt::default() };
        assert_eq!(section.read().unwrap(), Some(Settings::new(section.broker.parse().unwrap())));
        assert_eq!(Mqtt::default().read().unwrap(), None);
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let wrong = [
            ("broker = \"localhost\"", "expected mqtt://HOST"),
            ("broker = \"mqtt://x\"\nqos = 3", "apps.mqtt.qos = 3: expected 0 to 2"),
            ("broker = \"mqtt://x\"\nconnection = \"shared\"", "client_id"),
            ("password = \"secret\"", "did you mean `password_env`"),
            ("first_pause_ms = 0", "apps.mqtt.first_pause_ms = 0"),
            ("first_pause_ms = 15001", "apps.mqtt.longest_pause_ms = 15000: expected 15001 or more"),
        ];
        for (text, problem) in wrong {
            let error = checked(&format!("[apps.mqtt]\n{text}")).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_comes_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let password_file = folder.path().join("password");
        std::fs::write(&password_file, "s3cret\n").unwrap();
        let (broker, username) = ("mqtt://localhost".to_owned(), "me".to_owned());
        let section = Mqtt { broker, username, password_file, ..Mqtt::default() };
        let credentials = section.read().unwrap().unwrap().credentials.unwrap();
        assert_eq!((credentials.username.as_str(), credentials.password.as_str()), ("me", "s3cret"));
    }
}
