//! The native dialect between our client and our server: order, resumption, takeover, keys, receipts.

use std::future::pending;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bowline_client::{Backoff, Client, Dialect, DownReason, Message, Policy, Receipt, SendError, Socket, Stream};
use bowline_proto::native::CloseReason;
use bowline_server::Protection;
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};

use crate::harness::soon;
use crate::world::{ID, World, eventually, is_pending, numbers, takes, takes_here, today};

#[tokio::test]
async fn r19_pipelined_messages_arrive_once_and_in_order_both_ways() {
    let world = World::runs().await;
    world.connected().await;
    let device = world.device();
    let (up, down) = (numbers(0..600), numbers(0..600));
    let sends = join_all(up.iter().map(|text| world.client().send(text.as_str())));
    let replies = join_all(down.iter().map(|text| device.send(text.as_str())));
    let (sent, replied, heard, answered) =
        soon(async { tokio::join!(sends, replies, takes(&device, 600), takes_here(world.client(), 600)) }).await;
    assert!(sent.iter().chain(&replied).all(Result::is_ok));
    assert_eq!((heard, answered), (up, down));
    assert_eq!(world.server().stats().native_sealed, 1);
}

#[tokio::test]
async fn a_message_may_live_for_ever() {
    let world = World::runs().await;
    soon(world.client().send("1").expires_in(Duration::MAX)).await.unwrap();
    assert_eq!(takes(&world.device(), 1).await, ["1"]);
}

#[tokio::test]
async fn best_effort_costs_the_store_nothing() {
    let world = World::runs().await;
    world.connected().await;
    let device = world.device();
    soon(device.send("first")).await.unwrap();
    let transactions = || world.server().store().unwrap().stats().transactions;
    let before = transactions();
    for _ in 0..100 {
        soon(device.send_best_effort("now")).await.unwrap();
    }
    // The ledger is stored now and then.
    let more = transactions() - before;
    assert!(more < 20, "{more} transactions");
}

#[tokio::test]
async fn cut_links_resume_with_neither_loss_nor_repetition() {
    let world = World::runs().await;
    let device = world.device();
    let total = 300;
    let up = async {
        for number in numbers(0..total) {
            world.client().send(number.as_str()).await.unwrap();
        }
    };
    let down = async {
        for number in numbers(0..total) {
            device.send(number.as_str()).await.unwrap();
        }
    };
    let count = total as usize;
    let cuts = async {
        for at in 1..20 {
            eventually(|| world.device().ledger().totals.acked >= at * 10).await;
            world.net.cuts();
        }
    };
    let all = async { tokio::join!(up, down, takes(&device, count), takes_here(world.client(), count), cuts) };
    let ((), (), heard, answered, ()) = tokio::time::timeout(Duration::from_secs(60), all).await.expect("in time");
    assert_eq!((heard, answered), (numbers(0..total), numbers(0..total)));
    let stats = world.server().stats();
    assert!(stats.native_resumed > stats.native_sealed, "most come back without a full handshake: {stats:?}");
}

#[tokio::test]
async fn any_bytes_on_any_channel_and_best_effort_get_through() {
    let world = World::runs().await;
    world.connected().await;
    let device = world.device();
    let payload: Vec<u8> = (0..=255).cycle().take(5000).collect();
    soon(world.client().send(Message::on_channel(1, 2, 3, &payload))).await.unwrap();
    let message = soon(device.recv()).await.unwrap();
    assert_eq!((message.header(), message.payload()), (&[1, 2, 3][..], &payload[..]));
    soon(world.client().send("")).await.unwrap();
    assert_eq!(soon(device.recv()).await.unwrap().payload(), b"");
    soon(device.send_best_effort("now")).await.unwrap();
    let message = soon(world.client().recv()).await.unwrap();
    assert_eq!((message.text(), message.seq(), message.is_qos()), (Some("now"), None, false));
}

#[tokio::test]
async fn receipts_come_when_they_are_true() {
    let world = World::runs().await;
    world.connected().await;
    let device = world.device();
    world.net.target(None);
    eventually(|| !world.client().status().is_up()).await;
    soon(world.client().send("1").until(Receipt::Accepted)).await.expect("without a link");
    let mut stored = Box::pin(world.client().send("2"));
    let mut processed = Box::pin(world.client().send("3").until(Receipt::Processed));
    assert!(is_pending(&mut stored) && is_pending(&mut processed));
    world.net.target(Some(world.server().addresses()[0]));
    soon(stored).await.unwrap();
    assert_eq!(takes(&device, 3).await, ["1", "2", "3"]);
    assert!(is_pending(&mut processed), "the app has it, and has not asked for the next one");
    assert!(device.recv().now_or_never().is_none());
    soon(processed).await.unwrap();

    let mut processed = Box::pin(device.send("4").until(Receipt::Processed));
    assert!(is_pending(&mut processed));
    let delivery = soon(world.client().next()).await.unwrap();
    assert!(is_pending(&mut processed));
    delivery.done();
    soon(processed).await.unwrap();
    assert_eq!(device.ledger().totals.peer_processed, 1);
    assert_eq!(world.client().ledger().totals.processed, 1);
}

