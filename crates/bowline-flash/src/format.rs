//! Bytes on flash: the head of a page, the head of a record, the state.
//!
//! Numbers are little-endian. Every head's checksum covers the place where the head stands, so that
//! what is left of a page's earlier life, or a payload that looks like a record, is none.

use bowline_proto::Crc;

/// "BWF", version 1.
const MAGIC: [u8; 4] = *b"BWF\x01";

/// Bytes of a page's head, before rounding.
pub(crate) const PAGE_HEAD: usize = 16;
/// Bytes of a record's head, before rounding.
pub(crate) const HEAD: usize = 24;
/// Bytes of the body of a state.
pub(crate) const STATE: usize = 52;
/// Most bytes in front of a payload: a deadline and a range.
pub(crate) const MAX_PREFIX: usize = 4 + 16;

/// Numbers of pages and of messages stay below these, whatever wears out first. So nothing here overflows when one is
/// added, also to what a checksum fits by chance or by somebody's hand.
const PAGE_LIMIT: u32 = 1 << 31;
const NUMBER_LIMIT: u64 = 1 << 62;

/// Where a head stands: the page by its number, which counts up with each page ever begun, and the
/// offset in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) page: u32,
    pub(crate) offset: u32,
}

impl Place {
    fn crc(self, bytes: &[u8]) -> u32 {
        Crc::new().with(&self.page.to_le_bytes()).with(&self.offset.to_le_bytes()).with(bytes).value()
    }
}

/// What the head of a page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageHead {
    /// All bits are set.
    Blank,
    /// Of this format, with this number.
    Page(u32),
    /// Of another version.
    Version(u8),
    /// Anything else.
    Garbage,
}

impl PageHead {
    /// `grain` is the rounding of everything in the page: who has another one reads other places.
    pub(crate) fn emit(page: u32, grain: u32) -> [u8; PAGE_HEAD] {
        let mut bytes = [0; PAGE_HEAD];
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, 4, page.to_le_bytes());
        put(&mut bytes, 8, grain.to_le_bytes());
        let crc = Place { page, offset: 0 }.crc(&bytes[..12]);
        put(&mut bytes, 12, crc.to_le_bytes());
        bytes
    }

    pub(crate) fn parse(bytes: &[u8; PAGE_HEAD], grain: u32) -> Self {
        if bytes.iter().all(|&byte| byte == 0xff) {
            return PageHead::Blank;
        }
        let page = u32_at(bytes, 4);
        let whole = Place { page, offset: 0 }.crc(&bytes[..12]) == u32_at(bytes, 12);
        if !whole || bytes[..3] != MAGIC[..3] {
            return PageHead::Garbage;
        }
        if bytes[3] != MAGIC[3] {
            return PageHead::Version(bytes[3]);
        }
        if u32_at(bytes, 8) == grain && page < PAGE_LIMIT { PageHead::Page(page) } else { PageHead::Garbage }
    }
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A message; its number is new, or that of one that is written again.
    Message = 1,
    /// The message of this number is dropped; the flags are the reason.
    Drop = 2,
    /// The peer has everything up to this number.
    Ack = 3,
    /// Everything up to this seq was received.
    Received = 4,
    /// All numbers. The first record of each page.
    State = 5,
    /// What the page was begun with is complete: the page counts.
    Commit = 6,
}

impl Kind {
    fn of(code: u8) -> Option<Self> {
        Some(match code {
            1 => Kind::Message,
            2 => Kind::Drop,
            3 => Kind::Ack,
            4 => Kind::Received,
            5 => Kind::State,
            6 => Kind::Commit,
            _ => return None,
        })
    }
}

/// A state with this flag makes its page count, as [`Kind::Commit`] does.
pub(crate) const COMMITS: u8 = 1;
/// The record that this state names as the last may be half written: it is not in effect, unless it is
/// written again behind this.
pub(crate) const DOUBTS: u8 = 2;

