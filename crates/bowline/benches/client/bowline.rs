//! Bowline's devices and its server.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::hint::black_box;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use bowline_client::Client;
use bowline_server::{Date, Keys, Limits, Sending, Server};
use bowline_store::{Durability, Store};
use tokio::runtime::Runtime;

use crate::{Counter, FLEET_MESSAGES, MESSAGES, PAYLOAD, WINDOW};

/// A server with a store, and an application that takes messages.
pub(crate) struct Host {
    server: Server,
    keys: Keys,
    received: Arc<Counter>,
}

/// Clients of one server.
pub(crate) struct Devices {
    clients: Vec<Client>,
    received: Arc<Counter>,
    total: u64,
    _server: Server,
}

/// What kind of devices.
#[derive(Clone, Copy)]
pub(crate) enum Kind<'a> {
    /// Without keys.
    Open,
    /// With keys.
    Sealed,
    /// With keys and stores of their own.
    Stored(&'a Path),
}

const LIMITS: Limits = Limits {
    inbox: 4 * WINDOW,
    outbox: WINDOW,
    queue_bytes: 1024 * 1024,
    best_effort: 16,
    dead_letters: 32,
    messages_per_second: None,
    line: 1024,
};

impl Host {
    pub(crate) async fn start(runtime: &Runtime, folder: &Path, durability: Durability) -> Self {
        let keys = Keys::default();
        let received = Arc::new(Counter::default());
        let store = Store::open(folder, durability, bowline_store::Limits::default()).unwrap();
        let counter = Arc::clone(&received);
        let builder = Server::builder()
            .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
            .limits(LIMITS)
            .keys(keys.clone())
            .handshakes(0, 0)
            .store(store)
            .on_device(move |device| {
                let counter = Arc::clone(&counter);
                tokio::spawn(async move {
                    while let Ok(message) = device.recv().await {
                        black_box(message);
                        counter.one();
                    }
                });
            });
        let server = runtime.spawn(builder.start()).await.unwrap().unwrap();
        Host { server, keys, received }
    }

    pub(crate) async fn devices(&self, kind: Kind<'_>, count: usize) -> Devices {
        let mut clients = Vec::with_capacity(count);
        for number in 0..count {
            let id = match kind {
                Kind::Open => format!("open-{number}"),
                Kind::Sealed => format!("sealed-{number}"),
                Kind::Stored(_) => format!("stored-{number}"),
            };
            let mut builder = Client::builder(id.as_str(), self.server.addresses()[0].to_string()).limits(LIMITS);
            if !matches!(kind, Kind::Open) {
                let issued = self.keys.issue(&id, Date::from_unix(0)).unwrap();
                builder = builder.key(&issued.line()).unwrap();
            }
            if let Kind::Stored(folder) = kind {
                let limits = bowline_store::Limits::default();
                builder = builder.store(Store::open(folder.join(&id), Durability::Os, limits).unwrap());
            }
            let client = builder.start().unwrap();
            client.connected().await.unwrap();
            clients.push(client);
        }
        Devices { clients, received: Arc::clone(&self.received), total: 0, _server: self.server.clone() }
    }
}

impl Devices {
    /// A round of all devices at a time. Returns how many messages that was.
    pub(crate) async fn send_all(&mut self) -> u64 {
        let each = if self.clients.len() == 1 { MESSAGES } else { FLEET_MESSAGES };
        let count = each * self.clients.len() as u64;
        let before = self.received.count.load(Ordering::SeqCst);
        futures_util::future::join_all(self.clients.iter().map(|client| send(client, each))).await;
        self.received.reach(before + count).await;
        self.total += count;
        count
    }

    pub(crate) async fn close(self) {
        for client in self.clients {
            assert!(client.close(Duration::from_secs(5)).await, "everything was acknowledged");
        }
    }
}

/// Sends with [`WINDOW`] messages in flight, until all are stored at the server.
async fn send(client: &Client, count: u64) {
    let mut window: VecDeque<Sending<'_>> = VecDeque::with_capacity(WINDOW);
    for _ in 0..count {
        if window.len() == WINDOW
            && let Some(oldest) = window.pop_front()
        {
            oldest.await.unwrap();
        }
        let mut sending = client.send(PAYLOAD);
        // The first poll puts it into the outbox.
        poll_fn(|context| Poll::Ready(Pin::new(&mut sending).poll(context).is_pending())).await;
        window.push_back(sending);
    }
    for sending in window {
        sending.await.unwrap();
    }
}
