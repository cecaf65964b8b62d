//! What goes wrong.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::mpsc;

use super::World;
use super::host::Order;
use crate::medium::{End, Mood};
use crate::net::{Death, Direction, Way};
use crate::outside;

/// Something that goes wrong, with a device's way, with a process or with a disk.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// The device's connections break, and both ends learn it.
    Cut { device: usize },
    /// They go silent in these directions, and nobody learns it.
    HalfOpen { device: usize, directions: Vec<Direction> },
    /// Nothing goes through for so long, and arrives then.
    Partition { device: usize, time: u64 },
    /// Nobody is let in for so long.
    Refused { device: usize, time: u64 },
    /// The way is bad for so long.
    Bad { device: usize, way: Way, time: u64 },
    /// A process ends.
    Crash { place: usize, end: End, death: Death, down: u64 },
    /// A process ends in the middle of a write to its disk.
    CrashInCommit { place: usize, writes: u64 },
    /// A process ends in the middle of a write to the network.
    CrashInSend { place: usize, writes: u64 },
    /// A disk is full or fails.
    Disk { place: usize, mood: Mood, time: u64 },
    /// The clocks are set.
    Clock { jump: i64 },
    /// Strangers come and say something.
    Flood { device: usize, count: usize },
    /// A backup is made of a device, or put back.
    Restore { device: usize },
    /// Bits of a disk flip before the next process finds it.
    Rot { place: usize, bits: usize },
}

/// The kinds of faults and how often each is drawn, of all where all can happen.
const KINDS: [(Kind, u32); 13] = [
    (Kind::Cut, 22),
    (Kind::HalfOpen, 10),
    (Kind::Partition, 6),
    (Kind::Refused, 4),
    (Kind::Bad, 14),
    (Kind::Crash, 10),
    (Kind::CrashInCommit, 8),
    (Kind::CrashInSend, 5),
    (Kind::Disk, 7),
    (Kind::Clock, 3),
    (Kind::Flood, 3),
    (Kind::Restore, 1),
    (Kind::Rot, 2),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Cut,
    HalfOpen,
    Partition,
    Refused,
    Bad,
    Crash,
    CrashInCommit,
    CrashInSend,
    Disk,
    Clock,
    Flood,
    Restore,
    Rot,
}

/// The kinds that happen in a world: about half of them. Where everything happens all the time, nothing that takes a
/// while without one of them ever does.
#[derive(Debug, Clone)]
pub(super) struct Kinds(Vec<(Kind, u32)>);

impl Kinds {
    pub(super) fn draw(random: &mut Rng) -> Self {
        // Links break in every world.
        Kinds(KINDS.into_iter().filter(|(kind, _)| *kind == Kind::Cut || random.bool()).collect())
    }

