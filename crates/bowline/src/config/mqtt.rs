//! The section about the mqtt app.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bowline_apps::mqtt::{BoardDown, Broker, Connection, Credentials, Qos, Settings, Tls, Version};
use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mqtt {
    /// Empty: there is no app.
    broker: String,
    version: VersionName,
    client_id: String,
    username: String,
    /// Files and variables instead of a password: this file is shown to people who ask for help.
    password_file: PathBuf,
    password_env: String,
    tls_ca: PathBuf,
    tls_cert: PathBuf,
    tls_key: PathBuf,
    qos: u8,
    prefix: String,
    connection: ConnectionName,
    board_down: BoardDownName,
    keepalive_s: u64,
    connect_timeout_ms: u64,
    first_pause_ms: u64,
    longest_pause_ms: u64,
    session_expiry_s: u64,
    payload: usize,
    in_flight: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum VersionName {
    #[serde(rename = "3.1.1")]
    V311,
    #[serde(rename = "5")]
    V5,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ConnectionName {
    Device,
    Shared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum BoardDownName {
    Will,
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
        if !(1..=self.longest_pause_ms).contains(&self.first_pause_ms) {
            bail!("apps.mqtt.first_pause_ms = {}: expected 1 to longest_pause_ms", self.first_pause_ms);
        }
        if !(100..=600_000).contains(&self.connect_timeout_ms) {
            bail!("apps.mqtt.connect_timeout_ms = {}: expected 100 to 600000", self.connect_timeout_ms);
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
            ("broker = \"mqtt://x\"\nqos = 3", "apps.mqtt.qos = 3: expected 0, 1 or 2"),
            ("broker = \"mqtt://x\"\nconnection = \"shared\"", "client_id"),
            ("password = \"secret\"", "did you mean `password_env`"),
            ("first_pause_ms = 0", "apps.mqtt.first_pause_ms = 0"),
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
