//! Bowline's server as a library: one port for all dialects, and devices that outlive their links.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let server = bowline_server::Server::builder().listen("127.0.0.1:9999".parse()?).start().await?;
//! let kitchen = server.device("kitchen").await?; // waits until it is there
//! kitchen.send(r#"{"led": 1}"#).await?; // returns when the board has acknowledged it
//! let answer = kitchen.recv().await?;
//! println!("{:?}", answer.text());
//! # Ok(()) }
//! ```
//!
//! A [`Device`] is known by its id. It keeps its queues while it is away; [`Device::send`] waits for
//! it, however many links that takes. With [`Builder::store`] its queues and its session are on disk too,
//! and survive this process; without, what is not acknowledged is still with the board and comes again.

mod accept;
mod admission;
mod app;
mod builder;
mod dead;
mod device;
mod keys;
mod link;
mod listener;
mod lobby;
mod login;
mod native;
mod opening;
mod rate;
mod registry;
mod server;
mod stats;

pub use accept::Listener;
pub use admission::{Admission, Dialects, IdPattern};
pub use app::{App, AppError, AppEvent, AppLimits, AppMessage, AppRule, AppStats, Directory, Handled, Instance, Port};
pub use builder::{Builder, StartError};
pub use dead::DeadError;
pub use device::Device;
pub use keys::{Date, DeviceKeys, Issued, KeyChanges, KeyInfo, KeyState, Keys, KeysError};
pub use server::{DeviceError, PortError, Server, Sessions};
pub use stats::Stats;

pub use bowline_link::{
    DeadLetter, Delivery, Dialect, DownReason, DropReason, Ledger, Limits, LinkState, Message, MessageError, Outage,
    Outside, Policy, Receipt, RecvError, RetryError, SendError, Sending, Socket, Status, StatusWatch, Stream, Totals,
};
pub use bowline_secure::{KeyId, Protection};
pub use bowline_store::{DeadId, DeadLetterEntry, Direction};
