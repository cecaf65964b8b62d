//! Bowline's device client for Linux.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = bowline_client::Client::builder("kitchen", "192.168.0.41:9999").start()?;
//! client.send(r#"{"temperature": 21.5}"#).await?; // returns when the server has acknowledged it
//! let command = client.recv().await?;
//! println!("{:?}", command.text());
//! # Ok(()) }
//! ```
//!
//! Apps on the server that answer are asked by [`Client::request`], and talked to by [`Client::open`].
//!
//! [`Client::send`] waits for as many links as it takes. The client connects for ever, with jittered
//! back-off, unless its policy says otherwise.

mod backoff;
mod builder;
mod channel;
mod channels;
mod client;
mod connect;
mod ids;
mod opener;
mod request;
mod runner;

pub use backoff::Backoff;
pub use builder::{BuildError, Builder};
pub use channel::{Channel, OpenError};
pub use client::Client;
pub use connect::Connecting;
pub use request::{Request, RequestError};
pub use runner::{Attempt, Next};

pub use bowline_link::{
    DeadLetter, Delivery, Dialect, DownReason, DropReason, Ledger, Limits, LinkState, Message, MessageError, Outage,
    Outside, Policy, Receipt, RecvError, SendError, Sending, Socket, Status, StatusWatch, Stream, Totals,
};
