//! The bytes of one connection, each way: sent again until they have come, and not before there is room.

use embassy_time::{Duration, Instant};

use crate::wire::{Flow, MAX_DATA};

/// What was sent and not confirmed is sent again after this long.
const AGAIN: Duration = Duration::from_millis(200);
/// What has come is confirmed after at most this long.
const CONFIRM: Duration = Duration::from_millis(50);
const _: () = assert!(AGAIN.as_ticks() >= 3 * CONFIRM.as_ticks());

/// Both directions of a connection, with room for `N` bytes in each. `N` is a power of two.
pub(crate) struct Stream<const N: usize> {
    pub(crate) out: Outgoing<N>,
    pub(crate) input: Incoming<N>,
}

impl<const N: usize> Stream<N> {
    pub(crate) const fn new() -> Self {
        // Offsets wrap, and with them places in the ring.
        assert!(N.is_power_of_two() && N >= 2 * MAX_DATA, "expected a power of two of 256 bytes or more");
        Stream {
            out: Outgoing { ring: [0; N], base: 0, next: 0, top: 0, end: 0, limit: 0, sent: Instant::MIN },
            input: Incoming { ring: [0; N], read: 0, received: 0, told: 0, since: None, again: false, asked: false },
        }
    }
}

/// What goes to the other side.
pub(crate) struct Outgoing<const N: usize> {
    ring: [u8; N],
    /// `base <= next <= top <= end`: from the first byte that is not confirmed to behind the last one there is. Those before
    /// `top` were sent, and it goes on with `next`.
    base: u32,
    next: u32,
    top: u32,
    end: u32,
    /// The other side has room up to here.
    limit: u32,
    /// When something was sent or confirmed last.
    sent: Instant,
}

impl<const N: usize> Outgoing<N> {
    pub(crate) fn room(&self) -> usize {
        N - self.end.wrapping_sub(self.base) as usize
    }

    /// As many of the bytes as there is room for.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        for byte in &bytes[..count] {
            self.ring[self.end as usize % N] = *byte;
            self.end = self.end.wrapping_add(1);
        }
        count
    }

    /// All bytes there have been.
    pub(crate) fn total(&self) -> u32 {
        self.end
    }

    /// The other side has said how far it is.
    pub(crate) fn handle(&mut self, flow: Flow, now: Instant) {
        let confirmed = flow.received.wrapping_sub(self.base);
        // What lies before the base is old, and what was not sent has not come.
        if confirmed > self.top.wrapping_sub(self.base) {
            return;
        }
        if confirmed > 0 {
            let ahead = self.next.wrapping_sub(self.base).max(confirmed);
            self.next = self.base.wrapping_add(ahead);
            self.base = flow.received;
            self.sent = now;
        }
        self.limit = flow.limit;
        if flow.again {
            self.next = self.base;
        }
    }

    /// The next bytes to send, and their offset.
    pub(crate) fn poll(&mut self, now: Instant, out: &mut [u8; MAX_DATA]) -> Option<(u32, usize)> {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.next = self.base;
        }
        let (offset, count) = (self.next, self.sendable().min(MAX_DATA as u32));
        if count == 0 {
            return None;
        }
        for place in &mut out[..count as usize] {
            *place = self.ring[self.next as usize % N];
            self.next = self.next.wrapping_add(1);
        }
        let ahead = self.next.wrapping_sub(self.base).max(self.top.wrapping_sub(self.base));
        self.top = self.base.wrapping_add(ahead);
        self.sent = now;
        Some((offset, count as usize))
    }

    fn sendable(&self) -> u32 {
        let waiting = self.end.wrapping_sub(self.next);
        let room = self.limit.wrapping_sub(self.next);
        // A limit that lies behind is none.
        if room > i32::MAX as u32 { 0 } else { waiting.min(room) }
    }

    /// When something is to be sent again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (self.next != self.base).then(|| self.sent + AGAIN)
    }
}

/// What comes from the other side.
pub(crate) struct Incoming<const N: usize> {
    ring: [u8; N],
    /// Taken out up to here.
    read: u32,
    received: u32,
    /// The limit that the other side was told last.
    told: u32,
    /// When the first byte came of those that are not confirmed.
    since: Option<Instant>,
    /// The other side is to be told to go back, or was told.
    again: bool,
    asked: bool,
}

impl<const N: usize> Incoming<N> {
    /// Bytes that have come. Those that do not follow are not taken, and the other side is to go back.
    pub(crate) fn take(&mut self, offset: u32, bytes: &[u8], now: Instant) {
        let room = N - self.received.wrapping_sub(self.read) as usize;
        if offset != self.received || bytes.len() > room {
            // What is old was confirmed, and that was lost. Who goes back does so once.
            let is_old = self.received.wrapping_sub(offset) <= N as u32;
            self.again |= !is_old && !self.asked;
            self.since.get_or_insert(now);
            return;
        }
        (self.again, self.asked) = (false, false);
        self.since.get_or_insert(now);
        for byte in bytes {
            self.ring[self.received as usize % N] = *byte;
            self.received = self.received.wrapping_add(1);
        }
    }

