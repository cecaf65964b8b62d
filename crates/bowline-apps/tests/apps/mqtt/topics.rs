//! What boards publish and subscribe to.

use bowline_apps::mqtt::{Qos, Settings};
use bowline_client::Dialect;

use super::boards::*;
use super::broker::{Broker, Peer, Said};

#[tokio::test]
async fn what_a_board_publishes_is_heard_in_both_versions_and_on_both_dialects() {
    let broker = Broker::starts().await;
    let mut peer = Peer::hears_all(&broker, "home/#").await;
    for version in VERSIONS {
        let server = server_with(Settings { version, ..settings(&broker.url()) }).await;
        for dialect in [Dialect::Headers, Dialect::Native] {
            let board = Board::connects_to(&server.addresses()[0].to_string(), "kitchen", dialect).await;
            board.says(PUBLISH, r#"["home/kitchen", "21.5"]"#).await;
            board.says(PUBLISH, r#"["home/kitchen", {"t": 21.5}, false]"#).await;
            peer.expects("home/kitchen", "21.5").await;
            peer.expects("home/kitchen", r#"{"t":21.5}"#).await;
        }
        ends(server).await;
    }
    peer.hears_no_more().await;
}

#[tokio::test]
async fn every_qos_carries_messages_both_ways() {
    let broker = Broker::starts().await;
    let mut peer = Peer::hears_all(&broker, "up").await;
    for version in VERSIONS {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            let server = server_with(Settings { version, qos, ..settings(&broker.url()) }).await;
            let board = Board::connects(&server, "kitchen").await;
            board.says(SUBSCRIBE, r#""down""#).await;
            board.says(PUBLISH, r#"["up", "x"]"#).await;
            peer.expects("up", "x").await;
            peer.says("down", "y").await;
            board.expects(r#"["down",["down"],"y",false]"#).await;
            ends(server).await;
        }
    }
}

#[tokio::test]
async fn a_board_hears_what_it_has_subscribed_to_and_by_which_filters() {
    let broker = Broker::starts().await;
    let peer = Peer::joins(&broker).await;
    for version in VERSIONS {
        let server = server_with(Settings { version, ..settings(&broker.url()) }).await;
        let board = Board::connects_to(&server.addresses()[0].to_string(), "kitchen", Dialect::Headers).await;
        board.says(SUBSCRIBE, r#"["home/+/light", true]"#).await;
        board.says(SUBSCRIBE, r#"["garden/#", true]"#).await;
        board.says(PUBLISH, r#"["garden/ready", ""]"#).await;
        board.expects(r#"["garden/ready",["garden/#"],"",false]"#).await;
        peer.says("home/kitchen/light", "on").await;
        peer.says("hall/light", "on").await;
        peer.says("garden", "say \"hi\"").await;
        peer.publishes("garden/tap", &[0xff, 0x00], false).await;
        board.expects(r#"["home/kitchen/light",["home/+/light"],"on",false]"#).await;
        board.expects(r#"["garden",["garden/#"],"say \"hi\"",false]"#).await;
        board.expects(r#"["garden/tap",["garden/#"],{"hex":"ff00"},false]"#).await;

        board.says(UNSUBSCRIBE, r#"["garden/#"]"#).await;
        board.says(PUBLISH, r#"["home/ready/light", ""]"#).await;
        board.expects(r#"["home/ready/light",["home/+/light"],"",false]"#).await;
        peer.says("garden/tap", "off").await;
        peer.says("home/hall/light", "off").await;
        board.expects(r#"["home/hall/light",["home/+/light"],"off",false]"#).await;
        ends(server).await;
    }
}

#[tokio::test]
async fn an_actuator_gets_its_retained_state_once_and_before_its_commands() {
    let broker = Broker::starts().await;
    let peer = Peer::joins(&broker).await;
    peer.retains("lamp", "on").await;
    peer.retains("lamp/set", "off").await;
    for version in VERSIONS {
        let server = server_with(Settings { version, ..settings(&broker.url()) }).await;
        let board = Board::connects(&server, "kitchen").await;
        board.says(SUBSCRIBE, r#"["lamp/set", true]"#).await;
        board.expects(r#"["lamp",["lamp/set"],"on",true]"#).await;
        board.expects(r#"["lamp/set",["lamp/set"],"off",true]"#).await;
        peer.retains("lamp", "on").await;
        peer.says("lamp/set", "on").await;
        board.expects(r#"["lamp/set",["lamp/set"],"on",false]"#).await;

        // Not asked for, not fetched; and there is not always one.
        let board = Board::connects(&server, "hall").await;
        board.says(SUBSCRIBE, r#"["lamp/set", false]"#).await;
        board.expects(r#"["lamp/set",["lamp/set"],"off",true]"#).await;
        board.does(SUBSCRIBE, r#"["blind/set", true]"#).await;
        peer.says("blind/set", "up").await;
        board.expects(r#"["blind/set",["blind/set"],"up",false]"#).await;
        ends(server).await;
    }
}

#[tokio::test]
async fn retained_publications_stay_at_the_broker() {
    let broker = Broker::starts().await;
    let server = server(&broker).await;
    let board = Board::connects(&server, "kitchen").await;
    board.does(PUBLISH, r#"["state", "on", true]"#).await;
    let mut late = Peer::hears_all(&broker, "state").await;
    assert_eq!(late.hears().await, Said { topic: "state".into(), payload: "on".into(), retained: true });
}

#[tokio::test]
async fn a_command_that_is_none_is_answered_and_kept_and_the_next_one_is_done() {
    let broker = Broker::starts().await;
    let mut peer = Peer::hears_all(&broker, "#").await;
    let server = server(&broker).await;
    let board = Board::connects(&server, "kitchen").await;
    board.says(PUBLISH, r#"["home/#", "x"]"#).await;
    let answer = board.hears().await;
    assert_eq!(answer.header(), [MQTT, 0, ERROR]);
    assert!(answer.text().unwrap().starts_with("[1,\"the topic has a wildcard"), "{answer:?}");
    board.says(PUBLISH, r#"["home", "x"]"#).await;
    peer.expects("home", "x").await;
    let letters = server.get("kitchen").unwrap().dead_letters();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].reason.contains("wildcard"), "{letters:?}");
}

#[tokio::test]
async fn what_is_too_large_for_a_board_is_told_and_holds_up_nothing() {
    let broker = Broker::starts().await;
    let peer = Peer::joins(&broker).await;
    for version in VERSIONS {
        let server = server_with(Settings { version, payload: 100, ..settings(&broker.url()) }).await;
        let board = Board::connects(&server, "kitchen").await;
        board.does(SUBSCRIBE, r#""big""#).await;
        peer.says("big", &"x".repeat(101)).await;
        peer.says("big", &"x".repeat(100)).await;
        let told = board.hears().await;
        assert_eq!(told.header(), [MQTT, 0, ERROR]);
        assert_eq!(told.text(), Some(r#"[0,"the message under big has 101 bytes, and boards get at most 100"]"#));
        board.expects(&format!(r#"["big",["big"],"{}",false]"#, "x".repeat(100))).await;
        ends(server).await;
    }
}
