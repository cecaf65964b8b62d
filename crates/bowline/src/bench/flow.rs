//! What one device sends and what becomes of it, whatever it speaks and however often its link is cut.

use std::sync::Arc;

use super::payload::{Payload, Read};
use super::tally::Tally;

/// One device's messages. They are numbered from 1, and sent and acknowledged in this order.
#[derive(Debug)]
pub(super) struct Flow {
    device: u32,
    pub(super) payload: Payload,
    tally: Arc<Tally>,
    /// Most messages on their way.
    window: u64,
    /// Echoes are waited for.
    echoes: bool,
    /// Taken for sending, acknowledged, and come back.
    offered: u64,
    acked: u64,
    echoed: u64,
    /// The first measured message.
    first: u64,
    /// The last message to send.
    goal: u64,
    /// When the messages on their way were offered, in microseconds, by number.
    times: Box<[u64]>,
    pub(super) faults: Faults,
}

/// What must not be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// Echoes that are not what was sent.
    pub(super) wrong: u64,
    /// Echoes that came before.
    pub(super) doubled: u64,
    /// Echoes that were left out: others came that were sent later.
    pub(super) missed: u64,
    /// Acknowledgements of what was not on its way.
    pub(super) stray: u64,
}

impl Faults {
    pub(super) fn add(&mut self, other: Faults) {
        self.wrong += other.wrong;
        self.doubled += other.doubled;
        self.missed += other.missed;
        self.stray += other.stray;
    }
}

/// What became of the measured messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) offered: u64,
    pub(super) acked: u64,
    pub(super) echoed: u64,
}

impl Flow {
    /// A flow that sends nothing yet.
    pub(super) fn new(device: u32, payload: Payload, window: u32, echoes: bool, tally: Arc<Tally>) -> Self {
        let slots = (window as usize).next_power_of_two();
        Flow {
            device,
            payload,
            tally,
            window: window.into(),
            echoes,
            offered: 0,
            acked: 0,
            echoed: 0,
            first: u64::MAX,
            goal: 0,
            times: vec![0; slots].into(),
            faults: Faults::default(),
        }
    }

    /// Sends for as long as it is let.
    pub(super) fn warms_up(&mut self) {
        self.goal = u64::MAX;
    }

    /// What is sent from now on counts: so many messages, or without a limit.
    pub(super) fn measures(&mut self, messages: Option<u64>) {
        self.first = self.offered + 1;
        self.goal = messages.map_or(u64::MAX, |messages| self.offered + messages);
    }

    /// Sends nothing any more.
    pub(super) fn finishes(&mut self) {
        self.goal = self.offered;
    }

    /// Whether everything was sent, acknowledged and, if so wished, echoed.
    pub(super) fn is_done(&self) -> bool {
        self.settled() >= self.goal
    }

    fn settled(&self) -> u64 {
        if self.echoes { self.acked.min(self.echoed) } else { self.acked }
    }

    /// Offers what may be sent. Says how many were offered in all.
    pub(super) fn offer(&mut self, now: u64) -> u64 {
        let until = self.goal.min(self.settled() + self.window);
        while self.offered < until {
            self.offered += 1;
            let at = self.slot(self.offered);
            self.times[at] = now;
        }
        self.offered
    }

    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    /// Everything up to `number` was acknowledged.
    pub(super) fn handle_acked(&mut self, number: u64, now: u64) {
        if number > self.offered {
            self.faults.stray += 1;
            return;
        }
        if number <= self.acked {
            return;
        }
        let mut counts = self.tally.part(self.device);
        counts.progress += number - self.acked;
        for number in self.acked + 1..=number {
            if number >= self.first {
                let span = now.saturating_sub(self.times[number as usize & (self.times.len() - 1)]);
                counts.acks.saturating_record(span);
                counts.last = now;
            }
        }
        self.acked = number;
    }

    /// A message has come.
    pub(super) fn handle_message(&mut self, payload: &[u8], now: u64) {
        if !self.echoes {
            return;
        }
        let number = match self.payload.read(payload) {
            Read::Number(number) => number,
            Read::Foreign => return,
            Read::Wrong => {
                self.faults.wrong += 1;
                return;
            }
        };
        if number <= self.echoed {
            self.faults.doubled += 1;
            return;
        }
        if number > self.offered {
            self.faults.wrong += 1;
            return;
        }
        self.faults.missed += number - self.echoed - 1;
        self.echoed = number;
        let mut counts = self.tally.part(self.device);
        counts.progress += 1;
        if number >= self.first {
            counts.echoes.saturating_record(now.saturating_sub(self.times[self.slot(number)]));
            counts.last = now;
        }
    }

    pub(super) fn sums(&self) -> Sums {
        let since = |number: u64| (number + 1).saturating_sub(self.first);
        Sums { offered: since(self.offered), acked: since(self.acked), echoed: since(self.echoed) }
    }

    fn slot(&self, number: u64) -> usize {
        number as usize & (self.times.len() - 1)
    }
}
