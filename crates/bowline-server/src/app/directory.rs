//! Other devices than its own, for an app that passes messages on.

use std::fmt;
use std::sync::{Arc, Weak};

use crate::server::Shared;
use crate::{Device, DeviceError};

/// The devices of a server, as apps see them. Does not keep the server running.
#[derive(Clone, Default)]
pub struct Directory(Weak<Shared>);

impl Directory {
    pub(crate) fn of(server: &Arc<Shared>) -> Self {
        Directory(Arc::downgrade(server))
    }

    /// All devices known, in no particular order.
    #[must_use]
    pub fn devices(&self) -> Vec<Device> {
        self.0.upgrade().map(|server| server.registry.all()).unwrap_or_default()
    }

    /// The device with this id, if it is known.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Device> {
        self.0.upgrade()?.registry.get(id)
    }

    /// The device with this id, whether it has ever connected or not. It is persistent from now on; see
    /// [`Server::expect`](crate::Server::expect).
    ///
    /// # Errors
    /// If no such device may log in, or the server is gone.
    pub fn expect(&self, id: &str) -> Result<Device, DeviceError> {
        let server = self.0.upgrade().ok_or(DeviceError::Stopped)?;
        server.may_log_in(id)?;
        Ok(server.registry.expect(id))
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}
