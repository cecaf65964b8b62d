//! Conversations with one instance of an app: channels, and requests with one answer.

use core::fmt::Debug;

use bowline_flash::{Expiry, Message, Policy, PushError};
use bowline_proto::native::wire::Channel as Address;
use embassy_futures::select::{Either, select};
use embassy_time::{Duration, Timer};

use crate::{Client, Outbox, Received, RecvError, clock};

/// One instance of an app: its messages come here, and not to [`Client::recv`]. What was not taken when it is
/// dropped is there for `recv`.
pub struct Channel<'a, O: Outbox>(Claim<'a, O>);

impl<O: Outbox> Channel<'_, O> {
    /// As [`Client::send`]; cancel-safe like it.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send(&self, tag: u8, payload: &[u8]) -> Result<(), PushError<O::Error>> {
        self.0.client.send(self.0.address(tag), payload).await
    }

    /// As [`Client::recv`]; cancel-safe like it. While others do not take theirs, the inbox may be full of these.
    ///
    /// # Errors
    /// As [`Client::recv`].
    pub async fn recv<'b>(&self, buffer: &'b mut [u8]) -> Result<Received<'b>, RecvError> {
        self.0.client.take(Some(self.0.of), buffer).await
    }
}

/// Why a channel was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimError {
    /// This instance is open.
    InUse,
    /// As many channels and requests as there may be, 8, are open.
    TooMany,
}

impl core::fmt::Display for ClaimError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            ClaimError::InUse => "this instance is open already",
            ClaimError::TooMany => "8 channels and requests are open: end one of them first",
        })
    }
}

impl core::error::Error for ClaimError {}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError<E> {
    /// Nothing was sent: there are too many requests.
    Claim(ClaimError),
    /// The time was up before there was room in the outbox: nothing was sent.
    NoRoom,
    /// It was not accepted.
    Send(PushError<E>),
    /// No answer came in time. Whether the app has handled the request, or will, is not known.
    NoAnswer,
    /// The buffer is too short for the answer, which is discarded.
    Buffer {
        /// Bytes of the answer.
        needed: usize,
    },
}

impl<E: Debug> core::fmt::Display for RequestError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            RequestError::Claim(error) => write!(f, "nothing was sent: {error}"),
            RequestError::NoRoom => f.write_str("nothing was sent: the outbox was full for all of the time"),
            RequestError::Send(error) => write!(f, "nothing was sent: {error}"),
            RequestError::NoAnswer => {
                f.write_str("no answer came in time; the app may have handled the request, or may do so yet")
            }
            RequestError::Buffer { needed } => write!(f, "expected a buffer of {needed} bytes or more for the answer"),
        }
    }
}

impl<E: Debug> core::error::Error for RequestError<E> {}

impl<'a, O: Outbox> Client<'a, O> {
    /// Opens an instance of the app with the ident `app`. What the server sends to it comes to the channel.
    ///
    /// # Errors
    /// If it is open, or too much is.
    pub fn open(&self, app: u8, instance: u8) -> Result<Channel<'a, O>, ClaimError> {
        Claim::new(*self, (app, instance), false).map(Channel)
    }

    /// Sends a request to an app, under an instance id of its own, and waits for what comes back on that.
    ///
    /// Cancel-safe: dropping the future gives the instance back. If the request has its place in the outbox, it may
    /// be handled all the same; its answer is discarded and counted ([`Client::late`]). A request that has not
    /// been sent when its time is up is not sent later, give or take a second. An answer that comes after all other
    /// instances were used is mistaken for that of another request.
    ///
    /// # Errors
    /// If there is no answer in time.
    pub async fn request<'b>(
        &self,
        app: u8,
        tag: u8,
        payload: &[u8],
        timeout: Duration,
        buffer: &'b mut [u8],
    ) -> Result<Received<'b>, RequestError<O::Error>> {
        let claim = self.claims_next(app).map_err(RequestError::Claim)?;
        let seconds = timeout.as_millis().div_ceil(1_000).try_into().unwrap_or(u32::MAX);
        let message =
            Message { channel: claim.address(tag), policy: Policy::Block, expiry: Expiry::After(seconds), payload };
        let mut timer = Timer::at(clock::after(timeout));
        match select(self.send_message(&message), &mut timer).await {
            Either::First(result) => result.map_err(RequestError::Send)?,
            Either::Second(()) => return Err(RequestError::NoRoom),
        }
        match select(self.take(Some(claim.of), buffer), timer).await {
            Either::First(Ok(received)) => Ok(received),
            Either::First(Err(RecvError { needed })) => Err(RequestError::Buffer { needed }),
            Either::Second(()) => Err(RequestError::NoAnswer),
        }
    }

    /// The instance that was not used for longest.
    fn claims_next(&self, app: u8) -> Result<Claim<'a, O>, ClaimError> {
        let (first, last) = self.0.request_instances;
        for _ in first..=last {
            let instance = self.0.instance.get();
            self.0.instance.set(if instance == last { first } else { instance.wrapping_add(1) });
            match Claim::new(*self, (app, instance), true) {
                Err(ClaimError::InUse) => {}
                result => return result,
            }
        }
        Err(ClaimError::TooMany)
    }
}

/// An instance whose messages are for one caller, until this is dropped.
struct Claim<'a, O: Outbox> {
    client: Client<'a, O>,
    of: (u8, u8),
    /// What was not taken in the end is not for anybody.
    discards: bool,
}

impl<'a, O: Outbox> Claim<'a, O> {
    fn new(client: Client<'a, O>, of: (u8, u8), discards: bool) -> Result<Self, ClaimError> {
        if client.0.is_claimed(of) {
            return Err(ClaimError::InUse);
        }
        if !client.0.replaces_claim(None, Some(of)) {
            return Err(ClaimError::TooMany);
        }
        Ok(Claim { client, of, discards })
    }

    const fn address(&self, tag: u8) -> Address {
        Address { app: self.of.0, instance: self.of.1, tag }
    }
}

impl<O: Outbox> Drop for Claim<'_, O> {
    fn drop(&mut self) {
        let shared = self.client.0;
        shared.replaces_claim(Some(self.of), None);
        if self.discards {
            let mine = |channel: Address| (channel.app, channel.instance) == self.of;
            let discarded = shared.inbox(|inbox| inbox.discard(mine));
            shared.late.set(shared.late.get().wrapping_add(discarded));
            shared.work.signal(());
        } else {
            shared.receivers.wake();
        }
    }
}
