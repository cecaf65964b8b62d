//! Bytes and meaning of the legacy dialects.
//!
//! A [`LineScanner`] cuts a byte stream into lines. A line is read as a [`Line`]: a checked view that
//! borrows from it. What is sent is a [`Frame`], which emits into the caller's buffer; a message that
//! a dialect cannot carry is refused there with the reason, so that it never reaches the wire.

mod frame;
pub(crate) mod headers;
mod hex;
mod line;
pub mod login;
mod message_id;
pub(crate) mod plain;
#[cfg(test)]
mod tests;
pub(crate) mod upstream;
mod view;

pub use frame::{Frame, MessageError, MessageRepr};
pub use hex::HexBytes;
pub use line::{LineScanner, LineTooLong};
pub use message_id::MessageId;
pub use view::{Fault, Line, LineError, MessageView};
