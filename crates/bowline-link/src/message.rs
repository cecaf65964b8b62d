//! Messages as applications see them.

use std::time::{Duration, SystemTime};

use bowline_proto::native::wire::Channel;
use bowline_proto::wire::{HexBytes, MessageRepr};
use bowline_store::Millis;
use bytes::Bytes;

use crate::{Dialect, MessageError};

/// The channel of messages without a header on dialect N (§11.7).
const NO_CHANNEL: Channel = Channel { app: 0xff, instance: 0xff, tag: 0xff };

/// A message: a payload, and before it a header on the dialects that have one.
///
/// On H the header has up to 255 bytes; on N it is the channel: app, instance and tag, three bytes or
/// none. The payload is UTF-8 text without a newline on H (JSON, by convention), U and P, and any bytes on
/// N. Whether a message can be sent is checked when it is sent. Cheap to clone.
#[derive(Clone)]
pub struct Message {
    /// Header, then payload: one allocation a message.
    bytes: Bytes,
    header_len: usize,
    qos: bool,
    origin: Origin,
}

/// Where a received message comes from; all zero for one that was made here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Origin {
    /// Its place in the inbox, 0 if it was best effort.
    pub(crate) seq: u64,
    pub(crate) epoch: u64,
    /// Messages that its sender has dropped before it.
    pub(crate) gap: u64,
    /// When it came, by the wall clock.
    pub(crate) received_at: Millis,
}

impl Origin {
    /// Of a message that has come in its sender's `epoch`, not yet in the inbox.
    pub(crate) fn of(epoch: u64, received_at: Millis) -> Self {
        Origin { epoch, received_at, ..Origin::default() }
    }
}

impl Message {
    /// A message without a header.
    #[must_use]
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Message { bytes: payload.into(), header_len: 0, qos: true, origin: Origin::default() }
    }

    /// A message with a header.
    #[must_use]
    pub fn with_header(header: &[u8], payload: &[u8]) -> Self {
        Message::of_parts(header.iter().copied(), header.len(), payload, true)
    }

    /// A message on a channel of dialect N; on H the same three bytes are the header of the reference's apps.
    #[must_use]
    pub fn on_channel(app: u8, instance: u8, tag: u8, payload: &[u8]) -> Self {
        Message::with_header(&[app, instance, tag], payload)
    }

    pub(crate) fn from_line(header: HexBytes<'_>, payload: &str, qos: bool) -> Self {
        Message::of_parts(header.bytes(), header.len(), payload.as_bytes(), qos)
    }

    pub(crate) fn from_frame(channel: Channel, payload: &[u8], qos: bool) -> Self {
        let Channel { app, instance, tag } = channel;
        let header = if channel == NO_CHANNEL { &[][..] } else { &[app, instance, tag][..] };
        Message::of_parts(header.iter().copied(), header.len(), payload, qos)
    }

    /// As it was stored.
    pub(crate) fn from_store(header: &Bytes, payload: &Bytes, qos: bool) -> Self {
        Message { qos, ..Message::with_header(header, payload) }
    }

    fn of_parts(header: impl Iterator<Item = u8>, header_len: usize, payload: &[u8], qos: bool) -> Self {
        let mut bytes = Vec::with_capacity(header_len + payload.len());
        bytes.extend(header);
        bytes.extend_from_slice(payload);
        Message { bytes: bytes.into(), header_len, qos, origin: Origin::default() }
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    pub(crate) fn with_origin(self, origin: Origin) -> Self {
        Message { origin, ..self }
    }

    /// The header; empty if there is none.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.bytes[..self.header_len]
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.header_len..]
    }

    /// The payload as text, if it is UTF-8: always, if it was received on H, U or P.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.payload()).ok()
    }

    /// Whether the message was received as qos. On U every message is, on P none.
    #[must_use]
    pub fn is_qos(&self) -> bool {
        self.qos
    }

    /// A number that, with the device's id, names this received message for ever: the same when it is
    /// handed out again after a crash. `None` for best-effort messages and for those made here.
    #[must_use]
    pub fn seq(&self) -> Option<u64> {
        (self.origin.seq > 0).then_some(self.origin.seq)
    }

    /// The epoch of its sender in which it was received. Messages of two epochs come from two lives.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.origin.epoch
    }

    /// When the message came, by the wall clock of this machine, in whole milliseconds: the same when it is
    /// handed out again after a crash. `None` for messages that were made here.
    ///
    /// A device that was forgotten numbers its messages anew; with this, its id and [`Message::seq`] they can
    /// still be told from those before.
    #[must_use]
    pub fn received_at(&self) -> Option<SystemTime> {
        let Millis(ms) = self.origin.received_at;
        (ms > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(ms))
    }

    /// How many messages its sender has dropped, by the policies of its streams, between the message
    /// before and this one. Only N tells.
    #[must_use]
    pub fn gap(&self) -> u64 {
        self.origin.gap
    }

    /// Bytes of header and payload.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn header_bytes(&self) -> Bytes {
        self.bytes.slice(..self.header_len)
    }

    pub(crate) fn payload_bytes(&self) -> Bytes {
        self.bytes.slice(self.header_len..)
    }

    /// As a line dialect sends it.
    pub(crate) fn repr(&self, qos: bool) -> MessageRepr<'_> {
        MessageRepr { qos, header: self.header(), payload: self.payload() }
    }

    /// The channel on N, if its header can be one.
    pub(crate) fn channel(&self) -> Option<Channel> {
        match *self.header() {
            [] => Some(NO_CHANNEL),
            [app, instance, tag] => Some(Channel { app, instance, tag }),
            _ => None,
        }
    }

    /// Whether `dialect` can carry the message. `limit` is the longest line, or the largest payload.
    pub(crate) fn check(&self, dialect: Dialect, qos: bool, limit: usize) -> Result<(), MessageError> {
        match dialect.lines() {
            Some(lines) => self.repr(qos).check(lines, limit).map_err(MessageError::Line),
            None if self.channel().is_none() => Err(MessageError::NotAChannel { len: self.header_len }),
            None if self.payload().len() > limit => {
                Err(MessageError::PayloadTooLarge { len: self.payload().len(), limit })
            }
            None => Ok(()),
        }
    }
}

impl PartialEq for Message {
    /// The same content; where it comes from does not count.
    fn eq(&self, other: &Self) -> bool {
        (&self.bytes, self.header_len, self.qos) == (&other.bytes, other.header_len, other.qos)
    }
}

impl Eq for Message {}

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
        Message::new(payload.as_bytes().to_vec())
    }
}

impl From<String> for Message {
    fn from(payload: String) -> Self {
        Message::new(payload)
    }
}
