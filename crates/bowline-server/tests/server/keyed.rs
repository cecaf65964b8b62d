//! Keyed links: with a key, without encryption (§15.6).

use bowline_proto::native::wire::{Channel, Credit, Cursors, Data, Frame, Start, record};
use bowline_secure::Transport;
use bowline_server::{Admission, Builder, DownReason, Keys, Protection, Server};
use tempfile::TempDir;

use crate::harness::{Board, eventually, goes_down, loopback, receives, soon};
use crate::openers::{Device, Peer, assert_nobody, hello, today};

/// A server that lets "d" do without encryption, and nobody else.
fn server() -> Builder {
    let unencrypted = vec!["d".to_owned()];
    crate::openers::server().admission(Admission { unencrypted, ..Admission::open() })
}

/// A keyed link that has started.
struct Link {
    peer: Peer,
    transport: Transport,
}

impl Link {
    async fn starts(device: &mut Device, server: &Server) -> Link {
        let mut peer = Peer::connects(server).await;
        let transport = device.proves_itself(&mut peer).await.expect("let in");
        Link::goes_on(peer, transport).await
    }

    async fn goes_on(peer: Peer, transport: Transport) -> Link {
        let mut link = Link { peer, transport };
        let hello = hello(Some(&mut link.transport));
        link.peer.0.writes(hello).await;
        let welcome = link.body().await.expect("WELCOME");
        let Some(Frame::Welcome(welcome)) = Frame::parse(&welcome).unwrap().frame else { panic!("WELCOME") };
        let credit = Credit { messages: 9, bytes: 999 };
        let start = link.record(&Frame::Start(Start { epoch: welcome.epoch, cursors: Cursors::default(), credit }));
        link.peer.0.writes(start).await;
        link
    }

    /// A record with one frame.
    fn record(&mut self, frame: &Frame<'_>) -> Vec<u8> {
        let mut bytes = [0; 128];
        let len = frame.emit(&mut bytes[record::HEADER..]).expect("room");
        let len = self.transport.seal(&mut bytes[record::HEADER..], len).expect("room");
        let len = record::finish(&mut bytes, len).expect("room");
        bytes[..len].to_vec()
    }

    fn message(&mut self, seq: u16, payload: &[u8]) -> Vec<u8> {
        let channel = Channel { app: 1, instance: 2, tag: 3 };
        self.record(&Frame::Data(Data { seq, ask: true, channel, payload }))
    }

    async fn body(&mut self) -> Option<Vec<u8>> {
        let mut body = self.peer.record().await?;
        Some(self.transport.open(&mut body).expect("from the server, and in its place").to_vec())
    }

    /// The code of the CLOSE that ends it; nothing on the way is for the security layer.
    async fn closes(&mut self) -> u8 {
        loop {
            let body = self.body().await.expect("CLOSE before the end");
            assert!(!bowline_secure::is_security_body(&body), "a secret that everybody can read");
            let mut rest = &body[..];
            while !rest.is_empty() {
                let parsed = Frame::parse(rest).unwrap();
                if let Some(Frame::Close(close)) = parsed.frame {
                    return close.code;
                }
                rest = &rest[parsed.len..];
            }
        }
    }
}

#[tokio::test]
async fn a_device_that_may_gets_in_without_encryption() {
    let keys = Keys::default();
    let mut device = Device::new(&keys.issue("d", today()).unwrap());
    let server = server().listen_secured(loopback()).keys(keys).start().await.unwrap();
    let mut link = Link::starts(&mut device, &server).await;
    let known = server.get("d").unwrap();
    soon(known.connected()).await.unwrap();
    assert_eq!(known.protection(), Some(Protection::Keyed));
    let message = link.message(1, b"readable");
    assert!(message.windows(8).any(|bytes| bytes == b"readable"), "nothing is encrypted, and nobody may think so");
    link.peer.0.writes(message).await;
    receives(&known, "readable").await;
    let stats = server.stats();
    assert_eq!((stats.native_keyed, stats.native_sealed, stats.native_open), (1, 0, 0), "{stats:?}");

    // A listener for devices with keys takes it, too; and the same device may encrypt.
    device.proves_itself(&mut Peer(Board::connects_to(server.addresses()[1]).await)).await.unwrap();
    device.comes_in(&server).await;
    assert_eq!(server.stats().native_sealed, 1);
}

