//! What the examples share: their command line, and a check of message numbers.

#![allow(dead_code, reason = "not every example uses everything")]

use std::net::SocketAddr;

use std::time::Duration;

use bowline_client::Client;
use bowline_server::{Device, Server};
use futures_util::future::try_join_all;
use tokio::time::{interval, sleep};

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What an example was asked to be.
pub(crate) enum Role {
    /// The server.
    Server(Server),
    /// The device with this id.
    Device(String, Client),
}

/// Reads `server [ADDRESS:PORT]`, or `device ID [HOST:PORT]`, and starts it.
pub(crate) async fn role() -> Result<Role> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let default = "127.0.0.1:9999";
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server"] => Ok(Role::Server(serve(default.parse()?).await?)),
        ["server", address] => Ok(Role::Server(serve(address.parse()?).await?)),
        ["device", id] => Ok(Role::Device(id.to_owned(), Client::builder(id, default).start()?)),
        ["device", id, server] => Ok(Role::Device(id.to_owned(), Client::builder(id, server).start()?)),
        _ => Err("expected: server [ADDRESS:PORT], or: device ID [HOST:PORT]".into()),
    }
}

async fn serve(address: SocketAddr) -> Result<Server> {
    let server = Server::builder().listen(address).start().await?;
    println!("listening on {:?}", server.addresses());
    Ok(server)
}

/// Checks that numbers come one after the other. A 0 is a fresh start of the other side.
#[derive(Debug, Default)]
pub(crate) struct Check {
    next: u64,
    /// Numbers that came again.
    pub(crate) doubled: u64,
    /// Numbers that did not come.
    pub(crate) missed: u64,
    /// Fresh starts.
    pub(crate) restarts: u64,
}

impl Check {
    /// Takes the first number of a message such as `[7, …]`.
    pub(crate) fn message(&mut self, text: &str) {
        let number = serde_json::from_str::<Vec<serde_json::Value>>(text).ok().and_then(|list| list.first()?.as_u64());
        match number {
            Some(0) => {
                self.restarts += 1;
                self.next = 1;
            }
            Some(number) if number < self.next => self.doubled += 1,
            Some(number) => {
                self.missed += number - self.next;
                self.next = number + 1;
            }
            None => println!("not a message of this example: {text}"),
        }
    }
}

/// Sends numbered qos messages, `burst` side by side every `pause`, and checks those of the other side:
/// as the server with the device `qos`, or as that device.
pub(crate) async fn exchange(burst: u64, pause: Duration) -> Result {
    let peer = match role().await? {
        Role::Server(server) => Peer::Device(server.device("qos").await?, server),
        Role::Device(_, client) => Peer::Server(client),
    };
    tokio::try_join!(write(&peer, burst, pause), read(&peer))?;
    Ok(())
}

async fn write(peer: &Peer, burst: u64, pause: Duration) -> Result {
    let mut first = 0;
    loop {
        // Calls that run side by side keep the order in which they were made.
        try_join_all((first..first + burst).map(|number| peer.send(format!("[{number}, 0]")))).await?;
        first += burst;
        sleep(pause).await;
    }
}

async fn read(peer: &Peer) -> Result {
    let mut check = Check::default();
    let mut report = interval(Duration::from_secs(30));
    loop {
        tokio::select! {
            text = peer.recv() => {
                let text = text?;
                check.message(&text);
                println!("got {text}");
            }
            _ = report.tick() => println!("{check:?}, outages {}", peer.outages()),
        }
    }
}

/// The other side, whichever that is.
enum Peer {
    Device(Device, #[expect(dead_code, reason = "a server stops when it is dropped")] Server),
    Server(Client),
}

impl Peer {
    async fn send(&self, text: String) -> Result {
        match self {
            Peer::Device(device, _) => device.send(text).await?,
            Peer::Server(client) => client.send(text).await?,
        }
        Ok(())
    }

    async fn recv(&self) -> Result<String> {
        let message = match self {
            Peer::Device(device, _) => device.recv().await?,
            Peer::Server(client) => client.recv().await?,
        };
        Ok(message.text().unwrap_or_default().to_owned())
    }

    fn outages(&self) -> u64 {
        match self {
            Peer::Device(device, _) => device.status().outages(),
            Peer::Server(client) => client.status().outages(),
        }
    }
}
