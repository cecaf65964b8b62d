//! What is known of the link.

use bowline_proto::native::CloseReason;
use bowline_secure::{AnswerError, Protection};
use embedded_io_async::ErrorKind;

/// The state of the link, and how often it has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The link now.
    pub link: LinkState,
    /// Links that have come up since the start of the board.
    pub connects: u32,
    /// Attempts in a row that gave no lasting link.
    pub failures: u32,
}

/// Whether there is a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkState {
    /// Nothing was tried yet.
    Never,
    /// The server is there.
    Up {
        /// How the link is protected; `None` in open mode.
        protection: Option<Protection>,
    },
    /// It is not, for this reason. The next attempt follows by itself.
    Down(DownReason),
}

/// Why there is no link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DownReason {
    /// The network could not be joined, or did not stay up.
    Network,
    /// The network could not connect.
    Connect(ErrorKind),
    /// No answer to the attempt to connect, or to the opening of the link, in time.
    NoAnswer,
    /// The opening was refused, or answered by something else than the server.
    Opening(AnswerError),
    /// The engine gave the link up, or the server said why it did.
    Engine(CloseReason),
    /// The engine of [dialect H](crate::lines) gave the link up.
    Line(bowline_proto::legacy::CloseReason),
    /// The server closed the connection without a word.
    PeerClosed,
    /// The transport failed.
    Transport(ErrorKind),
    /// The outbox could not be read or written: what is in it stays there.
    Storage,
    /// The runner was dropped.
    Dropped,
}

impl core::fmt::Display for DownReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            DownReason::Network => f.write_str("the network cannot be joined, or does not stay up"),
            DownReason::Connect(kind) => write!(f, "cannot connect: {kind:?}; is the server's address right?"),
            DownReason::NoAnswer => f.write_str("no answer in time"),
            DownReason::Opening(error) => error.fmt(f),
            DownReason::Engine(reason) => reason.fmt(f),
            DownReason::Line(reason) => reason.fmt(f),
            DownReason::PeerClosed => f.write_str("closed by the server: its log says why"),
            DownReason::Transport(kind) => write!(f, "the transport failed: {kind:?}"),
            DownReason::Storage => f.write_str("the outbox cannot be read or written"),
            DownReason::Dropped => f.write_str("the runner was dropped"),
        }
    }
}

impl Status {
    /// Whether the link is up.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.link, LinkState::Up { .. })
    }
}
