//! Publications from the broker that are not finished with: which are stored, which acknowledged.

use std::collections::HashMap;

use crate::mqtt::settings::Qos;

/// A publication on its way into outboxes. Numbers are not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::mqtt) struct Ticket(u64);

/// What is to be acknowledged now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) struct Ack {
    pub(super) id: u16,
    pub(super) qos: Qos,
}

/// What has arrived with QoS 1 or 2, by the broker's packet id.
///
/// An id is in use until the broker has released it, so one that is repeated before that is the same
/// publication: it is not passed on a second time. That the broker has released it may have been lost with
/// a connection; so one that is not a repetition is another one. A publication is acknowledged when it is stored, on the
/// connection that has brought it last; what is stored while there is none, when it comes again.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    by_id: HashMap<u16, Arrival>,
    ids: HashMap<Ticket, u16>,
    next: u64,
}

#[derive(Debug)]
struct Arrival {
    ticket: Ticket,
    qos: Qos,
    /// Outboxes that do not have it yet.
    missing: usize,
    /// The connection that is now has brought it and was not told that it is stored.
    owed: bool,
}

impl Arrivals {
    /// A publication that is here already is not taken again, but it may be time to acknowledge it. `None`
    /// if it is a new one.
    pub(super) fn seen(&mut self, id: u16, repeated: bool) -> Option<Option<Ack>> {
        if !repeated {
            self.released(id);
        }
        let arrival = self.by_id.get_mut(&id)?;
        arrival.owed = true;
        Some(arrival.settle(id))
    }

    /// A new one, for so many outboxes, at least one.
    pub(super) fn insert(&mut self, id: u16, qos: Qos, outboxes: usize) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.by_id.insert(id, Arrival { ticket, qos, missing: outboxes, owed: true });
        self.ids.insert(ticket, id);
        ticket
    }

    /// One more outbox has it, or never will.
    pub(super) fn stored(&mut self, ticket: Ticket) -> Option<Ack> {
        let id = *self.ids.get(&ticket)?;
        let arrival = self.by_id.get_mut(&id)?;
        arrival.missing = arrival.missing.saturating_sub(1);
        arrival.settle(id)
    }

    /// The broker has given the id up.
    pub(super) fn released(&mut self, id: u16) {
        if let Some(arrival) = self.by_id.remove(&id) {
            self.ids.remove(&arrival.ticket);
        }
    }

    /// The connection is gone: what it has brought is acknowledged when the next one has brought it again.
    pub(super) fn disconnected(&mut self) {
        self.by_id.values_mut().for_each(|arrival| arrival.owed = false);
    }

    /// The broker has forgotten the session, and gives the ids to others.
    pub(super) fn forget(&mut self) {
        self.by_id.clear();
        self.ids.clear();
    }

    /// Whether all that has arrived is stored.
    pub(super) fn all_stored(&self) -> bool {
        self.by_id.values().all(|arrival| arrival.missing == 0)
    }
}

impl Arrival {
    fn settle(&mut self, id: u16) -> Option<Ack> {
        (self.missing == 0 && std::mem::take(&mut self.owed)).then_some(Ack { id, qos: self.qos })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACK: Option<Ack> = Some(Ack { id: 7, qos: Qos::ExactlyOnce });

    fn one(outboxes: usize) -> (Arrivals, Ticket) {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.seen(7, true), None);
        let ticket = arrivals.insert(7, Qos::ExactlyOnce, outboxes);
        (arrivals, ticket)
    }

    #[test]
    fn r12_it_is_acknowledged_when_every_outbox_has_it_and_once() {
        let (mut arrivals, ticket) = one(2);
        assert_eq!(arrivals.stored(ticket), None);
        assert!(!arrivals.all_stored());
        assert_eq!(arrivals.stored(ticket), ACK);
        assert!(arrivals.all_stored());
        assert_eq!(arrivals.stored(ticket), None);
    }

    #[test]
    fn what_comes_again_is_not_new_and_is_acknowledged_where_it_came_last() {
        let (mut arrivals, ticket) = one(1);
        arrivals.disconnected();
        assert_eq!(arrivals.stored(ticket), None, "there is no connection to acknowledge it on");
        assert_eq!(arrivals.seen(7, true), Some(ACK));
        // The acknowledgement was lost with its connection.
        arrivals.disconnected();
        assert_eq!(arrivals.seen(7, true), Some(ACK));
    }

    #[test]
    fn what_comes_again_before_it_is_stored_waits() {
        let (mut arrivals, ticket) = one(1);
        arrivals.disconnected();
        assert_eq!(arrivals.seen(7, true), Some(None));
        assert_eq!(arrivals.stored(ticket), ACK);
    }

    #[test]
    fn an_id_whose_release_was_lost_is_for_another_one_if_it_comes_for_the_first_time() {
        let (mut arrivals, ticket) = one(1);
        assert_eq!(arrivals.stored(ticket), ACK);
        arrivals.disconnected();
        assert_eq!(arrivals.seen(7, false), None);
        let later = arrivals.insert(7, Qos::ExactlyOnce, 1);
        assert_eq!(arrivals.stored(ticket), None);
        assert_eq!(arrivals.stored(later), ACK);
    }

    #[test]
    fn an_id_that_was_released_or_forgotten_is_for_another_one() {
        let (mut arrivals, ticket) = one(1);
        assert_eq!(arrivals.stored(ticket), ACK);
        arrivals.released(7);
        assert_eq!(arrivals.seen(7, true), None);
        let later = arrivals.insert(7, Qos::ExactlyOnce, 1);
        arrivals.forget();
        assert_eq!(arrivals.stored(later), None, "the id is not this publication's any more");
        assert_eq!(arrivals.seen(7, true), None);
    }
}
