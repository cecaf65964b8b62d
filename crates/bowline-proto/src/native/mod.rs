//! The engine for links in the native dialect, both sides (§7 to §14).
//!
//! A [`Session`] is what device and server know of each other across links: the epoch, and how far
//! each direction has got. A [`Link`] is one transport connection's life, after its opening
//! ([`wire::Opening`]) was exchanged: negotiation, credit, acknowledgements, timers.
//!
//! # Contract
//! 1. The driver exchanges the opening, opens a [`Link`] and calls [`Link::poll_output`] until it
//!    answers [`Output::Wait`] or [`Output::Close`].
//! 2. Whatever happens goes in by a `handle_*` call, on the link or on the session, and is followed by
//!    such a complete drain before time moves on. Debug builds check this.
//! 3. The driver keeps the bytes. It cuts bodies out of the stream ([`wire::record`] or
//!    [`wire::serial`]), unseals them if the link is sealed, and gives each to [`Link::handle_body`].
//!    It keeps messages to send in an outbox until [`Session::acked`] has passed them, and says by
//!    [`Session::handle_outbox`] how far that is *stored*. [`Output::Describe`] asks what stands there
//!    under a seq, [`Output::Data`] has it sent.
//! 4. Each received message or gap comes with a [`Ticket`]. When it and everything before it is
//!    stored, the ticket goes back by [`Session::handle_persisted`]; nothing is acknowledged before.
//!    In the same transaction goes [`Session::save_with`] or [`Session::save_both`], unless the
//!    stored messages tell their seqs and the next process says them by [`Session::handle_inbox`].
//! 5. [`Received::NewEpoch`] asks the driver to renumber its outbox and to store [`Session::save`]; then
//!    [`Session::handle_epoch_stored`].
//! 6. After [`Output::Close`] the driver drops transport, link, and read buffer: a partial record does
//!    not outlive its link.

mod config;
mod counters;
mod judge;
mod link;
mod receive;
mod rx;
mod saved;
mod send;
mod session;
mod start;
#[cfg(test)]
mod tests;
mod timer;
mod tx;
pub mod wire;

pub use config::{Config, Inbox, Room, Transport};
pub use counters::Counters;
pub use judge::Conflict;
pub use link::{CloseReason, Item, Link, Output};
pub use receive::{Input, Received};
pub use saved::{Kept, SAVED_LEN, SavedSent};
pub use session::{Session, Ticket};

pub use crate::SavedError;
