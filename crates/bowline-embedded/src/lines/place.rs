//! The 8-bit ids of dialect H, told from what the outbox keeps.
//!
//! Receivers of the reference want ids without holes (§6.2), and seqs have them: what a policy or its time drops. So an id counts the
//! messages that were sent. Their number is the seq less all that was dropped before, which is noted when it changes: in the outbox's
//! receive cursor, which has nothing else to say on H. It is noted before such a message is sent, and after a power cut says the same.

use bowline_proto::wire::MessageId;

/// How many ids there are in a round.
const ROUND: u64 = 255;

/// Where a message stands that is to be sent: the first of those not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    seq: u64,
    /// Nothing was acknowledged before it.
    is_first: bool,
    /// Messages dropped before it, modulo [`ROUND`].
    dropped: u64,
    /// That is not in the note.
    is_new: bool,
}

impl Place {
    /// Of the message `seq`. All between it and `acked` were dropped. `note`: the last one that was made.
    pub(super) fn of(seq: u64, acked: u64, note: u64) -> Self {
        let (from, dropped) = (note >> 8, note & 0xff);
        // Up to the one it was made for, if that is still to be acknowledged or was dropped, too; else up to what is acknowledged.
        let more = seq.saturating_sub(if acked < from { from } else { acked + 1 });
        Place { seq, is_first: acked == 0, dropped: (dropped + more % ROUND) % ROUND, is_new: more > 0 }
    }

    /// What must be noted before the message is sent.
    pub(super) fn note(self) -> Option<u64> {
        self.is_new.then_some(self.seq << 8 | self.dropped)
    }

    pub(super) fn id(self) -> MessageId {
        if self.is_first {
            return MessageId::FIRST;
        }
        // The second one has id 1.
        let number = (self.seq % ROUND + 2 * ROUND - self.dropped - 2) % ROUND + 1;
        MessageId::new(u8::try_from(number).unwrap_or(u8::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::println;
    use std::vec::Vec;

    use super::*;

    fn id(seq: u64, acked: u64, note: u64) -> u8 {
        Place::of(seq, acked, note).id().number()
    }

    #[test]
    fn ids_count_what_was_sent() {
        let ids: Vec<u8> = (1..=512).map(|seq| id(seq, seq - 1, 0)).collect();
        let expected: Vec<u8> = [0].into_iter().chain(1..=255).chain(1..=255).chain([1]).collect();
        assert_eq!(ids, expected);
    }

    /// The first message of a life has id 0, however many were dropped before it.
    #[test]
    fn the_first_that_is_sent_has_id_0() {
        let place = Place::of(7, 0, 0);
        assert_eq!(place.id(), MessageId::FIRST);
        let note = place.note().expect("six were dropped");
        assert_eq!(id(8, 7, note), 1);
    }

    /// A random life: messages are dropped before they were sent, and at any time the power goes: then only seqs and note are left.
    #[test]
    fn ids_have_no_holes_whatever_is_dropped_and_whenever_the_power_goes() {
        let seed = std::env::var("BOWLINE_SEED").map_or(1, |seed| seed.parse().expect("a number"));
        println!("BOWLINE_SEED={seed}");
        let mut random = seed;
        let mut below = |limit: u64| {
            random = u64::wrapping_add(u64::wrapping_mul(random, 6_364_136_223_846_793_005), 1_442_695_040_888_963_407);
            (random >> 33) % limit
        };
        let (mut acked, mut note, mut expected) = (0, 0, MessageId::FIRST);
        for _ in 0..20_000 {
            let mut seq = acked + 1;
            // It is found to be next and noted, and then dropped all the same, now and then.
            loop {
                seq += [0, 0, 0, 1, 5, 254, 255, 600][below(8) as usize];
                let place = Place::of(seq, acked, note);
                assert_eq!(place.id(), expected, "seq {seq} behind {acked}, note {note:x}");
                if below(20) == 0 {
                    // The power goes before that is noted.
                    continue;
                }
                if let Some(new) = place.note() {
                    assert!(new > note, "the outbox takes no lower one");
                    note = new;
                }
                assert_eq!(Place::of(seq, acked, note).note(), None);
                if below(5) > 0 {
                    break;
                }
            }
            (acked, expected) = (seq, expected.next());
        }
    }
}
