//! Cutting a byte stream into lines, at any split point.

/// Finds lines at the front of a caller-owned buffer.
///
/// The caller keeps the bytes: it appends what arrives, asks for a line, and drops the line's bytes
/// and its newline from the front before it asks again. The scanner only remembers how far it has
/// looked, so that a line that arrives byte by byte costs one look at each byte. Its state dies with
/// the link it belongs to, and the buffer must too: a partial line is never carried to another link.
#[derive(Debug, Clone)]
pub struct LineScanner {
    /// Bytes at the front of the buffer known to hold no newline.
    scanned: usize,
    /// Longest line accepted, in bytes without its newline.
    limit: usize,
}

/// A line was longer than the limit. The link cannot go on: where the next line starts is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineTooLong {
    /// The limit, in bytes without the newline.
    pub limit: usize,
}

impl core::fmt::Display for LineTooLong {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "a line is longer than the limit of {} bytes", self.limit)
    }
}

impl core::error::Error for LineTooLong {}

impl LineScanner {
    /// A scanner for lines of at most `limit` bytes, newline not counted.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        LineScanner { scanned: 0, limit }
    }

    /// The line at the front of `buffer`, without its newline, if it is complete.
    ///
    /// # Errors
    /// If there is no newline within the limit.
    pub fn next<'a>(&mut self, buffer: &'a [u8]) -> Result<Option<&'a [u8]>, LineTooLong> {
        let from = self.scanned.min(buffer.len());
        match buffer[from..].iter().position(|&byte| byte == b'\n') {
            Some(at) if from + at <= self.limit => {
                self.scanned = 0;
                Ok(Some(&buffer[..from + at]))
            }
            None if buffer.len() <= self.limit => {
                self.scanned = buffer.len();
                Ok(None)
            }
            _ => Err(LineTooLong { limit: self.limit }),
        }
    }
}
