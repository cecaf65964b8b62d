//! What the outbox must hold, kept by other means than its own.

use std::collections::BTreeMap;

use bowline_flash::{Clock, Expiry, Policy};

/// A message, by what the test knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) payload: Vec<u8>,
    pub(crate) channel: u8,
    pub(crate) policy: Policy,
    pub(crate) expiry: Expiry,
}

impl Letter {
    pub(crate) fn is_over(&self, clock: Clock) -> bool {
        match (self.expiry, clock.wall) {
            (Expiry::At(at), Some(wall)) => wall >= at,
            _ => false,
        }
    }
}

/// A change that was begun. After a power cut it was made or it was not.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Push { letter: Letter, sent: u64, clock: Clock },
    Expire { sent: u64, clock: Clock },
    Remove(u64),
    Acknowledge(u64),
    Epoch(u64),
    Received(u64),
}

/// Messages by their numbers, which rise for ever; the seqs of the epoch begin behind `base`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) epoch: u64,
    pub(crate) base: u64,
    pub(crate) acked: u64,
    pub(crate) last: u64,
    pub(crate) received: u64,
    pub(crate) live: BTreeMap<u64, Letter>,
    /// What was ever seen under a number: nothing else may be seen there.
    pub(crate) seen: BTreeMap<u64, Letter>,
    pub(crate) begun: Option<Change>,
    pub(crate) dropped: u64,
}

/// What an outbox says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) epoch: u64,
    /// Seqs.
    pub(crate) acked: u64,
    pub(crate) last: u64,
    pub(crate) received: u64,
    /// Seqs with their messages: channel and payload.
    pub(crate) live: BTreeMap<u64, (u8, Vec<u8>)>,
}

impl Model {
    /// After a start: the change that was begun was made or not, and nothing else has changed.
    pub(crate) fn checks_start(&mut self, shown: &Shown) {
        let without = self.clone();
        let base = self.base;
        match self.begun.take() {
            Some(Change::Acknowledge(number)) if shown.acked + base == number => self.acknowledges(number),
            Some(Change::Epoch(epoch)) if shown.epoch == epoch => self.begins_epoch(epoch),
            Some(Change::Received(seq)) if shown.received == seq => self.received = seq,
            Some(Change::Remove(number)) if !shown.live.contains_key(&(number - base)) => self.drops(number),
            Some(Change::Expire { sent, clock }) => self.expires(sent, clock, shown),
            Some(Change::Push { letter, sent, clock }) => {
                // The expired ones may have gone to make room.
                self.expires(sent, clock, shown);
                if shown.last + self.base > self.last {
                    self.pushes(letter, sent, shown);
                }
            }
            _ => {}
        }
        self.checks(shown, &without);
    }

    pub(crate) fn acknowledges(&mut self, number: u64) {
        self.acked = self.acked.max(number);
        self.live = self.live.split_off(&(number + 1));
    }

    pub(crate) fn begins_epoch(&mut self, epoch: u64) {
        (self.epoch, self.base, self.received) = (epoch, self.acked, 0);
    }

    pub(crate) fn drops(&mut self, number: u64) {
        self.dropped += u64::from(self.live.remove(&number).is_some());
    }

    /// Those that are over are gone, as far as they are.
    pub(crate) fn expires(&mut self, sent: u64, clock: Clock, shown: &Shown) {
        let base = self.base;
        let over = |number: &u64, letter: &Letter| *number > sent + base && letter.is_over(clock);
        let gone: Vec<u64> = self
            .live
            .iter()
            .filter(|(number, letter)| over(number, letter) && !shown.live.contains_key(&(**number - base)))
            .map(|(number, _)| *number)
            .collect();
        for number in gone {
            self.drops(number);
        }
    }

    /// The message is in, and its policy has done its work.
    pub(crate) fn pushes(&mut self, letter: Letter, sent: u64, shown: &Shown) {
        let stream: Vec<u64> = self
            .live
            .range(sent + self.base + 1..)
            .filter(|(_, other)| other.policy == letter.policy && other.channel == letter.channel)
            .map(|(number, _)| *number)
            .collect();
        for number in stream {
            let gone = !shown.live.contains_key(&(number - self.base));
            match letter.policy {
                Policy::KeepLatest => self.drops(number),
                // The oldest first: where one is left, all later ones are.
                Policy::DropOldest if gone => self.drops(number),
                Policy::DropOldest | Policy::Block => break,
            }
        }
        self.last += 1;
        self.live.insert(self.last, letter);
    }

    /// Everything is as it must be. `without` is for the message of a failure only.
    pub(crate) fn checks(&mut self, shown: &Shown, without: &Model) {
        let live = self
            .live
            .iter()
            .map(|(number, letter)| (number - self.base, (letter.channel, letter.payload.clone())))
            .collect();
        let wanted = Shown {
            epoch: self.epoch,
            acked: self.acked - self.base,
            last: self.last - self.base,
            received: self.received,
            live,
        };
        assert_eq!(*shown, wanted, "begun was {:?}", without.begun);
        for (number, letter) in &self.live {
            let seen = self.seen.entry(*number).or_insert_with(|| letter.clone());
            assert_eq!(seen, letter, "number {number} was given to two messages");
        }
        // What is acknowledged is of no interest any more, and the map stays small.
        self.seen = self.seen.split_off(&(self.acked + 1));
    }
}
