//! What the processes of servers and devices have in common: lives, and how they end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bowline_store::{Durability, Limits, Quota, Store, Worker};
use bowline_store_vfs::Files;
use fastrand::Rng;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Shared;
use crate::disk::SimDisk;
use crate::flash::{Driver, SimFlash};
use crate::medium::{End, Medium, Mood};
use crate::net::{Death, Direction, Place};

/// What happens to a process from outside.
#[derive(Debug)]
pub(super) enum Order {
    /// It ends, and comes back after so many milliseconds.
    Crash { end: End, death: Death, down: u64 },
    /// It ends at its so many-th write to the disk.
    DiskFuse(u64),
    /// It ends at its so many-th write to the network.
    NetFuse(u64),
    /// Its disk is so for so many milliseconds.
    Disk(Mood, u64),
    /// Somebody makes a backup of its disk; the next time, they put it back when it ends.
    Restore,
    /// So many bits of its disk flip when it has ended.
    Rot(usize),
    /// Nothing goes wrong any more.
    Heal,
}

/// One life of a process.
pub(super) struct Life {
    alive: Arc<AtomicBool>,
    /// Everything that it does. Dropped, it is over.
    pub(super) tasks: JoinSet<()>,
    /// Rings when it has been stopped in the middle of something.
    stopped: Arc<Notify>,
}

impl Life {
    pub(super) fn new() -> Self {
        Life { alive: Arc::new(AtomicBool::new(true)), tasks: JoinSet::new(), stopped: Arc::default() }
    }

    /// Whether what its tasks do still counts.
    pub(super) fn pulse(&self) -> Pulse {
        Pulse(Arc::clone(&self.alive))
    }
}

/// Whether a life goes on.
#[derive(Clone)]
pub(super) struct Pulse(Arc<AtomicBool>);

