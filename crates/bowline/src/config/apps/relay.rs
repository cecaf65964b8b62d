//! `[apps.relay]`, explained in `docs/apps/relay.md`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use bowline_apps::Relay;
use bowline_apps::relay::{RelayQos, RelayRule, RelaySettings};
use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Section {
    ident: u8,
    circles: bool,
    hops: u64,
    groups: BTreeMap<String, Vec<String>>,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    from: String,
    to: Vec<String>,
    #[serde(default)]
    named: bool,
    #[serde(default)]
    raw: bool,
    #[serde(default)]
    qos: Qos,
    #[serde(default)]
    policy: Policy,
    expires_ms: Option<u64>,
    #[serde(default)]
    instance: u8,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Qos {
    #[default]
    AsSent,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Policy {
    #[default]
    Block,
    DropOldest,
    KeepLatest,
}

impl Default for Section {
    fn default() -> Self {
        Section { ident: 4, circles: false, hops: 4, groups: BTreeMap::new(), rules: Vec::new() }
    }
}

impl Section {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if !(1..=255).contains(&self.hops) {
            bail!("apps.relay.hops = {}: expected 1 to 255", self.hops);
        }
        if let Some(rule) = self.rules.iter().find(|rule| rule.expires_ms == Some(0)) {
            bail!("a rule of apps.relay from {:?} has expires_ms = 0: expected 1 or more, or nothing", rule.from);
        }
        self.app().map(drop)
    }

    pub(super) const fn ident(&self) -> u8 {
        self.ident
    }

    pub(super) fn app(&self) -> anyhow::Result<Relay> {
        let rule = |rule: &Rule| RelayRule {
            from: rule.from.clone(),
            to: rule.to.clone(),
            named: rule.named,
            raw: rule.raw,
            qos: match rule.qos {
                Qos::AsSent => RelayQos::AsSent,
                Qos::Always => RelayQos::Always,
                Qos::Never => RelayQos::Never,
            },
            policy: match rule.policy {
                Policy::Block => bowline_server::Policy::Block,
                Policy::DropOldest => bowline_server::Policy::DropOldest,
                Policy::KeepLatest => bowline_server::Policy::KeepLatest,
            },
            expires: rule.expires_ms.map(Duration::from_millis),
            instance: rule.instance,
        };
        let rules = self.rules.iter().map(rule).collect();
        let settings = RelaySettings { rules, groups: self.groups.clone(), circles: self.circles, hops: self.hops };
        Relay::new(settings).context("apps.relay")
    }
}
