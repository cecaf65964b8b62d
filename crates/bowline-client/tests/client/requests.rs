//! One question, one answer: through a real server, whose apps the tests play.

use std::collections::HashMap;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bowline_client::{Client, Dialect, Limits, Message, OpenError, RequestError};
use bowline_server::{Device, Server};

use crate::harness::{client, soon};
use crate::world::{World, eventually};

const APP: u8 = 7;
const LONG: Duration = Duration::from_secs(20);

struct Pair {
    _server: Server,
    device: Device,
    client: Client,
}

async fn pair(dialect: Dialect) -> Pair {
    pair_with(dialect, Limits::default(), Duration::from_secs(600)).await
}

async fn pair_with(dialect: Dialect, limits: Limits, quarantine: Duration) -> Pair {
    let server = Server::builder()
        .listen("127.0.0.1:0".parse().unwrap())
        .pace(1, Duration::ZERO)
        .settle(Duration::ZERO)
        .start()
        .await
        .unwrap();
    let client =
        client(&server.addresses()[0].to_string(), dialect).limits(limits).quarantine(quarantine).start().unwrap();
    let device = soon(server.device("board")).await.unwrap();
    soon(client.connected()).await.unwrap();
    Pair { _server: server, device, client }
}

/// The answer to `request`: same channel, other payload.
fn answer(request: &Message, payload: &str) -> Message {
    Message::with_header(request.header(), payload.as_bytes())
}

/// An app that answers each message with its payload and `!`.
async fn answers(device: Device) {
    while let Ok(delivery) = device.next().await {
        let reply = answer(delivery.message(), &format!("{}!", delivery.message().text().unwrap()));
        delivery.reply(reply).await.unwrap();
    }
}

async fn asks(client: &Client, what: &str) -> String {
    let answer = soon(client.request(APP, 3, what.as_bytes()).timeout(LONG).into_future()).await.unwrap();
    assert_eq!((answer.header()[0], answer.header()[2]), (APP, 3));
    answer.text().unwrap().to_owned()
}

async fn a_request_is_answered(dialect: Dialect) {
    let Pair { device, client, _server } = pair(dialect).await;
    let app = tokio::spawn(answers(device.clone()));
    assert_eq!(asks(&client, "\"a\"").await, "\"a\"!");
    device.send("\"for all\"").await.unwrap();
    assert_eq!(soon(client.recv()).await.unwrap().text(), Some("\"for all\""));
    assert_eq!(client.late(), 0);
    app.abort();
}

#[tokio::test]
async fn a_request_is_answered_on_h() {
    a_request_is_answered(Dialect::Headers).await;
}

#[tokio::test]
async fn a_request_is_answered_on_n() {
    a_request_is_answered(Dialect::Native).await;
}

/// More than there are ids, and more than the queues hold.
async fn three_hundred(dialect: Dialect) {
    let Pair { device, client, _server } = pair(dialect).await;
    let app = tokio::spawn(answers(device.clone()));
    let requests = (0..300).map(|number: u32| {
        let client = client.clone();
        tokio::spawn(async move { (number, asks(&client, &number.to_string()).await) })
    });
    for request in requests.collect::<Vec<_>>() {
        let (number, answer) = soon(request).await.unwrap();
        assert_eq!(answer, format!("{number}!"), "the answer to another request");
    }
    assert_eq!(client.late(), 0);
    app.abort();
}

#[tokio::test]
async fn three_hundred_requests_in_parallel_on_h() {
    three_hundred(Dialect::Headers).await;
}

#[tokio::test]
async fn three_hundred_requests_in_parallel_on_n() {
    three_hundred(Dialect::Native).await;
}

async fn a_late_answer_is_discarded_and_counted(dialect: Dialect) {
    let Pair { device, client, _server } = pair(dialect).await;
    let request = client.request(APP, 0, b"1").timeout(Duration::from_millis(100));
    let (error, asked) = tokio::join!(request.into_future(), soon(device.recv()));
    assert!(matches!(error, Err(RequestError::NoAnswer { .. })), "{error:?}");
    let asked = asked.unwrap();
    // The next one has another id, and gets its own answer, though that of the first comes first.
    let (second, ()) = tokio::join!(asks(&client, "2"), async {
        let second = soon(device.recv()).await.unwrap();
        assert_ne!(asked.header()[1], second.header()[1]);
        device.send(answer(&asked, "late")).await.unwrap();
        device.send(answer(&second, "right")).await.unwrap();
    });
    assert_eq!(second, "right");
    assert_eq!(client.late(), 1);
    device.send("\"and on\"").await.unwrap();
    assert_eq!(soon(client.recv()).await.unwrap().text(), Some("\"and on\""), "recv does not see late answers");
}

