//! What joins two ends: connections, and bytes on their way.

use std::collections::VecDeque;

use bowline_proto::time::Instant;

use crate::rng::Rng;

/// A connection; on a lossy transport, a link number. Bytes put into a half-open one go nowhere.
#[derive(Default)]
pub(crate) struct Conn {
    pub(crate) half_open: bool,
    pub(crate) up: Pipe,
    pub(crate) down: Pipe,
    /// Lossy: when the opening is said again, until it is answered.
    pub(crate) repeat: Option<Instant>,
    pub(crate) give_up: Instant,
}

#[derive(Default)]
pub(crate) struct Pipe {
    pub(crate) pieces: VecDeque<(Instant, Vec<u8>)>,
    pub(crate) not_before: Instant,
    /// What the receiver has read and not used.
    pub(crate) read: Vec<u8>,
    /// The opening or the answer has been read.
    pub(crate) greeted: bool,
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

    pub(crate) fn stall(&mut self, until: Instant) {
        self.not_before = self.not_before.max(until);
        for (at, _) in &mut self.pieces {
            *at = (*at).max(until);
        }
    }
}
