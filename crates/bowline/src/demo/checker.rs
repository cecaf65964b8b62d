//! The checker: what was promised against what arrived, by number.
//!
//! It knows nothing of the library's own counts. A message is expected from the moment it is handed
//! to `send`, whether or not that ever resolves: once the outbox has it, it must arrive.

use std::collections::HashMap;

use serde::Serialize;

/// One device's messages in one direction. Numbers start at 1.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// What was handed to `send` and has not arrived, by number.
    expected: HashMap<u64, Box<str>>,
    /// How often each number has arrived; number `n` at `n - 1`.
    arrivals: Vec<u32>,
    highest: u64,
    acked: u64,
    counts: Counts,
}

/// What became of a stream's messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// Handed to `send`, and not refused by it.
    pub(super) sent: u64,
    /// Different messages that arrived.
    pub(super) delivered: u64,
    /// Messages that never arrived.
    pub(super) lost: u64,
    /// Arrivals of messages that had arrived before.
    pub(super) doubled: u64,
    /// First arrivals behind one with a higher number.
    pub(super) out_of_order: u64,
    /// Arrivals that are not, byte for byte, what was sent under their number.
    pub(super) altered: u64,
    /// Messages whose `send` has failed. They count as sent only if they arrive all the same.
    pub(super) refused: u64,
    /// Messages whose `send` had not resolved at the end.
    pub(super) unacknowledged: u64,
}

impl Stream {
    /// The next number, for a message that is about to be sent with the payload made from it.
    pub(super) fn send(&mut self, payload: impl FnOnce(u64) -> String) -> (u64, String) {
        let number = self.arrivals.len() as u64 + 1;
        let payload = payload(number);
        self.arrivals.push(0);
        self.expected.insert(number, payload.as_str().into());
        self.counts.sent += 1;
        (number, payload)
    }

    /// `send` has returned `Ok` for one more message.
    pub(super) fn acked(&mut self) {
        self.acked += 1;
    }

    /// `send` has returned an error: the message was not promised.
    pub(super) fn refused(&mut self, number: u64) {
        self.counts.refused += 1;
        if self.expected.remove(&number).is_some() {
            self.counts.sent -= 1;
        }
    }

    /// A message has arrived at the application. `number` is what it says of itself.
    pub(super) fn arrived(&mut self, number: Option<u64>, payload: &str) {
        let Some((number, count)) = number.and_then(|number| {
            let at = usize::try_from(number.checked_sub(1)?).ok()?;
            Some((number, self.arrivals.get_mut(at)?))
        }) else {
            self.counts.altered += 1;
            return;
        };
        *count += 1;
        if *count > 1 {
            self.counts.doubled += 1;
            return;
        }
        match self.expected.remove(&number) {
            Some(expected) => self.counts.altered += u64::from(*expected != *payload),
            // Its `send` has failed, and yet it is here.
            None => self.counts.sent += 1,
        }
        self.counts.delivered += 1;
        self.counts.out_of_order += u64::from(number < self.highest);
        self.highest = self.highest.max(number);
    }

    /// Whether everything has arrived and has been acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        self.expected.is_empty() && self.unresolved() == 0
    }

    /// Messages whose `send` has returned `Ok`.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acked
    }

    /// The counts, as if nothing more could arrive.
    pub(super) fn counts(&self) -> Counts {
        Counts { lost: self.expected.len() as u64, unacknowledged: self.unresolved(), ..self.counts }
    }

    fn unresolved(&self) -> u64 {
        (self.arrivals.len() as u64).saturating_sub(self.acked + self.counts.refused)
    }
}

impl Counts {
    /// Whether the promise was kept: everything was accepted and arrived, once, in order and as it
    /// was sent.
    pub(super) fn is_clean(&self) -> bool {
        [self.lost, self.doubled, self.out_of_order, self.altered, self.refused] == [0; 5]
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.sent += other.sent;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.out_of_order += other.out_of_order;
        self.altered += other.altered;
        self.refused += other.refused;
        self.unacknowledged += other.unacknowledged;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream of `count` messages, with `text(number)` as payloads.
    fn sent(count: u64) -> Stream {
        let mut stream = Stream::default();
        for expected in 1..=count {
            let (number, payload) = stream.send(text);
            assert_eq!((number, payload), (expected, text(expected)));
        }
        stream
    }

    fn text(number: u64) -> String {
        format!("message {number}")
    }

    fn after(mut stream: Stream, arrivals: &[u64]) -> Counts {
        for &number in arrivals {
            stream.arrived(Some(number), &text(number));
        }
        stream.counts()
    }

    #[test]
    fn a_clean_stream_is_clean() {
        let counts = after(sent(3), &[1, 2, 3]);
        assert!(counts.is_clean());
        assert_eq!((counts.sent, counts.delivered), (3, 3));
    }

    #[test]
    fn a_lost_message_is_found_in_the_middle_and_at_the_end() {
        assert_eq!(after(sent(3), &[1, 3]).lost, 1);
        assert_eq!(after(sent(3), &[1, 2]).lost, 1);
        assert_eq!(after(sent(3), &[]).lost, 3);
        assert!(!after(sent(3), &[1, 2]).is_clean());
    }

    #[test]
    fn a_doubled_message_is_found_at_once_and_much_later() {
        assert_eq!(after(sent(3), &[1, 1, 2, 3]).doubled, 1);
        let counts = after(sent(3), &[1, 2, 3, 1, 1]);
        assert_eq!((counts.doubled, counts.delivered, counts.lost, counts.out_of_order), (2, 3, 0, 0));
        assert!(!counts.is_clean());
    }

    #[test]
    fn swapped_messages_are_found() {
        let counts = after(sent(3), &[2, 1, 3]);
        assert_eq!((counts.out_of_order, counts.lost, counts.doubled), (1, 0, 0));
        assert!(!counts.is_clean());
    }

    #[test]
    fn what_was_never_sent_or_was_changed_is_found() {
        let mut stream = sent(2);
        stream.arrived(Some(1), "message I");
        stream.arrived(Some(0), &text(0));
        stream.arrived(Some(3), &text(3));
        stream.arrived(None, "noise");
        let counts = stream.counts();
        assert_eq!((counts.altered, counts.delivered, counts.lost), (4, 1, 1));
        assert!(!counts.is_clean());
    }

    #[test]
    fn an_unresolved_send_counts_as_sent_and_a_refused_one_only_if_it_arrives() {
        let mut stream = sent(3);
        stream.acked();
        stream.refused(2);
        stream.arrived(Some(1), &text(1));
        let counts = stream.counts();
        assert_eq!((counts.sent, counts.lost, counts.refused, counts.unacknowledged), (2, 1, 1, 1));
        assert!(!stream.is_settled());
        stream.arrived(Some(2), &text(2));
        stream.arrived(Some(3), &text(3));
        assert!(!stream.is_settled(), "one is not acknowledged");
        stream.acked();
        assert!(stream.is_settled());
        assert_eq!(stream.counts().sent, 3);
    }
}
