//! What an endpoint tells of its links: whether there is one, how long there was none, what was counted.

use std::sync::Arc;
use std::time::Duration;

use bowline_proto::time::Instant;
use bowline_store::Change;

use super::State;
use crate::ledger::Outage;
use crate::status::{LinkState, Seen, Status};
use crate::{DownReason, Endpoint, Ledger, SendError, StatusWatch};

/// When the link was lost.
#[derive(Debug, Default)]
pub(crate) struct Outages {
    since: Option<Instant>,
    reason: Option<DownReason>,
    last: bowline_proto::time::Duration,
}

impl Endpoint {
    /// The link's status now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.status.now().status
    }

    /// Follows the link's status.
    #[must_use]
    pub fn watch(&self) -> StatusWatch {
        StatusWatch::new(self.0.status.subscribe())
    }

    /// Waits until the link is up. Cancel-safe.
    ///
    /// # Errors
    /// When the endpoint is closed.
    pub async fn connected(&self) -> Result<(), SendError> {
        let mut seen = self.0.status.subscribe();
        match seen.wait_for(|seen| seen.closed || seen.status.is_up()).await {
            Ok(seen) if !seen.closed => Ok(()),
            _ => Err(SendError::Closed),
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let state = self.lock();
        let last = match state.outage.since {
            Some(since) => self.0.clock.now().since(since),
            None => state.outage.last,
        };
        Ledger {
            totals: state.all_totals(),
            outage: Outage { reason: state.outage.reason, last: Duration::from_micros(last.as_micros()) },
            session: *state.lines.counters(),
            native: *state.native.counters(),
            unread: state.inbox.len(),
            unsent: state.outbox.accepted(),
            lost: state.outbox.lost,
            dead_letters: state.inbox.buried,
        }
    }

    /// The link with this number is up, under the lock that `state` is.
    pub(crate) fn link_is_up(&self, state: &mut State, link: LinkState) {
        state.totals.connects += 1;
        if let Some(since) = state.outage.since.take() {
            state.outage.last = self.0.clock.now().since(since);
            let millis = state.outage.last.as_micros() / 1_000;
            state.totals.outage_ms += millis;
            state.totals.longest_outage_ms = state.totals.longest_outage_ms.max(millis);
        }
        if self.0.storage.is_some() && state.journal.knows_device() {
            let (device, persistent) = (Arc::clone(&self.0.device), self.0.is_persistent());
            state.journal.push(Change::Device { device, persistent, seen: self.0.clock.wall() });
        }
        self.set_status(state, link);
    }

    fn set_status(&self, state: &State, link: LinkState) {
        self.0.status.modify(|Seen { status, .. }| {
            if matches!(link, LinkState::Up { .. }) {
                status.connects += 1;
            }
            status.link = link;
        });
        self.calls_attendant(state);
    }

    /// The link with this number has ended. Says nothing if another one has taken over since.
    pub(crate) fn link_ended(&self, number: u64, was_up: bool, reason: DownReason) {
        let mut state = self.lock();
        if state.link.as_ref().is_none_or(|link| link.number != number) {
            return;
        }
        state.link = None;
        for ticket in std::mem::take(&mut state.tickets) {
            let _ = state.lines.accepted(ticket);
        }
        let in_flight = state.lines.in_flight().is_some();
        state.outbox.link_ended(reason, in_flight);
        // The status may still be that of a link which this one replaced without ever being up.
        if was_up || self.0.status.now().status.is_up() {
            state.totals.outages += 1;
            state.outage.since = Some(self.0.clock.now());
            state.outage.reason = Some(reason);
            // Under the lock, so that no later link's status is overwritten.
            self.set_status(&state, LinkState::Down(reason));
        }
        state.journal.touch();
        self.flush(&mut state);
    }
}
