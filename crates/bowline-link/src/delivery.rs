//! A message in the hands of the application.

use crate::{Endpoint, Message, SendError};

/// A message from [`Endpoint::next`]. It stays in the inbox until [`Delivery::done`], [`Delivery::reply`]
/// or [`Delivery::bury`]; dropped without, it is the next to be handed out again.
#[derive(Debug)]
#[must_use = "a delivery that is dropped is handed out again"]
pub struct Delivery {
    endpoint: Endpoint,
    /// `None` once it is handled.
    message: Option<Message>,
}

/// What a delivery has when it is handled, which nobody sees.
static NOTHING: std::sync::LazyLock<Message> = std::sync::LazyLock::new(|| Message::new(""));

impl Delivery {
    pub(crate) fn new(endpoint: Endpoint, message: Message) -> Self {
        Delivery { endpoint, message: Some(message) }
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &Message {
        self.message.as_ref().unwrap_or(&NOTHING)
    }

    /// The message is handled. With a store that is durable a moment later; after a crash before,
    /// the message is handed out again, under the same [`Message::seq`].
    pub fn done(mut self) {
        if let Some(seq) = self.message.take().and_then(|message| message.seq()) {
            let mut state = self.endpoint.lock();
            state.inbox.handled(seq);
            self.endpoint.handled(&mut state);
        }
    }

    /// Sends `reply` to where the message came from, and the message is handled: both in one
    /// transaction, so that with a store either both have happened or neither, whatever crashes.
    /// Waits for room in the outbox. Dropping the future before that gives the message back.
    ///
    /// # Errors
    /// If the reply cannot be sent. A reply that the peer's dialect cannot carry will not be better next
    /// time: the message goes into the dead-letter box. If the endpoint is closed it is given back.
    pub async fn reply(self, reply: impl Into<Message>) -> Result<(), SendError> {
        self.reply_in(None, reply.into()).await
    }

    /// As [`Delivery::reply`], if the peer is still in the epoch that the message came in. If it is not, the
    /// message is handled and the reply goes nowhere.
    ///
    /// # Errors
    /// As [`Delivery::reply`], and [`SendError::PastEpoch`].
    pub async fn reply_in_epoch(self, reply: impl Into<Message>) -> Result<(), SendError> {
        let epoch = self.message().epoch();
        self.reply_in(Some(epoch), reply.into()).await
    }

    async fn reply_in(mut self, epoch: Option<u64>, mut reply: Message) -> Result<(), SendError> {
        let endpoint = self.endpoint.clone();
        let seq = self.message().seq();
        loop {
            let room = endpoint.room();
            tokio::pin!(room);
            // From here on no room is missed.
            room.as_mut().enable();
            match endpoint.try_reply(seq, epoch, reply) {
                Ok(None) => break,
                Ok(Some(back)) => reply = back,
                Err(error) => {
                    match &error {
                        SendError::Message(problem) => {
                            self.bury(format!("the reply to it cannot be sent: {problem}"));
                        }
                        SendError::PastEpoch => self.done(),
                        _ => {}
                    }
                    return Err(error);
                }
            }
            room.await;
        }
        self.message = None;
        Ok(())
    }

    /// The message cannot be handled: it goes into the dead-letter box, in one transaction with its leaving the inbox.
    pub fn bury(mut self, reason: impl Into<String>) {
        if let Some(message) = self.message.take() {
            let mut state = self.endpoint.lock();
            let direction = bowline_store::Direction::Received;
            self.endpoint.put_into_box(&mut state, direction, &message, reason.into());
            if let Some(seq) = message.seq() {
                state.inbox.handled(seq);
            }
            state.journal.touch_with_cursor();
            self.endpoint.handled(&mut state);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(message) = self.message.take() {
            self.endpoint.put_back(message);
        }
    }
}
