//! `[apps.time]`, explained in `docs/apps/time.md`.

use anyhow::Context;
use bowline_apps::Time;
use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Section {
    ident: u8,
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
