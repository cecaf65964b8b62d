//! Records on a lossless transport (§8.3).

use core::ops::Range;

/// Bytes before a body.
pub const HEADER: usize = 2;

/// A record of a length that cannot be: the link ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadLength(pub u16);

impl core::fmt::Display for BadLength {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "a record of {} bytes cannot be here", self.0)
    }
}

impl core::error::Error for BadLength {}

/// Where the body of the record at the front of `buffer` is; `None` if it is not whole yet. The
/// record ends where its body does. `limit` is the largest body, with its seal if there is one.
///
/// # Errors
/// If it is empty or longer than `limit`. That is said as soon as the length is there.
pub fn next(buffer: &[u8], limit: u16) -> Result<Option<Range<usize>>, BadLength> {
    let Some((&len, rest)) = buffer.split_first_chunk::<HEADER>() else { return Ok(None) };
    let len = u16::from_be_bytes(len);
    if len == 0 || len > limit {
        return Err(BadLength(len));
    }
    Ok((rest.len() >= len.into()).then(|| HEADER..HEADER + usize::from(len)))
}

/// Writes the header of a record whose body, `len` bytes, stands at [`HEADER`] in `buffer`. Says the
/// record's length; `None` if that cannot be.
#[must_use]
pub fn finish(buffer: &mut [u8], len: usize) -> Option<usize> {
    let short = u16::try_from(len).ok().filter(|&short| short > 0 && HEADER + len <= buffer.len())?;
    buffer[..HEADER].copy_from_slice(&short.to_be_bytes());
    Some(HEADER + len)
}
