//! The sections about apps.

mod http;
mod relay;
mod time;

use std::time::Duration;

use anyhow::bail;
use bowline_server::{AppLimits, AppRule, Builder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mqtt::Mqtt;
use super::record::Record;

/// Apps, which handle the messages of devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Apps {
    /// The app that takes messages without a header: every line on U and P, and what is sent so on H and N.
    /// Default: the one that `app` names. "": none, they become dead letters.
    #[schemars(example = &"echo")]
    pub(crate) lines: Option<String>,
    pub(crate) limits: Limits,
    pub(crate) mqtt: Mqtt,
    pub(crate) record: Record,
    rules: Vec<Rule>,
    pub(crate) external: Vec<External>,
    http: Option<http::Section>,
    relay: Option<relay::Section>,
    time: Option<time::Section>,
}

/// Which devices may use which apps, by patterns of ids and names of apps ("*": all). The first rule that fits a
/// device decides; without one it may use every app. What a device sends to others is kept as dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// Patterns of device ids.
    #[schemars(example = ["garden-*"])]
    devices: Vec<String>,
    /// Names of the apps they may use.
    #[schemars(example = ["echo"])]
    allow: Vec<String>,
}

/// An app outside of the server: a program that takes its messages from the local API. See docs/apps/external.md.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct External {
    /// The app's ident, by which devices name it. No other app has it.
    #[schemars(range(min = 0, max = 255), example = 7)]
    pub(crate) ident: u8,
    /// The app's name, by which the program names it. No other app has it.
    #[schemars(example = &"garden")]
    pub(crate) name: String,
}

/// How much apps may take, and how often they are asked again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// How often a message is given to a failing app before it is kept as a dead letter.
    #[schemars(range(min = 1, max = 1_000_000))]
    attempts: u32,
    /// The pause after the first failure, in milliseconds. Each further one is twice as long, and shortened at
    /// random by up to a half.
    #[schemars(range(min = 1, max = 86_400_000))]
    first_pause_ms: u64,
    /// The longest pause, in milliseconds. Not less than the first.
    #[schemars(range(min = 1, max = 86_400_000))]
    longest_pause_ms: u64,
    /// How long an app may take for one message, in milliseconds. Longer counts as a failure.
    #[schemars(range(min = 1, max = 86_400_000))]
    handle_timeout_ms: u64,
    /// Instances of apps that one device may have at a time. Messages for one more are kept as dead letters.
    #[schemars(range(min = 1, max = 65_536))]
    instances: usize,
    /// Best-effort messages waiting for an instance. More are dropped.
    #[schemars(range(min = 1, max = 1_000_000))]
    best_effort: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let limits = AppLimits::default();
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Limits {
            attempts: limits.attempts,
            first_pause_ms: millis(limits.first_pause),
            longest_pause_ms: millis(limits.longest_pause),
            handle_timeout_ms: millis(limits.handle_timeout),
            instances: limits.instances,
            best_effort: limits.best_effort,
        }
    }
}

impl Apps {
    pub(crate) fn rules(&self) -> impl Iterator<Item = AppRule> {
        self.rules.iter().map(|Rule { devices, allow }| AppRule { devices: devices.clone(), allow: allow.clone() })
    }

    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.rules.iter().any(|rule| rule.devices.is_empty()) {
            bail!("a rule in apps.rules is about no device: give its `devices` some patterns, \"*\" for all");
        }
        let Limits { first_pause_ms, longest_pause_ms, handle_timeout_ms, .. } = self.limits;
        if longest_pause_ms < first_pause_ms {
            bail!(
                "apps.limits.longest_pause_ms = {longest_pause_ms}: expected {first_pause_ms} or more, the first pause"
            );
        }
        self.mqtt.check()?;
        self.record.check()?;
        if let Some(http) = &self.http {
            http.check(handle_timeout_ms)?;
        }
        if let Some(relay) = &self.relay {
            relay.check()?;
        }
        if let Some(time) = &self.time {
            time.check()?;
        }
        Ok(())
    }

    /// Whether an app needs what is kept from one start to the next.
    pub(crate) const fn needs_seed(&self) -> bool {
        self.http.is_some()
    }

    /// Registers the apps that have a section. From `seed` names of messages are made that other servers see.
    pub(crate) fn register(&self, mut builder: Builder, seed: [u8; 16]) -> anyhow::Result<Builder> {
        if let Some(http) = &self.http {
            builder = builder.app(http.ident(), "http", http.app(seed)?);
        }
        if let Some(relay) = &self.relay {
            builder = builder.app(relay.ident(), "relay", relay.app()?);
        }
        if let Some(time) = &self.time {
            builder = builder.app(time.ident(), "time", time.app()?);
        }
        Ok(builder)
    }
}

