//! A broker that says what the test says, packet by packet.

use std::pin::pin;

use bowline_apps::mqtt::{Settings, Version};
use bowline_client::{Message, Receipt};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::boards::*;
use super::broker::{QUIET, soon};

const CONNECT: u8 = 0x10;
const PUBLISH_QOS_2: u8 = 0x34;
const PUBLISH_QOS_2_AGAIN: u8 = 0x3c;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;

/// A connection of the app, let in.
struct Connection(TcpStream);

impl Connection {
    /// With the session of the connection before, or with none.
    async fn comes(listener: &TcpListener, version: Version, same_session: bool) -> Self {
        let mut connection = Connection(soon(listener.accept()).await.unwrap().0);
        assert_eq!(connection.hears().await.0, CONNECT);
        let session = u8::from(same_session);
        match version {
            Version::V311 => connection.says(&[0x20, 2, session, 0]).await,
            Version::V5 => connection.says(&[0x20, 3, session, 0, 0]).await,
        }
        connection
    }

    async fn says(&mut self, packet: &[u8]) {
        soon(self.0.write_all(packet)).await.unwrap();
    }

    /// The next packet: its first byte, and what comes after its length.
    async fn hears(&mut self) -> (u8, Vec<u8>) {
        soon(async {
            let first = self.0.read_u8().await.unwrap();
            let length = self.0.read_u8().await.unwrap();
            assert!(length < 0x80, "a short packet");
            let mut rest = vec![0; length.into()];
            self.0.read_exact(&mut rest).await.unwrap();
            (first, rest)
        })
        .await
    }

    /// The next packet is this one; it is about this id.
    async fn expects(&mut self, packet: u8) -> [u8; 2] {
        let (first, rest) = self.hears().await;
        assert_eq!(first, packet, "{rest:?}");
        let at = match packet & 0xf0 {
            // After the topic.
            0x30 => 2 + usize::from(rest[1]),
            _ => 0,
        };
        [rest[at], rest[at + 1]]
    }
}

#[tokio::test]
async fn a_publication_is_processed_when_the_broker_has_completed_it_and_is_repeated_until_then() {
    for version in VERSIONS {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("mqtt://{}", listener.local_addr().unwrap());
        let server = server_with(Settings { version, ..settings(&url) }).await;
        let board = Board::connects(&server, "kitchen").await;
        let message = Message::on_channel(MQTT, 0, PUBLISH, br#"["up", "x"]"#);
        let mut processed = pin!(board.0.send(message).until(Receipt::Processed));
        let script = async {
            // What is left of an earlier process is thrown away.
            assert_eq!(Connection::comes(&listener, version, false).await.hears().await.0, 0xe0);
            let mut connection = Connection::comes(&listener, version, false).await;
            let id = connection.expects(PUBLISH_QOS_2).await;
            // The broker may or may not have it.
            drop(connection);
            let mut connection = Connection::comes(&listener, version, true).await;
            assert_eq!(connection.expects(PUBLISH_QOS_2_AGAIN).await, id);
            connection.says(&[PUBREC, 2, id[0], id[1]]).await;
            assert_eq!(connection.expects(PUBREL).await, id);
            // The broker has it, and may or may not have passed it on.
            drop(connection);
            let mut connection = Connection::comes(&listener, version, true).await;
            assert_eq!(connection.expects(PUBREL).await, id);
            tokio::time::sleep(QUIET).await;
            (connection, id)
        };
        let (mut connection, id) = tokio::select! {
            early = &mut processed => panic!("the broker has not completed it: {early:?}"),
            script = script => script,
        };
        connection.says(&[PUBCOMP, 2, id[0], id[1]]).await;
        soon(processed).await.unwrap();
    }
}

#[tokio::test]
async fn a_publication_that_the_broker_has_forgotten_is_made_again() {
    for version in VERSIONS {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("mqtt://{}", listener.local_addr().unwrap());
        let server = server_with(Settings { version, ..settings(&url) }).await;
        let board = Board::connects(&server, "kitchen").await;
        let message = Message::on_channel(MQTT, 0, PUBLISH, br#"["up", "x"]"#);
        let mut processed = pin!(board.0.send(message).until(Receipt::Processed));
        let script = async {
            assert_eq!(Connection::comes(&listener, version, false).await.hears().await.0, 0xe0);
            let mut connection = Connection::comes(&listener, version, false).await;
            let id = connection.expects(PUBLISH_QOS_2).await;
            connection.says(&[PUBREC, 2, id[0], id[1]]).await;
            connection.expects(PUBREL).await;
            drop(connection);

            let mut connection = Connection::comes(&listener, version, false).await;
            let id = connection.expects(PUBLISH_QOS_2).await;
            connection.says(&[PUBREC, 2, id[0], id[1]]).await;
            connection.expects(PUBREL).await;
            (connection, id)
        };
        let (mut connection, id) = tokio::select! {
            early = &mut processed => panic!("the broker has not completed it: {early:?}"),
            script = script => script,
        };
        connection.says(&[PUBCOMP, 2, id[0], id[1]]).await;
        soon(processed).await.unwrap();
    }
}
