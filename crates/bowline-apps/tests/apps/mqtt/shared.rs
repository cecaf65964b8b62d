//! One connection for all devices.

use bowline_apps::mqtt::{Connection, Settings};

use super::boards::*;
use super::broker::{Broker, Peer};

#[tokio::test]
async fn boards_on_a_shared_connection_have_topics_and_wills_of_their_own() {
    let mut broker = Broker::starts().await;
    let mut peer = Peer::hears_all(&broker, "b/#").await;
    for version in VERSIONS {
        let server = server_with(Settings {
            version,
            connection: Connection::Shared,
            client_id: "bowline".to_owned(),
            prefix: "b/{device}/".to_owned(),
            ..settings(&broker.url())
        })
        .await;
        let kitchen = Board::connects(&server, "kitchen").await;
        let hall = Board::connects(&server, "hall").await;
        kitchen.says(WILL, r#"["status", "offline"]"#).await;
        kitchen.does(SUBSCRIBE, r##""#""##).await;
        hall.does(SUBSCRIBE, r#"["light/set", true]"#).await;
        peer.says("b/hall/light/set", "on").await;
        peer.expects("b/hall/light/set", "on").await;
        hall.expects(r#"["light/set",["light/set"],"on",false]"#).await;
        kitchen.does(PUBLISH, r#"["up", "x"]"#).await;
        peer.expects("b/kitchen/up", "x").await;
        kitchen.expects(r##"["up",["#"],"x",false]"##).await;

        // One goes; the connection and the other one stay.
        drop(kitchen);
        peer.expects("b/kitchen/status", "offline").await;
        broker.stops().await;
        broker.starts_again().await;
        broker.says("as bowline").await;
        hall.does(PUBLISH, r#"["up", "y"]"#).await;
        peer.expects("b/hall/up", "y").await;
        peer.says("b/hall/light/set", "off").await;
        peer.expects("b/hall/light/set", "off").await;
        hall.expects(r#"["light/set",["light/set"],"off",false]"#).await;
        hall.hears_no_more().await;
        ends(server).await;
    }
    peer.hears_no_more().await;
}