impl Limits {
    pub(crate) fn handle_timeout(&self) -> Duration {
        Duration::from_millis(self.handle_timeout_ms)
    }

    pub(crate) fn limits(&self) -> AppLimits {
        AppLimits {
            attempts: self.attempts,
            first_pause: Duration::from_millis(self.first_pause_ms),
            longest_pause: Duration::from_millis(self.longest_pause_ms),
            handle_timeout: Duration::from_millis(self.handle_timeout_ms),
            instances: self.instances,
            best_effort: self.best_effort,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn checked(text: &str) -> Result<(), String> {
        Config::parse(text).and_then(|config| config.check()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn the_pages_of_the_apps_have_the_defaults() {
        let pages = [
            ("http", include_str!("../../../../docs/apps/http.md")),
            ("relay", include_str!("../../../../docs/apps/relay.md")),
            ("time", include_str!("../../../../docs/apps/time.md")),
        ];
        for (name, page) in pages {
            let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
            let default = Config::parse(&format!("[apps.{name}]\n")).unwrap();
            assert_eq!(Config::parse(example).unwrap(), default, "{name}");
            // Further examples are right, at least.
            for more in page.split("```toml\n").skip(2) {
                checked(more.split("```").next().unwrap()).unwrap();
            }
        }
    }

    #[test]
    fn settings_of_apps_are_checked() {
        checked("[apps.http]\nallow = [\"*.example.org\"]\n[apps.time]\nzone = \"+01:00\"").unwrap();
        let wrong = [
            ("[apps.http]\nallow = [\"a b\"]", "apps.http.allow: \"a b\" is no host"),
            ("[apps.http]\nnetworks = [\"lan\"]", "apps.http.networks: \"lan\" is no network"),
            ("[apps.http]\ntotal_ms = 30000", "apps.http.total_ms = 30000: expected 1 to 29999, less than"),
            ("[apps.http]\nallowed = []", "did you mean `allow`"),
            ("[apps.relay]\nhops = 0", "apps.relay.hops = 0: expected 1 to 255"),
            ("[[apps.relay.rules]]\nfrom = \"a\"\nto = [\"a\"]", "circles = true"),
            ("[[apps.relay.rules]]\nfrom = \"a\"\nto = [\"b\"]\npolicy = \"newest\"", "keep-latest"),
            ("[[apps.relay.rules]]\nfrom = \"a\"\nto = [\"b\"]\nexpires_ms = 0", "expires_ms = 0"),
            ("[apps.time]\nzone = \"Mars\"", "apps.time.zone: \"Mars\" is no zone"),
        ];
        for (text, problem) in wrong {
            let error = checked(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn rules_and_limits_are_checked() {
        checked("[[apps.rules]]\ndevices = [\"garden-*\"]\nallow = [\"echo\"]\n").unwrap();
        let wrong = [
            ("[apps.limits]\nattempts = 0", "apps.limits.attempts = 0: expected 1 to"),
            ("[apps.limits]\nfirst_pause_ms = 20000", "apps.limits.longest_pause_ms = 10000: expected 20000"),
            ("[[apps.rules]]\ndevices = []\nallow = []", "about no device"),
            ("[[apps.rules]]\ndevices = [\"*\"]", "missing field `allow`"),
            ("[apps.limits]\nattempt = 0", "did you mean `attempts`"),
        ];
        for (text, problem) in wrong {
            let error = checked(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
