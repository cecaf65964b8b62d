//! A server with the mqtt app, and boards that use it.

use std::time::Duration;

use bowline_apps::mqtt::{Mqtt, Settings, Version};
use bowline_client::{Backoff, Client, Dialect, Message, Receipt};
use bowline_server::{AppLimits, Server};

use super::broker::{Broker, soon};

pub(crate) const MQTT: u8 = 1;
pub(crate) const PUBLISH: u8 = 1;
pub(crate) const SUBSCRIBE: u8 = 2;
pub(crate) const UNSUBSCRIBE: u8 = 3;
pub(crate) const WILL: u8 = 4;
pub(crate) const WELCOME: u8 = 5;
pub(crate) const ERROR: u8 = 6;

/// For a broker of the tests: everything by default, and quick to come back.
pub(crate) fn settings(url: &str) -> Settings {
    let backoff = (Duration::from_millis(20), Duration::from_millis(200));
    Settings { backoff, ..Settings::new(url.parse().unwrap()) }
}

pub(crate) const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

/// What is left to chance, and what repeats it.
pub(crate) fn random() -> fastrand::Rng {
    let seed = std::env::var("BOWLINE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("BOWLINE_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// A server whose app uses `broker`.
pub(crate) async fn server(broker: &Broker) -> Server {
    server_with(settings(&broker.url())).await
}

/// Few attempts, so that a message that is tried in vain does not last.
pub(crate) async fn server_with(settings: Settings) -> Server {
    let limits = AppLimits { attempts: 2, first_pause: Duration::from_millis(10), ..AppLimits::default() };
    Server::builder()
        .listen("127.0.0.1:0".parse().unwrap())
        .settle(Duration::ZERO)
        .app(MQTT, "mqtt", Mqtt::new(settings).unwrap())
        .app_limits(limits)
        .start()
        .await
        .unwrap()
}

/// Stops the server and waits for its apps, so that another one can have their connections.
pub(crate) async fn ends(server: Server) {
    drop(soon(server.shutdown(Duration::from_secs(5))).await);
}

/// A board with the mqtt app as its instance 0.
pub(crate) struct Board(pub(crate) Client);

impl Board {
    pub(crate) async fn connects(server: &Server, id: &str) -> Self {
        Self::connects_to(&server.addresses()[0].to_string(), id, Dialect::Native).await
    }

    pub(crate) async fn connects_to(address: &str, id: &str, dialect: Dialect) -> Self {
        let backoff = Backoff { first: Duration::from_millis(10), longest: Duration::from_millis(50) };
        let client = Client::builder(id, address).dialect(dialect).backoff(backoff).start().unwrap();
        soon(client.connected()).await.unwrap();
        Board(client)
    }

    /// Ready when the server has it.
    pub(crate) async fn says(&self, command: u8, payload: &str) {
        soon(self.0.send(Message::on_channel(MQTT, 0, command, payload.as_bytes()))).await.unwrap();
    }

    /// Ready when the app has done it.
    pub(crate) async fn does(&self, command: u8, payload: &str) {
        let message = Message::on_channel(MQTT, 0, command, payload.as_bytes());
        soon(self.0.send(message).until(Receipt::Processed)).await.unwrap();
    }

    pub(crate) async fn hears(&self) -> Message {
        soon(self.0.recv()).await.unwrap()
    }

    /// The next message is a publication.
    pub(crate) async fn expects(&self, payload: &str) {
        let message = self.hears().await;
        assert_eq!((message.header(), message.text()), (&[MQTT, 0, 0][..], Some(payload)));
    }

    pub(crate) async fn hears_no_more(&self) {
        let more = tokio::time::timeout(super::broker::QUIET, self.0.recv()).await;
        assert!(more.is_err(), "heard {more:?}");
    }
}
