//! What can go wrong.

use core::fmt;

/// Why a flash cannot hold an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GeometryError {
    /// Words are powers of two, at most 64 bytes.
    Words {
        /// Bytes of the smallest read.
        read: usize,
        /// Bytes of the smallest write.
        write: usize,
    },
    /// A page has 320 bytes (with words of 16 and 32 bytes 384, of 64 bytes 640) to 16 MiB, in multiples of 64.
    Page {
        /// Bytes of the smallest erase.
        size: usize,
    },
    /// There are at least 4 pages, and less than 4 GiB.
    Pages {
        /// Whole pages in the flash.
        count: usize,
    },
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GeometryError::Words { read, write } => write!(
                f,
                "expected words of 1, 2, 4 … 64 bytes, the flash reads {read} and writes {write}: use another driver"
            ),
            GeometryError::Page { size } => {
                write!(f, "expected pages of 320 bytes (with long words 640) to 16 MiB in steps of 64, got {size}")
            }
            GeometryError::Pages { count } => {
                write!(f, "expected 4 pages or more, got {count}: give the outbox a larger partition")
            }
        }
    }
}

impl core::error::Error for GeometryError {}

/// Why the log could not be written. Nothing that was accepted is lost by it, and the call may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError<E> {
    /// The flash says so. The next write goes to another page.
    Flash(E),
    /// More pages in a row cannot be written than there are to spare.
    NoPage,
}

impl<E> From<E> for WriteError<E> {
    fn from(error: E) -> Self {
        WriteError::Flash(error)
    }
}

impl<E: fmt::Debug> fmt::Display for WriteError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Flash(error) => write!(f, "the flash failed: {error:?}"),
            WriteError::NoPage => f.write_str("no page of the flash can be written any more"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for WriteError<E> {}

/// Why there is no outbox on a flash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError<E> {
    /// The flash is not made for it.
    Geometry(GeometryError),
    /// It holds one of another version of the format.
    Version(u8),
    /// It holds more messages than there are slots for.
    TooFewSlots {
        /// How many it takes.
        needed: u32,
    },
    /// The log could not be read or written.
    Write(WriteError<E>),
}

impl<E> From<E> for OpenError<E> {
    fn from(error: E) -> Self {
        OpenError::Write(WriteError::Flash(error))
    }
}

impl<E: fmt::Debug> fmt::Display for OpenError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Geometry(error) => write!(f, "{error}"),
            OpenError::Version(version) => {
                write!(f, "the flash has version {version} of the format, this reads 1: use the program that wrote it")
            }
            OpenError::TooFewSlots { needed } => write!(f, "the flash holds {needed} messages: give as many slots"),
            OpenError::Write(error) => write!(f, "{error}"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for OpenError<E> {}

/// Why a message was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushError<E> {
    /// There is no room, and its policy makes none. Nothing was dropped for it.
    Full,
    /// It will never fit.
    TooLarge {
        /// Its bytes.
        len: usize,
        /// The most there may be.
        limit: usize,
    },
    /// The outbox is one for lines of text, and the payload has a newline in it.
    Newline,
    /// The outbox is one for lines of text, and the payload is not UTF-8.
    NotUtf8,
    /// The log could not be written.
    Write(WriteError<E>),
}

impl<E> From<WriteError<E>> for PushError<E> {
    fn from(error: WriteError<E>) -> Self {
        PushError::Write(error)
    }
}

impl<E: fmt::Debug> fmt::Display for PushError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushError::Full => f.write_str("the outbox is full: wait until the peer has acknowledged some of it"),
            PushError::TooLarge { len, limit } => write!(f, "expected a payload of at most {limit} bytes, got {len}"),
            PushError::Newline => {
                f.write_str("the payload has a newline in it, which would end the message: send several messages")
            }
            PushError::NotUtf8 => f.write_str(
                "the payload is not UTF-8 text, and the dialect has no other: encode binary data, or speak dialect N",
            ),
            PushError::Write(error) => write!(f, "{error}"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for PushError<E> {}

/// Why a message could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError<E> {
    /// There is no message under this seq.
    Missing,
    /// Its checksum does not fit any more, twice. It is a gap from now on, and counted in
    /// [`Outbox::lost`](crate::Outbox::lost).
    Damaged,
    /// The buffer is too short.
    Buffer {
        /// Bytes of the payload.
        needed: usize,
    },
    /// The flash could not be read, or the loss not be noted.
    Write(WriteError<E>),
}

impl<E> From<E> for ReadError<E> {
    fn from(error: E) -> Self {
        ReadError::Write(WriteError::Flash(error))
    }
}

impl<E: fmt::Debug> fmt::Display for ReadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Missing => f.write_str("there is no message under this seq"),
            ReadError::Damaged => f.write_str("the message is damaged on flash, and lost"),
            ReadError::Buffer { needed } => write!(f, "expected a buffer of {needed} bytes or more"),
            ReadError::Write(error) => write!(f, "{error}"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for ReadError<E> {}
