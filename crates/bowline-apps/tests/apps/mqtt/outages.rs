//! Boards, brokers and servers that go away and come back.

use std::time::Duration;

use bowline_apps::Echo;
use bowline_apps::mqtt::{BoardDown, Mqtt, Settings};
use bowline_client::{Dialect, Message};
use bowline_server::{AppLimits, Limits, Server};
use rumqttc_v5::{BrokerSessionResumePolicy, MqttOptions, SessionMode};
use tokio::net::TcpListener;

use super::boards::*;
use super::broker::{Broker, Peer, soon};
use super::wire::Wire;

#[tokio::test]
async fn a_board_that_goes_away_leaves_its_will_and_one_that_returns_its_welcome() {
    let broker = Broker::starts().await;
    let mut peer = Peer::hears_all(&broker, "#").await;
    for version in VERSIONS {
        let server = server_with(Settings { version, ..settings(&broker.url()) }).await;
        let wire = Wire::to(server.addresses()[0].to_string()).await;
        let board = Board::connects_to(&wire.address, "kitchen", Dialect::Native).await;
        board.says(WILL, r#"["status", "offline", false]"#).await;
        board.says(WELCOME, r#"["status", "online", false]"#).await;
        board.says(SUBSCRIBE, r#"["light/set", true]"#).await;
        peer.expects("status", "online").await;

        wire.is_cut();
        peer.expects("status", "offline").await;
        wire.is_mended();
        soon(board.0.connected()).await.unwrap();
        board.says(WILL, r#"["status", "gone", false]"#).await;
        board.says(WELCOME, r#"["status", "back", false]"#).await;
        board.does(SUBSCRIBE, r#"["light/set", true]"#).await;
        peer.expects("status", "back").await;
        peer.says("light/set", "on").await;
        peer.expects("light/set", "on").await;
        board.expects(r#"["light/set",["light/set"],"on",false]"#).await;

        // One that has restarted begins anew: its will comes before its welcome.
        drop(board);
        let board = Board::connects_to(&wire.address, "kitchen", Dialect::Native).await;
        board.says(WELCOME, r#"["status", "restarted", false]"#).await;
        peer.expects("status", "gone").await;
        peer.expects("status", "restarted").await;
        ends(server).await;
    }
    peer.hears_no_more().await;
}

#[tokio::test]
async fn the_broker_publishes_the_last_will_said_when_the_connection_breaks() {
    let broker = Broker::starts().await;
    let mut peer = Peer::hears_all(&broker, "#").await;
    for version in VERSIONS {
        let wire = Wire::to(format!("127.0.0.1:{}", broker.port)).await;
        let server = server_with(Settings { version, ..settings(&format!("mqtt://{}", wire.address)) }).await;
        let board = Board::connects(&server, "kitchen").await;
        board.says(WELCOME, r#"["status", "online"]"#).await;
        board.says(WILL, r#"["status", "first"]"#).await;
        board.does(WILL, r#"["status", "last"]"#).await;
        board.does(PUBLISH, r#"["status", "ready"]"#).await;
        // A new will needs a new connection, and that a new welcome.
        while peer.hears().await.payload != "ready" {}
        wire.is_cut();
        loop {
            match peer.hears().await.payload.as_str() {
                "online" => {}
                payload => break assert_eq!(payload, "last"),
            }
        }
        wire.is_mended();
        peer.expects("status", "online").await;
        ends(server).await;
    }
}

#[tokio::test]
async fn messages_for_a_board_that_is_away_are_kept_if_they_are_to_be() {
    let broker = Broker::starts().await;
    let mut peer = Peer::hears_all(&broker, "status").await;
    for version in VERSIONS {
        let board_down = BoardDown::Keep;
        let server = server_with(Settings { version, board_down, ..settings(&broker.url()) }).await;
        let wire = Wire::to(server.addresses()[0].to_string()).await;
        let board = Board::connects_to(&wire.address, "kitchen", Dialect::Headers).await;
        board.says(SUBSCRIBE, r#""light/set""#).await;
        board.says(WILL, r#"["status", "offline"]"#).await;
        board.says(WELCOME, r#"["status", "online"]"#).await;
        while peer.hears().await.payload != "online" {}
        wire.is_cut();
        for number in 0..20 {
            peer.says("light/set", &number.to_string()).await;
        }
        wire.is_mended();
        for number in 0..20 {
            board.expects(&format!(r#"["light/set",["light/set"],"{number}",false]"#)).await;
        }
        // Also for one that has restarted.
        drop(board);
        peer.says("light/set", "last").await;
        let board = Board::connects_to(&wire.address, "kitchen", Dialect::Headers).await;
        board.expects(r#"["light/set",["light/set"],"last",false]"#).await;
        ends(server).await;
    }
    peer.hears_no_more().await;
}

#[tokio::test]
async fn an_answer_to_the_first_connect_that_is_lost_holds_up_nothing() {
    let broker = Broker::starts().await;
    let mut peer = Peer::hears_all(&broker, "up").await;
    for version in VERSIONS {
        // The first connection throws away what is left of an earlier process.
        let wire = Wire::that_loses(1, format!("127.0.0.1:{}", broker.port)).await;
        let server = server_with(Settings { version, ..settings(&format!("mqtt://{}", wire.address)) }).await;
        let board = Board::connects(&server, "kitchen").await;
        board.says(PUBLISH, r#"["up", "x"]"#).await;
        peer.expects("up", "x").await;
        ends(server).await;
    }
    peer.hears_no_more().await;
}

#[tokio::test]
async fn a_broker_that_has_forgotten_everything_is_told_again() {
    let mut broker = Broker::starts().await;
    for version in VERSIONS {
        let server = server_with(Settings { version, ..settings(&broker.url()) }).await;
        let board = Board::connects(&server, "kitchen").await;
        board.says(WELCOME, r#"["status", "online"]"#).await;
        board.does(SUBSCRIBE, r#"["light/set", false]"#).await;
        broker.stops().await;
        std::fs::remove_file(broker.path("mosquitto.db")).unwrap();
        broker.starts_again().await;
        let mut peer = Peer::hears_all(&broker, "status").await;
        // The welcome comes after the subscriptions.
        board.says(PUBLISH, r#"["status", "done"]"#).await;
        while peer.hears().await.payload != "done" {}
        peer.says("light/set", "on").await;
        board.expects(r#"["light/set",["light/set"],"on",false]"#).await;
        ends(server).await;
    }
}

#[tokio::test]
async fn r12_the_broker_has_what_no_outbox_has() {
    let mut broker = Broker::starts().await;
    let peer = Peer::joins(&broker).await;
    let folder = tempfile::tempdir().unwrap();
    let store =
        bowline_store::Store::open(folder.path(), bowline_store::Durability::Fsync, bowline_store::Limits::default())
            .unwrap();
    let settings = Settings { board_down: BoardDown::Keep, ..settings(&broker.url()) };
    let server = Server::builder()
        .listen("127.0.0.1:0".parse().unwrap())
        .settle(Duration::ZERO)
        .app(MQTT, "mqtt", Mqtt::new(settings).unwrap())
        .limits(Limits { outbox: 2, ..Limits::default() })
        .store(store)
        .start()
        .await
        .unwrap();
    let wire = Wire::to(server.addresses()[0].to_string()).await;
    let board = Board::connects_to(&wire.address, "kitchen", Dialect::Native).await;
    board.does(SUBSCRIBE, r#""light/set""#).await;
    wire.is_cut();
    for number in 0..5 {
        peer.says("light/set", &number.to_string()).await;
    }
    // Two are in the outbox; no more fits, and the broker is told nothing of the others. They are still its
    // own when the server is gone.
    broker.says("Received PUBREC from kitchen (Mid: 2").await;
    assert_eq!(server.get("kitchen").unwrap().ledger().unsent, 2);
    ends(server).await;
    let mut options = MqttOptions::new("kitchen", ("127.0.0.1", broker.port));
    options
        .set_session_mode(SessionMode::Persistent)
        .set_broker_session_resume_policy(BrokerSessionResumePolicy::AllowBrokerOnly);
    let mut heir = Peer::joins_with(options, "").await;
    for number in 2..5 {
        heir.expects("light/set", &number.to_string()).await;
    }
    heir.hears_no_more().await;
}

#[tokio::test]
async fn a_board_whose_outbox_is_full_gets_what_the_broker_keeps_for_it_when_there_is_room() {
    let broker = Broker::starts().await;
    let peer = Peer::joins(&broker).await;
    for version in VERSIONS {
        let settings = Settings { version, board_down: BoardDown::Keep, ..settings(&broker.url()) };
        let server = Server::builder()
            .listen("127.0.0.1:0".parse().unwrap())
            .settle(Duration::ZERO)
            .app(MQTT, "mqtt", Mqtt::new(settings).unwrap())
            .limits(Limits { outbox: 2, ..Limits::default() })
            .start()
            .await
            .unwrap();
        let wire = Wire::to(server.addresses()[0].to_string()).await;
        let board = Board::connects_to(&wire.address, "kitchen", Dialect::Native).await;
        board.does(SUBSCRIBE, r#""light/set""#).await;
        wire.is_cut();
        // More than is taken: these may be dropped.
        for number in 0..40 {
            peer.mentions("light/set", &format!("mentioned {number}")).await;
        }
        for number in 0..40 {
            peer.says("light/set", &number.to_string()).await;
        }
        wire.is_mended();
        let mut heard = Vec::new();
        while heard.len() < 40 {
            let message = board.hears().await;
            let text = message.text().unwrap().to_owned();
            if !text.contains("mentioned") {
                heard.push(text);
            }
        }
        let said = (0..40).map(|number| format!(r#"["light/set",["light/set"],"{number}",false]"#));
        assert_eq!(heard, said.collect::<Vec<_>>());
        board.hears_no_more().await;
        ends(server).await;
    }
}

#[tokio::test]
async fn r41_a_broker_that_does_not_answer_stalls_nobody() {
    // It takes connections, and that is all.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = settings(&format!("mqtt://{}", silent.local_addr().unwrap()));
    let server = Server::builder()
        .listen("127.0.0.1:0".parse().unwrap())
        .settle(Duration::ZERO)
        .app(0, "echo", Echo)
        .app(MQTT, "mqtt", Mqtt::new(settings).unwrap())
        .app_limits(AppLimits { attempts: 1, ..AppLimits::default() })
        .start()
        .await
        .unwrap();
    let stuck = Board::connects(&server, "kitchen").await;
    let other = Board::connects(&server, "hall").await;
    for number in 0..10 {
        stuck.says(PUBLISH, &format!(r#"["up", "{number}"]"#)).await;
    }
    let (_connection, _) = soon(silent.accept()).await.unwrap();
    for board in [&stuck, &other] {
        for _ in 0..20 {
            let asked = tokio::time::Instant::now();
            soon(board.0.send(Message::on_channel(0, 9, 9, b"ping"))).await.unwrap();
            assert_eq!(board.hears().await.header(), [0, 9, 9]);
            assert!(asked.elapsed() < Duration::from_secs(1), "it took {:?}", asked.elapsed());
        }
    }
    assert_eq!(server.get("kitchen").unwrap().dead_letters(), []);
}
