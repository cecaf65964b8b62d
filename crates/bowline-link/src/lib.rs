//! The part of Bowline's client and server that is the same: the queues of one device and the pump
//! between them and a socket.
//!
//! An [`Endpoint`] is one end of the conversation with one peer. It holds the engine's session, an
//! inbox and an outbox, and survives links. [`Endpoint::drive`] runs one link over a connected
//! socket until it ends; the next link goes on where it stopped.
//!
//! The queues are in memory. They are the seam where a durable store goes: a message is acknowledged
//! only after [`inbox`] has accepted it, and leaves [`outbox`] only when the peer has acknowledged it.

mod clock;
mod driver;
mod endpoint;
mod error;
mod inbox;
mod message;
mod outbox;
mod sending;
mod status;

pub use clock::Clock;
pub use driver::Drive;
pub use endpoint::{Endpoint, Ledger, Limits};
pub use error::{RecvError, SendError};
pub use inbox::DeadLetter;
pub use message::Message;
pub use sending::Sending;
pub use status::{DownReason, LinkState, Status, StatusWatch};

pub use bowline_proto::wire::MessageError;
