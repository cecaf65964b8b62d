//! One question, one answer.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bowline_link::{Delivery, Dialect, Message, RecvError, SendError, Sending};
use tokio::time::{Instant, timeout_at};

use crate::channels::{Channels, Claim};
use crate::ids::Rest;

/// How long an answer is waited for unless it is said otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a message whose time is up may take to say whether it was sent.
const GRACE: Duration = Duration::from_millis(20);

/// A request to an app, from [`Client::request`](crate::Client::request). Await it for the answer.
///
/// The request goes under an instance id of its own, which is given back when the answer has come. Dropping
/// the future takes the request back if it has no place in the outbox yet; otherwise it is handled by the
/// app, and its answer is discarded and counted ([`Client::late`](crate::Client::late)).
#[must_use = "a request is not sent until it is awaited"]
pub struct Request<'a> {
    channels: &'a Arc<Channels>,
    dialect: Dialect,
    app: u8,
    tag: u8,
    payload: &'a [u8],
    timeout: Duration,
    matching: Box<dyn FnMut(&Message) -> bool + Send + 'a>,
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The caller's mistake: the dialect has no channels.
    #[error("dialect {0} has no channels for requests: speak N or H")]
    NoChannels(Dialect),
    /// All instance ids were in use or in quarantine: nothing was sent.
    #[error(
        "nothing was sent in {timeout:?}: all instance ids of app {app} are in use, or were used for requests that were not answered and may still be"
    )]
    NoIds {
        /// The app's ident.
        app: u8,
        /// How long one was waited for.
        timeout: Duration,
    },
    /// The time was up before there was a link to send it on: it is not sent any more.
    #[error("the request was not sent in {timeout:?}, and is not sent any more: is the server there?")]
    NotSent {
        /// How long the link was waited for.
        timeout: Duration,
    },
    /// It was sent, and no answer came in time. Whether the app has handled it, or will, is not known.
    #[error("no answer came in {timeout:?}; the app may have handled the request, or may do so yet")]
    NoAnswer {
        /// How long the answer was waited for.
        timeout: Duration,
    },
    /// It cannot be sent, or the client was closed.
    #[error(transparent)]
    Send(#[from] SendError),
}

impl<'a> Request<'a> {
    pub(crate) fn new(channels: &'a Arc<Channels>, dialect: Dialect, app: u8, tag: u8, payload: &'a [u8]) -> Self {
        Request { channels, dialect, app, tag, payload, timeout: TIMEOUT, matching: Box::new(|_| true) }
    }

    /// How long to wait, for everything together. Default: 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What is an answer to this request; anything else that comes for its instance is discarded and counted. For apps whose
    /// answers say what they answer, such as those that repeat the tag: with this not even the answer to a
    /// request of an earlier life of the device can be mistaken. Default: whatever comes is the answer.
    pub fn matching(mut self, is_answer: impl FnMut(&Message) -> bool + Send + 'a) -> Self {
        self.matching = Box::new(is_answer);
        self
    }

    async fn run(mut self) -> Result<Message, RequestError> {
        let timeout = self.timeout;
        if !matches!(self.dialect, Dialect::Headers | Dialect::Native) {
            return Err(RequestError::NoChannels(self.dialect));
        }
        // An hour-long timeout is fine, and one beyond all clocks is as good as none.
        let deadline =
            Instant::now().checked_add(timeout).unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400 * 365));
        let claim = self.channels.claim(self.app, Rest::Nothing);
        let claim = match timeout_at(deadline, claim).await {
            Ok(claim) => claim.map_err(|_| SendError::Closed)?,
            Err(_) => return Err(RequestError::NoIds { app: self.app, timeout }),
        };
        let message = Message::on_channel(self.app, claim.instance, self.tag, self.payload);
        let ttl = deadline.saturating_duration_since(Instant::now());
        let sending = self.channels.endpoint().send(message).expires_in(ttl);
        let mut underway = Underway { sending, claim, sent: false, over: false };
        loop {
            match timeout_at(deadline, underway.next()).await {
                Ok(Next::Sent(Ok(()))) => underway.sent = true,
                Ok(Next::Sent(Err(error))) => return Err(underway.not_sent(error, timeout)),
                Ok(Next::Answer(Ok(delivery))) if (self.matching)(delivery.message()) => {
                    let answer = delivery.message().clone();
                    delivery.done();
                    underway.over = true;
                    return Ok(answer);
                }
                Ok(Next::Answer(Ok(delivery))) => underway.claim.discards(delivery),
                Ok(Next::Answer(Err(_))) => return Err(SendError::Closed.into()),
                // Its own alarm rings in this moment.
                Err(_) if !underway.sent => match tokio::time::timeout(GRACE, &mut underway.sending).await {
                    Ok(Err(error)) => return Err(underway.not_sent(error, timeout)),
                    _ => return Err(RequestError::NoAnswer { timeout }),
                },
                Err(_) => return Err(RequestError::NoAnswer { timeout }),
            }
        }
    }
}

/// A request that has its id. However it ends, the id is in quarantine if an answer may still come.
struct Underway<'a> {
    sending: Sending<'a>,
    claim: Claim,
    sent: bool,
    /// It has its answer, or was not sent.
    over: bool,
}

impl Underway<'_> {
    async fn next(&mut self) -> Next {
        tokio::select! {
            biased;
            result = &mut self.sending, if !self.sent => Next::Sent(result),
            answer = self.claim.next() => Next::Answer(answer),
        }
    }

    fn not_sent(&mut self, error: SendError, timeout: Duration) -> RequestError {
        self.over = true;
        match error {
            SendError::Dropped(_) => RequestError::NotSent { timeout },
            error => error.into(),
        }
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        let may_come = !self.over && (self.sent || self.sending.is_placed());
        self.claim.rest = if may_come { Rest::Answer } else { Rest::Nothing };
    }
}

enum Next {
    Sent(Result<(), SendError>),
    Answer(Result<Delivery, RecvError>),
}

impl<'a> IntoFuture for Request<'a> {
    type Output = Result<Message, RequestError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("app", &self.app)
            .field("tag", &self.tag)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
