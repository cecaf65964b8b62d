//! How a client comes to a connection.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use bowline_link::Stream;
use tokio::net::TcpStream;

/// A connection on its way, and who is at its other end.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<(Stream, SocketAddr)>> + Send>>;

/// Connects to the server's address, `host:port`. Dropped when it takes too long.
pub(crate) type Connect = Box<dyn Fn(&str) -> Connecting + Send + Sync>;

/// By TCP.
pub(crate) fn tcp(server: &str) -> Connecting {
    let server = server.to_owned();
    Box::pin(async move {
        let socket = TcpStream::connect(server).await?;
        let peer = socket.peer_addr()?;
        Ok((socket.into(), peer))
    })
}
