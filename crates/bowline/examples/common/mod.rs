//! What the examples share: their command line, and a check of message numbers.

#![allow(dead_code, reason = "not every example uses everything")]

use std::net::SocketAddr;

use bowline_client::Client;
use bowline_server::Server;

/// What an example was asked to be.
pub(crate) enum Role {
    /// The server.
    Server(Server),
    /// The device with this id.
    Device(String, Client),
}

/// Reads `server [ADDRESS:PORT]`, or `device ID [HOST:PORT]`, and starts it.
pub(crate) async fn role() -> Result<Role, Box<dyn std::error::Error>> {
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

async fn serve(address: SocketAddr) -> Result<Server, Box<dyn std::error::Error>> {
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
