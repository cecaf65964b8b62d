//! What the client says of its link.

use std::cell::RefCell;
use std::time::Instant;

use bowline_embedded::{
    Config, ConfigError, DeviceId, DownReason, LinkState, RamOutbox, Resources, Security, Slot, Status,
};
use bowline_proto::native::CloseReason;
use bowline_secure::{AnswerError, code};
use embassy_time::Duration;
use embedded_io_async::ErrorKind;
use tokio::net::TcpListener;

use crate::world::{How, ID, Memory, PAYLOAD, Rng, World, address, beside};

thread_local! {
    static SEEN: RefCell<Vec<Status>> = const { RefCell::new(Vec::new()) };
}

const REFUSED: LinkState = LinkState::Down(DownReason::Connect(ErrorKind::ConnectionRefused));
const LOST: LinkState = LinkState::Down(DownReason::Transport(ErrorKind::ConnectionReset));
const UP: LinkState = LinkState::Up { protection: None };

#[tokio::test]
async fn each_change_is_told_in_order() {
    let world = World::runs(How::Open).await;
    let server = world.server().addresses()[0];
    let config =
        Config { on_change: |status| SEEN.with_borrow_mut(|seen| seen.push(*status)), ..world.config(How::Open) };
    world.net.target(None);
    world
        .with_device(config, async |client| {
            let mut watch = client.watch();
            while watch.changed().await.failures < 3 {}
            world.net.target(Some(server));
            client.connected().await;
            let up = client.status();
            assert_eq!((up.link, up.connects, client.connects()), (UP, 1, 1));
            world.net.cuts();
            let down = loop {
                let status = watch.changed().await;
                if status.connects == 1 && !status.is_up() {
                    break status;
                }
            };
            assert_eq!(down.link, LOST);
            client.connected().await;
            assert_eq!(client.connects(), 2);
        })
        .await;
    let seen = SEEN.take();
    let tries = seen.iter().take_while(|status| status.link == REFUSED).count();
    assert!(tries >= 3);
    for (status, failures) in seen[..tries].iter().zip(1..) {
        assert_eq!(*status, Status { link: REFUSED, connects: 0, failures });
    }
    let rest: Vec<_> = seen[tries..].iter().map(|status| (status.link, status.connects)).collect();
    assert_eq!(rest, [(UP, 1), (LOST, 1), (UP, 2), (LinkState::Down(DownReason::Dropped), 2)]);
}

/// The first reason the client gives for having no link.
async fn first_reason(world: &World, config: Config<'_>) -> DownReason {
    world
        .with_device(config, async |client| match client.watch().changed().await.link {
            LinkState::Down(reason) => reason,
            link => panic!("{link:?}"),
        })
        .await
}

#[tokio::test]
async fn the_reason_says_what_is_wrong() {
    let world = World::runs(How::Encrypted).await;
    let refused = |code| DownReason::Opening(AnswerError::Refused { code, version: 1 });
    // With a key at the server, nobody comes in without one.
    assert_eq!(first_reason(&world, world.config(How::Open)).await, refused(code::NOT_ALLOWED));
    let mut config = world.config(How::Encrypted);
    let Security::Encrypted(key_id, _) = config.security else { panic!("encrypted") };
    let other = World::runs(How::Encrypted).await;
    let Security::Encrypted(_, key) = other.config(How::Encrypted).security else { panic!("encrypted") };
    config.security = Security::Encrypted(key_id, key);
    assert_eq!(first_reason(&world, config).await, refused(code::KEY));

    // Somebody who says nothing, and somebody who says something else.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.net.target(Some(mute.local_addr().unwrap()));
    let short = world.config(How::Encrypted).timeout(Duration::from_millis(100));
    assert_eq!(first_reason(&world, short).await, DownReason::NoAnswer);
    let speaks = async {
        let (mut stream, _) = mute.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        // Until it is closed.
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut Vec::new()).await;
    };
    drop(mute.accept().await);
    let (reason, ()) = tokio::join!(first_reason(&world, world.config(How::Encrypted)), speaks);
    assert_eq!(reason, DownReason::Opening(AnswerError::Malformed));
}

