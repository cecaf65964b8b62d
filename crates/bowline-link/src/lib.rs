//! The part of Bowline's client and server that is the same: the queues of one device and the pump
//! between them and a socket.
//!
//! An [`Endpoint`] is one end of the conversation with one peer. It holds the engine's session, an
//! inbox and an outbox, and survives links. [`Endpoint::drive`] runs one link over a connected
//! socket until it ends; the next link goes on where it stopped.
//!
//! The queues are in memory, and with a [`Storage`] on disk too: a message is acknowledged only after it
//! is stored, and sent only after it is stored under its number. `journal.rs` says when that is.

mod clock;
mod dead;
mod delivery;
mod dialect;
mod driver;
mod endpoint;
mod error;
mod inbox;
mod journal;
mod ledger;
mod limits;
mod message;
mod outbox;
mod outside;
mod policy;
mod saved;
mod sending;
mod status;
mod storage;
mod stream;

pub use clock::Clock;
pub use dead::RetryError;
pub use delivery::Delivery;
pub use dialect::Dialect;
pub use driver::{Drive, Driving, Keep, Lines, Native, Seal, Speech};
pub use endpoint::{Attendant, Endpoint};
pub use error::{MessageError, RecvError, SendError};
pub use inbox::DeadLetter;
pub use ledger::{Ledger, Outage, Totals};
pub use limits::Limits;
pub use message::Message;
pub use outside::Outside;
pub use policy::{DropReason, Policy, Receipt};
pub use sending::Sending;
pub use status::{DownReason, LinkState, Status, StatusWatch};
pub use storage::Storage;
pub use stream::{Socket, Stream};
