//! Bytes on their way in one direction of a connection.

use std::collections::VecDeque;

use bowline_proto::time::Instant;

use super::NEVER;
use super::rng::Rng;

#[derive(Default)]
pub(crate) struct Pipe {
    /// With when each arrives.
    pub(crate) pieces: VecDeque<(Instant, Vec<u8>)>,
    /// Nothing that is `put` arrives before this.
    not_before: Instant,
}

impl Pipe {
    /// Puts bytes in, in random pieces with random delays, in order.
    pub(crate) fn put(&mut self, now: Instant, bytes: Vec<u8>, rng: &mut Rng) {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let len = if rng.chance(60) { rest.len() } else { 1 + rng.index(rest.len()) };
            let (piece, back) = rest.split_at(len);
            self.not_before = self.not_before.max(now + rng.millis(1, 15));
            self.pieces.push_back((self.not_before, piece.to_vec()));
            rest = back;
        }
    }

    /// The first piece of those that have arrived.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Vec<u8>> {
        let first = self.pieces.iter().position(|(at, _)| *at <= now)?;
        self.pieces.remove(first).map(|(_, bytes)| bytes)
    }

    /// When the next piece arrives.
    pub(crate) fn next(&self) -> Instant {
        self.pieces.iter().map(|(at, _)| *at).min().unwrap_or(NEVER)
    }

    /// Brings nothing until then, and then all of it.
    pub(crate) fn stall(&mut self, until: Instant) {
        self.not_before = self.not_before.max(until);
        for (at, _) in &mut self.pieces {
            *at = (*at).max(until);
        }
    }
}
