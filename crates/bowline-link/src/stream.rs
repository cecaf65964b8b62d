//! What links run on: ordered bytes both ways, of the system or of a simulation.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes that the system holds for a peer beside those on their way.
#[cfg(target_os = "linux")]
const NOT_SENT: u32 = 32 * 1024;

/// A connection's bytes, without waiting: who finds nothing to do asks to be woken.
///
/// A link holds no buffer while nothing happens, and writes only where it holds its device's lock. That is why being
/// ready is asked for apart from reading and writing.
pub trait Socket: fmt::Debug + Send + Sync {
    /// Ready when reading may give something, or fail; until then the waker of `context` is kept.
    ///
    /// # Errors
    /// When the connection is beyond use.
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ready when writing may take something, or fail; until then the waker of `context` is kept.
    ///
    /// # Errors
    /// When the connection is beyond use.
    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads what is there into `bytes`, which has room. Nothing read is the end of what the peer writes.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if nothing is there; others when the connection broke.
    fn try_read(&mut self, bytes: &mut ReadBuf<'_>) -> io::Result<()>;

    /// Writes what can be taken now, and says how many bytes that was.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if nothing can be taken; others when the connection broke.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Says to the peer that nothing more is written.
    ///
    /// # Errors
    /// When the connection broke.
    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Something has come in part: its sender may be waiting until it is acknowledged. A hint.
    fn hurry(&self) {}
}

/// A connection, whatever it is made of.
#[derive(Debug)]
pub struct Stream(Box<dyn Socket>);

impl Stream {
    /// A connection over `socket`.
    #[must_use]
    pub fn new(socket: impl Socket + 'static) -> Self {
        Stream(Box::new(socket))
    }

    /// Waits until reading may give something. Cancel-safe.
    ///
    /// # Errors
    /// When the connection is beyond use.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| self.0.poll_read_ready(context)).await
    }

    /// Waits until writing may take something. Cancel-safe.
    ///
    /// # Errors
    /// When the connection is beyond use.
    pub async fn writable(&self) -> io::Result<()> {
        poll_fn(|context| self.0.poll_write_ready(context)).await
    }

    /// Ready when one of those that are asked for is possible; says whether it is reading.
    pub(crate) fn poll_ready(&self, context: &mut Context<'_>, read: bool, write: bool) -> Poll<io::Result<bool>> {
        if read && let Poll::Ready(ready) = self.0.poll_read_ready(context) {
            return Poll::Ready(ready.map(|()| true));
        }
        if write {
            ready!(self.0.poll_write_ready(context))?;
            return Poll::Ready(Ok(false));
        }
        Poll::Pending
    }

    /// Reads what is there. Zero is the end of what the peer writes.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if nothing is there; others when the connection broke.
    pub fn try_read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut bytes = ReadBuf::new(bytes);
        self.0.try_read(&mut bytes)?;
        Ok(bytes.filled().len())
    }

    /// As [`Stream::try_read`], behind what `bytes` holds, and at most `N` bytes.
    pub(crate) fn try_read_into<const N: usize>(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let mut scratch = [MaybeUninit::uninit(); N];
        let mut read = ReadBuf::uninit(&mut scratch);
        self.0.try_read(&mut read)?;
        bytes.extend_from_slice(read.filled());
        Ok(read.filled().len())
    }

    /// Writes what can be taken now.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if nothing can be taken; others when the connection broke.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    /// Waits for something to read and reads it. Zero is the end of what the peer writes. Cancel-safe.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            self.readable().await?;
            match self.try_read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    /// Writes all of `bytes`. Not cancel-safe: nobody knows then how many were written.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.writable().await?;
            match self.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says to the peer that nothing more is written. Cancel-safe.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        poll_fn(|context| self.0.poll_shutdown(context)).await
    }

    pub(crate) fn hurry(&self) {
        self.0.hurry();
    }
}

impl From<TcpStream> for Stream {
    /// Small messages are worth sending at once, and a peer that reads slowly is not worth megabytes.
    fn from(socket: TcpStream) -> Self {
        // Hints: without them things are slower and take more memory.
        let _ = socket.set_nodelay(true);
        #[cfg(target_os = "linux")]
        // Otherwise the system takes megabytes for a peer that reads slowly, and calls the socket
        // writable only when a third of them is gone.
        let _ = socket2::SockRef::from(&socket).set_tcp_notsent_lowat(NOT_SENT);
        Stream::new(socket)
    }
}

impl Socket for TcpStream {
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(context)
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(context)
    }

    fn try_read(&mut self, bytes: &mut ReadBuf<'_>) -> io::Result<()> {
        // Unlike its own `try_read` this takes a socket that gives less than it could for empty, which saves asking
        // it again. Nobody is to be woken by it: who waits asks whether it is ready.
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(self).poll_read(&mut context, bytes) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        TcpStream::try_write(self, bytes)
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(context)
    }

    fn hurry(&self) {
        // Boards write lines in several pieces, and with Nagle's algorithm at work the next piece leaves only when
        // this one is acknowledged, which the system would delay by 40 ms.
        #[cfg(target_os = "linux")]
        let _ = socket2::SockRef::from(self).set_tcp_quickack(true);
    }
}
