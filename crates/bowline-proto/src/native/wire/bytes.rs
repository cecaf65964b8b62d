//! Reading and writing numbers and bytes, checked (§9.1).

use super::FrameError;

/// Numbers of the protocol are below this (§9.1).
pub(crate) const NUMBER_LIMIT: u64 = 1 << 62;

/// Reads from the front of some bytes. What goes wrong first is kept and said at the [end](Reader::finish); what is read
/// from then on is 0 or empty. So those who read need not ask at each field, which would be half of their code.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    failed: Option<FrameError>,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes, failed: None }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn fails(&mut self, error: FrameError) {
        self.rest = &[];
        self.failed.get_or_insert(error);
    }

    /// What was read must be so.
    pub(crate) fn check(&mut self, is_valid: bool) {
        if !is_valid {
            self.fails(FrameError::Invalid);
        }
    }

    /// How many bytes are left, if all was well.
    pub(crate) fn finish(self) -> Result<usize, FrameError> {
        self.failed.map_or(Ok(self.rest.len()), Err)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        match self.rest.split_at_checked(len) {
            Some((front, rest)) => {
                self.rest = rest;
                front
            }
            None => {
                self.fails(FrameError::Short);
                &[]
            }
        }
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        match self.rest.split_first_chunk::<N>() {
            Some((front, rest)) => {
                self.rest = rest;
                *front
            }
            None => {
                self.fails(FrameError::Short);
                [0; N]
            }
        }
    }

    pub(crate) fn u8(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    #[cfg(feature = "server")]
    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    /// A variable-length number; only its shortest form is valid.
    pub(crate) fn number(&mut self) -> u64 {
        let first = self.u8();
        let len = 1 << (first >> 6);
        let rest = self.bytes(len - 1);
        let number = rest.iter().fold(u64::from(first & 0x3f), |number, &byte| number << 8 | u64::from(byte));
        self.check(number_len(number) == len);
        number
    }

    /// A variable-length number that is to be added to `base`.
    pub(crate) fn sum(&mut self, base: u64) -> u64 {
        let sum = base + self.number();
        self.check(sum < NUMBER_LIMIT);
        sum
    }

    /// A variable-length number that must fit into `T`.
    pub(crate) fn small<T: TryFrom<u64> + Default>(&mut self) -> T {
        let number = T::try_from(self.number());
        self.check(number.is_ok());
        number.unwrap_or_default()
    }
}

/// Bytes that `number` takes.
#[cfg_attr(not(feature = "server"), inline(never))]
const fn number_len(number: u64) -> usize {
    match number {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x4000_0000 => 4,
        _ => 8,
    }
}

/// Writes to the front of a buffer. That it is too short or a number too large is said at the [end](Writer::finish).
pub(crate) struct Writer<'a> {
    buffer: &'a mut [u8],
    len: usize,
    failed: bool,
}

impl<'a> Writer<'a> {
    pub(crate) const fn new(buffer: &'a mut [u8]) -> Self {
        Writer { buffer, len: 0, failed: false }
    }

    pub(crate) const fn fails(&mut self) {
        self.failed = true;
    }

    /// How many bytes were written, if all were.
    pub(crate) fn finish(self) -> Option<usize> {
        (!self.failed).then_some(self.len)
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let place = self.buffer.get_mut(self.len..).and_then(|rest| rest.get_mut(..bytes.len()));
        match place {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => self.fails(),
        }
    }

    pub(crate) fn u8(&mut self, byte: u8) {
        self.bytes(&[byte]);
    }

    pub(crate) fn number(&mut self, number: u64) {
        let len = number_len(number);
        let marked = number | (u64::from(len.trailing_zeros()) << (len * 8 - 2));
        match marked.to_be_bytes().get(8 - len..) {
            Some(bytes) if number < NUMBER_LIMIT => self.bytes(bytes),
            _ => self.fails(),
        }
    }

    /// The difference of a number and one that must not be above it.
    pub(crate) fn difference(&mut self, above: u64, below: u64) {
        match above.checked_sub(below) {
            Some(difference) => self.number(difference),
            None => self.fails(),
        }
    }
}
