use std::time::Duration;

use bowline_apps::Relay;
use bowline_apps::relay::{RelayInstance, RelayRule, RelaySettings};
use bowline_client::{Dialect, Message};
use bowline_server::{App, AppError, AppLimits, AppMessage, Builder, Handled, Instance, Limits, Policy, Port};
use serde_json::json;
use tokio::sync::mpsc;

use crate::harness::*;

fn rule(from: &str, to: &[&str]) -> RelayRule {
    RelayRule { from: from.into(), to: to.iter().map(ToString::to_string).collect(), ..RelayRule::default() }
}

fn relay(rules: &[RelayRule]) -> Relay {
    let lights = vec!["lamp-1".to_owned(), "lamp-2".to_owned()];
    let groups = [("lights".to_owned(), lights)].into();
    Relay::new(RelaySettings { rules: rules.to_vec(), groups, circles: false, hops: 4 }).unwrap()
}

fn relays(rules: &[RelayRule]) -> Builder {
    server().app(4, "relay", relay(rules))
}

/// A relay that is watched: the attempt with each message that it begins to handle, 0 with each that it has handled.
struct Watched(Relay, mpsc::UnboundedSender<u32>);

impl App for Watched {
    type Instance = WatchedInstance;

    fn instance(&self, port: Port) -> WatchedInstance {
        WatchedInstance(self.0.instance(port), self.1.clone())
    }
}

struct WatchedInstance(RelayInstance, mpsc::UnboundedSender<u32>);

impl Instance for WatchedInstance {
    async fn handle(&mut self, message: &AppMessage) -> Result<Handled, AppError> {
        let _ = self.1.send(message.attempt());
        let handled = self.0.handle(message).await?;
        let _ = self.1.send(0);
        Ok(handled)
    }
}