impl Pulse {
    pub(super) fn beats(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A host: what is left of a process when it ends, and what has been ordered.
pub(super) struct Host {
    pub(super) world: Shared,
    place: Place,
    medium: Option<Medium>,
    backup: Option<Files>,
    restore: bool,
    rot: usize,
    /// The disk as it was before bits flipped, until it is known whether somebody has noticed.
    whole: Option<SimDisk>,
    orders: mpsc::UnboundedReceiver<Order>,
    random: Rng,
}

/// How a life ended, and for how long there is none.
pub(super) struct Ending {
    end: End,
    death: Death,
    down: u64,
}

impl Host {
    pub(super) fn new(world: Shared, place: Place, stores: bool, orders: mpsc::UnboundedReceiver<Order>) -> Self {
        let is_new = stores && world.random(|random| random.u32(..8) == 0);
        let disk = stores.then(|| if is_new { SimDisk::new() } else { world.provisioned.disk() });
        let medium = disk.and_then(|disk| world.gives(disk)).map(Medium::Disk);
        Self::with(world, place, medium, orders)
    }

    /// The host of a board: its flash.
    pub(super) fn board(world: Shared, place: Place, orders: mpsc::UnboundedReceiver<Order>) -> Self {
        let flash = SimFlash::new(world.random(|random| random.u64(..)));
        Self::with(world, place, Some(Medium::Flash(flash)), orders)
    }

    fn with(world: Shared, place: Place, medium: Option<Medium>, orders: mpsc::UnboundedReceiver<Order>) -> Self {
        let random = world.random(Rng::fork);
        Host { world, place, medium, backup: None, restore: false, rot: 0, whole: None, orders, random }
    }

    /// The board's program starts, with this for its flash.
    pub(super) fn boots(&mut self, life: &Life) -> Option<Driver> {
        match self.medium.as_ref()? {
            Medium::Flash(flash) => Some(flash.starts(Arc::clone(&life.stopped), self.random.fork())),
            Medium::Disk(_) => None,
        }
    }

    fn durability(&self) -> Durability {
        match self.place.checked_sub(1) {
            Some(device) => self.world.natures[device].durability,
            None => self.world.server_durability,
        }
    }

    fn name(&self) -> String {
        match self.place.checked_sub(1) {
            Some(device) => format!("d{device}"),
            None => "server".to_owned(),
        }
    }

    /// Something is wrong with what is on the disk, says the program. If bits have flipped there, somebody puts in a
    /// copy of how it was before.
    pub(super) fn is_replaced(&mut self, why: &dyn fmt::Display) -> bool {
        let Some(whole) = self.whole.take() else { return false };
        let why = self.nameless(why);
        self.world.says("rot is noticed", || format!("{}: {why}", self.name()));
        self.medium = Some(Medium::Disk(whole));
        true
    }

    /// What a program says, without its folder, whose name is another one in each run.
    fn nameless(&self, what: &dyn fmt::Display) -> String {
        match &self.medium {
            Some(Medium::Disk(disk)) => what.to_string().replace(&*disk.path().to_string_lossy(), "disk"),
            _ => what.to_string(),
        }
    }

    /// The program has found nothing wrong with what is on the disk.
    pub(super) fn is_content(&mut self) {
        if self.whole.take().is_some() {
            self.world.says("rot harms nobody", || self.name());
        }
    }

    /// Opens the store for a life, if there is one, and has its work done.
    pub(super) fn opens(&mut self, life: &mut Life) -> Option<Store> {
        let Medium::Disk(disk) = self.medium.as_ref()? else { return None };
        disk.starts(Arc::clone(&life.stopped));
        let work = Arc::new(Notify::new());
        let call = Arc::clone(&work);
        let quota = Quota { count: 200, bytes: 1 << 20 };
        // After bits have rotted everything is looked at: what is not needed now may be later, and the copy is old then.
        let check_at_open = self.whole.is_some();
        let limits = Limits { inbox: quota, outbox: quota, log_pages: 60, check_at_open, ..Limits::default() };
        match Store::open_driven(disk.path(), self.durability(), limits, move || call.notify_one()) {
            Ok((store, worker)) => {
                let latency = self.random.u64(1..=8);
                life.tasks.spawn(works(worker, work, latency, life.pulse()));
                Some(store)
            }
            Err(error) if self.is_replaced(&error) => self.opens(life),
            Err(error) => {
                let why = self.nameless(&error);
                self.world.fail(format!("{}: the store cannot be opened: {why}", self.name()));
                None
            }
        }
    }

    /// Waits for the end of a life.
    pub(super) async fn suffers(&mut self, life: &Life) -> Ending {
        let mut healing = None;
        loop {
            let heal = async {
                match healing {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let order = tokio::select! {
                biased;
                () = life.stopped.notified() => {
                    self.world.says("stopped in a write", || self.name());
                    let power = self.durability() == Durability::Fsync && self.random.bool();
                    let end = if power { End::PowerCut } else { End::Killed };
                    let death = if power { Death::Silence } else { Death::Reset };
                    return Ending { end, death, down: self.random.u64(1..600) };
                }
                order = self.orders.recv() => order,
                () = heal => {
                    healing = None;
                    self.feels(Mood::Good);
                    continue;
                }
            };
            match order {
                Some(Order::Crash { end, death, down }) => {
                    // Without syncs a power cut takes what was promised.
                    let end = if self.durability() == Durability::Fsync { end } else { End::Killed };
                    return Ending { end, death, down };
                }
                Some(Order::DiskFuse(count)) => {
                    if let Some(medium) = &self.medium {
                        medium.fuse(count);
                    }
                }
                Some(Order::NetFuse(count)) => {
                    self.world.net.fuse(self.place, count, Arc::clone(&life.stopped));
                }
                Some(Order::Disk(mood, time)) => {
                    self.feels(mood);
                    healing = Some(Instant::now() + Duration::from_millis(time));
                }
                Some(Order::Restore) => match (&self.medium, &self.backup) {
                    (Some(medium), None) => self.backup = Some(medium.backup()),
                    (Some(_), Some(_)) => self.restore = true,
                    (None, _) => {}
                },
                Some(Order::Rot(bits)) => self.rot = bits,
                Some(Order::Heal) => {
                    self.rot = 0;
                    self.feels(Mood::Good);
                    if let Some(medium) = &self.medium {
                        medium.fuse(0);
                    }
                    self.world.net.unfuse(self.place);
                }
                None => std::future::pending().await,
            }
        }
    }

    fn feels(&self, mood: Mood) {
        if let Some(medium) = &self.medium {
            medium.feels(mood);
        }
    }

    /// The process is no more: nothing that is left of it can be heard or written.
    pub(super) fn dies(&mut self, life: &mut Life, ending: &Ending) {
        let Ending { end, death, .. } = ending;
        self.world.says("dies", || format!("{} ({end:?}, {death:?})", self.name()));
        self.world.net.dies(self.place, *death);
        self.feels(Mood::Frozen);
        life.alive.store(false, Ordering::Relaxed);
        life.tasks.abort_all();
    }

    /// Waits until it comes back, and finds what is on its disk then. Orders for nobody are forgotten.
    pub(super) async fn rests(&mut self, ending: Ending) {
        let back = Instant::now() + Duration::from_millis(ending.down);
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(back) => break,
                order = self.orders.recv() => match order {
                    Some(Order::Heal) => break,
                    Some(_) => {}
                    None => std::future::pending().await,
                }
            }
        }
        if let Some(medium) = self.medium.take() {
            let next = match self.backup.take_if(|_| std::mem::take(&mut self.restore)) {
                Some(backup) => {
                    self.is_restored();
                    medium.restored(backup)
                }
                None => medium.after(ending.end, &mut self.random),
            };
            self.medium = self.world.gives(next);
            self.rots();
        }
        self.world.says("lives", || self.name());
    }

    fn rots(&mut self) {
        let bits = std::mem::take(&mut self.rot);
        let Some(Medium::Disk(disk)) = self.medium.as_ref().filter(|_| bits > 0) else { return };
        if let Some(rotten) = self.world.gives(disk.rots(bits, &mut self.random))
            && let Some(Medium::Disk(whole)) = self.medium.replace(Medium::Disk(rotten))
        {
            self.whole = Some(whole);
        }
    }

    fn is_restored(&self) {
        self.world.says("restored from a backup", || self.name());
        if let Some(device) = self.place.checked_sub(1) {
            for direction in [Direction::Up, Direction::Down] {
                self.world.stream(device, direction, |stream| stream.is_restored());
            }
        }
    }
}

/// Does the work of a store, as slowly as a disk.
async fn works(worker: Worker, work: Arc<Notify>, latency: u64, pulse: Pulse) {
    loop {
        work.notified().await;
        tokio::time::sleep(Duration::from_millis(latency)).await;
        while pulse.beats() && worker.work() {}
    }
}
