//! Messages that were received and not taken yet.

use bowline_proto::native::Room;
use bowline_proto::native::wire::Channel;

/// Bytes in front of each payload: seq, channel, length, whether it was taken, gap.
pub(crate) const HEAD: usize = 8 + 3 + 2 + 1 + 4;
/// Where in a head these are.
const TAKEN: usize = 13;
const GAP: usize = 14;

/// A ring of messages in order. What was taken from its middle takes up room until all before it is taken:
/// so the messages that are not taken are those behind [`Inbox::taken`], and those alone.
///
/// A gap is told by the message behind it, and counts as taken with that one. While there is none, it is taken: the peer need
/// not wait until it has something to say.
#[derive(Debug)]
pub(crate) struct Inbox<B: ?Sized> {
    /// Most messages.
    slots: usize,
    len: usize,
    /// Where the first one begins.
    head: usize,
    /// Bytes of all of them.
    used: usize,
    /// Everything of the peer's up to this seq has come.
    last: u64,
    /// Messages that the peer has dropped behind the last one in the ring, and that nobody was told of.
    gap: u32,
    bytes: B,
}

/// A message in the ring.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Where its head begins.
    at: usize,
    seq: u64,
    channel: Channel,
    len: usize,
    taken: bool,
    gap: u32,
}

/// What was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) seq: u64,
    pub(crate) channel: Channel,
    pub(crate) len: usize,
    /// Messages that the peer has dropped before it; `u32::MAX` or more are as many.
    pub(crate) gap: u32,
}

/// The buffer is too short for the message, which stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooShort(pub(crate) usize);

impl<const N: usize> Inbox<[u8; N]> {
    /// An empty one for so many messages, behind seq `last`.
    pub(crate) const fn new(slots: usize, last: u64) -> Self {
        Inbox { slots, len: 0, head: 0, used: 0, last, gap: 0, bytes: [0; N] }
    }
}

impl Inbox<[u8]> {
    /// What it can hold beside what has come.
    pub(crate) fn room(&self) -> Room {
        let payloads = self.used - self.len * HEAD;
        let bytes = self.bytes.len() - self.slots * HEAD - payloads;
        Room { messages: (self.slots - self.len) as u64, bytes: bytes as u64 }
    }

    /// Everything up to this seq was taken, or need not be.
    pub(crate) fn taken(&self) -> u64 {
        self.find(|entry| !entry.taken).map_or(self.last, |entry| (entry.seq - 1).saturating_sub(entry.gap.into()))
    }

    /// The message of the next seq has come. False if there is no room: then nothing has changed.
    #[must_use]
    pub(crate) fn push(&mut self, seq: u64, channel: Channel, payload: &[u8]) -> bool {
        let room = self.room();
        let (Ok(len), true) = (u16::try_from(payload.len()), room.messages > 0) else { return false };
        if u64::from(len) > room.bytes {
            return false;
        }
        let at = self.head + self.used;
        self.write(at, &seq.to_le_bytes());
        self.write(at + 8, &[channel.app, channel.instance, channel.tag]);
        self.write(at + 11, &len.to_le_bytes());
        self.write(at + TAKEN, &[0]);
        let gap = core::mem::take(&mut self.gap);
        self.write(at + GAP, &gap.to_le_bytes());
        self.write(at + HEAD, payload);
        self.used += HEAD + payload.len();
        self.len += 1;
        self.last = seq;
        true
    }

    /// The message of this seq is for nobody.
    pub(crate) fn skip(&mut self, seq: u64) {
        self.last = seq;
    }