#[tokio::test]
async fn who_may_not_is_told_so_and_who_has_no_key_is_told_nothing() {
    let keys = Keys::default();
    let mut kitchen = Device::new(&keys.issue("kitchen", today()).unwrap());
    let server = server().keys(keys).start().await.unwrap();
    let mut peer = Peer::connects(&server).await;
    assert_eq!(kitchen.proves_itself(&mut peer).await.err(), Some(8));
    peer.ends().await;
    assert_eq!(server.stats().refused_unencrypted, 1);
    for mut stranger in [Device::with_wrong_key("kitchen", 1), Device::with_wrong_key("d", 1)] {
        let mut peer = Peer::connects(&server).await;
        assert_eq!(stranger.proves_itself(&mut peer).await.err(), Some(9));
        peer.ends().await;
    }
    assert_eq!((server.stats().refused_unencrypted, server.stats().refused_key), (1, 2));
    assert_nobody(&server);
    kitchen.comes_in(&server).await;

    // Without a word in the configuration nobody may.
    let keys = Keys::default();
    let mut device = Device::new(&keys.issue("d", today()).unwrap());
    let server = crate::openers::server().admission(Admission::open()).keys(keys).start().await.unwrap();
    assert_eq!(device.proves_itself(&mut Peer::connects(&server).await).await.err(), Some(8));
}

#[tokio::test]
async fn the_old_link_goes_when_the_new_one_has_started_and_not_before() {
    let keys = Keys::default();
    let mut device = Device::new(&keys.issue("d", today()).unwrap());
    let server = server().keys(keys).start().await.unwrap();
    let mut peer = Peer::connects(&server).await;
    let (mut keyed, opening) = device.opens_keyed();
    peer.0.writes(&opening).await;
    let mut transport = keyed.finish(&peer.answer().await).unwrap().unwrap().0;
    // The same first record as `goes_on` makes.
    let recorded = [opening, hello(Some(&mut transport))].concat();
    let mut peer = Peer::connects(&server).await;
    peer.0.writes(&recorded[..recorded.len() - 26]).await;
    let mut first = Link::starts(&mut device, &server).await;
    let known = server.get("d").unwrap();
    soon(known.connected()).await.unwrap();

    for number in 1..=50 {
        let mut thief = Peer::connects(&server).await;
        thief.0.writes(&recorded).await;
        assert_eq!(thief.answer().await[5], 0);
        thief.ends().await;
        eventually(|| server.stats().refused_unconfirmed == number).await;
    }
    let mut second = Peer::connects(&server).await;
    let transport = device.proves_itself(&mut second).await.unwrap();
    let message = first.message(1, b"undisturbed");
    first.peer.0.writes(message).await;
    receives(&known, "undisturbed").await;
    assert_eq!((server.stats().takeovers, known.connects()), (0, 1));

    let _second = Link::goes_on(second, transport).await;
    assert_eq!(first.closes().await, 3);
    eventually(|| known.connects() == 2).await;
}

