//! The sections about apps.

use std::time::Duration;

use anyhow::bail;
use bowline_server::{AppLimits, AppRule};
use serde::Deserialize;

use super::mqtt::Mqtt;
use super::record::Record;

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Apps {
    /// The app that takes messages without a header; without, the one that `app` names.
    pub(crate) lines: Option<String>,
    pub(crate) limits: Limits,
    pub(crate) mqtt: Mqtt,
    pub(crate) record: Record,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    devices: Vec<String>,
    allow: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    attempts: u32,
    first_pause_ms: u64,
    longest_pause_ms: u64,
    handle_timeout_ms: u64,
    instances: usize,
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
        self.mqtt.check()?;
        self.record.check()?;
        let limits = &self.limits;
        let day = 24 * 3_600_000;
        let counts = [
            ("attempts", u64::from(limits.attempts), 1, 1_000_000),
            ("first_pause_ms", limits.first_pause_ms, 1, day),
            ("longest_pause_ms", limits.longest_pause_ms, limits.first_pause_ms, day),
            ("handle_timeout_ms", limits.handle_timeout_ms, 1, day),
            ("instances", limits.instances as u64, 1, 65_536),
            ("best_effort", limits.best_effort as u64, 1, 1_000_000),
        ];
        for (name, value, least, most) in counts {
            if !(least..=most).contains(&value) {
                bail!("apps.limits.{name} = {value}: expected {least} to {most}");
            }
        }
        Ok(())
    }
}

impl Limits {
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
