//! All devices, by id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_link::Limits;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Device;

/// The devices a server knows, connected or not.
#[derive(Debug)]
pub(crate) struct Registry {
    devices: Mutex<HashMap<Arc<str>, Entry>>,
    /// A device was added, or has connected.
    changed: Notify,
    capacity: usize,
    limits: Limits,
}

/// What is kept of a device beside its handle.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) device: Device,
    persistent: bool,
    /// Links that are starting, running or ending. An attached device does not expire, so that one
    /// that comes back at the last moment finds itself whole.
    attached: usize,
    /// It has been attached at least once.
    seen: bool,
    idle_since: Instant,
}

/// Keeps a device from expiring while a link works for it.
#[derive(Debug)]
pub(crate) struct Attachment {
    registry: Arc<Registry>,
    pub(crate) device: Device,
    /// This is the device's first link.
    pub(crate) is_new: bool,
}

impl Registry {
    /// Goes on with `devices`, which no link works for.
    pub(crate) fn new(capacity: usize, limits: Limits, mut devices: HashMap<Arc<str>, Entry>) -> Arc<Self> {
        for entry in devices.values_mut() {
            entry.attached = 0;
            entry.idle_since = Instant::now();
        }
        Arc::new(Registry { devices: Mutex::new(devices), changed: Notify::new(), capacity, limits })
    }

    /// The device with this id; a persistent one that is not known yet is made.
    pub(crate) fn expect(&self, id: &str) -> Device {
        let mut devices = self.lock();
        let entry = entry(&mut devices, id, self.limits);
        entry.persistent = true;
        entry.device.clone()
    }

    /// The device with this id, made if there is room for it, for a link to work for. `None` if
    /// there is no room.
    pub(crate) fn attach(self: &Arc<Self>, id: &str, persistent: bool) -> Option<Attachment> {
        let mut devices = self.lock();
        if !devices.contains_key(id) && devices.len() >= self.capacity {
            return None;
        }
        let entry = entry(&mut devices, id, self.limits);
        entry.persistent |= persistent;
        entry.attached += 1;
        let is_new = !std::mem::replace(&mut entry.seen, true);
        let device = entry.device.clone();
        drop(devices);
        self.changed.notify_waiters();
        Some(Attachment { registry: Arc::clone(self), device, is_new })
    }

    pub(crate) fn get(&self, id: &str) -> Option<Device> {
        self.lock().get(id).map(|entry| entry.device.clone())
    }

    pub(crate) fn all(&self) -> Vec<Device> {
        self.lock().values().map(|entry| entry.device.clone()).collect()
    }

    /// Waits until a device with this id is known.
    pub(crate) async fn known(&self, id: &str) -> Device {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no addition is missed.
            changed.as_mut().enable();
            if let Some(device) = self.get(id) {
                return device;
            }
            changed.await;
        }
    }

    /// Forgets temporary devices that have been away for `expiry`. Returns them.
    pub(crate) fn expire(&self, expiry: Duration) -> Vec<Device> {
        let now = Instant::now();
        let mut expired = Vec::new();
        self.lock().retain(|_, entry| {
            let keep = entry.persistent || entry.attached > 0 || now.duration_since(entry.idle_since) < expiry;
            if !keep {
                expired.push(entry.device.clone());
            }
            keep
        });
        expired
    }

    /// All devices. The registry is empty then.
    pub(crate) fn take(&self) -> HashMap<Arc<str>, Entry> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Entry>> {
        // Nothing panics while it holds the lock.
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entry<'a>(devices: &'a mut HashMap<Arc<str>, Entry>, id: &str, limits: Limits) -> &'a mut Entry {
    devices.entry(id.into()).or_insert_with(|| Entry {
        device: Device::new(id, limits),
        persistent: false,
        attached: 0,
        seen: false,
        idle_since: Instant::now(),
    })
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Some(entry) = self.registry.lock().get_mut(self.device.id()) {
            entry.attached -= 1;
            entry.idle_since = Instant::now();
        }
    }
}