#[tokio::test]
async fn on_lines_nobody_says_what_was_processed() {
    let mut world = World::waits().await;
    world.keys = bowline_server::Keys::default();
    world.dialect = Dialect::Headers;
    world.server_starts().await;
    world.client_starts().await;
    world.connected().await;
    let sent = soon(world.client().send("1").until(Receipt::Processed)).await;
    assert_eq!(sent, Err(SendError::NoReceipt(Receipt::Processed)));
    assert_eq!(takes(&world.device(), 1).await, ["1"], "it was sent all the same");
    let sent = soon(world.device().send("1").until(Receipt::Processed)).await;
    assert_eq!(sent, Err(SendError::NoReceipt(Receipt::Processed)));
}

#[tokio::test]
async fn a_message_that_is_dropped_while_it_waits_for_credit_leaves_a_gap_and_the_link() {
    let mut world = World::waits().await;
    world.limits.inbox = 4;
    world.server_starts().await;
    world.client_starts().await;
    world.connected().await;
    let (client, device) = (world.client(), world.device());
    for number in numbers(0..4) {
        soon(client.send(number.as_str())).await.unwrap();
    }
    let mut first = Box::pin(client.send("old").policy(Policy::KeepLatest));
    assert!(is_pending(&mut first));
    eventually(|| client.ledger().native.received == 0 && client.ledger().unsent == 1).await;
    let mut second = Box::pin(client.send("new").policy(Policy::KeepLatest));
    assert!(is_pending(&mut second));
    assert!(matches!(soon(first).await, Err(SendError::Dropped(_))));
    assert_eq!(takes(&device, 4).await, numbers(0..4));
    let message = soon(device.recv()).await.unwrap();
    assert_eq!((message.text(), message.gap()), (Some("new"), 1));
    soon(second).await.unwrap();
    assert_eq!((client.connects(), device.ledger().totals.gaps), (1, 1), "on the same link");
}

#[tokio::test]
async fn a_message_waiting_for_bytes_of_credit_that_is_dropped_leaves_a_gap_and_the_link() {
    let mut world = World::waits().await;
    (world.limits.queue_bytes, world.limits.line) = (1000, 900);
    world.server_starts().await;
    world.client_starts().await;
    world.connected().await;
    let (client, device) = (world.client(), world.device());
    let large = |byte: u8| Message::new(vec![byte; 800]);
    soon(client.send(large(b'a'))).await.unwrap();
    let mut first = Box::pin(client.send(large(b'b')).policy(Policy::KeepLatest));
    assert!(is_pending(&mut first));
    eventually(|| first.is_accepted()).await;
    // It goes to the engine, which has no credit for it.
    soon(client.send_best_effort("behind it")).await.unwrap();
    let mut second = Box::pin(client.send(large(b'c')).policy(Policy::KeepLatest));
    assert!(is_pending(&mut second));
    assert!(matches!(soon(first).await, Err(SendError::Dropped(_))));
    soon(client.send_best_effort("again")).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let message = soon(device.recv()).await.unwrap();
        seen.extend(message.seq().map(|_| (message.payload()[0], message.gap())));
    }
    assert_eq!(seen, [(b'a', 0), (b'c', 1)]);
    soon(second).await.unwrap();
    assert_eq!(client.connects(), 1, "on the same link");
}

#[tokio::test]
async fn r44_the_authenticated_newcomer_wins_at_once_and_the_old_link_is_told() {
    let world = World::runs().await;
    world.connected().await;
    soon(world.client().send("before")).await.unwrap();
    let mut watch = world.client().watch();
    let newcomer = world.builder().start().unwrap();
    soon(newcomer.connected()).await.unwrap();
    let status = soon(watch.changed()).await.unwrap();
    let replaced = DownReason::Native(CloseReason::Peer(3));
    assert_eq!(status.link, bowline_client::LinkState::Down(replaced));
    assert_eq!(takes(&world.device(), 1).await, ["before"]);
}

