//! What the server lets in (§8.2, §15.1 to §15.3).

use bowline_secure::{
    AnswerError, Carrier, Ephemeral, Handshake, KeyRing, MAX_OPENING, RingError, Standing, StartError, VersionError,
    check_versions,
};

use crate::support::{Decided, Device, Server, id, key, key_id, refusal};

fn opening(mode: u8, key_id: u8, id: &[u8], handshake: usize) -> Vec<u8> {
    let mut bytes = vec![0, b'B', b'W', b'L', 1, mode, key_id, id.len() as u8];
    bytes.extend(id);
    bytes.resize(bytes.len() + handshake, 0x5a);
    bytes
}

fn refused(server: &mut Server, input: &[u8]) -> u8 {
    match server.decide(input) {
        (Decided::Refused(code), answer) => {
            assert_eq!(answer, [0, b'B', b'W', b'L', 1, 0x80 + code, 0]);
            code
        }
        (other, _) => panic!("expected a refusal of {input:02x?}, got {other:?}"),
    }
}

#[test]
fn a_device_with_its_key_gets_in_on_both_carriers() {
    for carrier in [Carrier::Lossless, Carrier::Lossy] {
        let mut server = Server::new(carrier);
        let mut device = server.device("kitchen", 1, 5);
        let mut link = device.connect(&mut server);
        assert!(!link.server.confirmed() && !link.server.resumed());
        link.assert_works();
        assert!(link.server.confirmed() && link.device.confirmed());
    }
}

#[test]
fn an_opening_is_decided_on_when_it_is_whole() {
    let mut server = Server::new(Carrier::Lossless);
    let mut device = server.device(&"x".repeat(96), 1, 5);
    server.registry.insert("open".into(), Standing { keys: None, open: true, ..Standing::default() });
    let sealed = device.open().1;
    assert_eq!(sealed.len(), MAX_OPENING);
    for whole in [sealed, opening(0, 0, b"open", 0), opening(2, 1, b"open", 41)] {
        for len in 0..whole.len() {
            assert!(matches!(server.decide(&whole[..len]).0, Decided::More), "{len}");
        }
        let mut with_more = whole.clone();
        with_more.extend(b"and a record");
        for input in [whole, with_more] {
            assert!(matches!(server.decide(&input).0, Decided::Secured(..) | Decided::Open(_) | Decided::Again));
        }
    }
}

#[test]
fn what_is_no_opening_is_refused_as_early_as_it_can_be_seen() {
    let mut server = Server::new(Carrier::Lossless);
    for foreign in [&b"mqtt"[..], b"\0BWx", b"\x01"] {
        assert!(matches!(server.decide(foreign).0, Decided::Foreign));
    }
    for version in [0, 2, 255] {
        assert_eq!(refused(&mut server, &[0, b'B', b'W', b'L', version]), 7);
    }
    for mode in 4..=255 {
        assert_eq!(refused(&mut server, &[0, b'B', b'W', b'L', 1, mode, 1]), 8);
    }
    for (mode, key_id) in [(0, 1), (1, 0), (2, 0), (3, 0)] {
        assert_eq!(refused(&mut server, &[0, b'B', b'W', b'L', 1, mode, key_id]), 2);
    }
    for len in [0, 97, 255] {
        assert_eq!(refused(&mut server, &[0, b'B', b'W', b'L', 1, 0, 0, len]), 2);
    }
    for bad_id in [&b"a\nb"[..], b"\xff", b"\0"] {
        assert_eq!(refused(&mut server, &opening(0, 0, bad_id, 0)), 2);
    }
}

#[test]
fn open_mode_is_for_ids_that_never_had_a_key() {
    let mut server = Server::new(Carrier::Lossless);
    let open = |server: &mut Server, keys, allowed| {
        server.registry.insert("d".into(), Standing { keys, open: allowed, ..Standing::default() });
        server.decide(&opening(0, 0, b"d", 0)).0
    };
    let keyed = || Some(KeyRing::new(key_id(1), key(1)));
    assert!(matches!(open(&mut server, None, true), Decided::Open(id) if id == "d"));
    assert!(matches!(open(&mut server, None, false), Decided::Refused(8)));
    assert!(matches!(open(&mut server, keyed(), true), Decided::Refused(8)));
    assert!(matches!(open(&mut server, keyed(), false), Decided::Refused(8)));
    // Revoking its key does not open a device to everybody.
    assert!(matches!(open(&mut server, Some(KeyRing::revoked()), true), Decided::Refused(8)));
    let mut ring = KeyRing::new(key_id(1), key(1));
    assert!(ring.revoke(key_id(1)) && !ring.revoke(key_id(1)));
    assert!(matches!(open(&mut server, Some(ring), true), Decided::Refused(8)));
    assert!(matches!(server.decide(&opening(0, 0, b"unknown", 0)).0, Decided::Refused(8)));
}

