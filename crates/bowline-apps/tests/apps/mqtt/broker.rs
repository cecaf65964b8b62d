//! A mosquitto of the test's own, and who talks to it as others in the house do.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rumqttc_v5::mqttbytes::v5::Packet;
use rumqttc_v5::{AckMode, AsyncClient, Event, MqttOptions, PublishOptions, QoS};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

/// How long anything may take on a busy machine before it counts as not happening.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("in time")
}

/// Long enough to see what must not come, were it to come.
pub(crate) const QUIET: Duration = Duration::from_millis(300);

/// A running mosquitto, killed when it is dropped. What it knows survives in its folder.
pub(crate) struct Broker {
    child: Child,
    log: mpsc::UnboundedReceiver<String>,
    pub(crate) port: u16,
    folder: TempDir,
    settings: String,
    /// Shown when the test fails.
    told: Told,
    life: Arc<Mutex<Life>>,
}

/// A process of the broker: its id, and how often it has begun to write down what it knows.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) pid: String,
    pub(crate) saves: watch::Receiver<u64>,
}

type Told = Arc<Mutex<Vec<String>>>;

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("mosquitto said:\n{}", self.told.lock().unwrap().join("\n"));
        }
    }
}

impl Broker {
    /// One that everybody may use.
    pub(crate) async fn starts() -> Self {
        Self::starts_with("allow_anonymous true", |_| ()).await
    }

    /// One with these settings of its listener. `prepare` puts files into its folder, which `%` stands for.
    pub(crate) async fn starts_with(settings: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let settings = settings.replace('%', folder.path().to_str().unwrap());
        let told = Told::default();
        // Another process may take the port before mosquitto does.
        for _ in 0..10 {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if let Some((child, log, life)) = spawn(folder.path(), port, &settings, &told).await {
                let life = Arc::new(Mutex::new(life));
                return Broker { child, log, port, folder, settings, told, life };
            }
        }
        panic!("mosquitto does not start with: {settings}");
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Stops it as an operator does: it writes down what it knows.
    pub(crate) async fn stops(&mut self) {
        self.signal("TERM").await;
        soon(self.child.wait()).await.unwrap();
    }

    /// Ends it in the middle of what it does: it knows what it had written down, and no more.
    pub(crate) async fn is_killed(&mut self) {
        soon(self.child.kill()).await.unwrap();
    }

    pub(crate) async fn starts_again(&mut self) {
        let settings = self.settings.clone();
        self.starts_again_with(&settings).await;
    }

    pub(crate) async fn starts_again_with(&mut self, settings: &str) {
        let settings = settings.replace('%', self.folder.path().to_str().unwrap());
        let started = spawn(self.folder.path(), self.port, &settings, &self.told).await;
        let life;
        (self.child, self.log, life) = started.expect("the port is still free");
        *self.life.lock().unwrap() = life;
    }

    /// The process that runs now, whenever it is looked at.
    pub(crate) fn life(&self) -> Arc<Mutex<Life>> {
        Arc::clone(&self.life)
    }

    /// Waits until its log says `what`.
    pub(crate) async fn says(&mut self, what: &str) {
        soon(async {
            while let Some(line) = self.log.recv().await {
                if line.contains(what) {
                    return;
                }
            }
            panic!("mosquitto ended and did not say {what:?}");
        })
        .await;
    }

    async fn signal(&self, signal: &str) {
        let life = self.life.lock().unwrap().clone();
        assert!(life.gets(signal).await);
    }
}

impl Life {
    /// Whether it is there to get the signal.
    pub(crate) async fn gets(&self, signal: &str) -> bool {
        let kill = Command::new("kill").args(["-s", signal, &self.pid]).stderr(Stdio::null()).status();
        kill.await.is_ok_and(|status| status.success())
    }
}

async fn spawn(
    folder: &Path,
    port: u16,
    settings: &str,
    all: &Told,
) -> Option<(Child, mpsc::UnboundedReceiver<String>, Life)> {
    let config = folder.join("mosquitto.conf");
    // Of what is under way to a client beyond the first 20, or so many, mosquitto 2.0 forgets when it restarts what was
    // answered; and there is more under way than it means to have.
    let text = format!(
        "user root\npersistence true\npersistence_location {}/\nlog_dest stderr\nlog_type all\n\
         max_inflight_messages 1000\nlistener {port} 127.0.0.1\n{settings}\n",
        folder.display()
    );
    std::fs::write(&config, text).unwrap();
    // Debian has it where only root's shell looks.
    let program = if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
    let mut child = Command::new(program)
        .arg("-c")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect(
            "these tests need a broker: install mosquitto (`apt-get install mosquitto`), or run `cargo xtask test`",
        );
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (log, told) = mpsc::unbounded_channel();
    while let Ok(Some(line)) = soon(lines.next_line()).await {
        if line.contains(" running") {
            let all = Arc::clone(all);
            let (saved, saves) = watch::channel(0);
            tokio::spawn(async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    if line.contains("Saving in-memory database") {
                        saved.send_modify(|times| *times += 1);
                    }
                    all.lock().unwrap().push(line.clone());
                    let _ = log.send(line);
                }
            });
            let pid = child.id().expect("it runs").to_string();
            return Some((child, told, Life { pid, saves }));
        }
    }
    None
}

