//! Saved sessions: the format of §6.3, and bytes that are none.

use std::string::String;
use std::vec::Vec;
use std::{assert_eq, vec};

use proptest::collection::vec as bytes;
use proptest::prelude::*;

use super::harness::{H, P, Peer, U};
use crate::crc::Crc;
use crate::legacy::{SAVED_MAX, SavedError, Session};
use crate::vectors::vectors;
use crate::wire::MessageId;
use crate::{Dialect, Side};

const KINDS: [(Side, Dialect); 5] =
    [(Side::Server, H), (Side::Device, H), (Side::Server, U), (Side::Device, U), (Side::Server, P)];

/// A saved session of today opens for ever.
#[test]
fn saved_sessions_are_those_of_the_specification() {
    for (name, dialect, epoch, in_flight) in [
        ("saved-h", Some(H), 3, Some(MessageId::new(0x23))),
        ("saved-u", Some(U), 1, None),
        ("saved-p", Some(P), 1, None),
        ("saved-new", None, 0, None),
    ] {
        let saved = &vectors()[name];
        let session = Session::restore(Side::Server, saved).expect(name);
        assert_eq!((session.dialect(), session.epoch(), session.in_flight()), (dialect, epoch, in_flight), "{name}");
        assert_eq!(session.save_with([]).as_bytes(), saved, "{name}");
    }
}

#[test]
fn an_old_saved_session_goes_on() {
    let mut server = Peer::server(H);
    server.queues("a");
    server.queues("b");
    server.session = Session::restore(Side::Server, &vectors()["saved-h"]).expect("a session");
    server.reconnects();
    server.expect_messages("230001a\n");
    server.hears("050001\"on\"\n23002c\n");
    server.stores();
    server.expect_messages("05002c\n2a0001b\n");
    server.expect_delivered(&[]);

    let mut server = Peer::server(U);
    server.queues("c");
    server.session = Session::restore(Side::Server, &vectors()["saved-u"]).expect("a session");
    server.reconnects();
    server.stores();
    server.expect_messages("07c\n");
    server.hears("01b\n02b\n");
    server.expect_delivered(&["b"]);
}

#[test]
fn damaged_bytes_are_no_session() {
    for name in ["saved-h", "saved-u", "saved-new"] {
        let whole = &vectors()[name];
        let restore = |bytes: &[u8]| Session::restore(Side::Server, bytes).map(|_| ());
        for len in 0..whole.len() {
            let expected = if len < 8 { SavedError::Format } else { SavedError::Checksum };
            assert_eq!(restore(&whole[..len]), Err(expected), "{name}, {len} bytes");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            let expected = if at < 4 { SavedError::Format } else { SavedError::Checksum };
            assert_eq!(restore(&damaged), Err(expected), "{name}, byte {at}");
        }
    }
}

/// `content` between magic and checksum.
fn sealed(content: &[u8]) -> Vec<u8> {
    let mut all = [b"BWL\x01", content].concat();
    all.extend(Crc::new().with(&all).value().to_be_bytes());
    all
}