/// The head of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    /// Message: see [`Flags`](crate::message::Flags). State: [`COMMITS`], [`DOUBTS`]. Drop: the reason.
    pub(crate) flags: u8,
    /// Bytes of the body.
    pub(crate) len: u16,
    /// Message: the channel. Others: how many messages are left then.
    pub(crate) extra: [u8; 4],
    pub(crate) number: u64,
    pub(crate) body_crc: u32,
}

impl Head {
    pub(crate) fn emit(&self, place: Place) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[0] = self.kind as u8;
        bytes[1] = self.flags;
        put(&mut bytes, 2, self.len.to_le_bytes());
        put(&mut bytes, 4, self.extra);
        put(&mut bytes, 8, self.number.to_le_bytes());
        put(&mut bytes, 16, self.body_crc.to_le_bytes());
        let crc = place.crc(&bytes[..20]);
        put(&mut bytes, 20, crc.to_le_bytes());
        bytes
    }

    pub(crate) fn parse(bytes: &[u8; HEAD], place: Place) -> Option<Self> {
        let kind = Kind::of(bytes[0])?;
        if place.crc(&bytes[..20]) != u32_at(bytes, 20) || u64_at(bytes, 8) >= NUMBER_LIMIT {
            return None;
        }
        Some(Head {
            kind,
            flags: bytes[1],
            len: u16::from_le_bytes([bytes[2], bytes[3]]),
            extra: [bytes[4], bytes[5], bytes[6], bytes[7]],
            number: u64_at(bytes, 8),
            body_crc: u32_at(bytes, 16),
        })
    }

    /// How many messages are left, in what is no message.
    pub(crate) const fn live(&self) -> u32 {
        u32::from_le_bytes(self.extra)
    }
}

/// The numbers of the outbox. Messages are numbered for ever; the seqs of an epoch begin behind `base`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Numbers {
    pub(crate) epoch: u64,
    pub(crate) base: u64,
    pub(crate) acked: u64,
    pub(crate) last: u64,
    /// A seq of the peer, in this epoch.
    pub(crate) received: u64,
}

/// What a state says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) numbers: Numbers,
    /// The first page that counts.
    pub(crate) oldest: u32,
    /// The last record that was complete. What stands between it and this state is void.
    pub(crate) after: Place,
}

impl State {
    pub(crate) fn emit(&self) -> [u8; STATE] {
        let mut bytes = [0; STATE];
        let Numbers { epoch, base, acked, last, received } = self.numbers;
        for (slot, number) in bytes.as_chunks_mut().0.iter_mut().zip([epoch, base, acked, last, received]) {
            *slot = number.to_le_bytes();
        }
        let rest = [self.oldest, self.after.page, self.after.offset];
        for (slot, number) in bytes[40..].as_chunks_mut().0.iter_mut().zip(rest) {
            *slot = number.to_le_bytes();
        }
        bytes
    }

    pub(crate) fn parse(bytes: &[u8; STATE]) -> Self {
        let numbers = Numbers {
            epoch: u64_at(bytes, 0),
            base: u64_at(bytes, 8),
            acked: u64_at(bytes, 16),
            last: u64_at(bytes, 24),
            received: u64_at(bytes, 32),
        };
        let after = Place { page: u32_at(bytes, 44), offset: u32_at(bytes, 48) };
        State { numbers, oldest: u32_at(bytes, 40), after }
    }

    /// Whether an outbox can have come to this in `page`.
    pub(crate) const fn can_be(&self, page: u32) -> bool {
        let Numbers { base, acked, last, .. } = self.numbers;
        base <= acked && acked <= last && last < NUMBER_LIMIT && self.oldest <= page
    }
}

/// At a place that the caller knows to be inside: the arrays here have lengths known beforehand. Nothing here panics
/// elsewhere either, so that the program has no code for it.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(part(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(part(bytes, at))
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, part: [u8; N]) {
    if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = part;
    }
}

/// Copies as much as there is of both. Cannot panic, which [`slice::copy_from_slice`] could.
pub(crate) fn copy(into: &mut [u8], from: &[u8]) {
    into.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}
