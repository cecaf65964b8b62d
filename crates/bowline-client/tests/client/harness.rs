//! A server that follows a script, over a real socket.

use std::future::Future;
use std::time::Duration;

use bowline_client::{Backoff, Builder, Client, Dialect};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// How long anything may take on a busy machine before it counts as not happening.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time")
}

/// A listener for scripted links.
pub(crate) struct Server {
    listener: TcpListener,
    pub(crate) address: String,
}

impl Server {
    pub(crate) async fn listens() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Server { listener, address }
    }

    /// A client for this server that comes back quickly.
    pub(crate) fn client(&self, dialect: Dialect) -> Builder {
        client(&self.address, dialect)
    }

    /// The next link, up to and with its login line.
    pub(crate) async fn link(&self) -> Link {
        let (stream, _) = soon(self.listener.accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (reader, writer) = stream.into_split();
        let mut link = Link { reader: BufReader::new(reader), writer };
        let login = link.hears().await;
        assert!(login.ends_with("board"), "a login, not {login:?}");
        link
    }

    /// A link that the client takes for up.
    pub(crate) async fn link_up(&self) -> Link {
        let mut link = self.link().await;
        link.says("").await;
        link
    }
}

/// A client that comes back quickly.
pub(crate) fn client(address: &str, dialect: Dialect) -> Builder {
    let backoff = Backoff { first: Duration::from_millis(10), longest: Duration::from_millis(50) };
    Client::builder("board", address).dialect(dialect).backoff(backoff)
}

/// One scripted link.
pub(crate) struct Link {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Link {
    /// The next line that is no keepalive.
    pub(crate) async fn hears(&mut self) -> String {
        loop {
            let mut line = String::new();
            let count = soon(self.reader.read_line(&mut line)).await.unwrap();
            assert!(count > 0, "the client closed the link");
            if line != "\n" {
                return line.trim_end_matches('\n').to_owned();
            }
        }
    }

    pub(crate) async fn says(&mut self, line: &str) {
        self.writer.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Writes bytes as they are.
    pub(crate) async fn writes(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.unwrap();
    }

    /// Hears a message of dialect H and acknowledges it; returns its payload.
    pub(crate) async fn takes(&mut self) -> String {
        let line = self.hears().await;
        self.says(&format!("{}002c", &line[..2])).await;
        line[6..].to_owned()
    }

    /// Waits until the client has closed its end.
    pub(crate) async fn is_closed(&mut self) {
        let mut rest = Vec::new();
        // A reset is as good an end as any.
        let _ = soon(self.reader.read_to_end(&mut rest)).await;
    }

    /// Ends with a reset.
    pub(crate) fn cuts(self) {
        let stream: TcpStream = self.reader.into_inner().reunite(self.writer).unwrap();
        stream.set_zero_linger().unwrap();
    }
}