#[tokio::test]
async fn a_late_answer_is_discarded_and_counted_on_h() {
    a_late_answer_is_discarded_and_counted(Dialect::Headers).await;
}

#[tokio::test]
async fn a_late_answer_is_discarded_and_counted_on_n() {
    a_late_answer_is_discarded_and_counted(Dialect::Native).await;
}

/// While nobody waits, a late answer waits in the inbox; `try_recv` discards it too.
#[tokio::test]
async fn a_late_answer_that_nobody_waits_for_is_no_message() {
    let Pair { device, client, _server } = pair(Dialect::Native).await;
    let request = client.request(APP, 0, b"1").timeout(Duration::from_millis(50));
    let (_, asked) = tokio::join!(request.into_future(), soon(device.recv()));
    device.send(answer(&asked.unwrap(), "late")).await.unwrap();
    assert_eq!(client.late(), 0);
    assert!(client.try_recv().unwrap().is_none());
    assert_eq!(client.late(), 1);
}

#[tokio::test]
async fn an_id_is_used_again_only_when_nothing_can_come_for_it() {
    let quarantine = Duration::from_millis(3000);
    let Pair { device, client, _server } = pair_with(Dialect::Native, Limits::default(), quarantine).await;
    let (client, device) = (&client, &device);
    let start = std::time::Instant::now();
    // All ids of the app are owed an answer.
    let hurry = |number: usize| async move {
        let payload = number.to_string();
        client.request(APP, 0, payload.as_bytes()).timeout(Duration::from_millis(300)).into_future().await.unwrap_err()
    };
    let asked = async {
        let mut asked = HashMap::new();
        while asked.len() < 256 {
            let message = soon(device.recv()).await.unwrap();
            asked.insert(message.header()[1], message);
        }
        asked
    };
    let (_, asked) = tokio::join!(futures_util::future::join_all((0..256).map(hurry)), asked);
    let error = hurry(256).await;
    assert!(matches!(error, RequestError::NoIds { app: APP, .. }), "{error}");
    assert_eq!(client.open(APP).unwrap_err(), OpenError::NoIds { app: APP });
    // A late answer frees its id.
    let freed = *asked.keys().next().unwrap();
    device.send(answer(&asked[&freed], "late")).await.unwrap();
    let (answered, ()) = tokio::join!(asks(client, "x"), async {
        let message = soon(device.recv()).await.unwrap();
        assert_eq!(message.header()[1], freed);
        device.send(answer(&message, "right")).await.unwrap();
    });
    assert_eq!((answered.as_str(), client.late()), ("right", 1));
    // Time frees the others. The one just answered is used first.
    let open = client.open(APP).unwrap();
    assert_eq!(open.instance(), freed);
    let (answered, ()) = tokio::join!(asks(client, "y"), async {
        let message = soon(device.recv()).await.unwrap();
        assert!(start.elapsed() > quarantine);
        device.send(answer(&message, "right")).await.unwrap();
    });
    assert_eq!(answered, "right");
}

async fn requests_survive_links(dialect: Dialect) {
    let mut world = World::waits().await;
    world.dialect = dialect;
    if dialect != Dialect::Native {
        world.keys.remove(crate::world::ID).unwrap();
    }
    world.server_starts().await;
    world.client_starts().await;
    world.connected().await;
    let client = world.client().clone();
    let request = tokio::spawn(async move { asks(&client, "1").await });
    let asked = soon(world.device().recv()).await.unwrap();
    world.net.cuts();
    world.device().send(answer(&asked, "2")).into_future().await.unwrap();
    assert_eq!(soon(request).await.unwrap(), "2");
    assert_eq!(world.client().late(), 0);
}

