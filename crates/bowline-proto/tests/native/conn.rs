//! What joins two ends.

use bowline_proto::time::Instant;

use crate::common::pipe::Pipe;

/// A connection; on a lossy transport, a link number. Bytes put into a half-open one go nowhere.
#[derive(Default)]
pub(crate) struct Conn {
    pub(crate) half_open: bool,
    pub(crate) up: Way,
    pub(crate) down: Way,
    /// Lossy: when the opening is said again, until it is answered.
    pub(crate) repeat: Option<Instant>,
    pub(crate) give_up: Instant,
}

/// One direction.
#[derive(Default)]
pub(crate) struct Way {
    pub(crate) pipe: Pipe,
    /// What the receiver has read and not used.
    pub(crate) read: Vec<u8>,
    /// The opening or the answer has been read.
    pub(crate) greeted: bool,
}
