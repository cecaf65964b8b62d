//! The reference model: what may be delivered, and what must be.
//!
//! It knows nothing of links, windows, acknowledgements or stores. A stream is one direction of one device. Its sender
//! numbers what it sends; its receiver tells what it is given, under which seq and in which of its lives. What each end
//! keeps across its lives ([`Keeps`]) decides what is promised (§6.1, §14.4):
//!
//! - never twice: a number comes under one seq, and a seq carries one number; a number comes again only to a later life
//!   of its receiver, or after it was given back;
//! - never out of order: in each life the numbers rise, and so do the seqs;
//! - never dropped in silence: where seqs jump, the receiver says by how much;
//! - never made up: what comes was sent, and was not said to be dropped;
//! - all of it, in the end: what was accepted and not dropped, unless the memory that had it is gone.

use std::collections::BTreeMap;

/// What an end of a stream keeps across its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// Its session and queues.
    All,
    /// Nothing.
    Nothing,
}

/// What a sender wants of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Qos,
    /// Qos, unless its policy or its time drops it before it is sent.
    Droppable,
    BestEffort,
}

/// What is known of a message at its sender.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    /// The sender's life.
    life: u64,
    /// The receiver's life then.
    receiver: u64,
    /// Its sender was told that it will be delivered.
    accepted: bool,
    /// Its sender was told that the receiver has it.
    acked: bool,
    /// The lives of both then.
    acked_in: (u64, u64),
    /// Its sender was told that it will not be delivered.
    dropped: bool,
    /// At most once is all that is promised.
    best_effort: bool,
    /// Its sender lets it be dropped for a later one, or when its time is up.
    droppable: bool,
    delivered: bool,
}

/// One direction of one device.
#[derive(Debug)]
pub(crate) struct Stream {
    sender: Keeps,
    receiver: Keeps,
    /// Dialect P, and devices that somebody restored from a backup: nothing is promised but that it was sent.
    unpromised: bool,
    sent: Vec<Sent>,
    sender_life: u64,
    receiver_life: u64,
    /// By seq, of all lives or of this one.
    by_seq: BTreeMap<u64, u64>,
    /// Of this life: the last number and seq.
    last: Option<(u64, u64)>,
    /// What was given back, and may come again in this life.
    given_back: Option<u64>,
}

impl Stream {
    pub(crate) fn new(sender: Keeps, receiver: Keeps, unpromised: bool) -> Self {
        Stream {
            sender,
            receiver,
            unpromised,
            sent: Vec::new(),
            sender_life: 0,
            receiver_life: 0,
            by_seq: BTreeMap::new(),
            last: None,
            given_back: None,
        }
    }

    /// A message is about to be sent: its number.
    pub(crate) fn sends(&mut self, how: How) -> u64 {
        let (best_effort, droppable) = (how == How::BestEffort, how == How::Droppable);
        let (life, receiver) = (self.sender_life, self.receiver_life);
        self.sent.push(Sent { life, receiver, best_effort, droppable, ..Sent::default() });
        self.sent.len() as u64 - 1
    }

    pub(crate) fn accepted(&mut self, number: u64) {
        self.sent[number as usize].accepted = true;
    }

    pub(crate) fn acked(&mut self, number: u64) -> Result<(), String> {
        let sent = &mut self.sent[number as usize];
        (sent.accepted, sent.acked) = (true, true);
        sent.acked_in = (self.sender_life, self.receiver_life);
        if sent.dropped { Err(format!("{number} was said to be dropped, and is acknowledged")) } else { Ok(()) }
    }

    pub(crate) fn dropped(&mut self, number: u64) -> Result<(), String> {
        let sent = &mut self.sent[number as usize];
        sent.dropped = true;
        // To an earlier life of a receiver without a memory, its sender cannot know.
        let dropped = sent.delivered && !self.unpromised && self.receiver == Keeps::All;
        if dropped { Err(format!("{number} was delivered, and is said to be dropped")) } else { Ok(()) }
    }

    pub(crate) fn sender_dies(&mut self) {
        self.sender_life += 1;
    }

    pub(crate) fn receiver_dies(&mut self) {
        self.receiver_life += 1;
        self.last = None;
        self.given_back = None;
        if self.receiver == Keeps::Nothing {
            self.by_seq.clear();
        }
    }

