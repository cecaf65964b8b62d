//! `[apps.time]`, explained in `docs/apps/time.md`.

use anyhow::Context;
use bowline_apps::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The app time: wall time and zone for boards without a clock. It is there if this section is. See
/// docs/apps/time.md.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Section {
    /// The app's ident, by which devices name it.
    #[schemars(range(min = 0, max = 255))]
    ident: u8,
    /// The zone whose offset boards are told: "system", an offset such as "+01:00", a name such as "Europe/Berlin"
    /// (needs the system's tzdata), or a rule such as "CET-1CEST,M3.5.0,M10.5.0/3".
    zone: String,
}

impl Default for Section {
    fn default() -> Self {
        Section { ident: 5, zone: "system".to_owned() }
    }
}

impl Section {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.app().map(drop)
    }

    pub(super) const fn ident(&self) -> u8 {
        self.ident
    }

    pub(super) fn app(&self) -> anyhow::Result<Time> {
        Ok(Time::new(self.zone.parse().context("apps.time.zone")?))
    }
}
