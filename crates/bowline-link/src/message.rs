//! Messages as applications see them.

use bowline_proto::wire::{HexBytes, MessageRepr};

/// A message: a payload, on dialect H with a user header of up to 255 bytes before it.
///
/// The payload is UTF-8 text without a newline; on H it is JSON by convention. Whether a message can
/// be sent is checked when it is sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Header, then payload: one allocation a message.
    bytes: Vec<u8>,
    header_len: usize,
    qos: bool,
}

impl Message {
    /// A message without a user header.
    #[must_use]
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        Message { bytes: payload.into(), header_len: 0, qos: true }
    }

    /// A message with a user header. Only dialect H can carry it.
    #[must_use]
    pub fn with_header(header: &[u8], payload: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(header.len() + payload.len());
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(payload);
        Message { bytes, header_len: header.len(), qos: true }
    }

    pub(crate) fn received(header: HexBytes<'_>, payload: &str, qos: bool) -> Self {
        let mut bytes = Vec::with_capacity(header.len() + payload.len());
        bytes.extend(header.bytes());
        bytes.extend_from_slice(payload.as_bytes());
        Message { bytes, header_len: header.len(), qos }
    }

    /// The user header; empty if there is none.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.bytes[..self.header_len]
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.header_len..]
    }

    /// The payload as text. A received one always is; `None` only for one made from other bytes.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.payload()).ok()
    }

    /// Whether the message was received as qos. On U every message is, on P none.
    #[must_use]
    pub fn is_qos(&self) -> bool {
        self.qos
    }

    pub(crate) fn repr(&self, qos: bool) -> MessageRepr<'_> {
        MessageRepr { qos, header: self.header(), payload: self.payload() }
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("header", &self.header())
            .field("payload", &String::from_utf8_lossy(self.payload()))
            .field("qos", &self.qos)
            .finish()
    }
}

impl From<&str> for Message {
    fn from(payload: &str) -> Self {
        Message::new(payload)
    }
}

impl From<String> for Message {
    fn from(payload: String) -> Self {
        Message::new(payload)
    }
}
