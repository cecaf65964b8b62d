//! What was promised, and what became of it.

use std::time::Duration;

use bowline_proto::{legacy, native};

use crate::DownReason;

macro_rules! totals {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts of one device, kept with its queues: with a store, since the device was first seen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct Totals {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Totals {
            /// Names and values, in the order of documentation.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }

            fn values_mut(&mut self) -> impl Iterator<Item = &mut u64> {
                [$(&mut self.$name,)*].into_iter()
            }
        }
    };
}

// New ones go to the end: stored ledgers are read by position.
totals! {
    /// Qos messages received and accepted.
    received,
    /// Their bytes, headers and payloads.
    received_bytes,
    /// Best-effort messages received and accepted.
    received_best_effort,
    /// Of the received qos ones: handled by the application, and not given up.
    processed,
    /// Messages received again, and not delivered again.
    duplicates,
    /// First messages after a login that equal the last accepted one byte for byte: a resend and a
    /// rebooted device's first message look the same on H and U; counted as duplicates too.
    ambiguous,
    /// Messages there was no room for. Qos ones come again.
    refused,
    /// Messages the peer has dropped by its own policies, as far as it told.
    gaps,
    /// Messages and lines put into the dead-letter box, both ways.
    dead_letters,
    /// Qos messages accepted for sending.
    accepted,
    /// Their bytes, headers and payloads.
    accepted_bytes,
    /// Qos messages sent for the first time.
    sent,
    /// Qos messages sent again.
    resent,
    /// Qos messages the peer has durably.
    acked,
    /// Of those: handled by the peer's application, as far as it told.
    peer_processed,
    /// Qos messages dropped by the policies of their streams before they were sent.
    dropped,
    /// Best-effort messages sent.
    sent_best_effort,
    /// Links that came up.
    connects,
    /// Links lost.
    outages,
    /// Time without a link after the first one, in milliseconds.
    outage_ms,
    /// The longest of them.
    longest_outage_ms,
    /// Times the peer's numbering of messages started anew.
    epochs,
    /// Starts of a link refused because the two ends contradicted each other.
    quarantined,
}

impl Totals {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        self.iter().flat_map(|(_, count)| count.to_be_bytes()).collect()
    }

    /// What an earlier version has not counted is 0, and so is a count that cannot be: the next one is added to it. What a
    /// later one has counted is left out.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut totals = Totals::default();
        let (counts, _) = bytes.as_chunks::<8>();
        for (slot, count) in totals.values_mut().zip(counts) {
            *slot = Some(u64::from_be_bytes(*count)).filter(|&count| count < COUNT_LIMIT).unwrap_or(0);
        }
        totals
    }

    /// Adds what the engines have counted since the process started.
    pub(crate) fn with_engines(mut self, lines: &legacy::Counters, native: &native::Counters) -> Self {
        self.duplicates += lines.duplicates + native.duplicates;
        self.ambiguous += lines.ambiguous;
        self.refused += lines.refused;
        self.gaps += native.gaps;
        self.sent += lines.sent + native.sent;
        self.resent += lines.resent + native.resent;
        // The native engine counts gaps with them.
        self.acked += lines.acked;
        self.sent_best_effort += lines.best_effort + native.best_sent;
        self.epochs += lines.restarts + native.epochs;
        self.quarantined += native.quarantined;
        self
    }
}

/// More than anything here can come to. What a stored ledger says beyond is damage.
const COUNT_LIMIT: u64 = 1 << 62;

/// What is known of the time without a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outage {
    /// Why the last link was lost.
    pub reason: Option<DownReason>,
    /// How long the last outage was; how long it lasts, if there is no link.
    pub last: Duration,
}

/// An endpoint's counts: what was promised and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ledger {
    /// All there is to count.
    pub totals: Totals,
    /// The last outage.
    pub outage: Outage,
    /// The line dialects' engine's counts, since the process started.
    pub session: legacy::Counters,
    /// The native engine's counts, since the process started.
    pub native: native::Counters,
    /// Messages received and not yet handled by the application.
    pub unread: usize,
    /// Messages accepted for sending and not yet acknowledged by the peer.
    pub unsent: usize,
    /// Messages accepted for sending and given up when the endpoint was closed.
    pub lost: usize,
    /// Messages nobody could handle, since the process started.
    pub dead_letters: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_of_another_version_is_read_as_far_as_it_goes() {
        let mut all = Totals { received: 7, quarantined: 9, ..Totals::default() }.to_bytes();
        assert_eq!(Totals::from_bytes(&all[..12]).received, 7, "a shorter one");
        all.extend([0; 24]);
        assert_eq!(Totals::from_bytes(&all).quarantined, 9, "a longer one");
    }
    /// Adding to it overflowed, where the server was built with checks.
    #[test]
    fn a_count_that_cannot_be_is_not_counted_on() {
        let damaged = [&7_u64.to_be_bytes()[..], &[0xff; 22 * 8]].concat();
        let totals = Totals::from_bytes(&damaged);
        assert_eq!(totals, Totals { received: 7, ..Totals::default() });
    }
}