#[tokio::test]
async fn a_button_reaches_a_group_also_the_lamp_that_is_away() {
    let server = relays(&[rule("button-*", &["lights"])]).start().await.unwrap();
    let button = Board::boots(&server, "button-1", 4);
    let lamp = Board::speaks(&server, "lamp-1", 4, Dialect::Headers);
    soon(lamp.client.connected()).await.unwrap();
    for on in [1, 2] {
        button.sends(0, 9, &format!(r#"{{"on": {on}}}"#)).await;
    }
    let away = async |lamp: &Board| {
        for on in [1, 2] {
            let (instance, tag, payload) = lamp.gets().await;
            let payload: serde_json::Value = serde_json::from_str(&payload).unwrap();
            assert_eq!(
                (instance, tag, &payload["from"], &payload["data"]["on"]),
                (0, 9, &json!("button-1"), &json!(on))
            );
            assert_eq!(payload["id"], on, "the number of the message");
        }
    };
    away(&lamp).await;
    away(&Board::boots(&server, "lamp-2", 4)).await;
}

#[tokio::test]
async fn a_desk_says_whom_it_means() {
    let named = RelayRule { named: true, raw: true, ..rule("desk", &["lights"]) };
    let server = relays(&[named]).start().await.unwrap();
    let (desk, lamp) = (Board::boots(&server, "desk", 4), Board::boots(&server, "lamp-2", 4));
    for (to, word) in [("\"safe\"", "no-target"), ("\"*\"", "no-target"), ("[]", "bad-request")] {
        desk.sends(0, 1, &format!(r#"{{"to": {to}, "data": 1}}"#)).await;
        assert_eq!(desk.gets_json().await["error"], word, "{to}");
    }
    desk.sends(0, 1, "1").await;
    assert_eq!(desk.gets_json().await["error"], "no-rule");
    desk.sends(0, 2, r#"{"to": "lamp-2", "data": {"on": true}}"#).await;
    assert_eq!(lamp.gets().await, (0, 2, r#"{"on": true}"#.to_owned()));
    let safe = Board::boots(&server, "safe", 4);
    safe.sends(0, 3, "1").await;
    assert_eq!(safe.gets_json().await["error"], "no-rule", "and it got nothing before that");
}

#[tokio::test]
async fn the_remote_demo_is_a_rule() {
    let raw = RelayRule { raw: true, ..rule("tx", &["rx"]) };
    for dialect in [Dialect::Upstream, Dialect::Plain] {
        let admission = bowline_server::Admission { plain: vec!["?x".into()], ..bowline_server::Admission::open() };
        let admission = if dialect == Dialect::Plain { admission } else { bowline_server::Admission::open() };
        let server = relays(std::slice::from_ref(&raw)).lines_app("relay").admission(admission).start().await.unwrap();
        let [tx, rx] = ["tx", "rx"].map(|id| Board::speaks(&server, id, 4, dialect).client);
        soon(rx.connected()).await.unwrap();
        soon(tx.send("[1, 0]")).await.unwrap();
        let got = soon(rx.recv()).await.unwrap();
        assert_eq!((got.header(), got.text()), (&[][..], Some("[1, 0]")), "{dialect}");
    }
}

#[tokio::test]
async fn best_effort_stays_best_effort() {
    let server = relays(&[rule("button", &["lamp-1", "lamp-2"])]).start().await.unwrap();
    let (button, lamp) = (Board::boots(&server, "button", 4), Board::boots(&server, "lamp-1", 4));
    soon(lamp.client.connected()).await.unwrap();
    soon(button.client.connected()).await.unwrap();
    soon(button.client.send_best_effort(Message::on_channel(4, 0, 0, b"7"))).await.unwrap();
    let got = soon(lamp.client.recv()).await.unwrap();
    assert_eq!((got.is_qos(), got.text()), (false, Some(r#"{"from":"button","hops":1,"data":7}"#)));
    // The one that was away has nothing waiting for it.
    assert_eq!(server.get("lamp-2").unwrap().ledger().unsent, 0);
}

#[tokio::test]
async fn a_target_without_room_makes_others_wait_and_get_nothing_twice() {
    let limits = AppLimits {
        handle_timeout: Duration::from_millis(50),
        first_pause: Duration::from_millis(1),
        attempts: 100_000,
        ..AppLimits::default()
    };
    let (watch, mut attempts) = mpsc::unbounded_channel();
    let server = server()
        .app(4, "relay", Watched(relay(&[rule("button", &["lights"])]), watch))
        .limits(Limits { outbox: 2, ..Limits::default() })
        .app_limits(limits)
        .start()
        .await
        .unwrap();
    let (button, lamp) = (Board::boots(&server, "button", 4), Board::boots(&server, "lamp-1", 4));
    for number in 1..=5 {
        button.sends(0, 0, &number.to_string()).await;
    }
    for number in 1..=3 {
        assert_eq!(lamp.gets_json().await["data"], number);
    }
    // The third has no room at the lamp that is away, and was tried again and again.
    while soon(attempts.recv()).await.unwrap() < 4 {}
    let back = Board::boots(&server, "lamp-2", 4);
    for number in 1..=5 {
        assert_eq!(back.gets_json().await["data"], number);
    }
    for number in 4..=5 {
        assert_eq!(lamp.gets_json().await["data"], number, "the third came once");
    }
}

#[tokio::test]
async fn where_only_the_latest_counts_nobody_waits() {
    let latest = RelayRule { policy: Policy::KeepLatest, ..rule("button", &["lamp-1"]) };
    let (watch, mut attempts) = mpsc::unbounded_channel();
    let server = server().app(4, "relay", Watched(relay(&[latest]), watch)).start().await.unwrap();
    let button = Board::boots(&server, "button", 4);
    for number in 1..=20 {
        button.sends(0, 0, &number.to_string()).await;
    }
    let mut handled = 0;
    while handled < 20 {
        handled += u32::from(soon(attempts.recv()).await.unwrap() == 0);
    }
    assert_eq!(Board::boots(&server, "lamp-1", 4).gets_json().await["data"], 20);
}

#[tokio::test]
async fn what_boards_pass_on_goes_so_far_and_no_further() {
    let rules = vec![rule("a", &["b"]), rule("b", &["a"])];
    let relay = Relay::new(RelaySettings { rules, circles: true, hops: 3, ..RelaySettings::default() }).unwrap();
    let server = server().app(4, "relay", relay).start().await.unwrap();
    let (a, b) = (Board::boots(&server, "a", 4), Board::boots(&server, "b", 4));
    a.sends(0, 0, "\"ball\"").await;
    let mut got = String::new();
    for (hop, [from, to]) in [[&a, &b], [&b, &a], [&a, &b]].into_iter().enumerate() {
        if hop > 0 {
            from.sends(0, 0, &got).await;
        }
        got = to.gets().await.2;
        assert!(got.contains(&format!(r#""hops":{}"#, hop + 1)) && got.contains(r#""data":"ball""#), "{got}");
    }
    b.sends(0, 0, &got).await;
    assert_eq!(b.gets_json().await["error"], "loop");
}

#[tokio::test]
async fn what_waits_for_a_lamp_survives_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let serves = async || relays(&[rule("button", &["lights"])]).store(store(folder.path())).start().await.unwrap();
    let first = serves().await;
    let button = Board::boots(&first, "button", 4);
    for number in 1..=3 {
        button.sends(0, 0, &number.to_string()).await;
    }
    first.shutdown(Duration::ZERO).await.close(Duration::from_secs(10)).await;
    drop((button, first));
    let second = serves().await;
    let lamp = Board::boots(&second, "lamp-2", 4);
    // At least once, in order, with ids that tell what came twice.
    let mut last = 0;
    while last < 3 {
        let got = lamp.gets_json().await;
        let id = got["id"].as_u64().unwrap();
        if id > last {
            assert_eq!((id, &got["data"]), (last + 1, &json!(last + 1)));
            last = id;
        }
    }
}
