//! Native openings by those who would like to be somebody else (§15, §18).

use std::net::{IpAddr, Ipv4Addr};

use bowline_server::{Admission, Keys};
use tokio::time::Instant;

use crate::harness::{Board, eventually, millis, seed, soon};
use crate::openers::{Device, Peer, assert_nobody, hello, server, today};

#[tokio::test]
async fn unknown_wrong_and_revoked_look_alike_and_get_nowhere() {
    let keys = Keys::default();
    let mut known = Device::new(&keys.issue("known", today()).unwrap());
    let mut revoked = Device::new(&keys.issue("revoked", today()).unwrap());
    keys.revoke("revoked", None).unwrap();
    let server = server().keys(keys).start().await.unwrap();
    let mut tries = [
        Device::with_wrong_key("nobody", 1),
        Device::with_wrong_key("known", 1),
        Device::with_wrong_key("known", 2),
        Device::with_wrong_key("revoked", 1),
    ];
    let (count, start) = (3000, Instant::now());
    for number in 0..count {
        let device = if number % 5 == 4 { &mut revoked } else { &mut tries[number as usize % 5] };
        let mut peer = Peer::connects(&server).await;
        assert_eq!(device.shakes_hands(&mut peer).await.err(), Some(9));
        peer.ends().await;
    }
    println!("{count} refused in {:?}", start.elapsed());
    assert_eq!(server.stats().refused_key, count);
    assert_nobody(&server);
    known.comes_in(&server).await;
}

#[tokio::test]
async fn r45_other_versions_and_modes_are_refused_and_nothing_lower_is_spoken() {
    let keys = Keys::default();
    let mut device = Device::new(&keys.issue("d", today()).unwrap());
    let server = server().keys(keys).start().await.unwrap();
    let (_, opening) = device.opens();
    let with = |at: usize, byte: u8| {
        let mut changed = opening.clone();
        changed[at] = byte;
        changed
    };
    for version in (0..=255).filter(|&version| version != 1) {
        let mut peer = Peer::connects(&server).await;
        peer.0.writes(with(4, version)).await;
        // It says its highest version, and no more.
        assert_eq!(peer.answer().await, [0, b'B', b'W', b'L', 1, 0x87, 0]);
        peer.ends().await;
    }
    for mode in 4..=255 {
        let mut peer = Peer::connects(&server).await;
        peer.0.writes(with(5, mode)).await;
        assert_eq!(peer.answer().await[5], 0x88);
        peer.ends().await;
    }
    // What the prologue binds: a handshake for another key id or another id is no handshake.
    for (changed, code) in
        [(with(6, 2), 9), (with(8, b'e'), 9), (with(5, 3), 9), (with(5, 0), 2), (with(6, 0), 2), (with(7, 97), 2)]
    {
        let mut peer = Peer::connects(&server).await;
        peer.0.writes(changed).await;
        assert_eq!(peer.answer().await[5], 0x80 + code);
        peer.ends().await;
    }
    let stats = server.stats();
    assert_eq!((stats.refused_version, stats.refused_opening, stats.refused_key), (255, 252 + 3, 3), "{stats:?}");
    assert_nobody(&server);
}

#[tokio::test]
async fn garbage_behind_the_first_byte_is_refused_within_160_bytes() {
    let mut random = fastrand::Rng::with_seed(seed());
    let keys = Keys::default();
    let mut device = Device::new(&keys.issue("d", today()).unwrap());
    let server = server().login_timeout(millis(500)).keys(keys).start().await.unwrap();
    let (_, opening) = device.opens();
    let (count, start) = (3000, Instant::now());
    for _ in 0..count {
        // Ever longer parts of an opening, then anything.
        let mut bytes = opening[..random.usize(1..opening.len())].to_vec();
        let tail = random.usize(160..400);
        bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(tail));
        let mut peer = Peer::connects(&server).await;
        // It may be refused before everything is written.
        let _ = peer.0.try_writes(bytes).await;
        while soon(peer.0.byte()).await.is_some() {}
    }
    println!("{count} refused in {:?}", start.elapsed());
    let stats = server.stats();
    // Now and then the last byte of the true opening is hit.
    let near = stats.refused_key + stats.refused_unconfirmed;
    assert_eq!(stats.refused_opening + stats.refused_version + stats.refused_not_open + near, count, "{stats:?}");
    assert_nobody(&server);
    device.comes_in(&server).await;
}

