//! What can be sent in lines.

use bowline_flash::{Clock, Message, PushError, Read, ReadError, WriteError};
use bowline_proto::native::Item;

use crate::Outbox;

/// An outbox that accepts what dialect H can send: UTF-8 without newlines. Others are [`PushError::NotUtf8`] and
/// [`PushError::Newline`].
///
/// The outbox within keeps the ids of messages, too: they are told from the seqs, and what cannot be is in its receive cursor, of
/// which H makes no other use.
#[derive(Debug)]
pub struct Text<O>(pub O);

/// Whether H can send it.
pub(super) fn check<E>(payload: &[u8]) -> Result<(), PushError<E>> {
    if payload.contains(&b'\n') {
        return Err(PushError::Newline);
    }
    core::str::from_utf8(payload).map(drop).map_err(|_| PushError::NotUtf8)
}

impl<O: Outbox> Outbox for Text<O> {
    type Error = O::Error;

    fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    fn acked(&self) -> u64 {
        self.0.acked()
    }

    fn last(&self) -> u64 {
        self.0.last()
    }

    fn received(&self) -> u64 {
        self.0.received()
    }

    fn waiting(&self) -> usize {
        self.0.waiting()
    }

    fn max_payload(&self) -> usize {
        self.0.max_payload()
    }

    fn item(&self, seq: u64) -> Option<Item> {
        self.0.item(seq)
    }

    async fn push(&mut self, message: &Message<'_>, sent: u64, clock: Clock) -> Result<u64, PushError<O::Error>> {
        check(message.payload)?;
        self.0.push(message, sent, clock).await
    }

    async fn read<'b>(&mut self, seq: u64, buffer: &'b mut [u8]) -> Result<Read<'b>, ReadError<O::Error>> {
        self.0.read(seq, buffer).await
    }

    async fn acknowledge(&mut self, seq: u64) -> Result<(), WriteError<O::Error>> {
        self.0.acknowledge(seq).await
    }

    async fn expire(&mut self, sent: u64, clock: Clock) -> Result<usize, WriteError<O::Error>> {
        self.0.expire(sent, clock).await
    }

    async fn begin_epoch(&mut self, epoch: u64) -> Result<(), WriteError<O::Error>> {
        self.0.begin_epoch(epoch).await
    }

    async fn set_received(&mut self, seq: u64) -> Result<(), WriteError<O::Error>> {
        self.0.set_received(seq).await
    }
}