#[test]
fn numbers_that_contradict_each_other_are_no_session() {
    for (content, what) in [
        (&b"X\x01\0\0\0\0\0\0\x01\0"[..], "a dialect there is not"),
        (b"H\x01\0\x05\0\0\0\0\x01\0", "an id in flight and nothing in flight"),
        (b"H\x01\x02\0\0\0\0\0\x01\0", "two in flight"),
        (b"P\x01\x01\0\0\0\0\0\x01\0", "in flight on P"),
        (b"\0\x01\x01\0\0\0\0\0\x01\0", "in flight on no dialect"),
        (b"H\0\x01\x05\0\0\0\0\x01\0", "sent and nothing sent"),
        (b"H\x05\x01\x05\0\0\0\0\x01\0", "the next is the one in flight"),
        (b"H\x02\x01\0\0\0\0\0\x01\0", "others behind 0 in flight"),
        (b"H\x2d\x01\x05\0\0\0\0\x01\0", "too many behind the one in flight"),
        (b"H\x01\0\0\0\0\0\0\0\0", "no window"),
        (b"H\x01\0\0\0\0\0\0\x21\0", "a window larger than any"),
        (b"H\x01\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "more than the window holds"),
        (b"H\x01\0\0\0\0\0\0\x02\x01", "too short"),
        (b"H\x01\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0\0\0", "too short by a byte"),
        (b"H\x01\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0\0\0\0\0", "too long by a byte"),
    ] {
        let restored = Session::restore(Side::Server, &sealed(content));
        assert_eq!(restored.map(|_| ()), Err(SavedError::Contradiction), "{what}");
    }
    assert_eq!(Session::restore(Side::Server, &sealed(b"H")).map(|_| ()), Err(SavedError::Format));
    for content in [b"H\x2c\x01\x05\0\0\0\0\x01\0", b"H\x26\x01\xfe\0\0\0\0\x01\0", b"H\x01\x01\0\0\0\0\0\x20\0"] {
        assert!(Session::restore(Side::Server, &sealed(content)).is_ok());
    }
}

#[test]
fn the_longest_saved_session_fits() {
    let mut server = Peer::server(U).durable().up();
    for number in 1..=40 {
        server.hears(std::format!("{number:02x}x\n"));
    }
    assert_eq!(server.saves().as_bytes().len(), SAVED_MAX);
}

/// What a peer may do to a session.
#[derive(Debug, Clone)]
enum Step {
    Hears(u8, u8, bool),
    Acks(u8),
    Queues,
    BestEffort,
    Stores,
    Reconnects,
    After(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = prop_oneof![3 => 0u8..6, 1 => any::<u8>()];
    let step = prop_oneof![
        4 => (id.clone(), 0u8..3, any::<bool>()).prop_map(|(id, text, qos)| Step::Hears(id, text, qos)),
        3 => id.prop_map(Step::Acks),
        2 => Just(Step::Queues),
        2 => Just(Step::BestEffort),
        3 => Just(Step::Stores),
        1 => Just(Step::Reconnects),
        1 => (1u64..2_000).prop_map(Step::After),
    ];
    bytes(step, 0..60)
}

/// The harness checks the engine's contract at each of them.
fn plays(peer: &mut Peer, dialect: Dialect, steps: &[Step]) {
    peer.reconnects();
    for step in steps {
        let line = match *step {
            Step::Hears(id, text, qos) if dialect == H => std::format!("{id:02x}00{:02x}{text}\n", u8::from(qos)),
            Step::Hears(id, text, _) => std::format!("{id:02x}{text}\n"),
            Step::Acks(id) if dialect == H => std::format!("{id:02x}002c\n"),
            Step::Acks(id) => std::format!("{id:02x}\n"),
            _ => String::new(),
        };
        match *step {
            Step::Hears(..) | Step::Acks(_) => peer.hears(line),
            Step::Queues => peer.queues("q"),
            Step::BestEffort => peer.queues_best_effort("b"),
            Step::Stores => peer.stores(),
            Step::Reconnects => peer.reconnects(),
            Step::After(millis) => peer.after(millis),
        }
        if peer.is_closed() {
            peer.reconnects();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn saving_what_was_restored_is_the_same(kind in 0..KINDS.len(), before in steps(), after in steps()) {
        let (side, dialect) = KINDS[kind];
        let mut peer = Peer::new(side, dialect).durable();
        plays(&mut peer, dialect, &before);
        let saved = peer.saves();
        peer.crashes_back_to(&saved);
        let again = peer.saves();
        prop_assert_eq!(again.as_bytes(), saved.as_bytes());
        plays(&mut peer, dialect, &after);
    }

    #[test]
    fn bytes_never_panic_nor_do_sessions_made_of_them(
        kind in 0..KINDS.len(),
        made_up in bytes(any::<u8>(), 0..60),
        head in (prop::sample::select(vec![0u8, b'H', b'U', b'P']), any::<u8>(), 0u8..2, any::<u8>(), any::<u32>()),
        window in (1u8..33, bytes((any::<u8>(), any::<u64>()), 0..33)),
        changes in bytes((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        steps in steps(),
    ) {
        let (side, dialect) = KINDS[kind];
        let (letter, next, flying, id, epoch) = head;
        let mut content = vec![letter, next, flying, if flying == 0 { 0 } else { id }];
        content.extend(epoch.to_be_bytes());
        content.extend([window.0, window.1.len() as u8]);
        content.extend(window.1.iter().flat_map(|(id, digest)| [&[*id][..], &digest.to_be_bytes()].concat()));
        for (at, byte) in changes {
            let at = at.index(content.len());
            content[at] = byte;
        }
        for bytes in [made_up.clone(), sealed(&made_up), sealed(&content)] {
            let Ok(session) = Session::restore(side, &bytes) else { continue };
            let mut peer = Peer::new(side, dialect);
            let again = session.save_with([]);
            prop_assert_eq!(again.as_bytes(), &bytes[..]);
            // What is in flight is in the outbox: that is the driver's part.
            peer.queues("q");
            peer.session = session;
            plays(&mut peer, dialect, &steps);
        }
    }
}
