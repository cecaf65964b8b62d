//! A listener that holds a bounded number of connections, and tells those who are too many.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Problem;

/// Time that one too many has to read that it is.
const FAREWELL: Duration = Duration::from_secs(1);

/// Bytes of its request that are read meanwhile.
const REQUEST: u64 = 64 * 1024;

/// Takes a bounded number of connections at a time.
pub(super) struct Bounded {
    listener: TcpListener,
    most: usize,
    places: Arc<Semaphore>,
    /// For those who are being told, as many again. Beyond it a connection is closed without a word.
    farewells: Arc<Semaphore>,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener, most: usize) -> Self {
        let (places, farewells) = (Arc::new(Semaphore::new(most)), Arc::new(Semaphore::new(most)));
        Bounded { listener, most, places, farewells }
    }

    fn refuse(&self, stream: TcpStream, peer: SocketAddr) {
        tracing::debug!(%peer, "a connection to the local API is refused: {} are open", self.most);
        let Ok(farewell) = Arc::clone(&self.farewells).try_acquire_owned() else { return };
        let error = format!("{} connections are open, and no more are taken: close one, or try again later", self.most);
        tokio::spawn(async move {
            // Who does not read it does not learn why.
            let _ = tokio::time::timeout(FAREWELL, says(stream, Problem { error })).await;
            drop(farewell);
        });
    }
}

async fn says(mut stream: TcpStream, problem: Problem) -> io::Result<()> {
    let body = serde_json::to_string(&problem)?;
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close";
    stream.write_all(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    stream.shutdown().await?;
    // A connection that is closed with bytes unread is reset, and the answer may go with it.
    tokio::io::copy(&mut stream.take(REQUEST), &mut tokio::io::sink()).await?;
    Ok(())
}

impl Listener for Bounded {
    type Io = Held;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Held, SocketAddr) {
        loop {
            // Axum's, which goes on after errors.
            let (stream, peer) = Listener::accept(&mut self.listener).await;
            match Arc::clone(&self.places).try_acquire_owned() {
                Ok(place) => return (Held { stream, _place: place }, peer),
                Err(_) => self.refuse(stream, peer),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that has a place, as long as it lasts: also as a WebSocket.
pub(super) struct Held {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Held {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl AsyncWrite for Held {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_too_many_is_told_so_and_a_place_that_is_free_again_is_given() {
        let mut bounded = Bounded::new(TcpListener::bind("127.0.0.1:0").await.unwrap(), 1);
        let address = bounded.local_addr().unwrap();
        let first = TcpStream::connect(address).await.unwrap();
        let (held, peer) = bounded.accept().await;
        assert_eq!(peer, first.local_addr().unwrap());

        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(b"GET /v1/apps HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        tokio::select! {
            _ = bounded.accept() => panic!("there was no place"),
            read = second.read_to_string(&mut answer) => assert!(read.is_ok()),
        }
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(
            answer.ends_with(
                "{\"error\":\"1 connections are open, and no more are taken: close one, or try again later\"}"
            ),
            "{answer}"
        );

        drop(held);
        let third = TcpStream::connect(address).await.unwrap();
        assert_eq!(bounded.accept().await.1, third.local_addr().unwrap());
    }
}
