//! Servers, boards and a host to be asked.

use std::time::Duration;

use bowline_client::{Backoff, Client, Dialect, Message};
use bowline_server::{Builder, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// How long anything may take on a busy machine before it counts as not happening.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("in time")
}

pub(crate) fn server() -> Builder {
    let any_port = "127.0.0.1:0".parse().unwrap();
    Server::builder().listen(any_port).settle(Duration::ZERO).pace(1, Duration::ZERO)
}

/// A store in `folder`, as the server has it.
pub(crate) fn store(folder: &std::path::Path) -> bowline_store::Store {
    bowline_store::Store::open(folder, bowline_store::Durability::Os, bowline_store::Limits::default()).unwrap()
}

/// A board that speaks to an app.
pub(crate) struct Board {
    pub(crate) client: Client,
    ident: u8,
}

impl Board {
    pub(crate) fn boots(server: &Server, id: &str, ident: u8) -> Self {
        Self::speaks(server, id, ident, Dialect::Native)
    }

    pub(crate) fn speaks(server: &Server, id: &str, ident: u8, dialect: Dialect) -> Self {
        let backoff = Backoff { first: Duration::from_millis(10), longest: Duration::from_millis(50) };
        let address = server.addresses()[0].to_string();
        let client = Client::builder(id, address).dialect(dialect).backoff(backoff).start().unwrap();
        Board { client, ident }
    }

    /// Sends a qos message to an instance of the app. Returns when the server has it.
    pub(crate) async fn sends(&self, instance: u8, tag: u8, payload: &str) {
        let message = Message::on_channel(self.ident, instance, tag, payload.as_bytes());
        soon(self.client.send(message)).await.unwrap();
    }

    /// The next message: instance, tag and payload.
    pub(crate) async fn gets(&self) -> (u8, u8, String) {
        let message = soon(self.client.recv()).await.unwrap();
        let [_, instance, tag] = *message.header() else { panic!("not on a channel: {message:?}") };
        (instance, tag, message.text().unwrap().to_owned())
    }

    pub(crate) async fn gets_json(&self) -> serde_json::Value {
        serde_json::from_str(&self.gets().await.2).unwrap()
    }
}

/// A host that answers a request with what `respond` makes of it; `None`: never.
pub(crate) struct Host {
    pub(crate) url: String,
    pub(crate) requests: mpsc::UnboundedReceiver<String>,
}

impl Host {
    pub(crate) async fn starts(respond: fn(&str) -> Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let asked = asked.clone();
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    // Whoever begins with TLS is answered in the clear, too.
                    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.first() != Some(&0x16) {
                        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let request = String::from_utf8_lossy(&request).into_owned();
                    let response = respond(&request);
                    let _ = asked.send(request);
                    match response {
                        Some(body) => {
                            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                        }
                        // Until the other side has enough of it.
                        None => while let Ok(1..) = stream.read(&mut [0; 64]).await {},
                    }
                });
            }
        });
        Host { url, requests }
    }

    pub(crate) async fn is_asked(&mut self) -> String {
        soon(self.requests.recv()).await.unwrap()
    }
}
