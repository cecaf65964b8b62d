//! The outbox as its user sees it.

use bowline_proto::native::Item;
use bowline_proto::native::wire::Channel;
use embedded_storage_async::nor_flash::NorFlash;

use crate::error::{OpenError, PushError, ReadError, WriteError};
use crate::format::{Head, Kind, MAX_PREFIX, Numbers};
use crate::index::{EXPIRED, LOST, NoRoom, Slot};
use crate::log::Log;
use crate::media::Media;
use crate::message::{Clock, Flags, Message, Policy, Prefix, Range};
use crate::recover::{self, Report};

/// Messages on their way to the peer, on flash.
///
/// Seqs are those of the epoch: they begin at 1 behind [`Outbox::begin_epoch`], each new message has the
/// next one, and none is given twice.
///
/// # Dropping futures
/// Any future of these may be dropped at any await. A `push` that was dropped has not accepted its message,
/// once any later call that writes has succeeded; if the power goes before that, the message may be there
/// at the next start, under the seq it would have had. The same holds of a call that has failed, and of
/// every other change: it is not made, or is found at the next start. The flash driver must stand it too:
/// a transfer that goes on after its future is gone must not reach into the next one.
#[derive(Debug)]
pub struct Outbox<'a, F> {
    log: Log<'a, F>,
    /// Most bytes of records there may be.
    room: u32,
    max_payload: usize,
    lost: u64,
}

/// A message that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read<'b> {
    /// Where it belongs.
    pub channel: Channel,
    /// Its bytes, in the caller's buffer.
    pub payload: &'b [u8],
}

impl<'a, F: NorFlash> Outbox<'a, F> {
    /// The outbox on `flash`, all of it, for messages of up to `max_payload` bytes, or as many as fit twice
    /// into a page. Begins a new one where there is none. `slots` bounds how many messages it can hold.
    ///
    /// Reads every page's head, and each page that counts about twice; writes one to three records.
    ///
    /// # Errors
    /// If the flash is not made for it, or does not work, or holds more messages than there are slots.
    pub async fn open(
        flash: F,
        slots: &'a mut [Slot],
        max_payload: usize,
        clock: Clock,
    ) -> Result<(Self, Report), OpenError<F::Error>> {
        let (log, report) = recover::open(flash, slots, clock).await?;
        let most = max_payload.saturating_add(MAX_PREFIX).min(u16::MAX.into());
        let largest = Media::<F>::record(most).min(Media::<F>::LARGEST);
        let pages = log.media.pages();
        // A quarter of the pages stays empty: that bounds how often what is left is moved.
        let filled = (pages - pages.div_ceil(4) - 1).min(pages - 3).max(1);
        let room = filled * (Media::<F>::USABLE - largest - Media::<F>::STATE);
        let max_payload = max_payload.min((largest - Media::<F>::SMALL) as usize - MAX_PREFIX);
        Ok((Outbox { log, room, max_payload, lost: report.lost }, report))
    }

    /// Gives the flash back. Nothing has to be written.
    pub fn close(self) -> F {
        self.log.media.flash
    }

    /// The flash, for a look at its counters.
    pub const fn flash(&self) -> &F {
        &self.log.media.flash
    }

    /// The epoch, 0 if there is none yet.
    pub const fn epoch(&self) -> u64 {
        self.log.numbers.epoch
    }

    /// The peer has everything up to this seq.
    pub const fn acked(&self) -> u64 {
        self.log.numbers.acked - self.log.numbers.base
    }

    /// The last seq given. The next message has the next one.
    pub const fn last(&self) -> u64 {
        self.log.numbers.last - self.log.numbers.base
    }

    /// The seq of the peer up to which everything was received, as [`Outbox::set_received`] has said.
    pub const fn received(&self) -> u64 {
        self.log.numbers.received
    }

    /// Messages waiting for their acknowledgement.
    pub const fn waiting(&self) -> usize {
        self.log.index.len()
    }