#[tokio::test]
async fn requests_survive_links_on_h() {
    requests_survive_links(Dialect::Headers).await;
}

#[tokio::test]
async fn requests_survive_links_on_n() {
    requests_survive_links(Dialect::Native).await;
}

#[tokio::test]
async fn a_request_survives_a_restart_of_the_server() {
    let mut world = World::runs().await;
    world.connected().await;
    let client = world.client().clone();
    let request = tokio::spawn(async move { asks(&client, "1").await });
    let asked = soon(world.device().recv()).await.unwrap();
    world.server_restarts().await;
    world.device().send(answer(&asked, "2")).into_future().await.unwrap();
    assert_eq!(soon(request).await.unwrap(), "2");
}

/// r22: the answer to the request of an earlier life, under the very id of a request of this one.
#[tokio::test]
async fn r22_an_answer_to_an_earlier_life_does_not_match() {
    let mut world = World::runs().await;
    world.connected().await;
    let request = world.client().request(APP, 1, b"1").timeout(Duration::from_millis(100));
    let device = world.device();
    let (error, asked) = tokio::join!(request.into_future(), soon(device.recv()));
    assert!(error.is_err() && asked.is_ok());
    world.client_crashes();
    world.client_starts().await;
    world.connected().await;
    let client = world.client().clone();
    let request = tokio::spawn(async move {
        let repeats_the_tag = |message: &Message| message.header()[2] == 2;
        client.request(APP, 2, b"1").timeout(LONG).matching(repeats_the_tag).await.unwrap()
    });
    let device = world.device();
    let asked = soon(device.recv()).await.unwrap();
    let [app, instance, _] = *asked.header() else { panic!("{asked:?}") };
    device.send(Message::on_channel(app, instance, 1, b"of the earlier life")).await.unwrap();
    device.send(Message::on_channel(app, instance, 2, b"of this one")).await.unwrap();
    assert_eq!(soon(request).await.unwrap().text(), Some("of this one"));
    assert_eq!(world.client().late(), 1);
}

/// A request for which there is no link in time is not sent later, and costs no id.
#[tokio::test]
async fn what_was_not_sent_in_time_is_not_sent_later() {
    let mut world = World::runs().await;
    world.connected().await;
    world.net.target(None);
    let mut watch = world.client().watch();
    soon(async {
        while watch.now().is_up() {
            watch.changed().await;
        }
    })
    .await;
    for _ in 0..200 {
        let error = world.client().request(APP, 0, b"1").timeout(Duration::from_millis(1)).await.unwrap_err();
        assert!(matches!(error, RequestError::NotSent { .. }), "{error}");
    }
    world.server_restarts().await;
    world.connected().await;
    soon(world.client().send("2")).await.unwrap();
    assert_eq!(soon(world.device().recv()).await.unwrap().text(), Some("2"));
}

