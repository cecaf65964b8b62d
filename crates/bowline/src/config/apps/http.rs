//! `[apps.http]`, explained in `docs/apps/http.md`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use bowline_apps::Http;
use bowline_apps::http::HttpSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The app http: boards ask hosts of the Internet. It is there if this section is. See docs/apps/http.md.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Section {
    /// The app's ident, by which devices name it.
    #[schemars(range(min = 0, max = 255))]
    ident: u8,
    /// Hosts that may be asked: `[http:// or https://]host[:port]`. In the host * stands for any text, ? for one
    /// character. Without a scheme both, without a port that of the scheme (80, 443), :* for any port.
    /// For example `api.example.org`, `*.example.org`, `https://example.org`, `homeassistant.local:8123`.
    allow: Vec<String>,
    /// Networks that may be connected to although they are not the public Internet, for example "192.168.1.0/24".
    /// Without: no private, loopback, link-local, shared (100.64.0.0/10), multicast or reserved address, IPv4 or
    /// IPv6.
    networks: Vec<String>,
    /// Files of certificates (PEM) that are trusted beside the system's.
    roots: Vec<PathBuf>,
    /// How long a request may take with redirects and body, in milliseconds. Less than
    /// apps.limits.handle_timeout_ms.
    #[schemars(range(min = 1, max = 86_400_000))]
    total_ms: u64,
    /// How long a connection may take, and how long nothing may come, in milliseconds. Not more than total_ms.
    #[schemars(range(min = 1, max = 86_400_000))]
    idle_ms: u64,
    /// Bytes of a body that are read. The rest is cut.
    #[schemars(range(min = 1, max = 16_777_216))]
    body_bytes: usize,
    /// Bytes of a body in an answer, unless the request says otherwise. Not more than body_bytes.
    #[schemars(range(min = 1, max = 16_777_216))]
    answer_bytes: usize,
    /// Redirects that are followed.
    #[schemars(range(min = 0, max = 20))]
    redirects: usize,
    /// Requests of a device under way at a time. Further ones wait.
    #[schemars(range(min = 1, max = 64))]
    in_flight: usize,
    /// Requests that a device may make at once before it makes them one by one.
    #[schemars(range(min = 1, max = 1_000_000))]
    burst: u32,
    /// Time from each further request of a device to the next, in milliseconds. 0: no limit.
    #[schemars(range(min = 0, max = 86_400_000))]
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
            ("total_ms", self.total_ms, handle_timeout_ms.saturating_sub(1), "less than apps.limits.handle_timeout_ms"),
            ("idle_ms", self.idle_ms, self.total_ms, "not more than total_ms"),
            ("answer_bytes", self.answer_bytes as u64, self.body_bytes as u64, "not more than body_bytes"),
        ];
        for (name, value, most, why) in numbers {
            if value > most {
                bail!("apps.http.{name} = {value}: expected 1 to {most}, {why}");
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
