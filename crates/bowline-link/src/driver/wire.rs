//! A link's bytes: read and not consumed, to be written and not written.

use std::io;

use super::Step;
use crate::{DownReason, Stream};

/// Bytes read at one time. Other links get their turn in between.
pub(crate) const READ: usize = 16 * 1024;

/// Of buffers that are empty, this much is kept, if they were of use: until the next keepalive, which needs none. Enough
/// for a window of messages of some hundred bytes, or the allocator is asked with each.
const KEPT: usize = 8 * 1024;

/// A buffer that held no more than this is not kept: most links say a few words now and then.
const FEW: usize = 256;

/// Bytes waiting to be written above which nothing more is read: who does not take our
/// acknowledgements gets no further.
pub(crate) const WRITE_HIGH: usize = 64 * 1024;

/// How long a link that is shut down stays to be read to its end.
const LINGER: std::time::Duration = std::time::Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) stream: Stream,
    /// Received and not consumed. Dies with the link.
    pub(crate) input: Vec<u8>,
    /// To be written, from `written` on. How far a partial write got is state: nothing that is
    /// dropped in the middle can tear a line.
    pub(crate) output: Vec<u8>,
    written: usize,
    /// Bytes written on this link and no longer in the output.
    pub(crate) gone: u64,
}

impl Wire {
    pub(crate) fn new(stream: Stream, early: Vec<u8>) -> Self {
        Wire { stream, input: early, output: Vec::new(), written: 0, gone: 0 }
    }

    #[cfg(planted)]
    pub(crate) fn behind(mut self, mut before: Vec<u8>) -> Self {
        before.append(&mut self.input);
        self.input = before;
        self
    }

    /// Reads what is there, at most [`READ`] bytes.
    /// Says whether that was anything.
    pub(crate) fn read(&mut self) -> Step<bool> {
        match self.stream.try_read_into::<READ>(&mut self.input) {
            Ok(0) => Err(DownReason::PeerClosed),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(DownReason::Transport(error.kind())),
        }
    }

    /// The front of the input is used up. Says whether something is left.
    pub(crate) fn consume(&mut self, count: usize) -> bool {
        self.input.drain(..count);
        let is_empty = self.input.is_empty();
        if is_empty {
            gives_back(&mut self.input, count);
        }
        !is_empty
    }

    /// A line or record has come in part.
    pub(crate) fn hurry(&self) {
        self.stream.hurry();
    }

    pub(crate) fn unwritten(&self) -> usize {
        self.output.len() - self.written
    }

    /// The place in the stream of bytes where the output ends now.
    pub(crate) fn end(&self) -> u64 {
        self.gone + self.output.len() as u64
    }

    /// Writes what the socket takes. Says whether that was anything.
    pub(crate) fn write(&mut self) -> Step<bool> {
        let before = self.written;
        while self.unwritten() > 0 {
            match self.stream.try_write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(DownReason::Transport(error.kind())),
            }
        }
        let progress = self.written > before;
        if progress {
            self.output.drain(..self.written);
            if self.output.is_empty() {
                gives_back(&mut self.output, self.written);
            } else {
                self.output.shrink_to(KEPT);
            }
            self.gone += self.written as u64;
            self.written = 0;
        }
        Ok(progress)
    }

    /// Lets the peer read what was written before the socket goes: closing it with unread bytes in it
    /// would throw that away.
    pub(crate) async fn linger(&mut self) {
        let farewell = async {
            self.stream.shutdown().await?;
            loop {
                self.stream.readable().await?;
                // Not held across an await: the task of the link would carry it all its life.
                let mut scratch = [0; KEPT];
                match self.stream.try_read(&mut scratch) {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        };
        // Either way the link is over.
        let _: Result<io::Result<()>, _> = tokio::time::timeout(LINGER, farewell).await;
    }
}

/// Of an empty buffer that has held so many bytes, what it need not keep.
fn gives_back(buffer: &mut Vec<u8>, held: usize) {
    if held <= FEW {
        *buffer = Vec::new();
    } else {
        buffer.shrink_to(KEPT);
    }
}
