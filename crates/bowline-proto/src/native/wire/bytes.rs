//! Reading and writing numbers and bytes, checked (§9.1).

use super::FrameError;

/// Numbers of the protocol are below this (§9.1).
pub(crate) const NUMBER_LIMIT: u64 = 1 << 62;

/// Reads from the front of some bytes.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub(crate) const fn left(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], FrameError> {
        let (front, rest) = self.rest.split_at_checked(len).ok_or(FrameError::Short)?;
        self.rest = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (front, rest) = self.rest.split_first_chunk::<N>().ok_or(FrameError::Short)?;
        self.rest = rest;
        Ok(*front)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FrameError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FrameError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FrameError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FrameError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A variable-length number; only its shortest form is valid.
    pub(crate) fn number(&mut self) -> Result<u64, FrameError> {
        let first = *self.rest.first().ok_or(FrameError::Short)?;
        let len = 1 << (first >> 6);
        let bytes = self.bytes(len)?;
        let number = bytes[1..].iter().fold(u64::from(first & 0x3f), |number, &byte| number << 8 | u64::from(byte));
        if number_len(number) == len { Ok(number) } else { Err(FrameError::Invalid) }
    }

    /// A variable-length number that must fit into `T`.
    pub(crate) fn small<T: TryFrom<u64>>(&mut self) -> Result<T, FrameError> {
        T::try_from(self.number()?).map_err(|_| FrameError::Invalid)
    }
}

/// Bytes that `number` takes.
const fn number_len(number: u64) -> usize {
    match number {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x4000_0000 => 4,
        _ => 8,
    }
}

/// Writes to the front of a buffer; `None` when that is too short or a number too large.
pub(crate) struct Writer<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    pub(crate) const fn new(buffer: &'a mut [u8]) -> Self {
        Writer { buffer, len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len.checked_add(bytes.len())?;
        self.buffer.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }

    pub(crate) fn u8(&mut self, byte: u8) -> Option<()> {
        self.bytes(&[byte])
    }

    pub(crate) fn number(&mut self, number: u64) -> Option<()> {
        let len = number_len(number);
        if number >= NUMBER_LIMIT {
            return None;
        }
        let marked = number | (u64::from(len.trailing_zeros()) << (len * 8 - 2));
        self.bytes(&marked.to_be_bytes()[8 - len..])
    }
}