/// §15.3: unknown, wrong and revoked look the same from outside.
#[test]
fn who_is_not_known_learns_nothing() {
    let mut server = Server::new(Carrier::Lossless);
    let known = server.device("known", 4, 50);
    server
        .registry
        .insert("revoked".into(), Standing { keys: Some(KeyRing::revoked()), open: true, ..Standing::default() });
    server.registry.insert("open".into(), Standing { keys: None, open: true, ..Standing::default() });
    let mut answers = Vec::new();
    for (name, number, seed) in
        [("nobody", 4, 50), ("known", 5, 50), ("known", 4, 51), ("revoked", 4, 50), ("open", 4, 50)]
    {
        let (mut handshake, opening) = Device::new(name, number, seed, known.carrier).open();
        let (decided, answer) = server.decide(&opening);
        assert!(matches!(decided, Decided::Refused(9)), "{name} {number} {seed}");
        assert_eq!(refusal(&mut handshake, &answer), AnswerError::Refused { code: 9, version: 1 });
        answers.push(answer);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
}

#[test]
fn keys_are_rotated_and_revoked() {
    let mut server = Server::new(Carrier::Lossless);
    let mut old = server.device("d", 1, 10);
    let mut new = Device::new("d", 2, 11, Carrier::Lossless);
    let ring = |server: &mut Server, change: &dyn Fn(&mut KeyRing)| {
        change(server.registry.get_mut("d").unwrap().keys.as_mut().unwrap());
    };
    ring(&mut server, &|ring| {
        assert_eq!(ring.add(key_id(1), key(12)), Err(RingError::Taken(key_id(1))));
        ring.add(key_id(2), key(11)).unwrap();
        assert_eq!(ring.add(key_id(3), key(12)), Err(RingError::Full));
        assert_eq!(ring.ids().collect::<Vec<_>>(), [key_id(1), key_id(2)]);
    });
    old.connect(&mut server).assert_works();
    new.connect(&mut server).assert_works();
    ring(&mut server, &|ring| assert!(ring.revoke(key_id(1))));
    assert!(matches!(server.decide(&old.open().1).0, Decided::Refused(9)));
    new.connect(&mut server).assert_works();
    // The old key under the new id is not the new key.
    old.key_id = key_id(2);
    assert!(matches!(server.decide(&old.open().1).0, Decided::Refused(9)));
}

#[test]
fn a_device_takes_no_answer_that_does_not_fit() {
    let mut server = Server::new(Carrier::Lossless);
    let mut device = server.device("d", 1, 10);
    let (mut handshake, opening) = device.open();
    let (_, answer) = server.secured(&opening);
    for len in 0..answer.len() {
        assert!(handshake.finish(&answer[..len]).unwrap().is_none(), "{len}");
    }
    let changed = |at: usize, to: u8| {
        let mut changed = answer.clone();
        changed[at] = to;
        changed
    };
    for version in (0..=255).filter(|&version| version != 1) {
        assert_eq!(refusal(&mut handshake, &changed(4, version)), AnswerError::Malformed);
    }
    for verdict in 1..=255 {
        assert_eq!(refusal(&mut handshake, &changed(5, verdict)), AnswerError::Malformed);
    }
    let refused = |verdict| [0, b'B', b'W', b'L', 3, verdict, 0];
    assert_eq!(refusal(&mut handshake, &refused(0x87)), AnswerError::Refused { code: 7, version: 3 });
    assert_eq!(refusal(&mut handshake, &refused(0)), AnswerError::Malformed);
    assert_eq!(refusal(&mut handshake, &refused(1)), AnswerError::Malformed);
    // After all of this the true answer is still taken, and only once.
    assert!(handshake.finish(&answer).unwrap().is_some());
    assert_eq!(refusal(&mut handshake, &answer), AnswerError::Finished);
}

#[test]
fn ids_beyond_the_native_limit_cannot_start() {
    let (long, mut out) = ("x".repeat(97), [0; MAX_OPENING]);
    let start = Handshake::start(id(&long), key_id(1), &key(1), Ephemeral::new(&[3; 32]), Carrier::Lossless, &mut out);
    assert_eq!(start.err(), Some(StartError));
}

#[test]
fn a_lower_version_than_both_speak_is_noticed() {
    assert_eq!(check_versions(1, 1, 1), Ok(()));
    assert_eq!(check_versions(1, 1, 9), Ok(()));
    assert_eq!(check_versions(1, 3, 1), Ok(()));
    assert_eq!(check_versions(1, 3, 2), Err(VersionError::Downgraded { spoken: 1, best: 2 }));
    assert_eq!(check_versions(2, 2, 1), Err(VersionError::Impossible { spoken: 2, peer_highest: 1 }));
}

#[test]
fn nothing_secret_is_shown() {
    let mut server = Server::new(Carrier::Lossless);
    let mut device = server.device("d", 1, 10);
    let link = device.connect_for_ticket(&mut server, bowline_secure::Grant::default());
    let (handshake, _) = device.open();
    let (resumption, _) = device.open_resumption(server.now).unwrap();
    let shown = format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        device.key, server.registry, server.tickets, link.device, handshake, resumption, device.ticket
    );
    let bytes = device.key.expose().map(|byte| byte.to_string()).join(", ");
    assert!(shown.contains("Key(..)") && !shown.contains(&bytes[..20]), "{shown}");
}
