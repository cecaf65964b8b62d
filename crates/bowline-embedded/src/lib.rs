//! A device's client for boards without an operating system: dialects N and H on embassy, `no_std`, without allocation.
//!
//! [`new`] takes the memory it works in and gives back two halves: a [`Client`], which the application's tasks
//! share, and a [`Runner`], which keeps a link to the server in a task of its own. What [`Client::send`] has
//! accepted waits in an [`Outbox`]: on flash it survives power cuts, in memory it survives links. Each
//! accepted message arrives exactly once, in order.
//!
//! ```
//! use bowline_embedded::{Address, Config, DeviceId, RamOutbox, Resources, Slot, buffer_for, inbox_for};
//! use embassy_futures::join::join;
//! use embassy_time::{Duration, Timer};
//! use embedded_nal_async::TcpConnect;
//!
//! /// Four messages of up to 256 bytes, each way.
//! type Memory<'a> = Resources<RamOutbox<'a>, 4, { inbox_for(4, 4 * 256) }, { buffer_for(256) }>;
//!
//! const READINGS: Address = Address { app: 5, instance: 0, tag: 0 };
//!
//! /// Sends a reading every ten seconds and prints what comes back. `network` is embassy-net's `TcpClient`, `random` the
//! /// chip's generator.
//! async fn board(network: impl TcpConnect, random: impl FnMut(&mut [u8])) {
//!     let (mut slots, mut bytes) = ([Slot::EMPTY; 4], [0; 4 * 256]);
//!     let outbox = RamOutbox::new(&mut slots, &mut bytes, 256);
//!     let mut memory = Memory::new();
//!     let config = Config::new(DeviceId::new("garden").unwrap(), "192.168.0.41:9999".parse().unwrap());
//!     let (client, mut runner) = bowline_embedded::new(&mut memory, outbox, config, random).unwrap();
//!
//!     let application = async {
//!         for reading in 0_u32.. {
//!             // Returns when it is stored; waits while the outbox is full.
//!             client.send(READINGS, &reading.to_be_bytes()).await.unwrap();
//!             let mut buffer = [0; 256];
//!             while let Ok(Some(message)) = client.try_recv(&mut buffer) {
//!                 println!("{:?} on {:?}", message.payload, message.channel);
//!             }
//!             Timer::after(Duration::from_secs(10)).await;
//!         }
//!     };
//!     join(runner.run(&network), application).await;
//! }
//! ```
//!
//! With an outbox on flash, `RamOutbox::new` becomes [`bowline_flash::Outbox::open`], and with a key `Config::new` becomes
//! [`Config::provisioned`]; nothing else changes. On an executor with tasks, the memory goes into a `StaticCell`, and
//! the runner into a task.
//!
//! [`Runner::run_on`] joins and leaves a [`Network`] such as WiFi, [`Client::guard`] feeds a [`Watchdog`] while runner and
//! application are alive, and [`Client::heartbeat`] toggles a LED.
//!
//! # What is kept
//! With an outbox on flash: the messages, their numbering, the epoch, and up to where the server's messages were
//! taken. A power cut neither loses an accepted message nor repeats one. A message from the server that was taken in the
//! moment before may come again, with the same [id](Received::id). Tickets for resumption are in memory: the first
//! link of a life takes a full handshake.
//!
//! # Futures
//! Every future of this crate may be dropped at any await; each says what that means. Handle and runner belong to one
//! executor. A handshake computes for as long as it takes: while it does, that executor runs nothing else.
//!
//! # Memory
//! All of it is the caller's: [`Resources`], the outbox's, the [`Runner`], and the futures. On a Cortex-M3, with four messages of 256
//! bytes on their way out, a client takes 3.8 KB; docs/memory.md has what costs what, flash and stack too, and what is counted.
//! `cargo xtask sizes` measures it.
//!
//! Without the feature `keys`, which is on unless it is turned off, all links are open, and the cryptography is left out of the
//! program.
//!
//! docs/porting.md says what a board brings.
//!
//! [`lines`] is the same for servers that speak dialect H.
//!
//! # Not in it yet
//! Best-effort messages: those of the server are refused on N, and counted.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod channel;
mod client;
mod clock;
mod config;
mod filter;
mod guard;
mod inbox;
pub mod lines;
mod link;
mod network;
mod opener;
mod outbox;
mod runner;
mod seal;
mod shared;
mod speaker;
mod status;
mod wire;

use bowline_proto::native::wire::DATA_OVERHEAD;
use bowline_proto::native::{Kept, Session};

pub use bowline_flash::{Expiry, Message, Policy, PushError, RamOutbox, Slot, WriteError};
pub use bowline_proto::native::wire::Channel as Address;
pub use bowline_proto::native::{CloseReason, Counters};
pub use bowline_proto::{Backoff, DeviceId};
pub use bowline_secure::{AnswerError, Key, KeyId, Protection, Provision};
pub use channel::{Channel, ClaimError, RequestError};
pub use client::{Client, Received, RecvError, StatusWatch};
pub use config::{Config, ConfigError, Security};
pub use filter::{Filtered, FrameFilter};
pub use guard::{Guard, Watchdog};
pub use network::{Network, Supervision};
pub use outbox::Outbox;
pub use runner::Runner;
pub use speaker::{Native, Speaker};
pub use status::{DownReason, LinkState, Status};

use shared::{Begin, Shared};

/// Its examples are compiled with the tests.
#[cfg(all(doctest, feature = "keys"))]
#[doc = include_str!("../../../docs/porting.md")]
struct Porting;

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

/// A client's two halves.
pub type Halves<'a, O, R, S = Native> = (Client<'a, O>, Runner<'a, O, R, S>);

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
    random: R,
) -> Result<Halves<'a, O, R>, ConfigError> {
    config.check()?;
    let kept = Kept { epoch: outbox.epoch(), acked: outbox.acked(), last: outbox.last(), received: outbox.received() };
    let session = Session::resume(kept).map_err(|_| ConfigError::Outbox)?;
    let begin = Begin { epoch: session.epoch(), sent: session.sent(), received: session.received() };
    let buffer = buffer_for(outbox.max_payload());
    assemble(resources, outbox, config, random, Native { session, ticket: None }, begin, buffer)
}

/// Both halves, for a session that goes on at `begin`. `buffer`: the least there must be for what the outbox takes.
fn assemble<'a, O: Outbox, R: FnMut(&mut [u8]), S, const MESSAGES: usize, const INBOX: usize, const BUFFER: usize>(
    resources: &'a mut Resources<O, MESSAGES, INBOX, BUFFER>,
    outbox: O,
    config: Config<'a>,
    mut random: R,
    speaker: S,
    begin: Begin,
    buffer: usize,
) -> Result<Halves<'a, O, R, S>, ConfigError> {
    if BUFFER < buffer {
        return Err(ConfigError::Buffer { needed: buffer });
    }
    // The server may send what goes into the buffer.
    let needed = inbox_for(MESSAGES, BUFFER - wire::OVERHEAD - DATA_OVERHEAD as usize);
    if MESSAGES == 0 || INBOX < needed {
        return Err(ConfigError::Inbox { needed });
    }
    // At random: what comes for a request of the last life is not taken for an answer in this one.
    let mut seed = [0];
    random(&mut seed);
    let (first, last) = config.request_instances;
    let instance = first + seed[0] % (last - first + 1);
    let Resources { shared, input, output } = resources;
    let shared: &'a Shared<O> = shared.insert(Shared::new(outbox, begin, MESSAGES, instance, &config));
    Ok((Client(shared), Runner { shared, speaker, input, output, config, random, failures: 0 }))
}
