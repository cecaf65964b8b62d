//! One device controls another: what `tx` sends goes to `rx`, best effort, because a button that does
//! nothing is pressed again.
//!
//! `cargo run -p bowline --example remote -- server 0.0.0.0:9999`, and on the boards the reference's
//! `remote/c_comms_tx.py` and `c_comms_rx.py`. Without boards: `… -- device rx`, and `… -- device tx`, where
//! Enter is the button.

mod common;

use bowline_client::Client;
use bowline_server::Server;
use common::{Result, Role};

#[tokio::main]
async fn main() -> Result {
    match common::role().await? {
        Role::Server(server) => serve(&server).await,
        Role::Device(id, client) if id == "tx" => transmit(&client).await,
        Role::Device(_, client) => receive(&client).await,
    }
}

async fn serve(server: &Server) -> Result {
    println!("waiting for tx and rx");
    let devices = server.wait_all(&["tx", "rx"]).await?;
    let [tx, rx] = &devices[..] else { return Err("two devices were waited for".into()) };
    println!("both are there");
    loop {
        let message = tx.recv().await?;
        println!("tx sent {}", message.text().unwrap_or_default());
        match rx.send_best_effort(message).await {
            Ok(()) => println!("rx was told"),
            Err(error) => println!("rx was not told: {error}"),
        }
    }
}

async fn transmit(client: &Client) -> Result {
    client.connected().await?;
    println!("press Enter");
    let mut pressed = false;
    loop {
        let read = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
        if read == 0 {
            return Ok(());
        }
        pressed = !pressed;
        match client.send_best_effort(format!("[{}]", u8::from(pressed))).await {
            Ok(()) => println!("sent {pressed}"),
            Err(error) => println!("press again: {error}"),
        }
    }
}

async fn receive(client: &Client) -> Result {
    loop {
        println!("tx says {}", client.recv().await?.text().unwrap_or_default());
    }
}