/// P8: dropped at every await, nothing wedges, no id is lost, and no answer is mistaken.
async fn requests_are_dropped_at_every_await(dialect: Dialect) {
    let limits = Limits { outbox: 4, inbox: 8, ..Limits::default() };
    let Pair { device, client, _server } = pair_with(dialect, limits, Duration::from_secs(600)).await;
    let app = tokio::spawn(answers(device));
    for round in 0..40 {
        for polls in 0..8 {
            let payload = format!("\"{round} {polls}\"");
            let mut request = std::pin::pin!(client.request(APP, 0, payload.as_bytes()).into_future());
            for _ in 0..polls {
                if let Poll::Ready(answer) = request.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    assert_eq!(answer.unwrap().text(), Some(&*format!("{payload}!")));
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(asks(&client, &round.to_string()).await, format!("{round}!"));
    }
    app.abort();
}

#[tokio::test]
async fn requests_are_dropped_at_every_await_on_h() {
    requests_are_dropped_at_every_await(Dialect::Headers).await;
}

#[tokio::test]
async fn requests_are_dropped_at_every_await_on_n() {
    requests_are_dropped_at_every_await(Dialect::Native).await;
}

#[tokio::test]
async fn a_channel_gets_what_is_for_it_and_recv_the_rest_in_order() {
    let Pair { device, client, _server } = pair(Dialect::Native).await;
    let (one, two) = (client.open(APP).unwrap(), client.open_at(APP + 1, 9).unwrap());
    assert_eq!(client.open_at(APP + 1, 9).unwrap_err(), OpenError::InUse { app: APP + 1, instance: 9 });
    soon(one.send(5, b"hello")).await.unwrap();
    assert_eq!(soon(device.recv()).await.unwrap().header(), [APP, one.instance(), 5]);
    for number in 0..30_u8 {
        let to = [(APP, one.instance()), (APP + 1, 9), (APP + 2, 0)][usize::from(number) % 3];
        device.send(Message::on_channel(to.0, to.1, number, b"")).await.unwrap();
    }
    for number in 0..10 {
        assert_eq!(
            soon(two.next())
                .await
                .map(|delivery| {
                    let tag = delivery.message().header()[2];
                    delivery.done();
                    tag
                })
                .unwrap(),
            number * 3 + 1
        );
        assert_eq!(soon(client.recv()).await.unwrap().header()[2], number * 3 + 2);
        assert_eq!(soon(one.recv()).await.unwrap().header()[2], number * 3);
    }
}

/// Messages for others that a channel's owner has taken from the inbox stay there for their recipient.
#[tokio::test]
async fn a_delivery_that_is_dropped_comes_again_before_those_behind_it() {
    let Pair { device, client, _server } = pair(Dialect::Native).await;
    let channel = client.open(APP).unwrap();
    for text in ["1", "2", "3"] {
        device.send(text).await.unwrap();
    }
    device.send(Message::on_channel(APP, channel.instance(), 0, b"mine")).await.unwrap();
    assert_eq!(soon(channel.recv()).await.unwrap().text(), Some("mine"));
    drop(soon(client.next()).await.unwrap());
    for text in ["1", "2", "3"] {
        assert_eq!(soon(client.recv()).await.unwrap().text(), Some(text));
    }
}

/// What is not taken takes up room all the same: the server is made to wait, nothing grows.
#[tokio::test]
async fn who_asks_and_does_not_receive_makes_the_server_wait() {
    let limits = Limits { inbox: 4, ..Limits::default() };
    let Pair { device, client, _server } = pair_with(Dialect::Native, limits, LONG).await;
    let sender = tokio::spawn({
        let device = device.clone();
        async move {
            for number in 0..20 {
                device.send(number.to_string()).await.unwrap();
            }
        }
    });
    eventually(|| device.ledger().unsent > 0 && client.ledger().unread == 4).await;
    let error = client.request(APP, 0, b"1").timeout(Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(error, RequestError::NoAnswer { .. }));
    assert!(client.ledger().unread <= 4 && !sender.is_finished());
    for number in 0..20 {
        assert_eq!(soon(client.recv()).await.unwrap().text(), Some(&*number.to_string()));
    }
    soon(sender).await.unwrap();
}

#[tokio::test]
async fn ids_that_the_application_uses_are_left_to_it() {
    let Pair { device, client, _server } = pair(Dialect::Headers).await;
    for instance in 0..=255 {
        if instance != 77 {
            client.send(Message::on_channel(APP, instance, 0, b"1")).await.unwrap();
        }
    }
    assert_eq!(client.open(APP).unwrap().instance(), 77);
    device.send(Message::on_channel(APP, 5, 0, b"1")).await.unwrap();
    assert_eq!(soon(client.recv()).await.unwrap().header(), [APP, 5, 0]);
}

#[tokio::test]
async fn dialects_without_channels_say_so() {
    let Pair { client, _server, .. } = pair(Dialect::Upstream).await;
    let error = client.request(APP, 0, b"1").await.unwrap_err();
    assert_eq!(error.to_string(), "dialect U has no channels for requests: speak N or H");
    assert!(matches!(client.open(APP), Err(OpenError::NoChannels(_))));
}

#[tokio::test]
async fn closing_the_client_ends_its_requests() {
    let Pair { client, _server, .. } = pair(Dialect::Native).await;
    let request = client.request(APP, 0, b"1").timeout(LONG).into_future();
    let (error, _) = tokio::join!(request, client.close(Duration::from_millis(50)));
    assert!(matches!(error, Err(RequestError::Send(_))), "{error:?}");
}
