//! A device's outbox on NOR flash: store and forward that survives power cuts.
//!
//! [`Outbox`] keeps messages until the peer has acknowledged them, with the epoch, the seqs and the receive
//! cursor of a session in the native dialect, all in one log over a driver of
//! [`NorFlash`](embedded_storage_async::nor_flash::NorFlash). Guarantees, format, wear, memory and why it is a
//! log of our own: `docs/flash.md`.
//!
//! [`RamOutbox`] is the same in memory, for boards that have no flash to spare: it survives links and no power cut.
//!
//! - `format`, `media`: bytes on flash. `cursor`: the records of a page.
//! - `log`: where records go, how pages follow each other. `recover`: what a start reads.
//! - `index`: where messages are, in memory the caller owns. `ram`: nothing but that.
//! - `sim`, a feature: a flash that loses its power, tears and rots, for tests.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "sim"))]
extern crate std;

mod cursor;
mod error;
mod format;
mod index;
mod log;
mod media;
mod message;
mod outbox;
mod ram;
mod recover;
#[cfg(feature = "sim")]
pub mod sim;

pub use error::{GeometryError, OpenError, PushError, ReadError, WriteError};
pub use index::Slot;
pub use message::{Clock, Expiry, Message, Policy};
pub use outbox::{Outbox, Read};
pub use ram::RamOutbox;
pub use recover::Report;
