//! Messages on their way into the outbox, and what their callers hear.

use std::task::{Poll, Waker};

use super::State;
use crate::outbox::Ticket;
use crate::policy::Options;
use crate::{Dialect, Endpoint, Message, SendError};

impl Endpoint {
    pub(crate) fn enqueue(&self, message: Message, qos: bool, options: Options) -> Result<Ticket, SendError> {
        let mut state = self.lock();
        if state.outbox.closed {
            return Err(SendError::Closed);
        }
        state.is_in(options.epoch)?;
        let line = self.0.limits.line;
        match state.dialect {
            Some(dialect) => message.check(dialect, qos, line)?,
            // Not known before the device has been there: what no dialect can carry is refused now,
            // the rest when it comes to that.
            None => {
                message.check(Dialect::Native, qos, line).or_else(|_| message.check(Dialect::Headers, qos, line))?
            }
        }
        let ticket = if qos {
            state.totals.accepted += 1;
            state.totals.accepted_bytes += message.size() as u64;
            let (now, sent) = (self.0.clock.now(), state.sent());
            let ticket = state.outbox.push_qos(message, options, now, sent);
            self.after_dropping(&mut state);
            state.journal.touch();
            ticket
        } else {
            if !self.0.status.now().status.is_up() {
                return Err(SendError::NoLink);
            }
            let upgraded = state.dialect != Some(Dialect::Native) && state.lines.wants_qos();
            let ticket = state.outbox.push_best_effort(message, upgraded)?;
            if upgraded {
                state.journal.touch();
            }
            ticket
        };
        self.flush(&mut state);
        state.kick();
        Ok(ticket)
    }

    /// Puts `reply` into the outbox and marks `seq` as handled, in one transaction, if there is room;
    /// gives the reply back if there is not. Fails if the peer is not in `epoch` any more.
    pub(crate) fn try_reply(
        &self,
        seq: Option<u64>,
        epoch: Option<u64>,
        reply: Message,
    ) -> Result<Option<Message>, SendError> {
        let mut state = self.lock();
        if state.outbox.closed {
            return Err(SendError::Closed);
        }
        state.is_in(epoch)?;
        let dialect = state.dialect.unwrap_or(Dialect::Native);
        reply.check(dialect, true, self.0.limits.line)?;
        if !state.outbox.has_room(reply.size()) {
            return Ok(Some(reply));
        }
        state.totals.accepted += 1;
        state.totals.accepted_bytes += reply.size() as u64;
        let (now, sent) = (self.0.clock.now(), state.sent());
        let ticket = state.outbox.push_qos(reply, Options::default(), now, sent);
        state.outbox.abandon(ticket);
        if let Some(seq) = seq {
            state.inbox.handled(seq);
        }
        state.journal.touch_with_cursor();
        self.handled(&mut state);
        state.kick();
        Ok(None)
    }

    /// Waits until the outbox may have room. Enable the future before looking.
    pub(crate) fn room(&self) -> tokio::sync::futures::Notified<'_> {
        self.0.room.notified()
    }

    pub(crate) fn notify_room(&self) {
        self.0.room.notify_waiters();
    }

    /// Messages may have been dropped by a policy.
    pub(crate) fn after_dropping(&self, state: &mut State) {
        let dropped = state.outbox.take_dropped();
        if dropped > 0 {
            state.totals.dropped += dropped;
            state.journal.touch();
            self.notify_room();
        }
    }

    pub(crate) fn expire(&self, ticket: Ticket) {
        let mut state = self.lock();
        let (now, sent) = (self.0.clock.now(), state.sent());
        state.outbox.expire_ticket(ticket, now, sent);
        self.after_dropping(&mut state);
        self.flush(&mut state);
    }

    pub(crate) fn poll_sent(&self, ticket: Ticket, waker: &Waker) -> Poll<Result<(), SendError>> {
        self.lock().outbox.poll(ticket, waker)
    }

    pub(crate) fn is_accepted(&self, ticket: Ticket) -> bool {
        self.lock().outbox.is_accepted(ticket)
    }

    pub(crate) fn abandon(&self, ticket: Ticket) {
        let mut state = self.lock();
        if state.outbox.abandon(ticket) {
            state.journal.touch();
            self.flush(&mut state);
            state.kick();
            self.notify_room();
        }
    }
}
