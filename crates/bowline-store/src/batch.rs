//! Messages that came together, as one row of the inbox holds them.
//!
//! A row costs many times what a small message in it does, when it comes and when it goes. So those that a transaction
//! brings of one device share rows. When some of a row go before the others, the rest is written anew.

use bytes::Bytes;

use crate::checksum::Checksum;
use crate::device::Key;
use crate::rows::{clamp, size};
use crate::{InboxMessage, Millis, Seq};

const BATCH: u64 = 9;
const MESSAGES: u64 = 10;

/// Bytes of a row above which the next message begins another one. Bounds what is written anew.
const ENOUGH: usize = 8 * 1024;

/// Bytes of a message beside its header and payload: seq, epoch, time, qos, two lengths.
const FIXED: usize = 8 + 8 + 8 + 1 + 4 + 4;

/// Messages in the order of their seqs, at least one of which is in a row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Batch {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) count: u64,
    /// Of headers and payloads.
    pub(crate) bytes: u64,
    pub(crate) messages: Vec<u8>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// No more belongs into the row.
    pub(crate) fn is_full(&self) -> bool {
        self.messages.len() >= ENOUGH
    }

    /// Adds the next message.
    pub(crate) fn push(&mut self, message: &InboxMessage) {
        let InboxMessage { seq, epoch, qos, received_at, header, payload } = message;
        if self.is_empty() {
            self.first = seq.0;
        }
        self.last = seq.0;
        self.count += 1;
        self.bytes += size(header, payload);
        let len = |bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        let all = &mut self.messages;
        all.reserve(FIXED + header.len() + payload.len());
        all.extend_from_slice(&seq.0.to_le_bytes());
        all.extend_from_slice(&epoch.to_le_bytes());
        all.extend_from_slice(&clamp(received_at.0).to_le_bytes());
        all.push((*qos).into());
        // No quota lets more in than four bytes can count, nor does SQLite.
        all.extend_from_slice(&len(header));
        all.extend_from_slice(&len(payload));
        all.extend_from_slice(header);
        all.extend_from_slice(payload);
    }

    /// The messages; `None` if they are not what the row says they are.
    pub(crate) fn read(&self) -> Option<Vec<InboxMessage>> {
        let mut rest = &self.messages[..];
        let mut found = Batch::default();
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let message = next(&mut rest)?;
            if found.is_empty() {
                found.first = message.seq.0;
            }
            found.last = message.seq.0;
            found.count += 1;
            found.bytes += size(&message.header, &message.payload);
            messages.push(message);
        }
        let Batch { first, last, count, bytes, .. } = *self;
        ([found.first, found.last, found.count, found.bytes] == [first, last, count, bytes]).then_some(messages)
    }

    pub(crate) fn heading(&self) -> Heading {
        let Batch { first, last, count, bytes, .. } = *self;
        Heading { first, last, count, bytes, messages: Checksum::new(MESSAGES).with_bytes(&self.messages).value() }
    }
}

/// What a row says of its messages. It has a checksum of its own: a row that goes is counted, and not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heading {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    /// The checksum of the messages.
    pub(crate) messages: i64,
}

impl Heading {
    pub(crate) fn checksum(self, key: Key) -> i64 {
        let Heading { first, last, count, bytes, messages } = self;
        let sum = Checksum::new(BATCH).with(key.cast_unsigned()).with(first).with(last);
        sum.with(count).with(bytes).with(messages.cast_unsigned()).value()
    }

    /// The messages, if they are those the heading is of.
    pub(crate) fn read(self, messages: Vec<u8>) -> Option<Vec<InboxMessage>> {
        let Heading { first, last, count, bytes, .. } = self;
        let batch = Batch { first, last, count, bytes, messages };
        (batch.heading() == self).then(|| batch.read()).flatten()
    }
}

impl<'a> FromIterator<&'a InboxMessage> for Batch {
    fn from_iter<T: IntoIterator<Item = &'a InboxMessage>>(messages: T) -> Self {
        let mut batch = Batch::default();
        messages.into_iter().for_each(|message| batch.push(message));
        batch
    }
}

fn next(rest: &mut &[u8]) -> Option<InboxMessage> {
    let seq = number(rest)?;
    let epoch = number(rest)?;
    let received_at = number(rest)?;
    let (qos, behind) = rest.split_first()?;
    *rest = behind;
    let [header, payload] = [length(rest)?, length(rest)?];
    let mut bytes = |len| {
        let (bytes, behind) = rest.split_at_checked(len)?;
        *rest = behind;
        Some(Bytes::copy_from_slice(bytes))
    };
    let (header, payload) = (bytes(header)?, bytes(payload)?);
    Some(InboxMessage { seq: Seq(seq), epoch, qos: *qos != 0, received_at: Millis(received_at), header, payload })
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (bytes, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u64::from_le_bytes(*bytes))
}

fn length(rest: &mut &[u8]) -> Option<usize> {
    let (bytes, behind) = rest.split_first_chunk()?;
    *rest = behind;
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64, payload: &[u8]) -> InboxMessage {
        let (header, payload) = (Bytes::from_static(b"abc"), Bytes::copy_from_slice(payload));
        InboxMessage {
            seq: Seq(seq),
            epoch: u64::MAX,
            qos: seq.is_multiple_of(2),
            received_at: Millis(seq * 3),
            header,
            payload,
        }
    }

    #[test]
    fn what_is_put_in_is_read() {
        let messages = [message(7, b"seven"), message(8, b""), message(4_000, &[9; 300])];
        let batch: Batch = messages.iter().collect();
        assert_eq!((batch.first, batch.last, batch.count, batch.bytes), (7, 4_000, 3, 314));
        assert_eq!(batch.read().as_deref(), Some(&messages[..]));
    }

    #[test]
    fn bytes_that_are_no_messages_are_none() {
        let batch: Batch = [message(1, b"one"), message(2, b"two")].iter().collect();
        for len in 0..batch.messages.len() {
            let short = Batch { messages: batch.messages[..len].to_vec(), ..batch.clone() };
            assert_eq!(short.read(), None, "{len} bytes");
        }
        for wrong in [
            Batch { first: 0, ..batch.clone() },
            Batch { last: 3, ..batch.clone() },
            Batch { count: 1, ..batch.clone() },
            Batch { bytes: 13, ..batch.clone() },
        ] {
            assert_eq!(wrong.read(), None);
        }
        let heading = batch.heading();
        assert_ne!(heading.checksum(1), heading.checksum(2), "whose it is counts");
        let mut other = batch.messages.clone();
        other[0] ^= 1;
        assert_eq!(heading.read(other), None);
        assert!(heading.read(batch.messages).is_some());
    }
}
