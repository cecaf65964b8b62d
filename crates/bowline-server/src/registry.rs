//! All devices, by id.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_link::{Limits, Storage};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Device;
use crate::app::Host;
use crate::login::Refusal;

/// The devices a server knows, connected or not.
#[derive(Debug)]
pub(crate) struct Registry {
    known: Mutex<Known>,
    /// A device was added, or has connected.
    changed: Notify,
    capacity: usize,
    max_links: usize,
    limits: Arc<Limits>,
    storage: Option<Storage>,
    /// Every device is served by the apps.
    host: Option<Arc<Host>>,
}

#[derive(Debug)]
struct Known {
    devices: BTreeMap<Arc<str>, Entry>,
    /// Devices with links attached.
    linked: usize,
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
    pub(crate) fn new(
        capacity: usize,
        max_links: usize,
        limits: Arc<Limits>,
        storage: Option<Storage>,
        host: Option<Arc<Host>>,
        mut devices: BTreeMap<Arc<str>, Entry>,
    ) -> Arc<Self> {
        for entry in devices.values_mut() {
            entry.attached = 0;
            entry.idle_since = Instant::now();
        }
        let known = Mutex::new(Known { devices, linked: 0 });
        Arc::new(Registry { known, changed: Notify::new(), capacity, max_links, limits, storage, host })
    }

    /// The device with this id; a persistent one that is not known yet is made.
    pub(crate) fn expect(&self, id: &str) -> Device {
        let mut known = self.lock();
        let entry = self.entry(&mut known.devices, id);
        entry.persistent = true;
        entry.device.endpoint.set_persistent(true);
        entry.device.clone()
    }

    /// The device with this id, made if there is room for it, for a link to work for.
    pub(crate) fn attach(self: &Arc<Self>, id: &str, persistent: bool) -> Result<Attachment, Refusal> {
        let mut known = self.lock();
        let Known { devices, linked } = &mut *known;
        if devices.get(id).is_some_and(|entry| entry.device.damage().is_some()) {
            return Err(Refusal::Damaged);
        }
        let attached = devices.get(id).map(|entry| entry.attached);
        if attached.is_none() && devices.len() >= self.capacity && !evict(devices) {
            return Err(Refusal::TooManyDevices);
        }
        // A device that has a link keeps its place when it comes again.
        if attached.unwrap_or(0) == 0 {
            if *linked >= self.max_links {
                return Err(Refusal::TooManyLinks);
            }
            *linked += 1;
        }
        let entry = self.entry(devices, id);
        entry.persistent |= persistent;
        entry.device.endpoint.set_persistent(entry.persistent);
        entry.attached += 1;
        let is_new = !std::mem::replace(&mut entry.seen, true);
        let device = entry.device.clone();
        drop(known);
        self.changed.notify_waiters();
        Ok(Attachment { registry: Arc::clone(self), device, is_new })
    }

    pub(crate) fn get(&self, id: &str) -> Option<Device> {
        self.lock().devices.get(id).map(|entry| entry.device.clone())
    }

    /// Forgets a device; whatever is attached to it works for nobody. Says whether it was known.
    pub(crate) fn forget(&self, id: &str) -> bool {
        self.forget_if(id, |_| true).is_some()
    }

    /// Under the lock, so that what the device stores when it comes back is stored behind. Says how many messages
    /// go with it.
    fn forget_if(&self, id: &str, condition: impl Fn(&Entry) -> bool) -> Option<u64> {
        let mut known = self.lock();
        if !known.devices.get(id).is_some_and(condition) {
            return None;
        }
        let Entry { device, attached, .. } = known.devices.remove(id)?;
        known.linked -= usize::from(attached > 0);
        let ledger = device.ledger();
        device.endpoint.forget();
        if let (Some(storage), true) = (&self.storage, device.damage().is_some()) {
            // If there is no room, the next start finds it as it is.
            let change = bowline_store::Change::Forget { device: id.into() };
            let _ = storage.store().commit_with(change, drop);
        }
        Some((ledger.unsent + ledger.unread) as u64)
    }

    pub(crate) fn all(&self) -> Vec<Device> {
        self.lock().devices.values().map(|entry| entry.device.clone()).collect()
    }

    /// Waits until a device with this id is known.
    pub(crate) async fn known(&self, id: &str) -> Device {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no addition is missed.
            changed.as_mut().enable();
            // One that is damaged is not to be waited with: it is closed for good.
            if let Some(device) = self.get(id).filter(|device| device.damage().is_none()) {
                return device;
            }
            changed.await;
        }
    }

    /// Forgets temporary devices that have been away for `expiry`. Returns their ids, and how many messages go
    /// with each.
    pub(crate) fn expire(&self, expiry: Duration) -> Vec<(Arc<str>, u64)> {
        let now = Instant::now();
        let is_old = |entry: &Entry| {
            !entry.persistent && entry.attached == 0 && now.saturating_duration_since(entry.idle_since) >= expiry
        };
        let known = self.lock();
        let old: Vec<Arc<str>> =
            known.devices.iter().filter(|(_, entry)| is_old(entry)).map(|(id, _)| Arc::clone(id)).collect();
        drop(known);
        // One at a time: each may take as long as a commit, and others want in.
        old.into_iter().filter_map(|id| self.forget_if(&id, is_old).map(|messages| (id, messages))).collect()
    }

    /// All devices. The registry is empty then.
    pub(crate) fn take(&self) -> BTreeMap<Arc<str>, Entry> {
        std::mem::take(&mut self.lock().devices)
    }

    fn entry<'a>(&self, devices: &'a mut BTreeMap<Arc<str>, Entry>, id: &str) -> &'a mut Entry {
        let entry = devices.entry(id.into());
        let id = Arc::clone(entry.key());
        entry.or_insert_with(|| {
            let device = Device::new(id, Arc::clone(&self.limits), self.storage.as_ref());
            if let Some(host) = &self.host {
                host.adopt(&device);
            }
            Entry::new(device)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it holds the lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    pub(crate) fn new(device: Device) -> Self {
        Entry { device, persistent: false, attached: 0, seen: false, idle_since: Instant::now() }
    }

    /// A device that an earlier process has stored.
    pub(crate) fn stored(device: Device, persistent: bool) -> Self {
        Entry { persistent, seen: true, ..Entry::new(device) }
    }
}

/// Forgets the temporary device that has been away for longest, if there is one for and from which
/// nothing is queued: a flood of made-up ids must not keep real ones out.
fn evict(devices: &mut BTreeMap<Arc<str>, Entry>) -> bool {
    let oldest = devices
        .values()
        .filter(|entry| !entry.persistent && entry.attached == 0 && entry.device.endpoint.is_idle())
        .min_by_key(|entry| entry.idle_since)
        .map(|entry| entry.device.clone());
    match oldest {
        Some(device) => {
            devices.remove(device.id());
            device.endpoint.forget();
            true
        }
        None => false,
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut known = self.registry.lock();
        let Known { devices, linked } = &mut *known;
        // Not there, or another one, once the device was forgotten or taken for another server.
        let Some(entry) =
            devices.get_mut(self.device.id()).filter(|entry| entry.attached > 0 && entry.device.is_same(&self.device))
        else {
            return;
        };
        entry.attached -= 1;
        entry.idle_since = Instant::now();
        if entry.attached == 0 {
            *linked -= 1;
        }
    }
}
