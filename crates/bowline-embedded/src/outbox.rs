//! The seam between client and outbox.

use core::convert::Infallible;
use core::fmt::Debug;

use bowline_flash::{Clock, Message, PushError, RamOutbox, Read, ReadError, WriteError};
use bowline_proto::native::Item;
use embedded_storage_async::nor_flash::NorFlash;

/// Where messages wait until the server has them: [`bowline_flash::Outbox`], which survives power cuts, or
/// [`RamOutbox`], which does not.
///
/// The calls are those of [`bowline_flash::Outbox`] and promise the same; above all, any of their futures may be
/// dropped at any await.
#[expect(async_fn_in_trait, reason = "one executor runs client and runner, so no future need be Send")]
pub trait Outbox {
    /// Why storing fails.
    type Error: Debug;

    /// The epoch, 0 if there is none yet.
    fn epoch(&self) -> u64;
    /// The peer has everything up to this seq.
    fn acked(&self) -> u64;
    /// The last seq given.
    fn last(&self) -> u64;
    /// The seq of the peer up to which everything was received and taken.
    fn received(&self) -> u64;
    /// Messages waiting for their acknowledgement.
    fn waiting(&self) -> usize;
    /// Most bytes of a payload.
    fn max_payload(&self) -> usize;
    /// What stands under a seq; `None` if it is acknowledged or was not given yet.
    fn item(&self, seq: u64) -> Option<Item>;

    /// Stores a message and returns its seq. What was sent, up to seq `sent`, is not touched by its policy.
    ///
    /// # Errors
    /// If it is not accepted.
    async fn push(&mut self, message: &Message<'_>, sent: u64, clock: Clock) -> Result<u64, PushError<Self::Error>>;

    /// Reads a message into `buffer`.
    ///
    /// # Errors
    /// If there is none or it is damaged: then it is a gap from now on.
    async fn read<'b>(&mut self, seq: u64, buffer: &'b mut [u8]) -> Result<Read<'b>, ReadError<Self::Error>>;

    /// The peer has everything up to `seq`.
    ///
    /// # Errors
    /// If it could not be stored; then nothing has changed.
    async fn acknowledge(&mut self, seq: u64) -> Result<(), WriteError<Self::Error>>;

    /// Drops messages behind seq `sent` whose time is up. Says how many.
    ///
    /// # Errors
    /// If it could not be stored; some may have been dropped then.
    async fn expire(&mut self, sent: u64, clock: Clock) -> Result<usize, WriteError<Self::Error>>;

    /// Begins an epoch: what is not acknowledged is numbered from 1, and nothing was received.
    ///
    /// # Errors
    /// If it could not be stored; then it is the old one still.
    async fn begin_epoch(&mut self, epoch: u64) -> Result<(), WriteError<Self::Error>>;

    /// Everything up to this seq of the peer was received and taken.
    ///
    /// # Errors
    /// If it could not be stored; then nothing has changed.
    async fn set_received(&mut self, seq: u64) -> Result<(), WriteError<Self::Error>>;
}

impl<F: NorFlash> Outbox for bowline_flash::Outbox<'_, F> {
    type Error = F::Error;

    fn epoch(&self) -> u64 {
        self.epoch()
    }

    fn acked(&self) -> u64 {
        self.acked()
    }

    fn last(&self) -> u64 {
        self.last()
    }

    fn received(&self) -> u64 {
        self.received()
    }

    fn waiting(&self) -> usize {
        self.waiting()
    }

    fn max_payload(&self) -> usize {
        self.max_payload()
    }

    fn item(&self, seq: u64) -> Option<Item> {
        self.item(seq)
    }

    async fn push(&mut self, message: &Message<'_>, sent: u64, clock: Clock) -> Result<u64, PushError<F::Error>> {
        self.push(message, sent, clock).await
    }

    async fn read<'b>(&mut self, seq: u64, buffer: &'b mut [u8]) -> Result<Read<'b>, ReadError<F::Error>> {
        self.read(seq, buffer).await
    }

    async fn acknowledge(&mut self, seq: u64) -> Result<(), WriteError<F::Error>> {
        self.acknowledge(seq).await
    }

    async fn expire(&mut self, sent: u64, clock: Clock) -> Result<usize, WriteError<F::Error>> {
        self.expire(sent, clock).await
    }

    async fn begin_epoch(&mut self, epoch: u64) -> Result<(), WriteError<F::Error>> {
        self.begin_epoch(epoch).await
    }

    async fn set_received(&mut self, seq: u64) -> Result<(), WriteError<F::Error>> {
        self.set_received(seq).await
    }
}

impl Outbox for RamOutbox<'_> {
    type Error = Infallible;

    fn epoch(&self) -> u64 {
        self.epoch()
    }

    fn acked(&self) -> u64 {
        self.acked()
    }

    fn last(&self) -> u64 {
        self.last()
    }

    fn received(&self) -> u64 {
        self.received()
    }

    fn waiting(&self) -> usize {
        self.waiting()
    }

    fn max_payload(&self) -> usize {
        self.max_payload()
    }

    fn item(&self, seq: u64) -> Option<Item> {
        self.item(seq)
    }

    async fn push(&mut self, message: &Message<'_>, sent: u64, clock: Clock) -> Result<u64, PushError<Infallible>> {
        self.push(message, sent, clock)
    }

    async fn read<'b>(&mut self, seq: u64, buffer: &'b mut [u8]) -> Result<Read<'b>, ReadError<Infallible>> {
        RamOutbox::read(self, seq, buffer)
    }

    async fn acknowledge(&mut self, seq: u64) -> Result<(), WriteError<Infallible>> {
        self.acknowledge(seq);
        Ok(())
    }

    async fn expire(&mut self, sent: u64, clock: Clock) -> Result<usize, WriteError<Infallible>> {
        Ok(self.expire(sent, clock))
    }

    async fn begin_epoch(&mut self, epoch: u64) -> Result<(), WriteError<Infallible>> {
        self.begin_epoch(epoch);
        Ok(())
    }

    async fn set_received(&mut self, seq: u64) -> Result<(), WriteError<Infallible>> {
        self.set_received(seq);
        Ok(())
    }
}
