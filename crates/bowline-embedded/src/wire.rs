//! The bytes of one link: what was read and not understood yet, and the record that goes out.

use core::cell::Cell;

use bowline_proto::native::wire::{DATA_OVERHEAD, MIN_BODY, record};
use bowline_secure::{Carrier, MAX_OPENING};
use embedded_io_async::{Error as _, ErrorKind, Read, Write};

use crate::DownReason;
use crate::seal::Transport;

/// Bytes that a sealed record has beside its body. In open mode they stay free.
pub(crate) const OVERHEAD: usize = record::HEADER + Carrier::Lossless.overhead();

/// The smallest buffer: an opening goes in, and with it the smallest body.
pub(crate) const MIN_BUFFER: usize = 160;
const _: () = assert!(MIN_BUFFER >= MAX_OPENING && MIN_BUFFER >= MIN_BODY as usize + OVERHEAD);

/// Writes all of it. A network that says that it has written nothing, or more than there was, breaks its trait, and the link is over:
/// the trait's own way to write all panics.
pub(crate) async fn write_all<C: Write>(connection: &mut C, mut bytes: &[u8]) -> Result<(), DownReason> {
    while !bytes.is_empty() {
        let count = connection.write(bytes).await.map_err(|error| DownReason::Transport(error.kind()))?;
        let rest = bytes.get(count..).filter(|_| count > 0);
        bytes = rest.ok_or(DownReason::Transport(ErrorKind::WriteZero))?;
    }
    Ok(())
}

pub(crate) struct Wire<'b> {
    input: &'b mut [u8],
    filled: usize,
    output: &'b mut [u8],
    /// Bytes of the body that is being filled, behind the room for its header.
    body: usize,
    /// Bytes of the whole record once it is finished, and how many of them are written.
    finished: usize,
    written: usize,
}

impl<'b> Wire<'b> {
    /// Both of [`MIN_BUFFER`] bytes or more.
    pub(crate) fn new(input: &'b mut [u8], output: &'b mut [u8]) -> Self {
        Wire { input, filled: 0, output, body: 0, finished: 0, written: 0 }
    }

    /// The largest body that goes in and out.
    pub(crate) fn max_body(&self) -> u16 {
        u16::try_from(self.input.len().min(self.output.len()) - OVERHEAD).unwrap_or(u16::MAX)
    }

    /// The largest payload that goes out.
    pub(crate) fn max_payload(&self) -> usize {
        usize::from(self.max_body() - DATA_OVERHEAD)
    }

    /// Reads what there is, or says why no more will come.
    ///
    /// Cancel-safe if reading from the connection is.
    pub(crate) async fn fill<C: Read>(&mut self, connection: &mut C) -> Result<(), DownReason> {
        match connection.read(self.input.get_mut(self.filled..).unwrap_or_default()).await {
            Ok(0) => Err(DownReason::PeerClosed),
            Ok(count) => {
                self.filled += count;
                Ok(())
            }
            Err(error) => Err(DownReason::Transport(error.kind())),
        }
    }

    pub(crate) fn input(&mut self) -> &mut [u8] {
        self.input.get_mut(..self.filled).unwrap_or_default()
    }

    pub(crate) fn consume(&mut self, count: usize) {
        let cells = Cell::from_mut(self.input()).as_slice_of_cells();
        for (to, from) in cells.iter().zip(cells.iter().skip(count)) {
            to.set(from.get());
        }
        self.filled = self.filled.saturating_sub(count);
    }

    /// Where an opening is written to, before there are records. There always is room for one.
    pub(crate) fn opening(&mut self) -> Option<&mut [u8; MAX_OPENING]> {
        self.output.first_chunk_mut()
    }

    /// Where a frame of at most `bound` bytes goes; `None` if the record must go out before.
    pub(crate) fn place(&mut self, bound: usize, max_body: u16) -> Option<&mut [u8]> {
        let end = self.body + bound;
        let fits = end <= max_body.into() && end + OVERHEAD <= self.output.len();
        let at = record::HEADER + self.body;
        if fits { self.output.get_mut(at..at + bound) } else { None }
    }

    /// `len` bytes of the place were used.
    pub(crate) fn push(&mut self, len: usize) {
        self.body += len;
    }

    /// Nothing is to be written.
    pub(crate) const fn is_empty(&self) -> bool {
        self.body == 0 && self.finished == self.written
    }

    /// Seals what there is. False if that cannot be, as after 2^48 records.
    #[must_use]
    pub(crate) fn finish(&mut self, seal: Option<&mut Transport>) -> bool {
        let body = core::mem::take(&mut self.body);
        if body == 0 {
            return true;
        }
        let sealed = match seal {
            None => Some(body),
            Some(seal) => {
                let place = self.output.get_mut(record::HEADER..);
                place.and_then(|place| seal.seal(place, body).ok())
            }
        };
        let finished = sealed.and_then(|len| record::finish(self.output, len));
        (self.finished, self.written) = (finished.unwrap_or(0), 0);
        finished.is_some()
    }

    /// What of the finished record is not written yet.
    pub(crate) fn unwritten(&self) -> &[u8] {
        self.output.get(self.written..self.finished).unwrap_or_default()
    }

    pub(crate) fn wrote(&mut self, count: usize) {
        self.written += count;
    }
}
