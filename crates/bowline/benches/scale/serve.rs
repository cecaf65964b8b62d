//! A server that counts its syncs. Each line it reads has it print how many transactions and commits there were.

use std::hint::black_box;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Result, bail};
use bowline_server::{Limits, Server};
use bowline_store::{Durability, Store};

pub(crate) fn run(durability: &str, folder: &Path) -> Result<()> {
    let durability = match durability {
        "memory" => Durability::Memory,
        "os" => Durability::Os,
        "fsync" => Durability::Fsync,
        other => bail!("no durability {other}"),
    };
    std::fs::create_dir_all(folder)?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let server = Server::builder()
            .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
            .limits(Limits { messages_per_second: None, ..Limits::default() })
            .store(Store::open(folder, durability, bowline_store::Limits::default())?)
            .on_device(|device| {
                tokio::spawn(async move {
                    while let Ok(message) = device.recv().await {
                        black_box(message);
                    }
                });
            })
            .start()
            .await?;
        println!("{}", server.addresses()[0]);
        std::io::stdout().flush()?;
        let counts = move || {
            for _ in std::io::stdin().lines() {
                if let Some(store) = server.store() {
                    println!("{}", store.stats().commits);
                }
            }
        };
        // Its input is there as long as whoever started it wants it.
        tokio::task::spawn_blocking(counts).await?;
        Ok(())
    })
}
