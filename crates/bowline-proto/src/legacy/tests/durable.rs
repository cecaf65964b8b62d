//! Durable sessions: what is stored before it is sent, and what a restored session does.

use std::format;
use std::string::String;

use super::harness::{H, P, Peer, TIMEOUT, U};
use crate::legacy::Session;
use crate::wire::MessageId;
use crate::{Dialect, Side};

pub(super) const BOTH: [Dialect; 2] = [H, U];

pub(super) fn message(dialect: Dialect, id: u8, text: &str) -> String {
    if dialect == H { format!("{id:02x}0001{text}\n") } else { format!("{id:02x}{text}\n") }
}

pub(super) fn best_effort(dialect: Dialect, id: u8, text: &str) -> String {
    if dialect == H { format!("{id:02x}0000{text}\n") } else { format!("{id:02x}{text}\n") }
}

pub(super) fn ack(dialect: Dialect, id: u8) -> String {
    if dialect == H { format!("{id:02x}002c\n") } else { format!("{id:02x}\n") }
}

pub(super) fn server(dialect: Dialect) -> Peer {
    Peer::server(dialect).durable().up()
}

/// A durable server whose first message has arrived. That is not stored yet.
pub(super) fn opened(dialect: Dialect) -> Peer {
    let mut server = server(dialect);
    server.queues("first");
    server.stores();
    server.hears(ack(dialect, 0));
    server.expect_messages(&message(dialect, 0, "first"));
    server
}

