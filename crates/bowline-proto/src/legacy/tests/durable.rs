//! Durable sessions: what is stored before it is sent, what is granted, what a restored session does.

use std::format;
use std::vec;
use std::vec::Vec;

use super::harness::{H, P, Peer, TIMEOUT, U};
use crate::legacy::{Saved, Session};
use crate::wire::MessageId;
use crate::{Dialect, Side};

const BOTH: [Dialect; 2] = [H, U];

fn message(dialect: Dialect, id: u8, text: &str) -> std::string::String {
    if dialect == H { format!("{id:02x}0001{text}\n") } else { format!("{id:02x}{text}\n") }
}

fn best_effort(dialect: Dialect, id: u8, text: &str) -> std::string::String {
    if dialect == H { format!("{id:02x}0000{text}\n") } else { format!("{id:02x}{text}\n") }
}

fn ack(dialect: Dialect, id: u8) -> std::string::String {
    if dialect == H { format!("{id:02x}002c\n") } else { format!("{id:02x}\n") }
}

fn server(dialect: Dialect) -> Peer {
    Peer::server(dialect).durable().up()
}

/// A durable server whose first message has arrived. That is not stored yet.
fn opened(dialect: Dialect) -> Peer {
    let mut server = server(dialect);
    server.queues("first");
    server.stores();
    server.hears(ack(dialect, 0));
    server.expect_messages(&message(dialect, 0, "first"));
    server
}

/// A durable server whose first message has arrived, with nothing left to store.
fn established(dialect: Dialect) -> Peer {
    let mut server = opened(dialect);
    server.stores();
    server
}

// Sending.

#[test]
fn a_message_is_sent_when_its_id_is_stored() {
    for dialect in BOTH {
        let mut server = server(dialect);
        assert!(!server.session.wants_save());
        server.queues("a");
        assert_eq!((server.session.in_flight(), server.session.wants_save()), (Some(MessageId::FIRST), true));
        server.after(600);
        server.hears("\n");
        server.expect_nothing_sent();
        server.stores();
        assert!(!server.session.wants_save());
        server.expect_messages(&message(dialect, 0, "a"));
        assert_eq!((server.counters().sent, server.counters().resent), (1, 0));
        server.after(TIMEOUT / 2);
        server.expect_messages(&message(dialect, 0, "a"));
        assert_eq!((server.counters().sent, server.counters().resent), (1, 1));
    }
}

#[test]
fn an_id_reserved_without_a_link_needs_no_second_save() {
    let mut server = established(H);
    server.link_cuts();
    server.queues("a");
    assert!(server.session.reserve());
    assert!(!server.session.reserve(), "one at a time");
    let saved = server.saves();
    server.session.handle_saved(saved.mark());
    server.reconnects();
    server.expect_messages("010001a\n");
    assert_eq!((server.counters().sent, server.counters().resent), (2, 0));
}

#[test]
fn a_reserved_message_is_sent_under_its_id_after_a_crash_whether_it_went_out_or_not() {
    for dialect in BOTH {
        for sent in [false, true] {
            let mut server = established(dialect);
            server.queues("a");
            let saved = server.saves();
            if sent {
                server.commits(&saved);
                server.expect_messages(&message(dialect, 1, "a"));
            }
            server.crashes_back_to(&saved);
            server.reconnects();
            server.expect_messages(&message(dialect, 1, "a"));
            assert_eq!((server.counters().sent, server.counters().resent), (0, 1));
            server.hears(ack(dialect, 1));
            assert_eq!(server.unsent(), 0);
        }
    }
}

#[test]
fn a_mark_made_before_the_id_was_taken_does_not_send_it() {
    let mut server = established(H);
    let early = server.saves();
    server.queues("a");
    for _ in 0..2 {
        server.commits(&early);
        server.expect_nothing_sent();
    }
    // This one fails, and the next is committed.
    let _failed = server.saves();
    server.stores();
    server.expect_messages("010001a\n");
    server.hears("01002c\n");
    server.queues("b");
    let a = server.saves();
    server.commits(&early);
    server.expect_nothing_sent();
    server.commits(&a);
    server.expect_messages("020001b\n");
}

#[test]
fn an_ack_of_what_was_not_sent_is_of_something_else() {
    let mut server = established(H);
    server.queues("a");
    server.hears("01002c\n");
    assert_eq!((server.unsent(), server.counters().stray_acks), (1, 1));
    server.stores();
    server.expect_messages("010001a\n");
}

// Receiving.

/// r08: what was acknowledged is stored, and what is stored is known again.
#[test]
fn r08_what_was_accepted_is_not_accepted_again_after_a_crash() {
    for dialect in BOTH {
        let mut server = server(dialect);
        server.parks();
        server.hears(message(dialect, 7, "a"));
        let saved = server.saves();
        server.expect_nothing_sent();
        server.accepts_parked();
        server.commits(&saved);
        server.expect_messages(&ack(dialect, 7));
        // The ACK is lost, and the server with it.
        server.crashes_back_to(&saved);
        server.reconnects();
        server.hears(message(dialect, 7, "a"));
        server.expect_messages(&ack(dialect, 7));
        server.expect_delivered(&["a"]);
        assert_eq!(server.counters().duplicates, 1);
    }
}

/// r08: a crash before the commit loses the message, which was not acknowledged and comes again.
#[test]
fn r08_what_was_not_stored_is_new_after_a_crash() {
    for dialect in BOTH {
        let mut server = server(dialect);
        let before = server.saves();
        server.parks();
        server.hears(message(dialect, 7, "a"));
        server.crashes_back_to(&before);
        server.accepts();
        server.reconnects();
        server.hears(message(dialect, 7, "a"));
        server.expect_messages(&ack(dialect, 7));
        server.expect_delivered(&["a"]);
    }
}

// What is saved.

fn restored(side: Side, saved: &Saved) -> Session {
    Session::restore(side, saved.as_bytes()).expect("a session")
}

#[test]
fn saving_what_was_restored_changes_nothing() {
    let mut sessions = vec![Session::durable(Side::Server), Session::durable(Side::Device)];
    for dialect in [H, U, P] {
        let mut server = server(dialect);
        server.queues("a");
        sessions.push(server.session.clone());
        server.stores();
        server.hears("000001x\n050001y\n060001z\n");
        server.queues("b");
        sessions.push(server.session.clone());
    }
    for session in sessions {
        let saved = session.save_with([]);
        let again = restored(session.side(), &saved).save_with([]);
        assert_eq!(again.as_bytes(), saved.as_bytes());
    }
}

#[test]
fn damaged_bytes_are_no_session() {
    let mut server = established(U);
    server.hears("000001x\n050001y\n060001z\n");
    let whole: Vec<u8> = server.saves().as_bytes().to_vec();
    for len in 0..whole.len() {
        assert!(Session::restore(Side::Server, &whole[..len]).is_err(), "{len} bytes");
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        assert!(Session::restore(Side::Server, &damaged).is_err(), "byte {at}");
    }
}

// Best effort.

#[test]
fn best_effort_waits_for_a_grant_and_takes_no_more() {
    for dialect in BOTH {
        let mut server = opened(dialect);
        for number in 0..8 {
            server.queues_best_effort(format!("{number}"));
        }
        server.expect_nothing_sent();
        assert!(server.session.wants_save());
        server.stores();
        let expected: Vec<_> = (0..6).map(|number| best_effort(dialect, number + 1, &format!("{number}"))).collect();
        server.expect_messages(&expected.concat());
        assert!(!server.session.wants_save(), "a save would grant nothing");
        assert!(server.session.wants_qos());
    }
}