/// A network that says nothing is noticed by the engine's timers, in both directions of trouble.
#[tokio::test]
async fn silence_is_an_outage_within_the_timeout() {
    let world = World::runs(How::Open).await;
    // The server agrees to a keepalive of a second at least.
    let config = world.config(How::Open).timeout(Duration::from_secs(3));
    world
        .with_device(config, async |client| {
            client.connected().await;
            let start = Instant::now();
            world.net.silent(true);
            let status = client.watch().changed().await;
            assert_eq!(status.link, LinkState::Down(DownReason::Engine(CloseReason::Silence)));
            println!("noticed after {:?}", start.elapsed());
            world.net.silent(false);
            client.connected().await;
        })
        .await;
}

/// While nothing is said, keepalives keep the link, for longer than the outage would take.
#[tokio::test]
async fn an_idle_link_stays() {
    let world = World::runs(How::Encrypted).await;
    let config = world.config(How::Encrypted).timeout(Duration::from_secs(1));
    world
        .with_device(config, async |client| {
            client.connected().await;
            let mut watch = client.watch();
            let long = tokio::time::timeout(std::time::Duration::from_millis(3_500), watch.changed()).await;
            assert!(long.is_err(), "{long:?}");
            client.send(address(1), b"still there").await.unwrap();
            client.drained().await;
            assert_eq!(client.connects(), 1);
        })
        .await;
}

#[tokio::test]
async fn a_dropped_runner_says_so_and_goes_on_later() {
    let world = World::runs(How::Encrypted).await;
    let (mut slots, mut bytes) = ([Slot::EMPTY; 8], [0; 8 * PAYLOAD]);
    let outbox = RamOutbox::new(&mut slots, &mut bytes, PAYLOAD);
    let mut memory = Memory::new();
    let config = world.config(How::Encrypted);
    let (client, mut runner) = bowline_embedded::new(&mut memory, outbox, config, Rng(1).fills()).unwrap();
    assert_eq!(client.status(), Status { link: LinkState::Never, connects: 0, failures: 0 });
    client.send(address(1), b"before").await.unwrap();
    // With the acknowledgement the ticket is there.
    beside(runner.run(&world.net), client.drained()).await;
    assert_eq!(client.status().link, LinkState::Down(DownReason::Dropped));
    client.send(address(1), b"meanwhile").await.unwrap();
    beside(runner.run(&world.net), client.drained()).await;
    assert_eq!(world.device().recv().await.unwrap().payload(), b"before");
    assert_eq!(world.device().recv().await.unwrap().payload(), b"meanwhile");
    let stats = world.server().stats();
    assert_eq!((stats.native_sealed, stats.native_resumed), (1, 1), "it came back with its ticket");
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let id = DeviceId::new(ID).unwrap();
    let long = "x".repeat(97);
    let server = "127.0.0.1:9".parse().unwrap();
    let ok = Config::new(id, server);
    let with = |config: Config<'_>, payload: usize| {
        let (mut slots, mut bytes) = ([Slot::EMPTY; 2], [0; 1_000]);
        let outbox = RamOutbox::new(&mut slots, &mut bytes, payload);
        let mut memory = Resources::<_, 2, 168, 160>::new();
        bowline_embedded::new(&mut memory, outbox, config, |_| {}).err()
    };
    assert_eq!(with(ok.clone(), 132), None);
    assert_eq!(with(ok.clone(), 133), Some(ConfigError::Buffer { needed: 161 }));
    let config = Config { id: DeviceId::new(&long).unwrap(), ..ok.clone() };
    assert_eq!(with(config, 1), Some(ConfigError::Id { len: 97 }));
    for timeout in [Duration::from_millis(99), Duration::from_secs(86_401), Duration::MAX] {
        let config = Config { timeout, ..ok.clone() };
        assert_eq!(with(config, 1), Some(ConfigError::Timeout));
    }
    let config = Config { request_instances: (9, 8), ..ok.clone() };
    assert_eq!(with(config, 1), Some(ConfigError::RequestInstances));
    let (mut slots, mut bytes) = ([Slot::EMPTY; 2], [0; 64]);
    let mut memory = Resources::<_, 3, 160, 160>::new();
    let outbox = RamOutbox::new(&mut slots, &mut bytes, 64);
    let made = bowline_embedded::new(&mut memory, outbox, ok, |_| {}).err();
    assert_eq!(made, Some(ConfigError::Inbox { needed: 186 }));
}
