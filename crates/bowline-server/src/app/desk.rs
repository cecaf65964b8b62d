//! A device's desk: its messages go over it to the instances they are for.
//!
//! A message is on the desk, in the queue of its instance, or in the hands of the instance; all that time it is a
//! [`Delivery`] and takes up room in the device's inbox, so that a slow app holds up its own device and no other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bowline_link::{Delivery, DownReason, LinkState, Status};
use tokio::sync::Notify;

use super::host::{AppEvent, Host, NoRoute};
use super::{Port, instance};
use crate::Device;

/// In the place of an epoch: the instance has not heard of its device yet, and belongs to any life of it.
pub(crate) const UNHEARD: u64 = u64::MAX;

/// What an instance is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Its place among the apps.
    pub(crate) app: usize,
    /// `None`: for messages that have no channel.
    pub(crate) instance: Option<u8>,
    pub(crate) epoch: u64,
}

/// The instances of a device, or those there is one of for all.
#[derive(Debug)]
pub(crate) struct Desk(Mutex<State>);

#[derive(Debug)]
struct State {
    slots: BTreeMap<Key, Slot>,
    link: Link,
    /// Nothing comes any more.
    closed: bool,
}

/// The link as instances see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Down(DownReason),
    /// With its number.
    Up(u64),
}

/// Where an instance sits: its key, whose epoch becomes known with the first message to an instance that was
/// made ahead. It changes under the lock of the desk.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    pub(crate) app: usize,
    instance: Option<u8>,
    epoch: Arc<AtomicU64>,
}

impl Seat {
    fn key(&self) -> Key {
        Key { app: self.app, instance: self.instance, epoch: self.epoch.load(Ordering::Relaxed) }
    }
}

/// What waits for an instance.
#[derive(Debug)]
struct Slot {
    seat: Seat,
    /// `None`: of all devices.
    port: Option<Port>,
    queue: VecDeque<Envelope>,
    wake: Arc<Notify>,
    best_effort: Arc<AtomicUsize>,
    /// The device has a new life since: the instance ends when its queue is empty.
    past: bool,
}

impl Slot {
    fn new(seat: Seat) -> Self {
        Slot {
            seat,
            port: None,
            queue: VecDeque::new(),
            wake: Arc::default(),
            best_effort: Arc::default(),
            past: false,
        }
    }
}

/// A message on its way to an instance.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) delivery: Delivery,
    pub(crate) port: Port,
    _waits: Option<Waits>,
}

/// Counts a best-effort message for as long as it waits.
#[derive(Debug)]
struct Waits(Arc<AtomicUsize>);

impl Waits {
    fn new(count: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let waits = Waits(Arc::clone(count));
        (count.fetch_add(1, Ordering::Relaxed) < limit).then_some(waits)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an instance is to do.
pub(crate) struct Turn {
    pub(crate) message: Option<Envelope>,
    pub(crate) link: Link,
    /// Its device has a new life since.
    pub(crate) past: bool,
    /// Nothing more is to be handled.
    pub(crate) closed: bool,
}

impl Desk {
    fn new(link: Link) -> Arc<Self> {
        Arc::new(Desk(Mutex::new(State { slots: BTreeMap::new(), link, closed: false })))
    }

    /// The desk of the instances there is one of for all devices.
    pub(crate) fn of_all() -> Arc<Self> {
        Self::new(Link::Up(1))
    }

    /// A place for the one instance of an app, and what wakes it.
    pub(crate) fn opens(&self, app: usize) -> (Seat, Arc<Notify>) {
        let seat = Seat { app, instance: None, epoch: Arc::new(UNHEARD.into()) };
        let slot = Slot::new(seat.clone());
        let wake = Arc::clone(&slot.wake);
        self.lock().slots.insert(seat.key(), slot);
        (seat, wake)
    }

    /// What the instance is to do next. `takes` if it has no message in hand.
    pub(crate) fn turn(&self, seat: &Seat, takes: bool) -> Turn {
        let mut state = self.lock();
        let State { slots, link, closed } = &mut *state;
        let slot = slots.get_mut(&seat.key());
        let past = slot.as_ref().is_none_or(|slot| slot.past);
        let message = slot.filter(|_| takes && !*closed).and_then(|slot| slot.queue.pop_front());
        Turn { message, link: *link, past, closed: *closed }
    }

    /// The instance is gone. Says whether its place is, too: it is not if a message has come for it meanwhile,
    /// unless it is `closed`.
    pub(crate) fn leave(&self, seat: &Seat, closed: bool) -> bool {
        let mut state = self.lock();
        let key = seat.key();
        let stays = !closed && !state.closed && state.slots.get(&key).is_some_and(|slot| !slot.queue.is_empty());
        let slot = if stays { None } else { state.slots.remove(&key) };
        drop(state);
        // What is in its queue goes back into the inbox, not under this lock.
        drop(slot);
        !stays
    }

    /// Nothing more is to be handled.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.wake_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake_all(&self) {
        self.slots.values().for_each(|slot| slot.wake.notify_one());
    }
}

fn link_of(status: &Status) -> Link {
    match status.link {
        LinkState::Up { .. } => Link::Up(status.connects),
        LinkState::Down(reason) => Link::Down(reason),
        LinkState::Never => Link::Down(DownReason::Dropped),
    }
}

/// Who works at a device's desk.
pub(super) struct Clerk {
    host: Arc<Host>,
    pub(super) device: Device,
    desk: Arc<Desk>,
    /// Best-effort messages of this device that wait for apps of all devices.
    global_best_effort: Arc<AtomicUsize>,
    known: Known,
    /// Which one decides what the device may use.
    rule: Option<usize>,
}

/// What a clerk has seen of its device.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    epoch: u64,
    connects: u64,
    is_up: bool,
}

