//! What `send` promises.

use std::time::Duration;

use bowline_client::{Dialect, Message, MessageError, SendError};
use bowline_proto::wire::MessageError as LineError;
use bowline_server::{Admission, Limits};
use futures_util::future::{join_all, poll_immediate};

use crate::harness::{Server, client, soon};

async fn bowline(limits: Limits) -> (bowline_server::Server, String) {
    let server = bowline_server::Server::builder()
        .listen("127.0.0.1:0".parse().unwrap())
        .admission(Admission { plain: vec!["plain*".to_owned()], ..Admission::open() })
        .pace(1, Duration::ZERO)
        .limits(limits)
        .start()
        .await
        .unwrap();
    let address = server.addresses()[0].to_string();
    (server, address)
}

#[tokio::test]
async fn send_returns_at_the_ack_and_not_before() {
    let server = Server::listens().await;
    let client = server.client(Dialect::Headers).timeout(Duration::from_secs(30)).start().unwrap();
    let mut link = server.link_up().await;
    let mut send = std::pin::pin!(client.send("1"));
    assert!(poll_immediate(&mut send).await.is_none());
    assert_eq!(link.hears().await, "0000011");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(poll_immediate(&mut send).await.is_none(), "written is not acknowledged");
    link.says("00002c").await;
    soon(send).await.unwrap();
}

#[tokio::test]
async fn r06_an_ack_of_something_else_acknowledges_nothing() {
    let server = Server::listens().await;
    let client = server.client(Dialect::Headers).timeout(Duration::from_secs(30)).start().unwrap();
    let mut link = server.link_up().await;
    // Before anything is sent, and then for every id but the right one.
    link.says("00002c").await;
    link.says("000000\"heard the stray one\"").await;
    assert_eq!(soon(client.recv()).await.unwrap().payload(), b"\"heard the stray one\"");
    let mut send = std::pin::pin!(client.send("1"));
    assert!(poll_immediate(&mut send).await.is_none());
    assert_eq!(link.hears().await, "0000011");
    for id in 1..=255 {
        link.says(&format!("{id:02x}002c")).await;
    }
    link.says("010000\"heard all of it\"").await;
    assert_eq!(soon(client.recv()).await.unwrap().payload(), b"\"heard all of it\"");
    assert!(poll_immediate(&mut send).await.is_none());
    assert_eq!(client.ledger().session.stray_acks, 256);
    link.says("00002c0000").await;
    soon(send).await.unwrap();
}

#[tokio::test]
async fn what_is_not_acknowledged_is_sent_again_on_the_next_link_and_on_timeout() {
    let server = Server::listens().await;
    let client = server.client(Dialect::Headers).timeout(Duration::from_millis(400)).start().unwrap();
    let send = tokio::spawn({
        let client = client.clone();
        async move { client.send("\"again\"").await }
    });
    let mut link = server.link_up().await;
    assert_eq!(link.hears().await, "000001\"again\"");
    link.cuts();
    let mut link = server.link_up().await;
    assert_eq!(link.hears().await, "000001\"again\"", "on the next link");
    link.says("").await;
    assert_eq!(link.hears().await, "000001\"again\"", "after half the timeout");
    link.says("00002c").await;
    soon(send).await.unwrap().unwrap();
}

/// r19: more messages at once than there are ids.
async fn many_at_once(dialect: Dialect) {
    let (server, address) = bowline(Limits { inbox: 1000, outbox: 8, ..Limits::default() }).await;
    let client = client(&address, dialect).start().unwrap();
    let sent = soon(join_all((0..600).map(|number| client.send(number.to_string())))).await;
    assert!(sent.iter().all(Result::is_ok));
    let device = server.get("board").unwrap();
    for number in 0..600 {
        let message = device.try_recv().unwrap().expect("all are there");
        assert_eq!(message.text(), Some(number.to_string().as_str()), "in the order of the calls");
    }
    assert_eq!(device.try_recv().unwrap(), None, "and none twice");
}