    /// All bytes there have been.
    pub(crate) fn total(&self) -> u32 {
        self.received
    }

    pub(crate) fn read(&mut self, out: &mut [u8]) -> usize {
        let count = out.len().min(self.received.wrapping_sub(self.read) as usize);
        for place in &mut out[..count] {
            *place = self.ring[self.read as usize % N];
            self.read = self.read.wrapping_add(1);
        }
        count
    }

    /// What the other side is told.
    pub(crate) fn flow(&mut self) -> Flow {
        self.told = self.read.wrapping_add(N as u32);
        self.since = None;
        self.asked |= self.again;
        Flow { received: self.received, limit: self.told, again: core::mem::take(&mut self.again) }
    }

    /// When the other side is to be told: now, if it waits for room or is about to.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let knows_of_room = self.told.wrapping_sub(self.received) as usize > N / 2;
        let has_room = (self.received.wrapping_sub(self.read) as usize) < N / 2;
        if self.again || has_room && !knows_of_room {
            Some(Instant::MIN)
        } else {
            self.since.map(|since| since + CONFIRM)
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;
    use std::{println, vec};

    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    /// Bytes both ways on a line that loses, in any order of writes and reads.
    #[test]
    fn what_goes_in_comes_out_however_much_is_lost() {
        let seed = std::env::var("BOWLINE_SEED").map_or(1, |seed| seed.parse().unwrap());
        for seed in seed..seed + 200 {
            println!("BOWLINE_SEED={seed}");
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut left, mut right) = (Stream::<256>::new(), Stream::<256>::new());
            // Near where offsets wrap.
            let begin = random.u32(..600).wrapping_neg();
            left.out = Outgoing { base: begin, next: begin, top: begin, end: begin, ..left.out };
            right.input = Incoming { read: begin, received: begin, ..right.input };
            let (mut sent, mut came): (Vec<u8>, Vec<u8>) = (vec![], vec![]);
            let mut buffer = [0; MAX_DATA];
            for turn in 0..3_000 {
                let now = at(turn * 10);
                if sent.len() < 2_000 {
                    let bytes: Vec<u8> = (0..random.usize(..100)).map(|_| random.u8(..)).collect();
                    let count = left.out.write(&bytes);
                    sent.extend(&bytes[..count]);
                }
                while let Some((offset, count)) = left.out.poll(now, &mut buffer) {
                    if random.u32(..3) > 0 {
                        right.input.take(offset, &buffer[..count], now);
                    }
                }
                let count = right.input.read(&mut buffer[..random.usize(..100)]);
                came.extend(&buffer[..count]);
                if right.input.deadline().is_some_and(|deadline| deadline <= now) || turn % 50 == 0 {
                    let flow = right.input.flow();
                    if random.u32(..3) > 0 {
                        left.out.handle(flow, now);
                    }
                }
            }
            assert!(sent.len() >= 2_000);
            assert_eq!(came, sent);
        }
    }

    #[test]
    fn what_was_said_long_ago_changes_nothing() {
        let mut out = Outgoing { limit: 256, ..Stream::<256>::new().out };
        out.write(&[1; 100]);
        let mut buffer = [0; MAX_DATA];
        assert_eq!(out.poll(at(0), &mut buffer), Some((0, 100)));
        out.handle(Flow { received: 100, limit: 356, again: false }, at(1));
        assert_eq!((out.room(), out.deadline()), (256, None));
        for received in [0, 99, 101, 1 << 31] {
            out.handle(Flow { received, limit: 0, again: true }, at(2));
        }
        out.write(&[2; 10]);
        assert_eq!(out.poll(at(3), &mut buffer), Some((100, 10)));
        assert_eq!(out.poll(at(3), &mut buffer), None);
        assert_eq!(out.poll(at(3) + AGAIN, &mut buffer), Some((100, 10)), "not confirmed");
    }

    #[test]
    fn nothing_is_sent_that_there_is_no_room_for() {
        let (mut left, mut right) = (Stream::<256>::new(), Stream::<256>::new());
        let mut buffer = [0; MAX_DATA];
        assert_eq!(left.out.write(&[1; 300]), 256);
        assert_eq!(left.out.poll(at(0), &mut buffer), None, "no limit was told");
        left.out.handle(right.input.flow(), at(0));
        while let Some((offset, count)) = left.out.poll(at(0), &mut buffer) {
            right.input.take(offset, &buffer[..count], at(0));
        }
        left.out.handle(right.input.flow(), at(0));
        assert_eq!(left.out.write(&[2; 300]), 256);
        assert_eq!(left.out.poll(at(0), &mut buffer), None, "nothing was read");
        assert_eq!(right.input.read(&mut [0; 200]), 200);
        assert_eq!(right.input.deadline(), Some(Instant::MIN));
        left.out.handle(right.input.flow(), at(0));
        assert_eq!(left.out.poll(at(0), &mut buffer), Some((256, 128)));
    }
}