#[tokio::test]
async fn r43_without_the_key_nobody_disturbs_the_link() {
    let world = World::runs().await;
    world.connected().await;
    let other = bowline_server::Keys::default();
    let wrong = other.issue(ID, today()).unwrap().line().to_string();
    let attacker = |builder: bowline_client::Builder| {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let client = builder.on_failure(move |attempt| {
            let _ = tell.send(attempt.error.to_string());
            bowline_client::Next::Retry
        });
        async move {
            let client = client.start().unwrap();
            let error = soon(told.recv()).await.unwrap();
            assert_eq!(client.connects(), 0);
            error
        }
    };
    let bare = |dialect| crate::harness::client(&world.net.address, dialect);
    let error = attacker(bare(Dialect::Native).key(&wrong).unwrap()).await;
    assert!(error.contains("key"), "{error}");
    for dialect in [Dialect::Native, Dialect::Headers, Dialect::Upstream] {
        attacker(bare(dialect)).await;
    }
    soon(world.client().send("still there")).await.unwrap();
    assert_eq!(takes(&world.device(), 1).await, ["still there"]);
    assert_eq!((world.client().connects(), world.device().connects()), (1, 1));
    assert_eq!(world.server().stats().takeovers, 0);
}

#[tokio::test]
async fn a_revoked_key_ends_the_link_with_code_9_and_the_device_waits_long() {
    let mut world = World::waits().await;
    world.server_starts().await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let backoff = Backoff { first: Duration::from_millis(10), longest: Duration::from_millis(50) };
    let client = world
        .builder()
        .backoff(backoff)
        .on_failure(move |attempt| {
            let _ = tell.send((tokio::time::Instant::now(), attempt.error.to_string()));
            bowline_client::Next::Retry
        })
        .start()
        .unwrap();
    soon(client.connected()).await.unwrap();
    let (mut watch, device) = (client.watch(), world.device());
    world.keys.revoke(ID, None).unwrap();
    let status = soon(watch.changed()).await.unwrap();
    let down = tokio::time::Instant::now();
    assert_eq!(status.link, bowline_client::LinkState::Down(DownReason::Native(CloseReason::Peer(9))));
    let (next, error) = soon(told.recv()).await.unwrap();
    assert!(next.duration_since(down) > Duration::from_millis(400), "ten times the longest pause");
    assert!(error.contains("revoked"), "{error}");
    eventually(|| !device.status().is_up()).await;
    assert_eq!(world.server().stats().native_resumed, 0, "its ticket is worth nothing");
}

#[tokio::test]
async fn a_new_key_replaces_the_old_one_without_a_message_lost() {
    let mut world = World::runs().await;
    world.connected().await;
    soon(world.client().send("1")).await.unwrap();
    world.client_stops().await;
    world.line = world.keys.rotate(ID, today()).unwrap().line().to_string();
    world.client_starts().await;
    soon(world.client().send("2")).await.unwrap();
    assert_eq!(takes(&world.device(), 2).await, ["1", "2"]);
    eventually(|| world.keys.list()[0].keys.len() == 1).await;
}

#[tokio::test]
async fn a_new_key_shown_while_the_old_one_has_the_link_ends_only_the_old_link() {
    let world = World::runs().await;
    world.connected().await;
    let line = world.keys.rotate(ID, today()).unwrap().line().to_string();
    let newcomer = crate::harness::client(&world.net.address, Dialect::Native).key(&line).unwrap().start().unwrap();
    soon(newcomer.connected()).await.unwrap();
    eventually(|| world.keys.list()[0].keys.len() == 1 && !world.client().status().is_up()).await;
    eventually(|| world.server().stats().refused_key > 0).await;
    assert!(newcomer.status().is_up() && newcomer.connects() == 1);
    soon(newcomer.send("from the new one")).await.unwrap();
}

#[tokio::test]
async fn a_device_that_does_not_encrypt_loses_and_repeats_as_little() {
    let mut world = World::waits().await;
    world.encrypts = false;
    world.server_starts().await;
    world.client_starts().await;
    world.connected().await;
    assert_eq!(world.device().protection(), Some(Protection::Keyed));
    let device = world.device();
    let total = 200;
    let up = async {
        for number in numbers(0..total) {
            world.client().send(number.as_str()).await.unwrap();
        }
    };
    let down = async {
        for number in numbers(0..total) {
            device.send(number.as_str()).await.unwrap();
        }
    };
    let cuts = async {
        for at in 1..10 {
            eventually(|| world.device().ledger().totals.acked >= at * 10).await;
            world.net.cuts();
        }
    };
    let count = total as usize;
    let all = async { tokio::join!(up, down, takes(&device, count), takes_here(world.client(), count), cuts) };
    let ((), (), heard, answered, ()) = tokio::time::timeout(Duration::from_secs(60), all).await.expect("in time");
    assert_eq!((heard, answered), (numbers(0..total), numbers(0..total)));
    let stats = world.server().stats();
    assert!(stats.native_keyed >= 2 && stats.native_sealed + stats.native_resumed == 0, "{stats:?}");

    // The same device may begin to encrypt: what is seen of it follows.
    world.client_stops().await;
    world.encrypts = true;
    world.client_starts().await;
    soon(world.client().send("secret")).await.unwrap();
    assert_eq!(takes(&world.device(), 1).await, ["secret"]);
    assert_eq!(world.device().protection(), Some(Protection::Handshake));
}

