//! A broker, and a client library's publisher and subscriber.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, QoS};
use tokio::runtime::Runtime;

use crate::{Counter, PAYLOAD, WINDOW};

/// A mosquitto with nothing changed but what limits how much is in flight. It keeps messages in memory.
pub(crate) struct Broker {
    process: Child,
    port: u16,
}

pub(crate) struct Publisher {
    client: AsyncClient,
    topic: String,
    qos: QoS,
    acked: Arc<Counter>,
    received: Option<Arc<Counter>>,
    total: u64,
}

impl Broker {
    /// `None` if there is no such program.
    pub(crate) fn start(folder: &Path) -> Option<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let settings = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nlog_dest none\n\
             max_inflight_messages {WINDOW}\nmax_queued_messages 0\n"
        );
        let path = folder.join("mosquitto.conf");
        std::fs::write(&path, settings).unwrap();
        // Debian's place for it is not on everybody's path.
        let process = ["mosquitto", "/usr/sbin/mosquitto"].into_iter().find_map(|program| {
            Command::new(program).arg("-c").arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
        })?;
        let broker = Broker { process, port };
        for _ in 0..100 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Some(broker);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }

    fn client(&self, id: &str) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new(id, Ipv4Addr::LOCALHOST.to_string(), self.port);
        options.set_inflight(WINDOW as u16).set_request_channel_capacity(WINDOW);
        AsyncClient::new(options, WINDOW)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Publisher {
    /// Connects a publisher on this runtime and, if asked for, a subscriber on the other one.
    pub(crate) async fn connect(broker: &Broker, other: &Runtime, qos: u8, with_subscriber: bool) -> Self {
        let name = format!("bench-{qos}-{with_subscriber}");
        let qos = if qos == 2 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        let mut received = None;
        if with_subscriber {
            let counter = Arc::new(Counter::default());
            let ready = Arc::new(Counter::default());
            let (client, events) = broker.client(&format!("{name}-subscriber"));
            client.subscribe(name.clone(), qos).await.unwrap();
            let (count, is_ready) = (Arc::clone(&counter), Arc::clone(&ready));
            other.spawn(follow(client, events, move |event| match event {
                Incoming::SubAck(_) => is_ready.one(),
                Incoming::Publish(_) => count.one(),
                _ => {}
            }));
            ready.reach(1).await;
            received = Some(counter);
        }
        let acked = Arc::new(Counter::default());
        let (client, events) = broker.client(&name);
        let counter = Arc::clone(&acked);
        tokio::spawn(follow(client.clone(), events, move |event| {
            if matches!(event, Incoming::PubAck(_) | Incoming::PubComp(_)) {
                counter.one();
            }
        }));
        Publisher { client, topic: name, qos, acked, received, total: 0 }
    }

    pub(crate) async fn publish(&mut self, count: u64) -> u64 {
        for _ in 0..count {
            self.client.publish(self.topic.as_str(), self.qos, false, PAYLOAD).await.unwrap();
        }
        self.total += count;
        self.acked.reach(self.total).await;
        if let Some(received) = &self.received {
            received.reach(self.total).await;
        }
        count
    }
}

/// Drives a connection, which `_client` keeps open, until the end of the run.
async fn follow(_client: AsyncClient, mut events: EventLoop, mut handle: impl FnMut(Incoming)) {
    while let Ok(event) = events.poll().await {
        if let Event::Incoming(event) = event {
            handle(event);
        }
    }
}
