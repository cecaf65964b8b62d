//! Links come and go.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline_client::{Dialect, DownReason, LinkState, Next, RecvError, SendError};
use tokio::net::TcpListener;

use crate::harness::{Server, client, soon};

#[tokio::test]
async fn r33_a_server_that_is_down_at_first_is_waited_for() {
    // A port that nobody has for the moment.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = client(&address.to_string(), Dialect::Headers).start().unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(client.connects(), 0);
    let server = bowline_server::Server::builder().listen(address).start().await.unwrap();
    soon(client.send("1")).await.unwrap();
    assert_eq!(server.get("board").unwrap().try_recv().unwrap().unwrap().payload(), b"1");
}

#[tokio::test]
async fn r33_the_policy_may_give_up_and_everyone_is_told() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let failures = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&failures);
    let client = client(&address.to_string(), Dialect::Headers)
        .on_failure(move |attempt| {
            assert_eq!(attempt.connects, 0, "there has not been a server yet");
            seen.lock().unwrap().push(attempt.failures);
            if attempt.failures < 3 { Next::Retry } else { Next::GiveUp }
        })
        .start()
        .unwrap();
    let (sent, received, connected) =
        soon(async { tokio::join!(client.send("1"), client.recv(), client.connected()) }).await;
    assert_eq!(sent, Err(SendError::Closed));
    assert_eq!(received, Err(RecvError::Closed));
    assert_eq!(connected, Err(SendError::Closed));
    assert_eq!(*failures.lock().unwrap(), [1, 2, 3]);
}

#[tokio::test]
async fn the_link_is_up_when_the_server_has_answered() {
    let server = Server::listens().await;
    let client = server.client(Dialect::Headers).start().unwrap();
    let mut link = server.link().await;
    assert_eq!(client.status().link, LinkState::Never, "a login alone is no link");
    link.says("").await;
    soon(client.connected()).await.unwrap();
    assert_eq!(client.connects(), 1);
}

#[tokio::test]
async fn changes_are_told_with_their_reasons() {
    let server = Server::listens().await;
    let client = server.client(Dialect::Upstream).start().unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    client.on_change(move |status| tell.send(status.clone()).unwrap());

    let link = server.link_up().await;
    let status = soon(told.recv()).await.unwrap();
    assert!(matches!(status.link, LinkState::Up { dialect: Dialect::Upstream, .. }) && status.connects == 1);
    drop(link);
    assert_eq!(soon(told.recv()).await.unwrap().link, LinkState::Down(DownReason::PeerClosed));

    let link = server.link_up().await;
    assert_eq!(soon(told.recv()).await.unwrap().connects, 2);
    link.cuts();
    let status = soon(told.recv()).await.unwrap();
    assert!(matches!(status.link, LinkState::Down(_)), "{status:?}");
    assert_eq!(status.outages(), 2);
}

#[tokio::test]
async fn a_silent_server_is_an_outage() {
    let server = Server::listens().await;
    let client = server.client(Dialect::Headers).timeout(Duration::from_millis(200)).start().unwrap();
    let mut link = server.link_up().await;
    soon(client.connected()).await.unwrap();
    // Nothing more is said, and the socket stays open: half-open. The client ends it and comes again.
    link.is_closed().await;
    let mut link = server.link_up().await;
    let send = tokio::spawn({
        let client = client.clone();
        async move { client.send("1").await }
    });
    assert_eq!(link.takes().await, "1");
    soon(send).await.unwrap().unwrap();
}

#[tokio::test]
async fn r16_half_a_line_dies_with_its_link() {
    let server = Server::listens().await;
    let client = server.client(Dialect::Headers).start().unwrap();
    let mut link = server.link_up().await;
    link.writes(b"000001\"half a").await;
    drop(link);
    let mut link = server.link_up().await;
    link.says("000001\"whole\"").await;
    assert_eq!(soon(client.recv()).await.unwrap().payload(), b"\"whole\"");
    assert_eq!(link.hears().await, "00002c");
}

