//! Messages that go out with the link they were given to, or not at all.

use bowline_proto::time::Instant;

use super::callers::Caller;
use super::{Entry, Outbox, Ticket};
use crate::policy::Options;
use crate::{Message, SendError};

impl Outbox {
    /// A best-effort message. `fresh` if it would be the first of the process.
    pub(crate) fn push_best_effort(&mut self, message: Message, fresh: bool) -> Result<Ticket, SendError> {
        if fresh && self.entries.is_empty() {
            return Ok(self.push(message, Options::default(), Instant::ZERO, true));
        }
        if self.best_effort.len() >= self.best_effort_capacity {
            return Err(SendError::Full { limit: self.best_effort_capacity });
        }
        let ticket = self.ticket();
        let entry = self.entry(ticket, message, Options::default(), Instant::ZERO, false);
        self.best_effort.push_back(entry);
        Ok(ticket)
    }

    /// The link takes the next best-effort message. `put` puts it into the link's output and says where
    /// it ends there.
    pub(crate) fn take_best_effort(&mut self, put: impl FnOnce(&Message) -> u64) {
        if let Some(entry) = self.best_effort.pop_front()
            && let Some(message) = entry.message()
        {
            let end = put(message);
            self.writing.push_back((entry, end));
        }
    }

    /// Fails the best-effort message at the front: the peer cannot take it.
    pub(crate) fn fail_best_effort(&mut self, error: SendError) {
        if let Some(mut entry) = self.best_effort.pop_front()
            && !matches!(entry.caller, Caller::Gone)
        {
            self.failed.push((entry.ticket, error));
            entry.wake();
        }
    }

    /// The best-effort message at the front.
    pub(crate) fn best_effort(&self) -> Option<&Message> {
        self.best_effort.front().and_then(Entry::message)
    }

    /// The link has written its output up to here, and the `head` with it if that was not before.
    pub(crate) fn written(&mut self, up_to: u64, head: bool) {
        while self.writing.front().is_some_and(|(_, end)| *end <= up_to) {
            if let Some((mut entry, _)) = self.writing.pop_front() {
                entry.wake();
            }
        }
        if let Some(entry) = self.entries.front_mut().filter(|entry| head && entry.upgraded) {
            entry.wake();
            // Told: `poll` takes it from here.
            entry.caller = Caller::Gone;
        }
    }
}
