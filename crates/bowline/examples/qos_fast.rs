//! Both sides send bursts of four numbered qos messages at once, and check what they get. Calls of `send`
//! that run side by side keep the order in which they were made.
//!
//! `cargo run -p bowline --example qos_fast -- server 0.0.0.0:9999`, and on the board the reference's `qos/c_qos_fast.py`.
//! Without a board: `cargo run -p bowline --example qos_fast -- device qos`. Stop either side, pull cables, and see that
//! nothing is missed and nothing comes twice.

mod common;

use std::time::Duration;

use bowline_client::Client;
use bowline_server::Server;
use common::{Check, Role};
use tokio::time::{interval, sleep};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Result {
    match common::role().await? {
        Role::Server(server) => serve(&server).await,
        Role::Device(_, client) => device(&client).await,
    }
}

/// Four messages, side by side.
macro_rules! burst {
    ($peer:expr, $first:expr) => {
        tokio::try_join!(
            $peer.send(format!("[{}, 0]", $first)),
            $peer.send(format!("[{}, 0]", $first + 1)),
            $peer.send(format!("[{}, 0]", $first + 2)),
            $peer.send(format!("[{}, 0]", $first + 3)),
        )
    };
}

async fn serve(server: &Server) -> Result {
    let device = server.device("qos").await?;
    let write = async || -> Result {
        for first in (0_u64..).step_by(4) {
            burst!(device, first)?;
            sleep(Duration::from_millis(3950)).await;
        }
        Ok(())
    };
    let read = async || -> Result {
        let mut check = Check::default();
        let mut report = interval(Duration::from_secs(30));
        loop {
            tokio::select! {
                message = device.recv() => {
                    let message = message?;
                    let text = message.text().unwrap_or_default();
                    println!("got {text}");
                    check.message(text);
                }
                _ = report.tick() => println!("{check:?}, outages {}", device.status().outages()),
            }
        }
    };
    tokio::try_join!(write(), read())?;
    Ok(())
}

async fn device(client: &Client) -> Result {
    let write = async || -> Result {
        for first in (0_u64..).step_by(4) {
            burst!(client, first)?;
            sleep(Duration::from_secs(5)).await;
        }
        Ok(())
    };
    let read = async || -> Result {
        let mut check = Check::default();
        loop {
            let message = client.recv().await?;
            check.message(message.text().unwrap_or_default());
            println!("got {:?}, {check:?}", message.text());
        }
    };
    tokio::try_join!(write(), read())?;
    Ok(())
}
