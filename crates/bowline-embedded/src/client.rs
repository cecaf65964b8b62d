//! The client as applications see it.

use core::fmt::Debug;
use core::future::poll_fn;
use core::task::Poll;

use bowline_flash::{Expiry, Message, Policy, PushError};
use bowline_proto::native::Counters;
use bowline_proto::native::wire::Channel as Address;

use crate::inbox::{Taken, TooShort};
use crate::shared::Shared;
use crate::{Outbox, Status};

/// A device's end of the conversation with its server. Can be copied, and used by any number of tasks of the
/// executor that runs the [`Runner`](crate::Runner).
pub struct Client<'a, O>(pub(crate) &'a Shared<O>);

impl<O> Clone for Client<'_, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O> Copy for Client<'_, O> {}

/// A message from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'b> {
    /// Where it belongs.
    pub channel: Address,
    /// Its bytes, in the caller's buffer.
    pub payload: &'b [u8],
    /// Names the message: its epoch, and its number in it. Of messages that are taken one after the other on
    /// the same channel each has a higher one, unless it comes again after a power cut.
    pub id: (u64, u64),
    /// How many messages the server has dropped, by the policies of its streams, between the message before and this
    /// one, whatever their channels. 4,294,967,295 may be more. A message that comes again after a power cut tells its gap
    /// again, unless the gap had come before it and was acknowledged: that of the time before the power cut is forgotten.
    pub gap: u64,
}

/// The buffer is too short for the next message, which stays where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecvError {
    /// Bytes of the payload.
    pub needed: usize,
}

impl core::fmt::Display for RecvError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "expected a buffer of {} bytes or more; the message is still there", self.needed)
    }
}

impl core::error::Error for RecvError {}

impl<'a, O: Outbox> Client<'a, O> {
    /// Sends a message: waits until there is room in the outbox, and until it is stored there. Then it will be
    /// delivered, whatever becomes of links, or of the power if the outbox stands that.
    ///
    /// What is larger than the server takes is dropped when it gets to its turn, and told as a gap.
    ///
    /// Cancel-safe: a message whose future was dropped is not sent, unless the power goes before the outbox was
    /// written again.
    ///
    /// # Errors
    /// If it is too large, or the outbox fails; never [`PushError::Full`].
    pub async fn send(&self, channel: Address, payload: &[u8]) -> Result<(), PushError<O::Error>> {
        self.send_message(&message(channel, payload)).await
    }