/// A durable server whose first message has arrived, with nothing left to store.
pub(super) fn established(dialect: Dialect) -> Peer {
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

/// r10: what was accepted for sending is not dropped with the link, nor with the process.
#[test]
fn r10_what_is_queued_goes_out_in_order_after_link_and_process_have_ended() {
    for dialect in BOTH {
        let mut server = established(dialect);
        server.queues("a");
        server.queues("b");
        server.queues("c");
        let saved = server.saves();
        server.commits(&saved);
        server.link_cuts();
        server.crashes_back_to(&saved);
        server.reconnects();
        // Ids that best effort might have taken are left out.
        for id in [1, 8, 9] {
            server.stores();
            server.hears(ack(dialect, id));
        }
        let expected = [(1, "a"), (8, "b"), (9, "c")].map(|(id, text)| message(dialect, id, text));
        server.expect_messages(&[message(dialect, 1, "a"), expected.concat()].concat());
        assert_eq!(server.unsent(), 0);
    }
}

/// r17: what is sent again, by whatever process, has the id it had, so the peer knows it.
#[test]
fn r17_a_message_whose_ack_was_lost_with_both_ends_is_delivered_once() {
    for dialect in BOTH {
        let mut device = Peer::device(dialect).durable().up();
        let mut server = server(dialect);
        device.queues("a");
        let sending = device.saves();
        device.commits(&sending);
        let line = message(dialect, 0, "a");
        device.expect_messages(&line);
        server.parks();
        server.hears(&line);
        let received = server.saves();
        server.accepts_parked();
        server.crashes_back_to(&received);
        device.crashes_back_to(&sending);
        device.reconnects();
        server.reconnects();
        device.expect_messages(&line);
        server.hears(&line);
        device.hears(ack(dialect, 0));
        server.expect_delivered(&["a"]);
        assert_eq!((device.unsent(), server.counters().duplicates), (0, 1));
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

/// r18: what is known of a device, and what waits for it, outlives the server's process.
#[test]
fn r18_a_resend_is_known_again_and_what_waits_goes_on_after_a_restart() {
    for dialect in BOTH {
        let mut server = established(dialect);
        server.parks();
        server.hears(message(dialect, 0, "hello"));
        server.queues("a");
        server.queues("b");
        // Message, id in flight and outbox in one transaction.
        let saved = server.saves();
        server.crashes_back_to(&saved);
        server.accepts();
        server.reconnects();
        assert_eq!(server.session.epoch(), 2, "a restart of ours is none of the device's");
        server.hears(message(dialect, 0, "hello"));
        server.expect_messages(&format!("{}{}", message(dialect, 1, "a"), ack(dialect, 0)));
        server.hears(ack(dialect, 1));
        server.stores();
        server.expect_messages(&message(dialect, 8, "b"));
        server.expect_delivered(&[]);
        assert_eq!((server.counters().ambiguous, server.session.epoch()), (1, 2));
    }
}

#[test]
fn a_save_on_its_way_is_part_of_the_next_one() {
    let mut server = server(U);
    server.parks();
    server.hears("01a\n");
    let _first = server.saves();
    server.hears("02b\n");
    let second = server.saves();
    server.crashes_back_to(&second);
    server.accepts();
    server.reconnects();
    server.hears("01a\n02b\n03c\n");
    server.expect_delivered(&["c"]);
    server.expect_messages("01\n02\n03\n");
}

/// Best effort alone says that an old id does not come again. Restored without that, the session
/// would take a new message for the old one when the ids have come round.
#[test]
fn what_the_window_forgets_without_a_message_is_saved_too() {
    let mut server = server(H);
    server.hears("0a0001on\n");
    server.stores();
    assert!(!server.session.wants_save());
    server.hears("5a0000x\n");
    assert!(server.session.wants_save());
    let saved = server.saves();
    server.commits(&saved);
    assert!(!server.session.wants_save());
    server.crashes_back_to(&saved);
    server.reconnects();
    server.hears("f00000y\n0a0001on\n");
    server.expect_delivered(&["on", "x", "y", "on"]);

    // So is a restart of the device that only best effort has told of.
    server.stores();
    server.reconnects();
    server.hears("000000z\n");
    assert!(server.session.wants_save());
    server.stores();
    assert!(!server.session.wants_save());
}

// First messages, dialects.

#[test]
fn a_session_opens_its_ids_once_and_not_with_each_process() {
    let mut server = server(H);
    let untouched = server.saves();
    server.crashes_back_to(&untouched);
    assert!(server.session.is_fresh());
    server.reconnects();
    server.queues("first");
    let saved = server.saves();
    assert!(!server.session.is_fresh());
    server.crashes_back_to(&saved);
    assert!(!server.session.is_fresh());
}

#[test]
fn a_device_that_changes_its_dialect_has_its_message_reserved_again() {
    let mut server = established(H);
    server.queues("a");
    let old = server.saves();
    server.commits(&old);
    server.expect_messages("010001a\n");
    let mut server = Peer::server(U).continues(server);
    server.reconnects();
    assert_eq!((server.session.in_flight(), server.session.wants_save()), (Some(MessageId::FIRST), true));
    server.commits(&old);
    server.expect_nothing_sent();
    server.stores();
    server.expect_messages("00a\n");
    server.hears("00\n");
    server.queues_best_effort("x");
    // A save of the other dialect's ids grants none of these.
    server.commits(&old);
    server.expect_nothing_sent();
    server.stores();
    server.expect_messages("01x\n");
}

#[test]
fn without_a_dialect_there_are_no_ids() {
    let mut session = Session::durable(Side::Server);
    assert!(!session.reserve() && !session.wants_save());
    let saved = session.save_with([]);
    session.handle_saved(saved.mark());
    assert_eq!(session.in_flight(), None);
}

#[test]
fn plain_lines_wait_for_no_save() {
    let mut server = server(P);
    server.queues("a");
    server.queues_best_effort("x");
    assert!(!server.session.wants_save());
    server.expect_messages("a\n");
    server.has_written();
    server.expect_messages("x\n");
    server.queues("b");
    server.expect_messages("b\n");
    // Half of it is written when the process ends.
    let saved = server.saves();
    server.crashes_back_to(&saved);
    assert_eq!((server.session.in_flight(), server.session.reserve()), (None, false));
    server.reconnects();
    server.expect_messages("b\n");
    assert!(!server.session.wants_save());
}

#[test]
fn a_volatile_session_wants_no_save() {
    let mut server = Peer::server(H).up();
    server.hears("0a0001on\n5a0000x\n");
    server.queues("a");
    server.queues_best_effort("x");
    assert!(!server.session.wants_save());
    server.hears("00002c\n");
    server.expect_messages("0a002c\n000001a\n010000x\n");
    server.link_cuts();
    assert!(server.session.reserve() && !server.session.wants_save());
    server.queues("b");
    server.reconnects();
    server.expect_messages("020001b\n");
}
