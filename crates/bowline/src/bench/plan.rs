//! What a run is to do.

use std::time::Duration;

use anyhow::bail;
use bowline_proto::native::wire::Channel;
use bowline_proto::{DeviceId, Dialect};

use super::keys;
use crate::cli::{BenchDialect, FleetArgs, HoldArgs, LatencyArgs, LoadArgs, SizeArgs, StormArgs};

/// Messages on their way at a time, if nothing else is said.
const WINDOW: u32 = 16;

/// A run.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) kind: &'static str,
    pub(super) devices: u32,
    /// What is sent; empty payloads of who sends nothing.
    pub(super) size: Size,
    pub(super) what: What,
}

/// What there is to send.
#[derive(Debug)]
pub(super) struct Size {
    pub(super) window: u32,
    pub(super) bytes: usize,
    pub(super) header: Vec<u8>,
}

/// What happens once all are connected.
#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    Load(Load),
    Hold(Duration),
    Storm { restarts: bool },
}

/// Sending.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) echoes: bool,
    pub(super) warm_up: Duration,
    pub(super) seconds: Duration,
    pub(super) messages: Option<u64>,
}

impl Plan {
    pub(super) fn latency(args: &LatencyArgs) -> anyhow::Result<Self> {
        Self::sending("latency", 1, Some(1), false, &args.size, &args.fleet)
    }

    pub(super) fn load(kind: &'static str, echoes: bool, args: &LoadArgs) -> anyhow::Result<Self> {
        Self::sending(kind, args.devices, args.window, echoes, &args.size, &args.fleet)
    }

    fn sending(
        kind: &'static str,
        devices: u32,
        window: Option<u32>,
        echoes: bool,
        size: &SizeArgs,
        fleet: &FleetArgs,
    ) -> anyhow::Result<Self> {
        let header = size.header.as_ref().map_or(&[][..], |header| &header.0);
        match fleet.dialect {
            BenchDialect::N if !header.is_empty() && header.len() != 3 => {
                bail!("--header: on dialect N it has three bytes: app, instance, tag")
            }
            BenchDialect::U if !header.is_empty() => bail!("--header: dialect U has no place for one"),
            BenchDialect::H if header.len() > 255 => bail!("--header: at most 255 bytes fit"),
            _ => {}
        }
        let window = match (fleet.dialect, window) {
            (BenchDialect::N, window) => window.unwrap_or(WINDOW),
            (_, None | Some(1)) => 1,
            (dialect, Some(window)) => bail!(
                "--window {window}: on dialect {} a device has one message on its way at a time",
                dialect.letter()
            ),
        };
        let size_of = Size { window, bytes: size.bytes.into(), header: header.to_vec() };
        let load = Load { echoes, warm_up: size.warm_up, seconds: size.seconds, messages: size.messages };
        Self::checked(Plan { kind, devices, size: size_of, what: What::Load(load) }, fleet)
    }

    pub(super) fn hold(args: &HoldArgs) -> anyhow::Result<Self> {
        let plan = Plan { kind: "hold", devices: args.devices, size: Size::NOTHING, what: What::Hold(args.seconds) };
        Self::checked(plan, &args.fleet)
    }

    pub(super) fn storm(args: &StormArgs) -> anyhow::Result<Self> {
        let what = What::Storm { restarts: args.restarts };
        Self::checked(Plan { kind: "storm", devices: args.devices, size: Size::NOTHING, what }, &args.fleet)
    }

    fn checked(self, fleet: &FleetArgs) -> anyhow::Result<Self> {
        if fleet.keys.is_some() && fleet.dialect != BenchDialect::N {
            bail!("--keys: only dialect N has keys, and --dialect says {}", fleet.dialect.letter());
        }
        let longest = keys::id(&fleet.prefix, self.devices);
        let fits = match (DeviceId::new(&longest), fleet.dialect.lines()) {
            (Ok(id), Some(dialect)) => id.fits(dialect),
            (Ok(_), None) => longest.len() <= bowline_secure::MAX_ID,
            (Err(_), _) => false,
        };
        if !fits {
            bail!("--prefix: {longest:?} cannot be the id of a device: it is too long, or not printable");
        }
        Ok(self)
    }

    pub(super) fn echoes(&self) -> bool {
        matches!(self.what, What::Load(Load { echoes: true, .. }))
    }
}

impl Size {
    const NOTHING: Size = Size { window: 1, bytes: 0, header: Vec::new() };

    /// The header on dialect N. Checked to be one, or empty.
    pub(super) fn channel(&self) -> Channel {
        match *self.header {
            [app, instance, tag] => Channel { app, instance, tag },
            _ => Channel::default(),
        }
    }
}

impl BenchDialect {
    pub(super) const fn letter(self) -> &'static str {
        match self {
            BenchDialect::N => "N",
            BenchDialect::H => "H",
            BenchDialect::U => "U",
        }
    }

    /// `None` for N, which is not made of lines.
    pub(super) const fn lines(self) -> Option<Dialect> {
        match self {
            BenchDialect::N => None,
            BenchDialect::H => Some(Dialect::Headers),
            BenchDialect::U => Some(Dialect::Upstream),
        }
    }
}
