//! The basic exchange: the server talks to up to four devices, each sends a list and gets one back.
//!
//! `cargo run -p bowline --example basic -- server 0.0.0.0:9999`, and on the board the reference's `examples/c_app.py`
//! with the id 1, 2, 3 or 4. Without a board: `cargo run -p bowline --example basic -- device 1`.

mod common;

use std::time::Duration;

use bowline_client::Client;
use bowline_server::{Device, Server};
use common::{Result, Role};
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result {
    match common::role().await? {
        Role::Server(server) => serve(&server).await,
        Role::Device(_, client) => device(&client).await,
    }
}

async fn serve(server: &Server) -> Result {
    let app = async |id| {
        println!("{id}: waiting for it");
        talk(&server.device(id).await?).await
    };
    tokio::try_join!(app("1"), app("2"), app("3"), app("4"))?;
    Ok(())
}

/// Reads and writes at the same time. Outages only make either wait.
async fn talk(device: &Device) -> Result {
    let read = async || -> Result {
        loop {
            let message = device.recv().await?;
            println!("{} sent {}", device.id(), message.text().unwrap_or_default());
        }
    };
    let write = async || -> Result {
        let mut count = 0;
        loop {
            device.send(format!("[{count}, {}, 0]", device.connects())).await?;
            println!("{} has {count}", device.id());
            count += 1;
            sleep(Duration::from_secs(5)).await;
        }
    };
    tokio::try_join!(read(), write())?;
    Ok(())
}

async fn device(client: &Client) -> Result {
    client.on_change(|status| println!("link: {:?}", status.link));
    client.connected().await?;
    let read = async || -> Result {
        loop {
            println!("the server sent {}", client.recv().await?.text().unwrap_or_default());
        }
    };
    let write = async || -> Result {
        let mut count = 0;
        loop {
            let start = std::time::Instant::now();
            client.send(format!("[{}, {count}, 0]", client.connects())).await?;
            println!("the server has {count} after {:?}", start.elapsed());
            count += 1;
            sleep(Duration::from_secs(5)).await;
        }
    };
    tokio::try_join!(read(), write())?;
    Ok(())
}
