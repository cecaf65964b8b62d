//! Between a dialect's engine, the bytes and the flow.

mod lines;
mod native;

use bowline_proto::native::CloseReason as NativeClose;
use bowline_proto::time::Instant;

use super::flow::Flow;
use super::wire::Wire;

pub(super) use lines::LinesState;
pub(super) use native::{NativeState, Seal};

/// One link in one dialect.
pub(super) trait Speak: Send {
    /// Whether the server has let the device in.
    fn is_up(&self) -> bool;

    /// Largest payload that the other end takes, once the link is up, if it has said so.
    fn largest(&self) -> Option<usize>;

    /// Whether the device can come back without a full handshake.
    fn has_ticket(&self) -> bool;

    /// Takes what was read, all that is whole.
    fn receive(&mut self, wire: &mut Wire, flow: &mut Flow, now: Instant) -> Result<(), Ended>;

    /// Writes what is due, and says until when nothing more is.
    fn drain(&mut self, wire: &mut Wire, flow: &mut Flow, now: Instant) -> Result<Instant, Ended>;

    /// Bytes wait to be written, or all are.
    fn handle_blocked(&mut self, now: Instant, blocked: bool);

    /// Ends the link in order, as far as the dialect has such a thing. A drain follows.
    fn close(&mut self, now: Instant);
}

/// Why a link has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// The server closed the connection.
    PeerClosed,
    /// An engine gave it up.
    Lines(bowline_proto::legacy::CloseReason),
    Native(NativeClose),
    /// A record was not sealed by the server.
    Forged,
    /// The system's reason.
    Io(std::io::ErrorKind),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::PeerClosed => f.write_str("the server closed the connection"),
            Ended::Lines(reason) => write!(f, "{reason}"),
            Ended::Native(reason) => write!(f, "{reason}"),
            Ended::Forged => f.write_str("a record cannot be opened"),
            Ended::Io(kind) => write!(f, "{kind}"),
        }
    }
}