#[tokio::test]
async fn r27_a_message_that_cannot_be_read_blocks_nothing() {
    let server = Server::listens().await;
    let client = server.client(Dialect::Headers).start().unwrap();
    let mut link = server.link_up().await;
    link.writes(b"000001\"\xff\"\n").await;
    assert_eq!(link.hears().await, "00002c", "it would come again for ever");
    link.says("010001\"good\"").await;
    assert_eq!(soon(client.recv()).await.unwrap().payload(), b"\"good\"");
    let dead = client.dead_letters();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].bytes, b"000001\"\xff\"");
}

#[tokio::test]
async fn r29_malformed_lines_leave_the_link_alone() {
    let server = Server::listens().await;
    let client = server.client(Dialect::Upstream).start().unwrap();
    let mut link = server.link_up().await;
    link.says("zz not a message").await;
    link.writes(b"\xff\xfe\n").await;
    link.says("00good").await;
    assert_eq!(soon(client.recv()).await.unwrap().payload(), b"good");
    assert_eq!(link.hears().await, "00");
    assert_eq!(client.ledger().session.malformed, 2);
}

#[tokio::test]
async fn r05_a_restarted_server_is_not_taken_for_a_resend() {
    let server = Server::listens().await;
    let client = server.client(Dialect::Upstream).start().unwrap();
    let mut link = server.link_up().await;
    for number in 0..5 {
        link.says(&format!("{number:02x}first life {number}")).await;
        assert_eq!(link.hears().await, format!("{number:02x}"));
    }
    drop(link);
    // The new process's message 0 was lost with a link; 1 to 4 come with ids seen before.
    let mut link = server.link_up().await;
    for number in 1..5 {
        link.says(&format!("{number:02x}second life {number}")).await;
        assert_eq!(link.hears().await, format!("{number:02x}"));
    }
    let mut texts = Vec::new();
    while let Some(message) = client.try_recv().unwrap() {
        texts.push(message.text().unwrap().to_owned());
    }
    assert_eq!(texts.len(), 9, "{texts:?}");
    assert_eq!(texts[5], "second life 1");
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let error = |builder: bowline_client::Builder| builder.start().unwrap_err().to_string();
    let builder = |id: &str, server: &str| bowline_client::Client::builder(id, server);
    assert!(error(builder("", "127.0.0.1:1")).contains("at least one character"));
    assert!(error(builder("a\nb", "127.0.0.1:1")).contains("control character"));
    assert!(error(builder(&"i".repeat(123), "127.0.0.1:1")).contains("6 less on dialect H"));
    assert!(error(builder("board", "127.0.0.1")).contains("expected host:port"));
    assert!(error(builder("board", "127.0.0.1:1").timeout(Duration::from_millis(1))).contains("too short"));
}

#[tokio::test]
async fn failures_are_counted_from_one_after_an_outage() {
    let server = Server::listens().await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let _client = server
        .client(Dialect::Headers)
        .timeout(Duration::from_millis(100))
        .on_failure(move |attempt| {
            let _ = tell.send((attempt.failures, attempt.connects));
            Next::Retry
        })
        .start()
        .unwrap();
    let mut link = server.link_up().await;
    // Up for longer than a moment.
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        link.says("").await;
    }
    drop(link);
    drop(server);
    for failures in 1..=3 {
        assert_eq!(soon(told.recv()).await, Some((failures, 1)));
    }
}

#[tokio::test]
async fn a_login_that_is_refused_is_explained() {
    let server = bowline_server::Server::builder()
        .listen("127.0.0.1:0".parse().unwrap())
        .admission(bowline_server::Admission { expected: vec!["other".to_owned()], ..Default::default() })
        .start()
        .await
        .unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let _client = client(&server.addresses()[0].to_string(), Dialect::Headers)
        .on_failure(move |attempt| {
            let _ = tell.send(attempt.error.to_string());
            Next::Retry
        })
        .start()
        .unwrap();
    let error = soon(told.recv()).await.unwrap();
    assert!(error.contains("is this id allowed there?"), "{error}");
}