    fn one(&self, random: &mut Rng) -> Kind {
        let all: u32 = self.0.iter().map(|(_, weight)| weight).sum();
        let mut at = random.u32(..all);
        let found = self.0.iter().find(|(_, weight)| match at.checked_sub(*weight) {
            Some(rest) => {
                at = rest;
                false
            }
            None => true,
        });
        found.map_or(Kind::Cut, |(kind, _)| *kind)
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (kind, _)) in self.0.iter().enumerate() {
            write!(f, "{}{kind:?}", if at > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl Fault {
    pub(super) fn draw(random: &mut Rng, world: &World) -> Self {
        let device = random.usize(..world.natures.len());
        // The server's troubles are everybody's.
        let place = if random.u32(..3) == 0 { 0 } else { device + 1 };
        let time = if random.u32(..4) == 0 { random.u64(500..2_500) } else { random.u64(5..400) };
        match world.kinds.one(random) {
            Kind::Cut => Fault::Cut { device },
            Kind::HalfOpen => {
                let directions = [vec![Direction::Up, Direction::Down], vec![Direction::Up], vec![Direction::Down]];
                Fault::HalfOpen { device, directions: random.choice(directions).unwrap_or_default() }
            }
            Kind::Partition => Fault::Partition { device, time },
            Kind::Refused => Fault::Refused { device, time },
            Kind::Bad => {
                let mut way = Way { latency: random.u64(1..120), ..Way::default() };
                match random.u32(..4) {
                    0 => way.piece = random.usize(1..4),
                    1 => way.loss = random.u32(5..50),
                    2 => way.window = random.usize(..64),
                    _ => {}
                }
                Fault::Bad { device, way, time }
            }
            Kind::Crash => {
                let end = if random.bool() { End::Killed } else { End::PowerCut };
                let death = [Death::Reset, Death::Finish, Death::Silence][random.usize(..3)];
                let death = if end == End::PowerCut { Death::Silence } else { death };
                Fault::Crash { place, end, death, down: time }
            }
            Kind::CrashInCommit => Fault::CrashInCommit { place, writes: random.u64(1..30) },
            Kind::CrashInSend => Fault::CrashInSend { place, writes: random.u64(1..8) },
            Kind::Disk => {
                let mood = [Mood::Full, Mood::NoSync, Mood::Broken][random.usize(..3)];
                Fault::Disk { place, mood, time }
            }
            Kind::Clock => Fault::Clock { jump: random.i64(-100_000_000..100_000_000) },
            Kind::Flood => Fault::Flood { device, count: random.usize(1..10) },
            Kind::Restore => Fault::Restore { device },
            Kind::Rot => Fault::Rot { place, bits: random.usize(1..4) },
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Fault::Cut { .. } => "fault: cut",
            Fault::HalfOpen { .. } => "fault: half-open",
            Fault::Partition { .. } => "fault: partition",
            Fault::Refused { .. } => "fault: refused",
            Fault::Bad { way: Way { window: 0, .. }, .. } => "fault: window shut",
            Fault::Bad { way: Way { piece: 1..4, .. }, .. } => "fault: small pieces",
            Fault::Bad { way: Way { loss: 1.., .. }, .. } => "fault: loss",
            Fault::Bad { way: Way { window: 1..64, .. }, .. } => "fault: slow peer",
            Fault::Bad { .. } => "fault: slow way",
            Fault::Crash { place: 0, end: End::Killed, .. } => "fault: server killed",
            Fault::Crash { place: 0, .. } => "fault: server loses power",
            Fault::Crash { end: End::Killed, .. } => "fault: device killed",
            Fault::Crash { .. } => "fault: device loses power",
            Fault::CrashInCommit { .. } => "fault: crash in a commit",
            Fault::CrashInSend { .. } => "fault: crash in a send",
            Fault::Disk { mood: Mood::Full, .. } => "fault: disk full",
            Fault::Disk { mood: Mood::NoSync, .. } => "fault: sync fails",
            Fault::Disk { .. } => "fault: disk fails",
            Fault::Clock { .. } => "fault: clock set",
            Fault::Flood { .. } => "fault: strangers",
            Fault::Restore { .. } => "fault: backup",
            Fault::Rot { .. } => "fault: bits rot",
        }
    }

    pub(super) fn strikes(
        self,
        world: &std::sync::Arc<World>,
        random: &mut Rng,
        orders: &[mpsc::UnboundedSender<Order>],
        at: usize,
    ) {
        world.says(self.name(), || format!("#{at} {self:?}"));
        let tell = |place: usize, order| {
            let _ = orders[place].send(order);
        };
        match self {
            Fault::Cut { device } => {
                world.net.cut(device);
            }
            Fault::HalfOpen { device, directions } => {
                world.net.hush(device, &directions);
            }
            Fault::Partition { device, time } => world.for_a_time(device, time, |way| way.severed = true),
            Fault::Refused { device, time } => world.for_a_time(device, time, |way| way.refused = true),
            Fault::Bad { device, way, time } => world.for_a_time(device, time, move |now| *now = way.clone()),
            Fault::Crash { place, end, death, down } => tell(place, Order::Crash { end, death, down }),
            Fault::CrashInCommit { place, writes } => tell(place, Order::DiskFuse(writes)),
            Fault::CrashInSend { place, writes } => tell(place, Order::NetFuse(writes)),
            Fault::Disk { place, mood, time } => tell(place, Order::Disk(mood, time)),
            Fault::Clock { jump } => outside::set_clock(jump),
            Fault::Flood { device, count } => {
                for _ in 0..count {
                    let noise: Vec<u8> = (0..random.usize(..400)).map(|_| random.u8(..)).collect();
                    // Lines and openings that begin well, also in the name of a device that has a key.
                    let begin = [&b""[..], b"00x1\n", b"00s0\n", b"x2\n", b"\xb0\x01", b"GET / HTTP/1.1\r\n"];
                    let begin = random.choice(begin).unwrap_or_default();
                    world.stranger(device, [begin, &noise].concat());
                }
                world.replay(device);
            }
            Fault::Restore { device } => tell(device + 1, Order::Restore),
            Fault::Rot { place, bits } => tell(place, Order::Rot(bits)),
        }
    }
}

impl World {
    /// Somebody connects, says this, and waits for a while.
    fn stranger(&self, device: usize, bytes: Vec<u8>) {
        let connecting = self.net.connect(device);
        tokio::spawn(async move {
            let Ok((mut stream, _)) = connecting.await else { return };
            let _ = stream.write_all(&bytes).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        });
    }

    /// Somebody says what a device that has a key has said before.
    pub(super) fn replay(&self, device: usize) {
        let sealed = self.natures[device].key.is_some();
        if let Some(recording) = sealed.then(|| self.net.recording(device)).flatten() {
            self.says("replayed opening", || format!("d{device}"));
            self.stranger(device, recording);
        }
    }

    /// Changes a device's way, and sets it right after a time.
    fn for_a_time(self: &std::sync::Arc<Self>, device: usize, time: u64, change: impl FnOnce(&mut Way)) {
        self.net.change(device, change);
        let world = std::sync::Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(time)).await;
            world.net.change(device, |way| *way = Way::default());
        });
    }
}
