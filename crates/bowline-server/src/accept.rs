//! Where connections come from.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use bowline_link::Stream;
use tokio::net::TcpListener;

/// Gives the server its connections, one after the other.
pub trait Listener: Send + 'static {
    /// The next connection, and who is at its other end; until there is one, the waker of `context` is kept.
    ///
    /// # Errors
    /// When a connection is lost before it is accepted, or cannot be. The listener is asked again: at once, or
    /// after a pause if the system is short of descriptors or memory.
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>>;
}

impl Listener for TcpListener {
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        TcpListener::poll_accept(self, context).map_ok(|(socket, peer)| (socket.into(), peer))
    }
}
