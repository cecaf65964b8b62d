//! The engine for links in the legacy dialects, both sides (§2 to §5).
//!
//! A [`Session`] is what must survive a link: which id comes next, what is in flight, what has been
//! accepted. A [`Link`] is one transport connection's life: framing, timers, pacing. The link borrows
//! the session in every call; opening the next link takes the session away from the one before, and
//! calls on that one then do nothing but ask to be closed.
//!
//! # Contract
//! 1. The driver opens a [`Link`] with [`Link::open`] and calls [`Link::poll_output`] until it
//!    answers [`Output::Wait`] or [`Output::Close`].
//! 2. Whatever happens goes in by a `handle_*` call, and is followed by such a complete drain before
//!    time moves on. Debug builds check this.
//! 3. The driver keeps the bytes: received ones until they are consumed, messages to send in an
//!    outbox of its own. It tells by [`Link::handle_queue`] whether there are any, and writes the
//!    head of the outbox when it is told [`Output::Message`]. The head leaves the outbox when
//!    [`Received::Acked`] says so.
//! 4. Each received message comes with a [`Ticket`]. The message is acknowledged and remembered only
//!    when the ticket comes back by [`Link::handle_accepted`]: accept, then mark, then ACK.
//! 5. A durable session is saved by [`Session::save_with`] whenever it says by [`Session::wants_save`]
//!    that it cannot go on, and with every transaction that stores received messages, or drops
//!    acknowledged ones. After the commit tickets go back, and the mark by [`Session::handle_saved`];
//!    a drain follows. Volatile sessions need none of this.
//! 6. After [`Output::Close`] the driver drops the transport and the link, and the read buffer with
//!    it: a partial line does not outlive its link.

mod counters;
mod link;
mod pace;
mod recent;
mod saved;
mod session;
#[cfg(test)]
mod tests;
mod timer;
mod tx;

pub use counters::Counters;
pub use link::{CloseReason, Config, Incoming, Input, Kind, Link, Output, Queue, Received};
pub use pace::Pace;
pub use saved::{SAVED_MAX, Saved};
pub use session::{Generation, Session, Ticket};
pub use tx::Mark;

pub use crate::SavedError;