    /// Somebody has restored an end from a backup.
    pub(crate) fn is_restored(&mut self) {
        self.unpromised = true;
    }

    /// The receiver's application is given a message under `seq`; best effort has none.
    /// The receiver says that `gap` messages before it were dropped.
    pub(crate) fn delivers(&mut self, number: u64, seq: Option<u64>, gap: u64) -> Result<(), String> {
        let Some(sent) = self.sent.get_mut(number as usize) else {
            return Err(format!("{number} was never sent"));
        };
        let again = std::mem::replace(&mut sent.delivered, true);
        if self.unpromised {
            return Ok(());
        }
        let sent = *sent;
        if sent.dropped {
            return Err(format!("{number} was said to be dropped, and comes"));
        }
        let Some(seq) = seq else {
            return if again { Err(format!("{number} is best effort, and comes twice")) } else { Ok(()) };
        };
        match self.by_seq.insert(seq, number) {
            Some(other) if other != number => {
                return Err(format!("seq {seq} carried {other}, and now carries {number}"));
            }
            Some(_) => {
                // Handled and not stored as such before the crash, or given back.
                let in_order = self.last.is_none_or(|(_, last)| seq > last) || self.given_back == Some(seq);
                if !in_order {
                    return Err(format!("{number} comes twice under seq {seq} in one life"));
                }
            }
            None if again && self.receiver == Keeps::All => {
                return Err(format!("{number} comes twice, now under seq {seq}"));
            }
            // A sender that was told and has died since may not have stored it.
            None if again
                && sent.acked
                && sent.acked_in.0 == self.sender_life
                && sent.acked_in.1 < self.receiver_life =>
            {
                return Err(format!("{number} was acknowledged before this life, and comes again"));
            }
            None => {}
        }
        if sent.best_effort {
            // Sent as qos where its dialect needs that: it keeps no place among the others, but has a seq.
            self.last = self.last.map(|(before, last)| (before, last.max(seq)));
            self.given_back = None;
            return Ok(());
        }
        if let Some((before, last)) = self.last
            && self.given_back != Some(seq)
            && (number <= before || seq <= last)
        {
            return Err(format!("{number} (seq {seq}) comes behind {before} (seq {last})"));
        }
        if let Some((before, last)) = self.last
            && seq > last
            && gap != seq - last - 1
            && [before, number].iter().all(|number| self.sent[*number as usize].receiver == self.receiver_life)
        {
            return Err(format!("{} were dropped before {number} (seq {seq}), and {gap} are told", seq - last - 1));
        }
        self.last = Some((number, seq));
        self.given_back = None;
        Ok(())
    }

    /// The receiver's application gives a message back: it comes again next.
    pub(crate) fn given_back(&mut self, seq: u64) {
        self.given_back = Some(seq);
    }

    /// What has to come and has not, first of all.
    pub(crate) fn missing(&self) -> Option<String> {
        let number = (0..self.sent.len()).find(|&number| self.must_come(&self.sent[number]))?;
        let Sent { accepted, acked, life, .. } = self.sent[number];
        Some(format!("{number} of {} is missing (accepted {accepted}, acked {acked}, life {life})", self.sent.len()))
    }

    /// Messages that may still come, also those of which the sender does not know whether they were accepted.
    pub(crate) fn waiting(&self) -> u64 {
        let waits = |sent: &&Sent| !sent.delivered && !sent.dropped && (self.sender_has(sent) || sent.acked);
        self.sent.iter().filter(waits).count() as u64
    }

    /// Whether the sender has not forgotten it.
    fn sender_has(&self, sent: &Sent) -> bool {
        self.sender == Keeps::All || sent.life == self.sender_life
    }

    fn must_come(&self, sent: &Sent) -> bool {
        // Whoever still has it.
        let receiver_has = self.receiver == Keeps::All || sent.receiver == self.receiver_life;
        let promised = sent.accepted && self.sender_has(sent) || sent.acked;
        let excused = sent.best_effort || sent.dropped || sent.droppable && !sent.acked;
        !self.unpromised && !excused && !sent.delivered && promised && receiver_has
    }

    /// Messages that came, and that were sent.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.sent.iter().filter(|sent| sent.delivered).count() as u64, self.sent.len() as u64)
    }
}

#[cfg(test)]
mod tests;
