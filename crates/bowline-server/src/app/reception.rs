//! Who sees to a device that has something for the apps: a device that says nothing has no task.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bowline_link::{Attendant, Endpoint};
use tokio::sync::Notify;

use super::desk::{Clerk, Known};
use super::host::{Host, Stage};
use crate::Device;

/// Nobody is at work.
const FREE: u8 = 0;
/// A clerk is, and has seen everything.
const BUSY: u8 = 1;
/// A clerk is, and has something to look at.
const CALLED: u8 = 2;

/// Calls a clerk for a device when there is something to do. One that has nothing on its desk leaves.
#[derive(Debug)]
pub(super) struct Reception {
    me: Weak<Reception>,
    host: Weak<Host>,
    id: Arc<str>,
    at_work: AtomicU8,
    /// What the last clerk has left behind; `None` before the first one.
    known: Mutex<Option<Known>>,
    wake: Notify,
}

impl Reception {
    /// Sees to `device` from now on.
    pub(super) fn opens(host: &Arc<Host>, device: &Device) {
        let reception = Arc::new_cyclic(|me| Reception {
            me: Weak::clone(me),
            host: Arc::downgrade(host),
            id: device.shared_id(),
            at_work: AtomicU8::new(FREE),
            known: Mutex::default(),
            wake: Notify::new(),
        });
        device.endpoint.attended_by(Arc::clone(&reception) as Arc<dyn Attendant>);
        // Not here, where the registry is locked: apps are asked what they want ahead.
        reception.is_called(&device.endpoint);
    }

    /// Works until there is nothing to do, nothing comes any more or the server stops.
    async fn serves(&self, host: &Host, mut clerk: Clerk) {
        let mut stage = host.stage();
        loop {
            let wake = self.wake.notified();
            // Before looking: what comes from here on is a call.
            self.at_work.store(BUSY, Ordering::SeqCst);
            if *stage.borrow() != Stage::Run || !clerk.works() {
                break;
            }
            if self.leaves(&clerk) {
                return;
            }
            tokio::select! {
                biased;
                _ = stage.wait_for(|stage| *stage != Stage::Run) => break,
                () = wake => {}
            }
        }
        clerk.closes();
    }

    /// Whether the clerk may go. Not if it was called meanwhile.
    fn leaves(&self, clerk: &Clerk) -> bool {
        let Some(known) = clerk.may_leave() else { return false };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        self.at_work.compare_exchange(BUSY, FREE, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

impl Attendant for Reception {
    fn is_called(&self, endpoint: &Endpoint) {
        match self.at_work.swap(CALLED, Ordering::SeqCst) {
            FREE => {}
            BUSY => return self.wake.notify_one(),
            _ => return,
        }
        let (Some(host), Some(me)) = (self.host.upgrade(), self.me.upgrade()) else { return };
        if host.is_stopping() {
            return;
        }
        let device = Device::of(Arc::clone(&self.id), endpoint.clone());
        let task = {
            let host = Arc::clone(&host);
            async move {
                let known = *me.known.lock().unwrap_or_else(PoisonError::into_inner);
                let clerk = match known {
                    Some(known) => Clerk::again(Arc::clone(&host), device, known),
                    None => Clerk::new(Arc::clone(&host), device),
                };
                me.serves(&host, clerk).await;
            }
        };
        host.spawn(Box::pin(task));
    }
}
