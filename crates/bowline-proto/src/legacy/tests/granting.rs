//! Best effort in durable sessions: ids that a save has granted, ids that a restored session leaves out.

use std::format;
use std::vec::Vec;

use super::durable::{BOTH, ack, best_effort, established, message, opened, server};
use super::harness::{H, U};
use crate::wire::MessageId;

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

#[test]
fn ids_that_may_have_been_used_are_left_out_and_restarts_do_not_add_up() {
    for dialect in BOTH {
        for used in 0..=6 {
            let mut server = opened(dialect);
            let saved = server.saves();
            server.commits(&saved);
            for number in 0..used {
                server.queues_best_effort(format!("{number}"));
            }
            server.crashes_back_to(&saved);
            for _ in 0..10 {
                let saved = server.saves();
                server.crashes_back_to(&saved);
            }
            server.reconnects();
            assert!(!server.session.is_fresh() && server.session.wants_qos());
            server.queues("next");
            server.queues_best_effort("x");
            server.stores();
            let sent = server.transcript(server.now).into_iter().map(|(_, line)| line).skip(used);
            let expected = [message(dialect, 7, "next"), best_effort(dialect, 8, "x")];
            assert_eq!(sent.collect::<Vec<_>>(), expected);
        }
    }
}

#[test]
fn best_effort_goes_on_behind_the_next_qos_message() {
    let mut server = established(H);
    for number in 0..8 {
        server.queues_best_effort(format!("{number}"));
    }
    assert_eq!(server.transcript(server.now).len(), 6);
    server.queues("qos");
    server.expect_nothing_sent();
    assert!(!server.session.wants_qos(), "there is one");
    server.stores();
    server.expect_messages("070001qos\n0800006\n0900007\n");
    server.hears("07002c\n");
    assert!(!server.session.wants_save() && !server.session.wants_qos());
}

#[test]
fn on_u_best_effort_that_arrives_makes_room_for_more() {
    let mut server = established(U);
    for number in 0..9 {
        server.queues_best_effort(format!("{number}"));
    }
    server.expect_messages("010\n021\n032\n043\n054\n065\n");
    server.hears("02\n");
    assert!(server.session.wants_save() && !server.session.wants_qos());
    let saved = server.saves();
    server.commits(&saved);
    server.expect_messages("076\n087\n");
    server.crashes_back_to(&saved);
    server.reconnects();
    server.queues("next");
    server.stores();
    server.expect_messages("09next\n0a8\n");
}

/// On U the window of the receiver moves on with best effort.
#[test]
fn on_u_best_effort_beside_a_message_in_flight_is_counted_across_a_restart() {
    let mut server = established(U);
    server.queues("slow");
    server.stores();
    for number in 2..40 {
        server.queues_best_effort("x");
        server.stores();
        server.hears(ack(U, number));
        server.stores();
    }
    let sent = server.transcript(server.now).len() - 1;
    assert_eq!(sent, 15);
    let saved = server.saves();
    server.crashes_back_to(&saved);
    server.reconnects();
    server.queues_best_effort("x");
    server.hears(ack(U, 0x10));
    server.stores();
    server.expect_messages("01slow\n");
}

/// Behind another id, a resend of 0 would be taken for a restart.
#[test]
fn nothing_goes_behind_id_0_before_its_arrival_is_stored() {
    let mut server = server(U);
    server.queues("first");
    let saved = server.saves();
    server.commits(&saved);
    server.hears("00\n");
    server.queues_best_effort("x");
    server.expect_messages("00first\n");
    assert!(server.session.wants_save());
    // It is not stored that 0 has arrived.
    server.crashes_back_to(&saved);
    server.queues("first");
    server.reconnects();
    server.hears("00\n");
    server.expect_messages("00first\n");
    server.stores();
    server.expect_messages("01x\n");
}

/// An ACK out of nowhere does not open the ids.
#[test]
fn a_stray_ack_grants_nothing() {
    for stray in [0, 254, 255] {
        let mut server = server(U);
        server.hears(ack(U, stray));
        server.queues("first");
        server.hears(ack(U, 0));
        let saved = server.saves();
        server.crashes_back_to(&saved);
        assert_eq!(server.session.in_flight(), Some(MessageId::FIRST));
        server.reconnects();
        server.queues("second");
        server.hears("00\n");
        server.stores();
        server.expect_messages("00first\n01second\n");
    }
}