/// Whatever it is told by somebody between the ends, a device asks again as it was set to.
#[tokio::test]
async fn no_answer_makes_a_device_encrypt_less() {
    let mut world = World::waits().await;
    for (encrypts, mode) in [(true, 1), (false, 3)] {
        world.encrypts = encrypts;
        let impostor = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        world.net.target(Some(impostor.local_addr().unwrap()));
        let backoff = Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(2) };
        let client = world.builder().backoff(backoff).start().unwrap();
        let answers: [&[u8]; 7] = [
            &[0, b'B', b'W', b'L', 1, 0x88, 0],
            &[0, b'B', b'W', b'L', 1, 0x89, 0],
            &[0, b'B', b'W', b'L', 0, 0x87, 0],
            &[0, b'B', b'W', b'L', 1, 0x8a, 0],
            // "Go on": open, with a full handshake, keyed.
            &[0, b'B', b'W', b'L', 1, 0, 0],
            &[0, b'B', b'W', b'L', 1, 1, 0],
            &[&[0, b'B', b'W', b'L', 1, 0, 32][..], &[7; 32]].concat(),
        ];
        for answer in answers.iter().chain(&answers) {
            let (mut stream, _) = soon(impostor.accept()).await.unwrap();
            let mut opening = [0; 160];
            let len = soon(stream.read(&mut opening)).await.unwrap();
            assert_eq!((opening[5], opening[6]), (mode, 1), "{:02x?}", &opening[..len]);
            stream.write_all(answer).await.unwrap();
            // Nothing goes out behind such an answer.
            let mut more = Vec::new();
            let _ = soon(stream.read_to_end(&mut more)).await;
            assert_eq!(more, b"", "after {answer:02x?}");
        }
        assert_eq!(client.connects(), 0);
    }
}

/// P2: found by the simulator, where a server lost its power between its answer and its WELCOME.
#[tokio::test]
async fn a_server_that_dies_while_a_link_starts_is_given_up_within_the_timeout() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let _client = Client::builder("boat", address).timeout(Duration::from_millis(300)).start().unwrap();
    let (mut first, _) = listener.accept().await.unwrap();
    let mut opening = [0; 12];
    first.read_exact(&mut opening).await.unwrap();
    first.write_all(b"\x00BWL\x01\x00\x00").await.unwrap();
    // It says nothing more. Two seconds are less than the engine's own patience.
    let next = tokio::time::timeout(Duration::from_secs(2), listener.accept()).await;
    assert!(next.is_ok(), "the client waits for a server that is dead");
}

/// P2: found by the simulator, where a link went half-open while it was begun, a moment before the last fault ended.
#[tokio::test(start_paused = true)]
async fn no_step_to_a_link_takes_longer_than_the_timeout() {
    let timeout = Duration::from_secs(3);
    for connects in [false, true] {
        let (attempt, mut attempts) = tokio::sync::mpsc::unbounded_channel();
        let _client = Client::builder("boat", "server:8123")
            .timeout(timeout)
            .connect(move |_| {
                let _ = attempt.send(tokio::time::Instant::now());
                Box::pin(async move {
                    if connects { Ok((Stream::new(Mute), ([10, 0, 0, 1], 8123).into())) } else { pending().await }
                })
            })
            .start()
            .unwrap();
        let first = attempts.recv().await.unwrap();
        let waited = attempts.recv().await.unwrap() - first;
        // The first pause behind it is a twelfth.
        assert!(waited <= timeout + timeout / 12 + Duration::from_millis(2), "connects: {connects}, waited {waited:?}");
    }
}

/// A connection to somebody who takes everything and says nothing.
#[derive(Debug)]
struct Mute;

impl Socket for Mute {
    fn poll_read_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn try_read(&mut self, _: &mut ReadBuf<'_>) -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
