//! `[apps.http]`, explained in `docs/apps/http.md`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use bowline_apps::Http;
use bowline_apps::http::HttpSettings;
use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Section {
    ident: u8,
    allow: Vec<String>,
    networks: Vec<String>,
    roots: Vec<PathBuf>,
    total_ms: u64,
    idle_ms: u64,
    body_bytes: usize,
    answer_bytes: usize,
    redirects: usize,
    in_flight: usize,
    burst: u32,
    interval_ms: u64,
}

impl Default for Section {
    fn default() -> Self {
        Section {
            ident: 2,
            allow: Vec::new(),
            networks: Vec::new(),
            roots: Vec::new(),
            total_ms: 20_000,
            idle_ms: 8_000,
            body_bytes: 65_536,
            answer_bytes: 4_096,
            redirects: 5,
            in_flight: 4,
            burst: 20,
            interval_ms: 1_000,
        }
    }
}

impl Section {
    /// `handle_timeout_ms` is how long any app may take.
    pub(super) fn check(&self, handle_timeout_ms: u64) -> anyhow::Result<()> {
        let numbers = [
            ("total_ms", self.total_ms, 1, handle_timeout_ms.saturating_sub(1)),
            ("idle_ms", self.idle_ms, 1, self.total_ms),
            ("body_bytes", self.body_bytes as u64, 1, 16 << 20),
            ("answer_bytes", self.answer_bytes as u64, 1, self.body_bytes as u64),
            ("redirects", self.redirects as u64, 0, 20),
            ("in_flight", self.in_flight as u64, 1, 64),
            ("burst", self.burst.into(), 1, 1_000_000),
            ("interval_ms", self.interval_ms, 0, 24 * 3_600_000),
        ];
        for (name, value, least, most) in numbers {
            if !(least..=most).contains(&value) {
                let why = if name == "total_ms" { ", less than apps.limits.handle_timeout_ms" } else { "" };
                bail!("apps.http.{name} = {value}: expected {least} to {most}{why}");
            }
        }
        self.settings([0; 16]).map(drop)
    }

    pub(super) const fn ident(&self) -> u8 {
        self.ident
    }

    pub(super) fn app(&self, seed: [u8; 16]) -> anyhow::Result<Http> {
        Http::new(self.settings(seed)?).context("apps.http")
    }

    fn settings(&self, key_seed: [u8; 16]) -> anyhow::Result<HttpSettings> {
        Ok(HttpSettings {
            allow: self.allow.iter().map(|text| text.parse()).collect::<Result<_, _>>().context("apps.http.allow")?,
            networks: self
                .networks
                .iter()
                .map(|text| text.parse())
                .collect::<Result<_, _>>()
                .context("apps.http.networks")?,
            roots: self.roots.clone(),
            total: Duration::from_millis(self.total_ms),
            idle: Duration::from_millis(self.idle_ms),
            body_bytes: self.body_bytes,
            answer_bytes: self.answer_bytes,
            redirects: self.redirects,
            in_flight: self.in_flight,
            pace: (self.burst, Duration::from_millis(self.interval_ms)),
            key_seed,
        })
    }
}
