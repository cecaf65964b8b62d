//! `[apps.relay]`, explained in `docs/apps/relay.md`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use bowline_apps::Relay;
use bowline_apps::relay::{RelayQos, RelayRule, RelaySettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The app relay: messages from device to device and to groups, by rules. It is there if this section is. See
/// docs/apps/relay.md.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Section {
    /// The app's ident, by which devices name it.
    #[schemars(range(min = 0, max = 255))]
    ident: u8,
    /// Whether rules may send in a circle.
    circles: bool,
    /// How often a message may be relayed that boards pass on as they got it.
    #[schemars(range(min = 1, max = 255))]
    hops: u64,
    /// Names for several ids or patterns: { lights = ["lamp-1", "lamp-2"] }.
    groups: BTreeMap<String, Vec<String>>,
    rules: Vec<Rule>,
}

/// Who sends to whom. A message goes by all rules that fit its sender; if two name the same target, by the first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// Pattern of the senders' ids: * stands for any text, ? for one character.
    #[schemars(example = &"button-*")]
    from: String,
    /// Ids, patterns and groups. A pattern means the devices that the server knows, without the sender.
    #[schemars(example = ["lights"])]
    to: Vec<String>,
    /// Whether the sender names targets among them. Otherwise all of them get the message.
    #[serde(default)]
    named: bool,
    /// Whether targets get the message as it is. Otherwise it comes with its sender.
    #[serde(default)]
    raw: bool,
    /// Which messages are sent until they are acknowledged, and which as best effort.
    #[serde(default)]
    qos: Qos,
    /// What happens when a target's outbox is full.
    #[serde(default)]
    policy: Policy,
    /// Time after which the message is dropped if it was not sent, in milliseconds. Default: never.
    #[schemars(range(min = 1, max = 31_536_000_000u64), example = 60_000)]
    expires_ms: Option<u64>,
    /// Instance of the app on the targets.
    #[serde(default)]
    #[schemars(range(min = 0, max = 255))]
    instance: u8,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Qos {
    /// As the sender sent it.
    #[default]
    AsSent,
    /// All until they are acknowledged.
    Always,
    /// All as best effort.
    Never,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Policy {
    /// The sender's next messages wait; after the attempts of apps.limits it is a dead letter of the sender.
    #[default]
    Block,
    /// The oldest relayed message that was not sent yet goes.
    DropOldest,
    /// Earlier relayed messages that were not sent yet go, whether there is room or not.
    KeepLatest,
}

impl Default for Section {
    fn default() -> Self {
        Section { ident: 4, circles: false, hops: 4, groups: BTreeMap::new(), rules: Vec::new() }
    }
}

impl Section {
    pub(super) fn check(&self) -> anyhow::Result<()> {
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