    /// Messages that were accepted and could not be read any more, since the start.
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Most bytes of a payload.
    pub const fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// Bytes of flash that a message with a payload of `len` bytes takes up, at most.
    pub const fn size_of(len: usize) -> usize {
        Media::<F>::record(len + MAX_PREFIX) as usize
    }

    /// Bytes of flash for messages, see [`Outbox::size_of`].
    pub const fn room(&self) -> usize {
        self.room as usize
    }

    /// Stores a message; when this returns, it will be delivered, or dropped by its policy and told as a gap.
    /// Returns its seq. What was sent, up to seq `sent`, is not touched by its policy.
    ///
    /// Where little is free, what is left in the oldest page is moved first, in the worst case of all pages.
    ///
    /// # Errors
    /// If there is no room, or it is too large, or the flash fails: the message is not accepted then.
    pub async fn push(&mut self, message: &Message<'_>, sent: u64, clock: Clock) -> Result<u64, PushError<F::Error>> {
        let Message { channel: Channel { app, instance, tag }, policy, expiry, payload } = *message;
        let limit = self.max_payload();
        if payload.len() > limit {
            return Err(PushError::TooLarge { len: payload.len(), limit });
        }
        let channel = [app, instance, tag];
        let sent_number = self.number(sent);
        let range = match self.range(channel, policy, sent_number, payload.len()) {
            Err(NoRoom) => {
                self.expire(sent, clock).await?;
                self.range(channel, policy, sent_number, payload.len()).map_err(|NoRoom| PushError::Full)?
            }
            Ok(range) => range,
        };
        let (flags, prefix) = (Flags::new(policy, expiry, range), Prefix::emit(expiry, range));
        let number = self.log.numbers.last + 1;
        let len = (prefix.bytes().len() + payload.len()) as u16;
        let head =
            Head { kind: Kind::Message, flags: flags.0, len, extra: [app, instance, tag, 0], number, body_crc: 0 };
        let place = self.log.append(head, &[prefix.bytes(), payload]).await?;

        if let Some(range) = range {
            self.log.index.remove_range(range, policy, channel, self.log.holes());
        }
        let expires = match expiry {
            crate::Expiry::Never => 0,
            crate::Expiry::At(seconds) | crate::Expiry::After(seconds) => flags.deadline(seconds, clock),
        };
        let at = self.log.media.address(place);
        // There is a slot: `range` has seen to it.
        self.log.index.insert(Slot { number, at, expires, len, channel, flags, reason: LOST });
        self.log.numbers.last = number;
        Ok(number - self.log.numbers.base)
    }

    /// What must go for a message, if it has room then.
    fn range(&self, channel: [u8; 3], policy: Policy, sent: u64, payload: usize) -> Result<Option<Range>, NoRoom> {
        // Its prefix is reckoned at its longest.
        let size = Media::<F>::record(payload + MAX_PREFIX);
        self.log.index.range(channel, policy, sent.max(self.log.numbers.acked), (size, self.room), Self::bytes_of)
    }

    fn bytes_of(slot: &Slot) -> u32 {
        Media::<F>::record(slot.len.into())
    }

    const fn number(&self, seq: u64) -> u64 {
        self.log.numbers.base.saturating_add(seq)
    }

    /// What stands under a seq; `None` if it is acknowledged or was not given yet.
    pub fn item(&self, seq: u64) -> Option<Item> {
        let Numbers { base, acked, last, .. } = self.log.numbers;
        let number = self.number(seq);
        if number <= acked || number > last {
            return None;
        }
        Some(match self.log.index.get(number) {
            Some(slot) => Item::Message { len: slot.payload() as u32 },
            None => {
                let (last, reason) = self.log.index.hole(number, last);
                Item::Dropped { last: last - base, reason }
            }
        })
    }

