//! The server of the demo, and its restart.

use std::net::{Ipv4Addr, SocketAddr};

use std::time::Duration;

use bowline_server::{Device, Ledger, Server, Sessions};
use tokio::sync::{mpsc, watch};

use super::TIMEOUT;
use super::view::View;

/// Time the server gives its queues before it stops.
const DRAIN: Duration = Duration::from_millis(300);

/// Time nothing listens.
const AWAY: Duration = Duration::from_secs(1);

/// Runs one server after the other, and tells where it is.
#[derive(Debug)]
pub(super) struct Host {
    server: Server,
    address: watch::Sender<Option<SocketAddr>>,
    newcomers: mpsc::UnboundedSender<Device>,
}

impl Host {
    /// Starts the first server. Each device that connects for the first time goes to `newcomers`.
    pub(super) async fn start(newcomers: mpsc::UnboundedSender<Device>) -> anyhow::Result<Self> {
        let server = start(Sessions::default(), newcomers.clone()).await?;
        let address = watch::Sender::new(server.addresses().first().copied());
        Ok(Host { server, address, newcomers })
    }

    /// Follows the server's address; `None` while there is no server.
    pub(super) fn address(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.address.subscribe()
    }

    /// Stops the server, leaves the network without one for a while, and starts the next.
    pub(super) async fn restart(&mut self, view: &View) -> anyhow::Result<()> {
        view.say("server stopped".to_owned());
        self.address.send_replace(None);
        let sessions = self.server.shutdown(DRAIN).await;
        tokio::time::sleep(AWAY).await;
        self.server = start(sessions, self.newcomers.clone()).await?;
        let address = self.server.addresses().first().copied();
        if let Some(address) = address {
            view.say(format!("server back, on port {}", address.port()));
        }
        self.address.send_replace(address);
        Ok(())
    }

    /// What the server's side of this device has counted.
    pub(super) fn ledger(&self, id: &str) -> Option<Ledger> {
        self.server.get(id).map(|device| device.ledger())
    }

    /// Ends everything.
    pub(super) async fn stop(self) {
        self.address.send_replace(None);
        self.server.shutdown(Duration::ZERO).await.close(DRAIN).await;
    }
}

async fn start(sessions: Sessions, newcomers: mpsc::UnboundedSender<Device>) -> anyhow::Result<Server> {
    let server = Server::builder()
        .listen((Ipv4Addr::LOCALHOST, 0).into())
        .timeout(TIMEOUT)
        .sessions(sessions)
        // Fails only when the demo is over.
        .on_device(move |device| drop(newcomers.send(device)))
        .start()
        .await?;
    Ok(server)
}
