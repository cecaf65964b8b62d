//! A connection's bytes, in buffers that are used again.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

/// Bytes read at a time.
const READ: usize = 16 * 1024;

/// Bytes of a buffer that are kept while nothing is in it: thousands of idle devices have one.
const KEPT: usize = 4 * 1024;

/// What was read and not understood yet, and what is to be written.
#[derive(Debug, Default)]
pub(super) struct Wire {
    pub(super) input: Vec<u8>,
    pub(super) output: Vec<u8>,
    written: usize,
}

impl Wire {
    /// Nothing is left of the link before.
    pub(super) fn clear(&mut self) {
        self.input.clear();
        self.output.clear();
        self.written = 0;
    }

    /// Reads what is there. Says whether that was anything; the end of what the peer writes is an error.
    pub(super) fn read(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        let mut scratch = [MaybeUninit::uninit(); READ];
        let mut read = ReadBuf::uninit(&mut scratch);
        // Takes a socket that gives less than it could for empty. Who waits asks whether it is ready.
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(stream).poll_read(&mut context, &mut read) {
            Poll::Ready(Ok(())) if read.filled().is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(Ok(())) => {
                self.input.extend_from_slice(read.filled());
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(false),
        }
    }

    /// The front of the input is used up.
    pub(super) fn consume(&mut self, count: usize) {
        self.input.drain(..count);
        if self.input.is_empty() {
            self.input.shrink_to(KEPT);
        }
    }

    /// Writes what the socket takes. Says whether that was anything.
    pub(super) fn write(&mut self, stream: &TcpStream) -> io::Result<bool> {
        let before = self.written;
        while self.is_unwritten() {
            match stream.try_write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let progress = self.written > before;
        if progress && !self.is_unwritten() {
            self.output.clear();
            self.output.shrink_to(KEPT);
            self.written = 0;
        }
        Ok(progress)
    }

    pub(super) fn is_unwritten(&self) -> bool {
        self.written < self.output.len()
    }
}
