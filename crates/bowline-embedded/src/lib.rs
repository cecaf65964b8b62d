//! A device's client for boards without an operating system.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

#[cfg(target_pointer_width = "32")]
mod budget;
mod channel;
mod client;
mod clock;
mod config;
mod inbox;
mod link;
mod opener;
mod outbox;
mod runner;
mod shared;
mod status;
mod wire;

use bowline_proto::native::wire::DATA_OVERHEAD;
use bowline_proto::native::{Kept, Session};

pub use bowline_flash::{Expiry, Message, Policy, PushError, RamOutbox, Slot};
pub use bowline_proto::native::wire::Channel as Address;
pub use bowline_proto::{Backoff, DeviceId};
pub use bowline_secure::{Key, KeyId, Protection, Provision};
pub use channel::{Channel, ClaimError, RequestError};
pub use client::{Client, Received, RecvError, StatusWatch};
pub use config::{Config, ConfigError, Security};
pub use outbox::Outbox;
pub use runner::Runner;
pub use status::{DownReason, LinkState, Status};

use shared::Shared;

/// What `BUFFER` must be for payloads of up to `payload` bytes, both ways.
#[must_use]
pub const fn buffer_for(payload: usize) -> usize {
    let needed = payload + DATA_OVERHEAD as usize + wire::OVERHEAD;
    if needed < wire::MIN_BUFFER { wire::MIN_BUFFER } else { needed }
}

/// What `INBOX` must be for so many messages with payloads of together `bytes` bytes.
#[must_use]
pub const fn inbox_for(messages: usize, bytes: usize) -> usize {
    messages * inbox::HEAD + bytes
}

/// The memory of a client: its outbox, an inbox for `MESSAGES` messages in `INBOX` bytes ([`inbox_for`]), and a buffer
/// of `BUFFER` bytes ([`buffer_for`]) for each direction.
pub struct Resources<O, const MESSAGES: usize, const INBOX: usize, const BUFFER: usize> {
    shared: Option<Shared<O, [u8; INBOX]>>,
    input: [u8; BUFFER],
    output: [u8; BUFFER],
}

impl<O, const MESSAGES: usize, const INBOX: usize, const BUFFER: usize> Resources<O, MESSAGES, INBOX, BUFFER> {
    /// Memory that is not in use.
    #[must_use]
    pub const fn new() -> Self {
        Resources { shared: None, input: [0; BUFFER], output: [0; BUFFER] }
    }
}

impl<O, const MESSAGES: usize, const INBOX: usize, const BUFFER: usize> Default
    for Resources<O, MESSAGES, INBOX, BUFFER>
{
    fn default() -> Self {
        Resources::new()
    }
}

/// A client in `resources`, which goes on where `outbox` says that the device's last life has ended. The runner must
/// run for anything to happen.
///
/// `random` fills what it is given with bytes that nobody can guess: on it stands the secrecy of encrypted links.
///
/// # Errors
/// If a setting makes no sense.
pub fn new<'a, O: Outbox, R: FnMut(&mut [u8]), const MESSAGES: usize, const INBOX: usize, const BUFFER: usize>(
    resources: &'a mut Resources<O, MESSAGES, INBOX, BUFFER>,
    outbox: O,
    config: Config<'a>,
    mut random: R,
) -> Result<(Client<'a, O>, Runner<'a, O, R>), ConfigError> {
    if !config.fits() {
        return Err(ConfigError::Id { len: config.id.as_str().len() });
    }
    let needed = buffer_for(outbox.max_payload());
    if BUFFER < needed {
        return Err(ConfigError::Buffer { needed });
    }
    // The server may send what goes into the buffer.
    let needed = inbox_for(MESSAGES, BUFFER - wire::OVERHEAD - DATA_OVERHEAD as usize);
    if MESSAGES == 0 || INBOX < needed {
        return Err(ConfigError::Inbox { needed });
    }
    let (first, last) = config.request_instances;
    if first > last || last == u8::MAX {
        return Err(ConfigError::RequestInstances);
    }
    let kept = Kept { epoch: outbox.epoch(), acked: outbox.acked(), last: outbox.last(), received: outbox.received() };
    let session = Session::resume(kept).map_err(|_| ConfigError::Outbox)?;
    // At random: what comes for a request of the last life is not taken for an answer in this one.
    let mut seed = [0];
    random(&mut seed);
    let instance = first + seed[0] % (last - first + 1);
    let Resources { shared, input, output } = resources;
    let shared: &'a Shared<O> = shared.insert(Shared::new(outbox, session, MESSAGES, instance, &config));
    let runner = Runner { shared, input, output, config, random, ticket: None };
    Ok((Client(shared), runner))
}