impl Clerk {
    /// The first one of a device.
    pub(super) fn new(host: Arc<Host>, device: Device) -> Self {
        let known = Known { epoch: device.epoch(), ..Known::default() };
        let mut clerk = Self::again(host, device, known);
        let status = clerk.device.status();
        clerk.sees(&status);
        clerk.makes_ahead();
        clerk
    }

    /// Takes up where another one has left, with an empty desk.
    pub(super) fn again(host: Arc<Host>, device: Device, known: Known) -> Self {
        let desk = Desk::new(link_of(&device.status()));
        let rule = host.rules.about(device.id());
        Clerk { desk, global_best_effort: Arc::default(), known, rule, host, device }
    }

    /// Hands over what has come, and says whether more may come.
    pub(super) fn works(&mut self) -> bool {
        let status = self.device.status();
        if (status.connects, status.is_up()) != (self.known.connects, self.known.is_up) {
            self.sees(&status);
        }
        loop {
            match self.device.endpoint.try_next() {
                Ok(Some(delivery)) => self.takes(delivery),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// What is to be remembered, if there is nothing on the desk and nobody at it.
    pub(super) fn may_leave(&self) -> Option<Known> {
        let is_free = self.desk.lock().slots.is_empty() && Arc::strong_count(&self.global_best_effort) == 1;
        is_free.then_some(self.known)
    }

    /// Nothing more is to be handled.
    pub(super) fn closes(&self) {
        self.desk.close();
    }

    fn sees(&mut self, status: &Status) {
        self.known.is_up = status.is_up();
        if status.is_up() {
            self.follows_epoch();
        }
        {
            let mut state = self.desk.lock();
            state.link = link_of(status);
            state.wake_all();
        }
        match status.link {
            LinkState::Up { .. } if status.connects > self.known.connects => {
                self.known.connects = status.connects;
                self.host.observe(&self.device, AppEvent::Up);
            }
            LinkState::Down(reason) => {
                self.known.connects = status.connects;
                self.host.observe(&self.device, AppEvent::Down(reason));
            }
            _ => {}
        }
    }

    fn takes(&mut self, delivery: Delivery) {
        let message = delivery.message();
        self.host.observe(&self.device, AppEvent::Received(message));
        if message.epoch() != self.known.epoch {
            self.follows_epoch();
        }
        match self.host.route(self.rule, message.header()) {
            Ok((app, channel)) if self.host.apps[app].is_global() => self.hands_to_all(app, channel, delivery),
            Ok((app, channel)) => self.hands(app, channel, delivery),
            Err(NoRoute::NoApp(reason)) => {
                self.host.unheard.without_app.one();
                self.gives_up(delivery, reason);
            }
            Err(NoRoute::NotAllowed(reason)) => {
                self.host.unheard.not_allowed.one();
                self.gives_up(delivery, reason);
            }
        }
    }

    /// Puts a message into the queue of the app that is one for all devices.
    fn hands_to_all(&self, app: usize, channel: Option<(u8, u8)>, delivery: Delivery) {
        let epoch = delivery.message().epoch();
        let port = self.host.port(&self.device, app, channel, epoch);
        let Some(envelope) = self.envelope(app, delivery, port, &self.global_best_effort) else { return };
        let mut state = self.host.global.lock();
        // It is gone only when the server stops: the message goes back into the inbox.
        if let Some(slot) = state.slots.get_mut(&Key { app, instance: None, epoch: UNHEARD }) {
            slot.queue.push_back(envelope);
            slot.wake.notify_one();
        }
    }

    /// Puts a message into the queue of its instance, which is made if there is none.
    fn hands(&self, app: usize, channel: Option<(u8, u8)>, delivery: Delivery) {
        let epoch = delivery.message().epoch();
        let key = Key { app, instance: channel.map(|(_, instance)| instance), epoch };
        let mut state = self.desk.lock();
        if !state.slots.contains_key(&key) {
            let ahead = Key { epoch: UNHEARD, ..key };
            if epoch == self.known.epoch
                && let Some(slot) = state.slots.remove(&ahead)
            {
                slot.seat.epoch.store(epoch, Ordering::Relaxed);
                state.slots.insert(key, slot);
            } else if state.slots.len() >= self.host.limits.instances {
                drop(state);
                self.host.unheard.without_instance.one();
                let limit = self.host.limits.instances;
                self.gives_up(
                    delivery,
                    format!("the device has {limit} instances of apps already, the most there may be"),
                );
                return;
            } else {
                self.opens(&mut state, key, channel);
            }
        }
        let Some(slot) = state.slots.get_mut(&key) else { return };
        let Some(port) = &slot.port else { return };
        if let Some(envelope) = self.envelope(app, delivery, port.clone(), &slot.best_effort) {
            slot.queue.push_back(envelope);
            slot.wake.notify_one();
        }
    }

    /// Makes an instance.
    fn opens(&self, state: &mut State, key: Key, channel: Option<(u8, u8)>) {
        let port = self.host.port(&self.device, key.app, channel, key.epoch);
        let seat = Seat { app: key.app, instance: key.instance, epoch: Arc::clone(&port.epoch) };
        let past = key.epoch != UNHEARD && key.epoch != self.known.epoch;
        let slot = Slot { past, port: Some(port.clone()), ..Slot::new(seat.clone()) };
        instance::spawn(&self.host, &self.desk, seat, &slot.wake, Some(port));
        state.slots.insert(key, slot);
    }

    /// The device may have begun a new life: what the instances of the one before have is handled by them, and
    /// then they end.
    fn follows_epoch(&mut self) {
        let epoch = self.device.epoch();
        if epoch == self.known.epoch {
            return;
        }
        self.known.epoch = epoch;
        for (key, slot) in &mut self.desk.lock().slots {
            if key.epoch != UNHEARD && key.epoch != epoch {
                slot.past = true;
                slot.wake.notify_one();
            }
        }
        self.makes_ahead();
    }

    fn makes_ahead(&self) {
        for (app, instance) in self.host.ahead(self.device.id(), self.rule) {
            let channel = self.host.channel(&self.device, app, instance);
            let key = Key { app, instance: channel.map(|(_, instance)| instance), epoch: UNHEARD };
            let mut state = self.desk.lock();
            if !state.slots.contains_key(&key) && !state.slots.contains_key(&Key { epoch: self.known.epoch, ..key }) {
                self.opens(&mut state, key, channel);
            }
        }
    }

    /// No app gets the message.
    fn gives_up(&self, delivery: Delivery, reason: String) {
        if delivery.message().seq().is_some() {
            self.host.unheard.said.warn(self.device.id(), &format!("{reason}: kept as a dead letter"));
            delivery.bury(reason);
        } else {
            self.host.unheard.said.warn(self.device.id(), &format!("{reason}: dropped, it was best effort"));
            delivery.done();
        }
    }

    fn envelope(&self, app: usize, delivery: Delivery, port: Port, waiting: &Arc<AtomicUsize>) -> Option<Envelope> {
        let waits = match delivery.message().seq() {
            Some(_) => None,
            None => match Waits::new(waiting, self.host.limits.best_effort) {
                Some(waits) => Some(waits),
                None => {
                    self.host.apps[app].counters.dropped.one();
                    delivery.done();
                    return None;
                }
            },
        };
        Some(Envelope { delivery, port, _waits: waits })
    }
}