#[tokio::test]
async fn r19_many_writers_on_h_keep_their_order() {
    many_at_once(Dialect::Headers).await;
}

#[tokio::test]
async fn r19_many_writers_on_u_keep_their_order() {
    many_at_once(Dialect::Upstream).await;
}

/// r01 and r02: the client's inbox is full for a while.
async fn a_slow_application(dialect: Dialect) {
    let (server, address) = bowline(Limits { outbox: 1000, ..Limits::default() }).await;
    let client = client(&address, dialect).limits(Limits { inbox: 4, ..Limits::default() }).start().unwrap();
    let device = soon(server.device("board")).await.unwrap();
    let sends = join_all((0..60).map(|number| device.send(number.to_string())));
    let reads = async {
        for number in 0..60 {
            let message = client.recv().await.unwrap();
            assert_eq!(message.text(), Some(number.to_string().as_str()));
            if number % 10 == 0 {
                // Long enough for the inbox to be full.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let (sent, ()) = soon(async { tokio::join!(sends, reads) }).await;
    assert!(sent.iter().all(Result::is_ok));
    assert_eq!(client.try_recv().unwrap(), None, "none twice");
}

#[tokio::test]
async fn r01_a_slow_application_on_h_loses_nothing() {
    a_slow_application(Dialect::Headers).await;
}

#[tokio::test]
async fn r02_a_slow_application_on_u_loses_nothing() {
    a_slow_application(Dialect::Upstream).await;
}

#[tokio::test]
async fn r13_best_effort_without_a_link_fails_and_says_so() {
    let server = Server::listens().await;
    let client = server.client(Dialect::Headers).start().unwrap();
    assert_eq!(soon(client.send_best_effort("1")).await, Err(SendError::NoLink));
    let mut link = server.link_up().await;
    soon(client.connected()).await.unwrap();
    soon(client.send_best_effort("2")).await.unwrap();
    // The first message of a process opens the epoch of ids: it is sent as qos, but waits for no ACK.
    assert_eq!(link.hears().await, "0000012");
    drop(link);
    server.link().await;
    assert_eq!(soon(client.send_best_effort("3")).await, Err(SendError::NoLink));
}

#[tokio::test]
async fn r26_best_effort_and_qos_do_not_block_each_other() {
    let server = Server::listens().await;
    let client = server.client(Dialect::Headers).timeout(Duration::from_secs(30)).start().unwrap();
    let mut link = server.link_up().await;
    soon(client.connected()).await.unwrap();
    let (sent, _) = tokio::join!(client.send("\"first\""), link.takes());
    sent.unwrap();
    let mut qos = std::pin::pin!(client.send("\"qos\""));
    assert!(poll_immediate(&mut qos).await.is_none());
    assert_eq!(link.hears().await, "010001\"qos\"");
    // Not acknowledged yet, and best effort passes.
    soon(client.send_best_effort("\"best effort\"")).await.unwrap();
    assert_eq!(link.hears().await, "020000\"best effort\"");
    // The ACK of best effort that never comes blocks nothing.
    link.says("01002c").await;
    soon(qos).await.unwrap();
    let (sent, payload) = tokio::join!(client.send("\"next\""), link.takes());
    sent.unwrap();
    assert_eq!(payload, "\"next\"");
}

#[tokio::test]
async fn what_the_wire_cannot_carry_is_refused_before_it_is_sent() {
    let server = Server::listens().await;
    let client = server.client(Dialect::Upstream).start().unwrap();
    let _link = server.link_up().await;
    soon(client.connected()).await.unwrap();
    let error = |message: Message| {
        let client = client.clone();
        async move { soon(client.send(message)).await.unwrap_err() }
    };
    assert_eq!(
        error(Message::new("")).await,
        SendError::Message(MessageError::Line(LineError::Empty(bowline_proto::Dialect::Upstream)))
    );
    assert_eq!(error(Message::new("a\nb")).await, SendError::Message(MessageError::Line(LineError::Newline)));
    assert_eq!(error(Message::new(vec![0xff])).await, SendError::Message(MessageError::Line(LineError::NotUtf8)));
    let headed = Message::with_header(&[1], b"x");
    assert_eq!(
        error(headed).await,
        SendError::Message(MessageError::Line(LineError::NoHeader(bowline_proto::Dialect::Upstream)))
    );
    let long = error(Message::new("x".repeat(20_000))).await;
    assert!(matches!(long, SendError::Message(MessageError::Line(LineError::TooLong { .. }))), "{long}");
}

#[tokio::test]
async fn plain_lines_go_both_ways() {
    let (server, address) = bowline(Limits::default()).await;
    let client = bowline_client::Client::builder("plain1", address).dialect(Dialect::Plain).start().unwrap();
    let device = soon(server.device("plain1")).await.unwrap();
    soon(client.send("up")).await.unwrap();
    assert_eq!(soon(device.recv()).await.unwrap().payload(), b"up");
    soon(device.send("down")).await.unwrap();
    assert_eq!(soon(client.recv()).await.unwrap().payload(), b"down");
}

#[tokio::test]
async fn a_message_on_p_is_not_done_until_it_is_written() {
    let server = Server::listens().await;
    let client = server.client(Dialect::Plain).start().unwrap();
    let mut send = std::pin::pin!(client.send("once"));
    assert!(poll_immediate(&mut send).await.is_none());
    // This link ends before it is up: nothing but the login and keepalives is written on it.
    server.link().await.cuts();
    assert!(poll_immediate(&mut send).await.is_none(), "keepalives are not the message");
    let mut link = server.link_up().await;
    assert_eq!(link.hears().await, "once");
    soon(send).await.unwrap();
}

#[tokio::test]
async fn closing_says_whether_everything_was_acknowledged() {
    let server = Server::listens().await;
    let client = server.client(Dialect::Headers).start().unwrap();
    let mut link = server.link_up().await;
    soon(client.connected()).await.unwrap();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.send("1").await }
    });
    assert_eq!(link.hears().await, "0000011");
    let (drained, ()) = tokio::join!(client.close(Duration::from_secs(10)), async {
        link.says("00002c").await;
        link.is_closed().await;
    });
    assert!(drained);
    soon(waiting).await.unwrap().unwrap();

    let client = server.client(Dialect::Headers).start().unwrap();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.send("1").await }
    });
    let mut link = server.link_up().await;
    assert_eq!(link.hears().await, "0000011");
    assert!(!client.close(Duration::from_millis(50)).await, "it was not acknowledged");
    assert_eq!(soon(waiting).await.unwrap(), Err(SendError::Closed));
    assert_eq!(soon(client.send("2")).await, Err(SendError::Closed));
}

#[tokio::test]
async fn closing_twice_says_the_same_and_cuts_nothing_short() {
    let server = Server::listens().await;
    let client = server.client(Dialect::Headers).start().unwrap();
    let mut link = server.link_up().await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.send("1").await }
    });
    assert_eq!(link.hears().await, "0000011");
    let acknowledges = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        link.says("00002c").await;
    };
    let long = Duration::from_secs(20);
    let (first, second, ()) = soon(async { tokio::join!(client.close(long), client.close(long), acknowledges) }).await;
    assert!(first && second);
    soon(waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_dropped_close_leaves_nobody_waiting() {
    let server = Server::listens().await;
    let client = server.client(Dialect::Headers).start().unwrap();
    let mut link = server.link_up().await;
    soon(client.connected()).await.unwrap();
    assert!(poll_immediate(std::pin::pin!(client.close(Duration::MAX))).await.is_none());
    // The link ends by itself, for nothing is left to send, and whoever waits is told.
    link.is_closed().await;
    assert!(soon(client.recv()).await.is_err());
    assert!(soon(client.close(Duration::ZERO)).await);
}