#[tokio::test]
async fn r43_a_recorded_opening_gets_an_answer_and_no_further() {
    let keys = Keys::default();
    let mut device = Device::new(&keys.issue("d", today()).unwrap());
    let server = server().max_links(1).keys(keys).start().await.unwrap();

    let mut peer = Peer::connects(&server).await;
    let (mut handshake, recorded) = device.opens();
    peer.0.writes(&recorded).await;
    let answer = peer.answer().await;
    let mut transport = handshake.finish(&answer).unwrap().unwrap().0;
    let first = hello(Some(&mut transport));
    peer.0.writes(&first).await;
    peer.record().await.expect("let in");
    let logins = server.stats().logins;

    let count = 200;
    for number in 1..=count {
        let mut thief = Peer::connects(&server).await;
        // Opening and first record, as they were.
        thief.0.writes([&recorded[..], &first].concat()).await;
        let again = thief.answer().await;
        assert_eq!(again[5], 0);
        assert_ne!(again, answer);
        thief.ends().await;
        eventually(|| server.stats().refused_unconfirmed == number).await;
    }
    let stats = server.stats();
    assert_eq!((stats.logins, stats.takeovers), (logins, 0), "{stats:?}");
}

#[tokio::test]
async fn who_waits_behind_an_opening_waits_in_the_lobby() {
    let keys = Keys::default();
    let mut device = Device::new(&keys.issue("d", today()).unwrap());
    let server = server().login_timeout(millis(200)).max_links(1).keys(keys).start().await.unwrap();
    let start = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut peer = Peer::connects(&server).await;
        device.shakes_hands(&mut peer).await.unwrap();
        silent.push(peer);
    }
    assert_nobody(&server);
    for peer in &mut silent {
        peer.ends().await;
    }
    assert!(start.elapsed() >= millis(200));
    eventually(|| server.stats().refused_timeout == 20).await;

    // One byte at a time does not put it off.
    let (_, opening) = device.opens();
    let mut peer = Peer::connects(&server).await;
    let mut end = Box::pin(async {
        for byte in opening {
            if peer.0.try_writes([byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(millis(20)).await;
        }
        peer.ends().await;
    });
    soon(&mut end).await;
    assert_eq!(server.stats().refused_timeout, 21);
    assert_nobody(&server);
}

#[tokio::test]
async fn a_full_lobby_shows_native_openers_out_too() {
    let server = server().max_logins(4).start().await.unwrap();
    let mut first = Peer::connects(&server).await;
    first.0.writes([0, b'B']).await;
    eventually(|| server.stats().connections == 1).await;
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(Board::connects(&server).await);
    }
    first.ends().await;
    assert_eq!(server.stats().refused_evicted, 1);
}

#[tokio::test]
async fn r43_an_id_with_a_key_cannot_be_taken_without_it() {
    let keys = Keys::default();
    let mut device = Device::new(&keys.issue("d", today()).unwrap());
    keys.issue("revoked", today()).unwrap();
    keys.revoke("revoked", None).unwrap();
    let admission = Admission { plain: vec!["d".to_owned()], ..Admission::open() };
    let server = server().admission(admission).keys(keys.clone()).start().await.unwrap();
    for number in 0..500 {
        for id in ["d", "revoked"] {
            let mut board = Board::connects(&server).await;
            board.sends(&if number % 2 == 0 { format!("2c00ff{id}") } else { id.to_owned() }).await;
            board.expects_end().await;
            let mut peer = Peer::connects(&server).await;
            assert_eq!(peer.opens(id).await, Some(8));
            peer.ends().await;
        }
    }
    assert_eq!(server.stats().refused_keyed, 2000);
    assert_nobody(&server);
    device.comes_in(&server).await;
    // Only forgetting the id opens it again.
    keys.remove("revoked").unwrap();
    Board::logs_in_h(&server, "revoked").await.leaves();
    assert_eq!(Peer::connects(&server).await.opens("revoked").await, None);
}

#[tokio::test]
async fn handshakes_are_limited_for_each_address() {
    let keys = Keys::default();
    let mut device = Device::new(&keys.issue("d", today()).unwrap());
    // One more only after an hour.
    let server = server().keys(keys).handshakes(1, 3600).start().await.unwrap();
    let (count, burst) = (5000, 3600);
    let mut tried = Device::with_wrong_key("d", 1);
    let (_, opening) = tried.opens();
    let start = Instant::now();
    let mut later = 0;
    for _ in 0..count {
        let mut peer = Peer::connects(&server).await;
        peer.0.writes(&opening).await;
        match peer.answer().await[5] {
            0x89 => {}
            0x8a => later += 1,
            other => panic!("{other:02x}"),
        }
        peer.ends().await;
    }
    let gained = start.elapsed().as_secs() + 1;
    assert!(later <= count - burst && later + gained >= count - burst, "{later} of {count} refused");
    assert_eq!(server.stats().refused_handshakes, later);

    // The true device of this address has to wait. One of another address has not, nor have others.
    let mut elsewhere = Peer(Board::connects_from(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), &server).await);
    device.shakes_hands(&mut elsewhere).await.unwrap();
    assert_eq!(Peer::connects(&server).await.opens("open").await, None);
    Board::logs_in_h(&server, "h").await.leaves();
}
