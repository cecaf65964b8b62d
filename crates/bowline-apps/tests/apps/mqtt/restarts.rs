//! A broker that is stopped or killed with messages under way both ways, and starts again.

use bowline_apps::mqtt::{Settings, Version};

use super::boards::*;
use super::broker::{Broker, Peer};
use super::word::Word;

const COUNT: usize = 60;
const RESTARTS: usize = 3;

#[derive(Clone, Copy, PartialEq)]
enum End {
    Stopped,
    Killed,
}

async fn through_restarts(version: Version, end: End) {
    let mut random = random();
    let mut broker = Broker::starts().await;
    let port = match end {
        End::Stopped => broker.port,
        // It forgets what it had acknowledged otherwise, and nothing on this side can make up for that.
        End::Killed => Word::of(&broker).await.port,
    };
    let mut listener = Peer::joins_as(port, "listener", "up").await;
    let peer = Peer::joins_as(port, "peer", "").await;
    let server = server_with(Settings { version, ..settings(&format!("mqtt://127.0.0.1:{port}")) }).await;
    let board = Board::connects(&server, "kitchen").await;
    board.does(SUBSCRIBE, r#""down""#).await;

    let up = async {
        for number in 0..COUNT {
            board.says(PUBLISH, &format!(r#"["up", "{number}"]"#)).await;
        }
    };
    let down = async {
        for number in 0..COUNT {
            peer.says("down", &number.to_string()).await;
        }
    };
    let mut heard = Vec::new();
    let restarts = async {
        for part in 1..=RESTARTS {
            let until = part * COUNT / (RESTARTS + 1) - random.usize(..COUNT / (RESTARTS + 2));
            while heard.len() < until {
                heard.push(listener.hears().await.payload);
            }
            // Somewhere in what comes after that.
            for _ in 0..random.usize(..50) {
                tokio::task::yield_now().await;
            }
            match end {
                End::Stopped => broker.stops().await,
                End::Killed => broker.is_killed().await,
            }
            broker.starts_again().await;
            // Before the next one: mosquitto 2.0 forgets a session that it has read and that nobody came for.
            broker.says("as kitchen").await;
        }
    };
    let hears = async {
        for number in 0..COUNT {
            board.expects(&format!(r#"["down",["down"],"{number}",false]"#)).await;
        }
    };
    tokio::join!(up, down, restarts, hears);
    while heard.len() < COUNT {
        heard.push(listener.hears().await.payload);
    }
    let sent: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
    assert_eq!(heard, sent);
    listener.hears_no_more().await;
    board.hears_no_more().await;
    assert_eq!(server.get("kitchen").unwrap().dead_letters(), []);
}

#[tokio::test]
async fn a_broker_that_is_stopped_loses_and_doubles_nothing_v5() {
    through_restarts(Version::V5, End::Stopped).await;
}

#[tokio::test]
async fn a_broker_that_is_stopped_loses_and_doubles_nothing_v311() {
    through_restarts(Version::V311, End::Stopped).await;
}

#[tokio::test]
async fn a_broker_that_is_killed_loses_and_doubles_nothing_v5() {
    through_restarts(Version::V5, End::Killed).await;
}

#[tokio::test]
async fn a_broker_that_is_killed_loses_and_doubles_nothing_v311() {
    through_restarts(Version::V311, End::Killed).await;
}
