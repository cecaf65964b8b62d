//! Passwords and certificates.

use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bowline_apps::mqtt::{Credentials, Settings, Tls};
use tokio::sync::watch;
use tracing_subscriber::fmt::MakeWriter;

use super::boards::*;
use super::broker::{Broker, Peer, soon};

/// What is logged in this thread, for people.
#[derive(Clone)]
struct Log(Arc<watch::Sender<Vec<u8>>>);

impl Log {
    fn begins() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Log(Arc::new(watch::Sender::default()));
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    async fn says(&self, what: &str) -> String {
        let text = |log: &[u8]| String::from_utf8(log.to_vec()).unwrap();
        let mut log = self.0.subscribe();
        let said = soon(log.wait_for(|log| text(log).contains(what))).await.unwrap();
        text(&said)
    }

    fn is_cleared(&self) {
        self.0.send_modify(Vec::clear);
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_modify(|log| log.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

fn run(folder: &Path, program: &str, arguments: &str) {
    let output = Command::new(program).args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_wrong_password_is_said_once_without_it_and_messages_wait_for_the_right_one() {
    let (log, _guard) = Log::begins();
    let mut broker = Broker::starts_with("allow_anonymous false\npassword_file %/passwords", |folder| {
        run(folder, "mosquitto_passwd", "-b -c passwords bowline s3cret-old");
    })
    .await;
    for version in VERSIONS {
        let credentials = Some(Credentials { username: "bowline".to_owned(), password: "s3cret-new".to_owned() });
        let server = server_with(Settings { version, credentials, ..settings(&broker.url()) }).await;
        let board = Board::connects(&server, "kitchen").await;
        board.says(PUBLISH, r#"["up", "x"]"#).await;
        let text = log.says("does not let the app in").await;
        assert!(text.contains("Check username, password") && !text.contains("s3cret"), "{text}");

        broker.stops().await;
        broker.starts_again_with("allow_anonymous true").await;
        let mut peer = Peer::joins_as(broker.port, &format!("listener {version:?}"), "up").await;
        peer.expects("up", "x").await;
        assert_eq!(server.get("kitchen").unwrap().dead_letters(), []);
        peer.hears_no_more().await;
        broker.stops().await;
        broker.starts_again().await;
        ends(server).await;
        log.is_cleared();
    }
}

/// Certificates of an authority and of a broker, and an authority that knows nothing of it.
fn certificates(folder: &Path) {
    for authority in ["ca", "stranger"] {
        run(
            folder,
            "openssl",
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={authority} \
                 -keyout {authority}.key -out {authority}.pem"
            ),
        );
    }
    for (name, extension) in [("broker", "subjectAltName=IP:127.0.0.1"), ("client", "basicConstraints=CA:FALSE")] {
        std::fs::write(folder.join("extension"), extension).unwrap();
        run(
            folder,
            "openssl",
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
            ),
        );
        run(
            folder,
            "openssl",
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extension -out {name}.pem"
            ),
        );
    }
}

const WITH_TLS: &str = "allow_anonymous true\ncafile %/ca.pem\ncertfile %/broker.pem\nkeyfile %/broker.key";

#[tokio::test]
async fn a_broker_with_tls_is_trusted_by_its_authority_and_trusts_a_certificate() {
    let with_client = format!("{WITH_TLS}\nrequire_certificate true");
    let broker = Broker::starts_with(&with_client, certificates).await;
    let read = |name| Some(std::fs::read(broker.path(name)).unwrap());
    for version in VERSIONS {
        let client = read("client.pem").zip(read("client.key"));
        let tls = Tls { ca: read("ca.pem"), client };
        let url = format!("mqtts://127.0.0.1:{}", broker.port);
        let server = server_with(Settings { version, tls, ..settings(&url) }).await;
        let board = Board::connects(&server, "kitchen").await;
        board.does(SUBSCRIBE, r#""up""#).await;
        board.does(PUBLISH, r#"["up", "x"]"#).await;
        board.expects(r#"["up",["up"],"x",false]"#).await;
        ends(server).await;
    }
}

#[tokio::test]
async fn a_broker_that_nobody_known_vouches_for_gets_nothing() {
    for version in VERSIONS {
        let (log, _guard) = Log::begins();
        let broker = Broker::starts_with(WITH_TLS, certificates).await;
        let tls = Tls { ca: Some(std::fs::read(broker.path("stranger.pem")).unwrap()), client: None };
        let url = format!("mqtts://127.0.0.1:{}", broker.port);
        let server = server_with(Settings { version, tls, ..settings(&url) }).await;
        let board = Board::connects(&server, "kitchen").await;
        board.says(PUBLISH, r#"["up", "x"]"#).await;
        let text = log.says("cannot be trusted").await;
        assert!(text.contains("tls_ca"), "{text}");
        assert_eq!(server.get("kitchen").unwrap().dead_letters(), []);
        ends(server).await;
    }
}