    /// Reads a message into `buffer`. What it returns has the checksum it was stored with.
    ///
    /// # Errors
    /// If there is none, or it is damaged; then it is a gap from now on.
    pub async fn read<'b>(&mut self, seq: u64, buffer: &'b mut [u8]) -> Result<Read<'b>, ReadError<F::Error>> {
        let number = self.number(seq);
        let Some(slot) = self.log.index.get(number).copied() else { return Err(ReadError::Missing) };
        let len = slot.payload();
        let Some(payload) = buffer.get_mut(..len) else { return Err(ReadError::Buffer { needed: len }) };
        let place = self.log.place(slot.at);
        // Once more, in case it was the transfer that failed.
        for _ in 0..2 {
            if let Some(head) = self.log.media.head(place).await?
                && (head.kind, head.number, head.len) == (Kind::Message, number, slot.len)
                && self.log.media.body(place, &head, slot.flags.prefix(), payload).await?
            {
                return Ok(Read { channel: slot.channel(), payload });
            }
        }
        self.drops(number, LOST).await.map_err(ReadError::Write)?;
        self.lost += 1;
        Err(ReadError::Damaged)
    }

    /// The peer has everything up to `seq`. If that is lost in a power cut, the messages go out again
    /// under the same seqs, and the peer knows them. So it need not be told at once, or each time.
    ///
    /// # Errors
    /// If the flash fails; then nothing has changed.
    pub async fn acknowledge(&mut self, seq: u64) -> Result<(), WriteError<F::Error>> {
        let number = self.number(seq).min(self.log.numbers.last);
        if number > self.log.numbers.acked {
            let live = self.log.index.behind(number).len() as u32;
            self.log.note(Kind::Ack, 0, number, live).await?;
            self.log.numbers.acked = number;
            self.log.index.remove_through(number);
        }
        Ok(())
    }

    /// Drops messages whose time is up and which were not sent: those behind seq `sent`. Says how many.
    ///
    /// # Errors
    /// If the flash fails; some may have been dropped then.
    pub async fn expire(&mut self, sent: u64, clock: Clock) -> Result<usize, WriteError<F::Error>> {
        let mut count = 0;
        let mut from = self.number(sent);
        while let Some(number) = self.log.index.expired(from, clock).map(|slot| slot.number) {
            self.drops(number, EXPIRED).await?;
            from = number;
            count += 1;
        }
        Ok(count)
    }

    /// Drops a message, for a reason of §11.5. Says whether there was one.
    ///
    /// # Errors
    /// If the flash fails; then it is still there.
    pub async fn remove(&mut self, seq: u64, reason: u8) -> Result<bool, WriteError<F::Error>> {
        let number = self.number(seq);
        let there = self.log.index.get(number).is_some();
        if there {
            self.drops(number, reason).await?;
        }
        Ok(there)
    }

    async fn drops(&mut self, number: u64, reason: u8) -> Result<(), WriteError<F::Error>> {
        self.log.note(Kind::Drop, reason, number, self.log.live() - 1).await?;
        self.log.index.remove(number, reason, self.log.holes());
        Ok(())
    }

    /// Begins an epoch: what is not acknowledged is numbered from 1, and nothing was received (§10.1).
    ///
    /// # Errors
    /// If the flash fails; then it is the old one still.
    pub async fn begin_epoch(&mut self, epoch: u64) -> Result<(), WriteError<F::Error>> {
        let numbers = Numbers { epoch, base: self.log.numbers.acked, received: 0, ..self.log.numbers };
        self.log.state(numbers).await?;
        self.log.numbers = numbers;
        Ok(())
    }

    /// Everything the peer has sent up to this seq was received, and need not come again. For devices that
    /// keep their receive cursor (§14.4); the others never call it.
    ///
    /// # Errors
    /// If the flash fails; then nothing has changed.
    pub async fn set_received(&mut self, seq: u64) -> Result<(), WriteError<F::Error>> {
        if seq > self.log.numbers.received {
            self.log.note(Kind::Received, 0, seq, self.log.live()).await?;
            self.log.numbers.received = seq;
        }
        Ok(())
    }
}