    /// As [`Client::send`], with a policy and a time. Cancel-safe in the same way.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_message(&self, message: &Message<'_>) -> Result<(), PushError<O::Error>> {
        loop {
            let seen = self.0.room();
            match self.try_send_message(message).await {
                Err(PushError::Full) => self.0.room_after(seen).await,
                result => return result,
            }
        }
    }

    /// As [`Client::send`] for an outbox that has room: it waits for nothing but its memory. Cancel-safe in the
    /// same way.
    ///
    /// # Errors
    /// If there is no room, or as [`Client::send`].
    pub async fn try_send(&self, channel: Address, payload: &[u8]) -> Result<(), PushError<O::Error>> {
        self.try_send_message(&message(channel, payload)).await
    }

    /// As [`Client::try_send`], with a policy and a time. Cancel-safe in the same way.
    ///
    /// # Errors
    /// As [`Client::try_send`].
    pub async fn try_send_message(&self, message: &Message<'_>) -> Result<(), PushError<O::Error>> {
        let mut outbox = self.0.outbox.lock().await;
        outbox.push(message, self.0.sent.get(), self.0.clock()).await?;
        self.0.work.signal(());
        Ok(())
    }

    /// Waits until the server has everything that was sent before. Cancel-safe.
    pub async fn drained(&self) {
        loop {
            let seen = self.0.room();
            if self.0.outbox.lock().await.waiting() == 0 {
                return;
            }
            self.0.room_after(seen).await;
        }
    }

    /// The next message that is for no [open channel](Client::open) and no request, in `buffer`. When this returns, the message
    /// counts as taken: then it is acknowledged, and with an outbox on flash it is noted there before. After
    /// a power cut between these two it comes again, with the same [id](Received::id).
    ///
    /// Cancel-safe: a dropped future has taken nothing. Each message goes to one caller.
    ///
    /// # Errors
    /// If the buffer is too short.
    pub async fn recv<'b>(&self, buffer: &'b mut [u8]) -> Result<Received<'b>, RecvError> {
        self.take(None, buffer).await
    }

    /// The next message if one is there, as [`Client::recv`].
    ///
    /// # Errors
    /// As [`Client::recv`].
    pub fn try_recv<'b>(&self, buffer: &'b mut [u8]) -> Result<Option<Received<'b>>, RecvError> {
        let taken = self.try_take(None, buffer)?;
        Ok(taken.map(|taken| self.received(taken, buffer)))
    }

    /// Takes the next message for this instance, or for none that is claimed.
    pub(crate) async fn take<'b>(&self, of: Option<(u8, u8)>, buffer: &'b mut [u8]) -> Result<Received<'b>, RecvError> {
        let taken = poll_fn(|context| match self.try_take(of, buffer) {
            Ok(None) => {
                self.0.receivers.register(context.waker());
                Poll::Pending
            }
            Ok(Some(taken)) => Poll::Ready(Ok(taken)),
            Err(error) => Poll::Ready(Err(error)),
        })
        .await?;
        Ok(self.received(taken, buffer))
    }

    fn try_take(&self, of: Option<(u8, u8)>, buffer: &mut [u8]) -> Result<Option<Taken>, RecvError> {
        let wanted = |channel: Address| match of {
            Some(of) => (channel.app, channel.instance) == of,
            None => !self.0.claims(channel),
        };
        let taken = self.0.inbox(|inbox| Some(inbox.take(wanted, buffer))).unwrap_or(Ok(None));
        let taken = taken.map_err(|TooShort(needed)| RecvError { needed })?;
        if taken.is_some() {
            self.0.work.signal(());
        }
        Ok(taken)
    }

    fn received<'b>(&self, taken: Taken, buffer: &'b [u8]) -> Received<'b> {
        // What is in the inbox belongs to the epoch there is: a new one clears it.
        let id = (self.0.epoch.get(), taken.seq);
        Received {
            channel: taken.channel,
            payload: buffer.get(..taken.len).unwrap_or_default(),
            id,
            gap: taken.gap.into(),
        }
    }

    /// The link's status now. Up means that the server has answered on it.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.status()
    }

    /// Links so far.
    #[must_use]
    pub fn connects(&self) -> u32 {
        self.status().connects
    }

    /// Follows the link's status.
    #[must_use]
    pub fn watch(&self) -> StatusWatch<'a, O> {
        StatusWatch { shared: self.0, seen: self.0.changes.get() }
    }

    /// Waits until the server is there. Cancel-safe.
    pub async fn connected(&self) {
        let mut watch = self.watch();
        while !self.status().is_up() {
            watch.changed().await;
        }
    }

    /// How well the network was received when the runner last went to connect, in dBm, if it says so.
    #[must_use]
    pub fn signal(&self) -> Option<i8> {
        self.0.signal.get()
    }

    /// What the session has counted since the start of the board.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.counters.get()
    }

    /// Answers that came when nobody waited for them any more, and were discarded.
    #[must_use]
    pub fn late(&self) -> u32 {
        self.0.late.get()
    }

    /// Best-effort messages of the server. This client has no room for them: they are refused.
    #[must_use]
    pub fn refused(&self) -> u32 {
        self.0.refused.get()
    }
}

fn message(channel: Address, payload: &[u8]) -> Message<'_> {
    Message { channel, policy: Policy::Block, expiry: Expiry::Never, payload }
}

/// Follows the link's [`Status`]. Changes in quick succession may be seen as one; `connects` tells.
pub struct StatusWatch<'a, O> {
    shared: &'a Shared<O>,
    seen: u32,
}

impl<O: Outbox> StatusWatch<'_, O> {
    /// Waits for a change since the last one this has returned (at first, since it was made), and says what the
    /// status is then. Cancel-safe: a change is not lost by dropping the future.
    pub async fn changed(&mut self) -> Status {
        poll_fn(|context| {
            let changes = self.shared.changes.get();
            if changes != self.seen {
                self.seen = changes;
                return Poll::Ready(self.shared.status());
            }
            self.shared.watchers.register(context.waker());
            Poll::Pending
        })
        .await
    }
}
