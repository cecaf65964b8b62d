//! What can go wrong.

use std::time::Duration;

use super::proxy::Mode;
use super::world::{Filter, Place, SIDES};
use crate::role::CREW;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    KillServer,
    KillDevice(usize),
    KillBoth(usize),
    FreezeServer,
    FreezeDevice(usize),
    /// The proxy of a side passes connections on differently.
    Proxy(Place, Mode),
    /// The server has no descriptors left, and this device comes anew.
    Descriptors(usize),
    // These need a world of its own.
    Link(Place),
    Filter(Place, Filter),
    DiskFull,
}

impl Fault {
    /// `with_world`: the kernel's faults, too.
    pub(super) fn random(random: &mut fastrand::Rng, with_world: bool) -> Self {
        let (device, side) = (random.usize(..CREW.len()), SIDES[random.usize(..2)]);
        match random.u8(..if with_world { 20 } else { 12 }) {
            0..2 => Fault::KillServer,
            2..4 => Fault::KillDevice(device),
            4 => Fault::KillBoth(device),
            5 => Fault::FreezeServer,
            6 => Fault::FreezeDevice(device),
            7 => Fault::Descriptors(device),
            8..12 => Fault::Proxy(
                side,
                match random.u8(..6) {
                    0 => Mode::Late(random.u64(50..500)),
                    1 => Mode::Behind(random.u64(500..3000)),
                    2 => Mode::Bytes,
                    3 => Mode::Swallows,
                    4 => Mode::Stalls,
                    _ => Mode::Resets,
                },
            ),
            12..14 => Fault::Link(side),
            14..18 => Fault::Filter(
                side,
                match random.u8(..4) {
                    0 => Filter::Drops(random.u8(5..50)),
                    1 => Filter::DropsToServer,
                    2 => Filter::DropsFromServer,
                    _ => Filter::Resets,
                },
            ),
            _ => Fault::DiskFull,
        }
    }

    pub(super) fn lasts(&self, random: &mut fastrand::Rng) -> Duration {
        match self {
            Fault::KillServer | Fault::KillDevice(_) | Fault::KillBoth(_) => Duration::ZERO,
            _ => Duration::from_millis(random.u64(200..5000)),
        }
    }

    /// Whether two are about the same thing, and only one can be at a time.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Fault::Proxy(one, _), Fault::Proxy(other, _))
            | (Fault::Filter(one, _) | Fault::Link(one), Fault::Filter(other, _) | Fault::Link(other)) => one == other,
            (Fault::Descriptors(_), Fault::Descriptors(_)) => true,
            (one, other) => one == other,
        }
    }

    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Fault::KillServer => "server killed",
            Fault::KillDevice(_) => "device killed",
            Fault::KillBoth(_) => "server and device killed",
            Fault::FreezeServer => "server frozen",
            Fault::FreezeDevice(_) => "device frozen",
            Fault::Descriptors(_) => "no descriptors",
            Fault::Proxy(_, Mode::Late(_)) => "late",
            Fault::Proxy(_, Mode::Behind(_)) => "behind others",
            Fault::Proxy(_, Mode::Bytes) => "single bytes",
            Fault::Proxy(_, Mode::Swallows) => "swallowed",
            Fault::Proxy(_, Mode::Stalls) => "stalled",
            Fault::Proxy(_, Mode::Resets | Mode::Passes) => "connections reset",
            Fault::Link(_) => "link down",
            Fault::Filter(_, Filter::Drops(_)) => "packets dropped",
            Fault::Filter(_, Filter::DropsToServer) => "deaf server",
            Fault::Filter(_, Filter::DropsFromServer) => "mute server",
            Fault::Filter(_, Filter::Resets) => "packets answered by resets",
            Fault::DiskFull => "disk full",
        }
    }
}