/// A message as others in the house see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) retained: bool,
}

pub(crate) fn said(topic: &str, payload: &str) -> Said {
    Said { topic: topic.to_owned(), payload: payload.to_owned(), retained: false }
}

/// Somebody else at the broker, with QoS 2 and a session that outlives the broker's process.
pub(crate) struct Peer {
    client: AsyncClient,
    heard: mpsc::UnboundedReceiver<Said>,
}

impl Peer {
    pub(crate) async fn joins(broker: &Broker) -> Self {
        Self::joins_as(broker.port, "peer", "").await
    }

    /// One that hears `filter`.
    pub(crate) async fn hears_all(broker: &Broker, filter: &str) -> Self {
        Self::joins_as(broker.port, "listener", filter).await
    }

    pub(crate) async fn joins_as(port: u16, id: &str, filter: &str) -> Self {
        let mut options = MqttOptions::new(id, ("127.0.0.1", port));
        options.set_keep_alive(30).set_session_mode(rumqttc_v5::SessionMode::Persistent);
        options.set_incoming_packet_size_limit(rumqttc_v5::IncomingPacketSizeLimit::Unlimited);
        Self::joins_with(options, filter).await
    }

    pub(crate) async fn joins_with(mut options: MqttOptions, filter: &str) -> Self {
        // A library that acknowledges by itself has done so before it loses the event with its connection.
        options.set_ack_mode(AckMode::Manual);
        let (client, mut events) = AsyncClient::builder(options).unbounded().build();
        let (tell, heard) = mpsc::unbounded_channel();
        let acks = client.clone();
        tokio::spawn(async move {
            let mut known = HashSet::new();
            while !tell.is_closed() {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                        let (topic, payload) = (text(&publish.topic), text(&publish.payload));
                        let new = publish.qos != QoS::ExactlyOnce || known.insert(publish.pkid);
                        if new {
                            let _ = tell.send(Said { topic, payload, retained: publish.retain });
                        }
                        if let Some(ack) = acks.prepare_ack(&publish) {
                            let _ = acks.try_manual_ack(ack);
                        }
                    }
                    Ok(Event::Incoming(Packet::PubRel(release))) => {
                        known.remove(&release.pkid);
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
        if !filter.is_empty() {
            soon(client.subscribe_tracked(filter, QoS::ExactlyOnce).await.unwrap().wait_completion_async())
                .await
                .unwrap();
        }
        Peer { client, heard }
    }

    /// Says something and waits until the broker has it.
    pub(crate) async fn says(&self, topic: &str, payload: &str) {
        self.publishes(topic, payload.as_bytes(), false).await;
    }

    /// Says something with QoS 0.
    pub(crate) async fn mentions(&self, topic: &str, payload: &str) {
        let options = PublishOptions::new(QoS::AtMostOnce);
        let notice = self.client.publish_tracked(topic, payload.to_owned(), options).await.unwrap();
        soon(notice.wait_completion_async()).await.unwrap();
    }

    pub(crate) async fn retains(&self, topic: &str, payload: &str) {
        self.publishes(topic, payload.as_bytes(), true).await;
    }

    pub(crate) async fn publishes(&self, topic: &str, payload: &[u8], retain: bool) {
        let options = PublishOptions::new(QoS::ExactlyOnce).retain(retain);
        let notice = self.client.publish_tracked(topic, payload.to_vec(), options).await.unwrap();
        soon(notice.wait_completion_async()).await.unwrap();
    }

    pub(crate) async fn hears(&mut self) -> Said {
        soon(self.heard.recv()).await.expect("the peer is there")
    }

    pub(crate) async fn expects(&mut self, topic: &str, payload: &str) {
        assert_eq!(self.hears().await, said(topic, payload));
    }

    pub(crate) async fn hears_no_more(&mut self) {
        let more = tokio::time::timeout(QUIET, self.heard.recv()).await;
        assert!(more.is_err(), "heard {more:?}");
    }
}