    /// The peer has dropped `count` messages, the last of which had this seq.
    pub(crate) fn drops(&mut self, seq: u64, count: u64) {
        self.last = seq;
        self.gap = self.gap.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Forgets what is not `durable`, for it comes again: the peer's seqs go on behind `last`. A gap that is, and that
    /// nobody was told of, does not come again: it is left.
    pub(crate) fn clear(&mut self, durable: u64, last: u64) {
        let untold = match self.len {
            0 => u64::from(self.gap).saturating_sub(self.last.saturating_sub(durable)),
            _ => durable.saturating_sub(self.taken()),
        };
        self.gap = u32::try_from(untold).unwrap_or(u32::MAX);
        (self.len, self.head, self.used, self.last) = (0, 0, 0, last);
    }

    /// Takes the first message whose channel is wanted.
    pub(crate) fn take(
        &mut self,
        mut wanted: impl FnMut(Channel) -> bool,
        buffer: &mut [u8],
    ) -> Result<Option<Taken>, TooShort> {
        let Some(entry) = self.find(|entry| !entry.taken && wanted(entry.channel)) else { return Ok(None) };
        let Entry { at, seq, channel, len, gap, .. } = entry;
        self.read(at + HEAD, buffer.get_mut(..len).ok_or(TooShort(len))?);
        self.write(at + TAKEN, &[1]);
        self.drops_taken();
        Ok(Some(Taken { seq, channel, len, gap }))
    }

    /// Takes all messages whose channel is not wanted any more, and says how many. Their gaps are told by those behind them.
    pub(crate) fn discard(&mut self, mut unwanted: impl FnMut(Channel) -> bool) -> u32 {
        let mut count = 0;
        while let Some(entry) = self.find(|entry| !entry.taken && unwanted(entry.channel)) {
            self.write(entry.at + TAKEN, &[1]);
            match self.find(|next| !next.taken && next.seq > entry.seq) {
                Some(next) => self.write(next.at + GAP, &next.gap.saturating_add(entry.gap).to_le_bytes()),
                None => self.gap = self.gap.saturating_add(entry.gap),
            }
            count += 1;
        }
        self.drops_taken();
        count
    }

    fn drops_taken(&mut self) {
        while let Some(entry) = self.find(|_| true).filter(|entry| entry.taken) {
            let size = HEAD + entry.len;
            self.head = self.place(self.head + size);
            self.used -= size;
            self.len -= 1;
        }
    }

    /// The first message of this kind.
    fn find(&self, mut wanted: impl FnMut(&Entry) -> bool) -> Option<Entry> {
        let mut at = self.head;
        for _ in 0..self.len {
            let mut head = [0; HEAD];
            self.read(at, &mut head);
            let [seq @ .., app, instance, tag, low, high, taken, a, b, c, d] = head;
            let len = usize::from(u16::from_le_bytes([low, high]));
            let channel = Channel { app, instance, tag };
            let gap = u32::from_le_bytes([a, b, c, d]);
            let entry = Entry { at, seq: u64::from_le_bytes(seq), channel, len, taken: taken != 0, gap };
            if wanted(&entry) {
                return Some(entry);
            }
            at += HEAD + len;
        }
        None
    }

    /// Places beyond the end are counted on from the front.
    fn write(&mut self, at: usize, from: &[u8]) {
        let (front, back) = self.bytes.split_at_mut_checked(self.place(at)).unwrap_or_default();
        for (byte, from) in back.iter_mut().chain(front).zip(from) {
            *byte = *from;
        }
    }

    fn read(&self, at: usize, into: &mut [u8]) {
        let (front, back) = self.bytes.split_at_checked(self.place(at)).unwrap_or_default();
        for (into, byte) in into.iter_mut().zip(back.iter().chain(front)) {
            *into = *byte;
        }
    }

    /// In the ring. What begins in it ends before it has gone round once.
    const fn place(&self, at: usize) -> usize {
        if at < self.bytes.len() { at } else { at - self.bytes.len() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::vec::Vec;

    use super::*;

    const fn channel(instance: u8) -> Channel {
        Channel { app: 1, instance, tag: 2 }
    }

    #[test]
    fn what_is_taken_from_the_middle_is_not_taken_for_those_before_it() {
        let mut inbox: &mut Inbox<[u8]> = &mut Inbox::<[u8; 200]>::new(4, 10);
        let inbox = &mut inbox;
        for (seq, instance) in [(11, 1), (12, 2), (13, 2)] {
            assert!(inbox.push(seq, channel(instance), &[seq as u8]));
        }
        let mut buffer = [0; 8];
        let of_two = |channel: Channel| channel.instance == 2;
        let taken = Taken { seq: 12, channel: channel(2), len: 1, gap: 0 };
        assert_eq!(inbox.take(of_two, &mut buffer), Ok(Some(taken)));
        assert_eq!((inbox.taken(), inbox.room().messages), (10, 1));
        assert_eq!(inbox.take(|_| true, &mut buffer).unwrap().unwrap().seq, 11);
        assert_eq!((inbox.taken(), inbox.room().messages), (12, 3));
        inbox.skip(20);
        assert_eq!(inbox.taken(), 12, "behind a message that is there");
        assert_eq!(inbox.discard(of_two), 1);
        assert_eq!(inbox.taken(), 20);
        assert_eq!(inbox.take(|_| true, &mut buffer), Ok(None));
    }

    #[test]
    fn a_message_for_which_the_buffer_is_too_short_stays_and_so_does_its_gap() {
        let inbox: &mut Inbox<[u8]> = &mut Inbox::<[u8; 64]>::new(2, 0);
        inbox.drops(1, 1);
        assert!(inbox.push(2, channel(1), b"12345"));
        assert_eq!(inbox.take(|_| true, &mut [0; 4]), Err(TooShort(5)));
        let mut buffer = [0; 5];
        let taken = inbox.take(|_| true, &mut buffer).unwrap().unwrap();
        assert_eq!((taken.len, taken.gap), (5, 1));
        assert_eq!(&buffer, b"12345");
    }

    #[test]
    fn gaps_in_a_row_are_told_together_by_the_message_behind_them_and_taken_with_it() {
        let inbox: &mut Inbox<[u8]> = &mut Inbox::<[u8; 200]>::new(4, 10);
        let mut buffer = [0; 8];
        assert!(inbox.push(11, channel(1), b"1"));
        inbox.drops(13, 2);
        inbox.drops(14, 1);
        assert_eq!(inbox.taken(), 10, "not before the message in front of it");
        assert_eq!(inbox.take(|_| true, &mut buffer).unwrap().unwrap().gap, 0);
        assert_eq!(inbox.taken(), 14, "nothing is behind it");
        inbox.drops(16, 2);
        assert!(inbox.push(17, channel(1), b"1"));
        assert!(inbox.push(18, channel(1), b"2"));
        assert_eq!(inbox.taken(), 11);
        assert_eq!(inbox.take(|_| true, &mut buffer).unwrap().unwrap().gap, 5);
        assert_eq!(inbox.taken(), 17);
        assert_eq!(inbox.take(|_| true, &mut buffer).unwrap().unwrap().gap, 0);
    }

    #[test]
    fn the_gap_before_a_message_that_is_discarded_is_told_by_the_next_one() {
        let inbox: &mut Inbox<[u8]> = &mut Inbox::<[u8; 200]>::new(4, 0);
        let mut buffer = [0; 8];
        let of_two = |channel: Channel| channel.instance == 2;
        inbox.drops(2, 2);
        assert!(inbox.push(3, channel(2), b"late"));
        inbox.drops(4, 1);
        assert!(inbox.push(5, channel(1), b"1"));
        assert_eq!(inbox.discard(of_two), 1);
        assert_eq!(inbox.take(|_| true, &mut buffer).unwrap().unwrap().gap, 3);
        inbox.drops(7, 2);
        assert!(inbox.push(8, channel(2), b"late"));
        assert_eq!(inbox.discard(of_two), 1);
        inbox.skip(9);
        assert!(inbox.push(10, channel(1), b"2"));
        assert_eq!(inbox.take(|_| true, &mut buffer).unwrap().unwrap().gap, 2);
    }

    /// What comes again brings its gaps with it; what does not must not lose them.
    #[test]
    fn a_gap_counts_once_when_what_is_not_durable_comes_again() {
        let mut buffer = [0; 8];
        let mut gap_told = |inbox: &mut Inbox<[u8]>| inbox.take(|_| true, &mut buffer).unwrap().unwrap().gap;
        let inbox: &mut Inbox<[u8]> = &mut Inbox::<[u8; 200]>::new(4, 0);

        // Durable before there was a message behind it.
        inbox.drops(3, 3);
        assert!(inbox.push(4, channel(1), b"4"));
        inbox.drops(6, 2);
        inbox.clear(3, 0);
        assert!(inbox.push(1, channel(1), b"4"));
        inbox.drops(3, 2);
        assert!(inbox.push(4, channel(1), b"7"));
        assert_eq!((gap_told(inbox), gap_told(inbox)), (3, 2));

        // Half of it.
        inbox.drops(8, 4);
        inbox.clear(6, 6);
        inbox.drops(8, 2);
        assert!(inbox.push(9, channel(1), b"9"));
        assert_eq!(gap_told(inbox), 4);

        // Not at all.
        inbox.drops(11, 2);
        assert!(inbox.push(12, channel(1), b"12"));
        inbox.clear(9, 9);
        inbox.drops(11, 2);
        assert!(inbox.push(12, channel(1), b"12"));
        assert_eq!(gap_told(inbox), 2);
    }

    /// Whatever room it says it has it has, wherever in the ring it is.
    #[test]
    fn its_room_is_there_to_the_last_byte() {
        let inbox: &mut Inbox<[u8]> = &mut Inbox::<[u8; 109]>::new(3, 0);
        let mut model: VecDeque<Vec<u8>> = VecDeque::new();
        let mut random = 7_u64;
        for seq in 1..5_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let room = inbox.room();
            assert_eq!(room.messages, 3 - model.len() as u64);
            assert_eq!(room.bytes, 109 - 3 * HEAD as u64 - model.iter().map(Vec::len).sum::<usize>() as u64);
            let len = if random >> 62 == 0 { room.bytes } else { (random >> 33) % (room.bytes + 1) };
            let payload: Vec<u8> = (0..len).map(|at| (seq + at) as u8).collect();
            let has_room = room.messages > 0;
            assert_eq!(inbox.push(seq, channel(1), &payload), has_room);
            if has_room {
                model.push_back(payload);
            }
            assert!(!inbox.push(seq, channel(1), &[0; 109]), "more than there is room for");
            let mut buffer = [0; 109];
            if !has_room || random >> 61 & 1 == 0 {
                let taken = inbox.take(|_| true, &mut buffer).unwrap().unwrap();
                assert_eq!(&buffer[..taken.len], model.pop_front().unwrap());
            }
        }
    }
}