#[tokio::test]
async fn nothing_is_added_to_a_live_link_or_changed_on_it() {
    let keys = Keys::default();
    let mut device = Device::new(&keys.issue("d", today()).unwrap());
    let server = server().keys(keys).start().await.unwrap();
    let refused = async |what: &str, bytes: Vec<u8>, mut link: Link| {
        let known = server.get("d").unwrap();
        soon(known.connected()).await.unwrap();
        let before = known.ledger().totals.received;
        link.peer.0.writes(bytes).await;
        assert_eq!(link.closes().await, 2, "{what}");
        eventually(|| !known.status().is_up()).await;
        assert_eq!(known.ledger().totals.received, before, "{what}");
    };
    let mut link = Link::starts(&mut device, &server).await;
    let message = link.message(1, b"once");
    link.peer.0.writes(&message).await;
    receives(&server.get("d").unwrap(), "once").await;
    refused("a record repeated", message, link).await;

    let mut link = Link::starts(&mut device, &server).await;
    let mut changed = link.message(1, b"21 degrees");
    changed[12] ^= 1;
    refused("a changed record", changed, link).await;

    let mut link = Link::starts(&mut device, &server).await;
    link.message(1, b"kept back");
    let next = link.message(2, b"delivered first");
    refused("a record left out", next, link).await;

    let link = Link::starts(&mut device, &server).await;
    let bare = crate::openers::frame(&Frame::Ping(7));
    refused("a record without a tag", [&bare[..], &[0; 64]].concat(), link).await;
}

#[tokio::test]
async fn a_revoked_key_ends_its_keyed_link() {
    let folder = TempDir::new().unwrap();
    let keys = Keys::open(folder.path()).unwrap();
    let mut device = Device::new(&keys.issue("d", today()).unwrap());
    let server = server().keys(keys.clone()).start().await.unwrap();
    let mut link = Link::starts(&mut device, &server).await;
    let known = server.get("d").unwrap();
    soon(known.connected()).await.unwrap();
    keys.revoke("d", None).unwrap();
    assert_eq!(link.closes().await, 9);
    assert_eq!(goes_down(&known).await, DownReason::Revoked);
    assert_eq!(device.proves_itself(&mut Peer::connects(&server).await).await.err(), Some(9));
}

#[tokio::test]
async fn the_first_record_under_a_new_key_retires_the_old_one() {
    let keys = Keys::default();
    let mut old = Device::new(&keys.issue("d", today()).unwrap());
    let mut new = Device::new(&keys.rotate("d", today()).unwrap());
    let server = server().keys(keys.clone()).start().await.unwrap();
    let mut link = Link::starts(&mut old, &server).await;
    soon(server.get("d").unwrap().connected()).await.unwrap();
    // An opening alone shows nothing: it can be a recording.
    new.proves_itself(&mut Peer::connects(&server).await).await.unwrap();
    assert_eq!(keys.list()[0].keys.len(), 2);
    let _new = Link::starts(&mut new, &server).await;
    eventually(|| keys.list()[0].keys.len() == 1).await;
    assert!([3, 9].contains(&link.closes().await), "replaced or revoked, whichever the server comes to first");
    assert_eq!(old.proves_itself(&mut Peer::connects(&server).await).await.err(), Some(9));
}

#[tokio::test]
async fn keyed_openings_count_as_handshakes() {
    let keys = Keys::default();
    let mut device = Device::new(&keys.issue("d", today()).unwrap());
    let server = server().keys(keys).handshakes(1, 20).start().await.unwrap();
    let (_, wrong) = Device::with_wrong_key("d", 1).opens_keyed();
    // One more comes free each second, so that of many in a row one is refused soon behind the burst.
    let mut answered = 0;
    loop {
        let mut peer = Peer::connects(&server).await;
        peer.0.writes(&wrong).await;
        let verdict = peer.answer().await[5];
        peer.ends().await;
        match verdict {
            0x89 => answered += 1,
            other => break assert_eq!(other, 0x8a),
        }
    }
    assert!(answered >= 20, "{answered}");
    assert_eq!(server.stats().refused_handshakes, 1);
    assert_eq!(device.shakes_hands(&mut Peer::connects(&server).await).await.err(), Some(10), "both count as one");
    let elsewhere = std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
    device.proves_itself(&mut Peer(Board::connects_from(elsewhere, &server).await)).await.unwrap();
}
