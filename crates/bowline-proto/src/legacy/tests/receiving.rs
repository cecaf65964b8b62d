//! The receiving half: accept, then mark, then ACK; which lines are resends; what id 0 can mean.

use super::harness::{H, P, Peer, U};
use crate::legacy::CloseReason;

#[test]
fn an_ack_is_sent_only_when_the_message_is_accepted() {
    for (dialect, line, ack) in [(H, "070001\"a\"\n", "07002c\n"), (U, "07\"a\"\n", "07\n")] {
        let mut server = Peer::server(dialect).up();
        server.parks();
        server.hears(line);
        server.hears(line);
        server.after(300);
        server.expect_sends("");
        server.accepts_parked();
        server.expect_sends(ack);
        server.hears(line);
        server.expect_sends(ack);
        server.expect_delivered(&["\"a\""]);
        assert_eq!((server.counters().accepted, server.counters().duplicates), (1, 2));
    }
}

#[test]
fn the_user_header_comes_with_the_message() {
    let mut server = Peer::server(H).up();
    server.hears("010301010A00\"a\"\n");
    server.expect_delivered(&["010a00|\"a\""]);
}

#[test]
fn best_effort_is_delivered_and_not_acknowledged() {
    let mut server = Peer::server(H).up();
    server.hears("050000\"a\"\n");
    server.refuses();
    server.hears("060000\"b\"\n");
    server.expect_sends("");
    server.expect_delivered(&["\"a\""]);
    assert_eq!((server.counters().accepted, server.counters().refused), (1, 1));
}

#[test]
fn plain_lines_are_delivered_as_they_are() {
    let mut server = Peer::server(P).up();
    server.hears("a\n\n05002c\na\n");
    server.expect_delivered(&["a", "05002c", "a"]);
    server.expect_sends("");
}

#[test]
fn what_was_refused_is_new_when_it_comes_again() {
    for (dialect, line, ack) in [(H, "070001a\n", "07002c\n"), (U, "07a\n", "07\n")] {
        let mut server = Peer::server(dialect).up();
        server.refuses();
        server.hears(line);
        server.parks();
        server.hears(line);
        server.refuses_parked();
        server.expect_sends("");
        server.accepts();
        server.hears(line);
        server.expect_sends(ack);
        server.expect_delivered(&["a"]);
        assert_eq!(server.counters().refused, 2);
    }
}

#[test]
fn more_than_16_unaccepted_messages_are_refused() {
    let mut server = Peer::server(U).up();
    server.parks();
    for number in 1..=17 {
        server.hears(std::format!("{number:02x}x\n"));
    }
    assert_eq!(server.counters().refused, 1);
    for _ in 0..16 {
        server.accepts_parked();
    }
    server.expect_delivered(&["x"; 16]);
    server.hears("11x\n");
    server.accepts_parked();
    server.expect_delivered(&["x"]);
}

// Acceptance and links.

#[test]
fn a_late_acceptance_is_acknowledged_only_where_the_message_came_again() {
    let mut server = Peer::server(H).up();
    server.parks();
    server.hears("070001a\n");
    server.reconnects();
    server.accepts_parked();
    server.expect_sends("");
    server.hears("070001a\n");
    server.expect_sends("07002c\n");
    server.expect_delivered(&["a"]);
}

#[test]
fn a_message_that_came_again_on_the_new_link_is_acknowledged_there_once() {
    let mut server = Peer::server(H).up();
    server.parks();
    server.hears("070001a\n");
    server.reconnects();
    server.hears("070001a\n");
    server.expect_sends("");
    server.accepts_parked();
    server.expect_sends("07002c\n");
    server.expect_delivered(&["a"]);
}

#[test]
fn a_message_accepted_without_a_link_is_known_on_the_next() {
    let mut server = Peer::server(H).up();
    server.parks();
    server.hears("070001a\n");
    server.link_cuts();
    server.accepts_parked();
    server.reconnects();
    server.expect_sends("");
    server.hears("070001a\n");
    server.expect_sends("07002c\n");
    server.expect_delivered(&["a"]);
}

#[test]
fn acknowledgements_that_were_due_die_with_their_link() {
    let mut server = Peer::server(H).up();
    // Accepted, but the drain never came: the link was cut.
    let mut old = server.link.take().expect("a link");
    let now = server.now;
    old.handle_heard(now);
    let input = old.handle_input(&mut server.session, now, b"070001a\n");
    let Some(crate::legacy::Received::Message(message)) = input.received else { panic!("a message") };
    old.handle_accepted(&mut server.session, now, message.ticket);
    server.reconnects();
    server.expect_sends("");
    server.hears("070001a\n");
    server.expect_sends("07002c\n");
    server.expect_delivered(&[]);
}

// Resends on H: only the last accepted qos message can come again.

#[test]
fn only_the_last_accepted_is_a_resend() {
    let mut server = Peer::server(H).up();
    server.hears("050001a\n050001a\n060001b\n060001b\n");
    server.expect_delivered(&["a", "b"]);
    server.expect_sends("05002c\n05002c\n06002c\n06002c\n");
    server.hears("050001a\n");
    server.expect_delivered(&["a"]);
}

#[test]
fn the_same_id_with_other_bytes_is_new() {
    for (dialect, first, second) in [(H, "050001a\n", "050001b\n"), (U, "05a\n", "05b\n")] {
        let mut server = Peer::server(dialect).up();
        server.hears(first);
        server.hears(second);
        server.expect_delivered(&["a", "b"]);
    }
}

#[test]
fn a_resend_is_known_behind_best_effort_that_passed() {
    let mut server = Peer::server(H).up();
    server.hears("050001a\n060000x\n250000y\n050001a\n");
    server.expect_delivered(&["a", "x", "y"]);
}

#[test]
fn an_id_that_has_come_round_is_new() {
    let mut server = Peer::server(H).up();
    // A lap in which only best effort was sent, with the same bytes at its end.
    server.hears("050001a\n500000x\na00000x\nf00000x\n050001a\n");
    server.expect_delivered(&["a", "x", "x", "x", "a"]);
}

#[test]
fn on_u_several_may_be_unacknowledged() {
    let mut server = Peer::server(U).up();
    server.hears("05a\n06b\n07c\n");
    server.reconnects();
    server.hears("05a\n06b\n07c\n08d\n");
    server.expect_delivered(&["a", "b", "c", "d"]);
    server.expect_sends("05\n06\n07\n05\n06\n07\n08\n");
}

#[test]
fn on_u_a_resend_is_known_although_older_messages_were_accepted_after_it() {
    let mut server = Peer::server(U).up();
    server.parks();
    for id in 1..=15 {
        server.hears(std::format!("{id:02x}x\n"));
    }
    server.accepts();
    server.hears("10precious\n");
    for id in 0x11..=0x18 {
        server.hears(std::format!("{id:02x}x\n"));
    }
    for _ in 0..15 {
        server.accepts_parked();
    }
    server.reconnects();
    server.hears("10precious\n");
    server.expect_delivered_once("precious");
}

/// Its sender stood far away when it came, not when it was accepted.
#[test]
fn on_u_a_late_acceptance_forgets_nothing_newer() {
    let mut server = Peer::server(U).up();
    server.parks();
    server.hears("05slow\n");
    server.accepts();
    for id in 0x06..=0x64 {
        server.hears(std::format!("{id:02x}x\n"));
    }
    server.hears("65precious\n");
    server.accepts_parked();
    server.reconnects();
    server.hears("65precious\n");
    server.expect_delivered_once("precious");
}

#[test]
fn a_login_resets_nothing() {
    let mut server = Peer::server(H).up();
    server.hears("050001a\n");
    for _ in 0..3 {
        server.reconnects();
        server.hears("050001a\n");
    }
    server.expect_delivered(&["a"]);
    assert_eq!((server.counters().duplicates, server.counters().restarts), (3, 0));
}

// Id 0, "what can be known on H".

#[test]
fn within_a_link_a_second_0_is_a_resend_whatever_its_bytes() {
    for (first, second) in [("000001a\n", "000001a\n"), ("000001a\n", "000001b\n")] {
        let mut server = Peer::server(H).up();
        server.hears(first);
        server.hears(second);
        server.expect_delivered(&["a"]);
        server.expect_sends("00002c\n00002c\n");
        assert_eq!(server.counters().ambiguous, 0);
    }
}

#[test]
fn across_a_login_0_with_the_same_bytes_is_a_resend_and_counted_as_ambiguous() {
    let mut server = Peer::server(H).up();
    server.hears("000001a\n");
    server.reconnects();
    server.hears("000001a\n");
    server.expect_delivered(&["a"]);
    server.expect_sends("00002c\n00002c\n");
    assert_eq!((server.counters().ambiguous, server.counters().restarts), (1, 1));
}

#[test]
fn across_a_login_0_with_other_bytes_is_a_restart() {
    let mut server = Peer::server(H).up();
    server.hears("000001a\n");
    let epoch = server.session.epoch();
    server.reconnects();
    server.hears("000001b\n");
    server.expect_delivered(&["a", "b"]);
    assert_ne!(server.session.epoch(), epoch);
    assert_eq!(server.counters().ambiguous, 0);
}

#[test]
fn across_a_login_0_is_a_restart_if_anything_was_accepted_since() {
    let mut server = Peer::server(H).up();
    server.hears("000001a\n010001b\n");
    server.reconnects();
    server.hears("000001a\n010001b\n");
    server.expect_delivered(&["a", "b", "a", "b"]);
    assert_eq!(server.counters().restarts, 2);
}

#[test]
fn a_best_effort_0_is_a_restart_too() {
    let mut server = Peer::server(H).up();
    server.hears("000001a\n010001b\n");
    server.reconnects();
    server.hears("000000x\n010001b\n");
    server.expect_delivered(&["a", "b", "x", "b"]);
    assert_eq!(server.counters().restarts, 2);
}

#[test]
fn a_refused_0_is_new_when_it_comes_again() {
    for (dialect, line, ack) in [(H, "000001a\n", "00002c\n"), (U, "00a\n", "00\n")] {
        let mut server = Peer::server(dialect).up();
        server.refuses();
        server.hears(line);
        server.hears(line);
        server.expect_sends("");
        server.accepts();
        server.hears(line);
        server.expect_delivered(&["a"]);
        server.expect_sends(ack);
    }
}

#[test]
fn a_0_for_which_there_was_no_room_is_new_when_it_comes_again() {
    let mut server = Peer::server(U).up();
    server.parks();
    for number in 1..=16 {
        server.hears(std::format!("{number:02x}x\n"));
    }
    server.reconnects();
    server.hears("00a\n");
    for _ in 0..16 {
        server.accepts_parked();
    }
    server.accepts();
    server.hears("00a\n");
    server.expect_sends("00\n");
    assert_eq!(server.counters().accepted, 17);
}

/// Behind another id on the same link, 0 cannot be the first message of a process.
#[test]
fn a_0_behind_best_effort_on_its_link_is_a_resend() {
    let mut server = Peer::server(H).up();
    server.hears("000001a\n");
    server.reconnects();
    server.hears("010000x\n000001a\n");
    server.expect_delivered(&["a", "x"]);
    server.expect_sends("00002c\n00002c\n");
}

#[test]
fn on_u_a_0_behind_another_message_on_its_link_is_a_resend() {
    let mut server = Peer::server(U).up();
    server.hears("00a\n");
    server.reconnects();
    server.hears("01b\n00a\n");
    server.expect_delivered(&["a", "b"]);
}

#[test]
fn a_parked_0_that_comes_again_after_a_login_is_the_same_message() {
    let mut server = Peer::server(H).up();
    server.parks();
    server.hears("000001a\n");
    server.reconnects();
    server.hears("000001a\n");
    server.accepts_parked();
    server.expect_delivered(&["a"]);
    server.expect_sends("00002c\n");
}

#[test]
fn a_parked_0_of_an_earlier_life_is_neither_acknowledged_nor_remembered() {
    let mut server = Peer::server(H).up();
    server.parks();
    server.hears("000001old\n");
    server.reconnects();
    server.accepts();
    server.hears("000001new\n");
    server.expect_sends("00002c\n");
    server.accepts_parked();
    server.expect_sends("");
    server.expect_delivered(&["new", "old"]);
    server.reconnects();
    server.hears("000001new\n");
    server.expect_delivered(&[]);
    server.expect_sends("00002c\n");
}

// Lines that cannot be read.

#[test]
fn sixteen_malformed_lines_end_the_link() {
    for dialect in [H, U] {
        let mut server = Peer::server(dialect).up();
        server.hears("zz\n".repeat(15));
        server.expect_up();
        server.hears("\nzz\n");
        server.expect_closed(CloseReason::Malformed);
        server.hears(if dialect == H { "000001a\n" } else { "00a\n" });
        server.expect_delivered(&[]);
        server.expect_buried(&[b"zz".as_slice(); 16]);
        assert_eq!(server.counters().malformed, 16);
        // The next link starts with a clean slate.
        server.reconnects();
        server.hears("zz\n");
        server.expect_up();
    }
}

#[test]
fn a_line_that_is_too_long_ends_the_link() {
    let mut server = Peer::server(H).with(|config| config.line_limit = 12).up();
    server.hears("000001123456\n");
    server.expect_delivered(&["123456"]);
    server.hears("010001123456");
    server.expect_up();
    server.hears("7");
    server.expect_closed(CloseReason::LineTooLong);
    server.hears("\n020001a\n");
    server.expect_delivered(&[]);
}

#[test]
fn an_undecodable_best_effort_message_is_buried_and_not_acknowledged() {
    let mut server = Peer::server(H).up();
    server.hears(b"050000\xff\n");
    server.expect_buried(&[b"050000\xff"]);
    server.expect_sends("");
    assert_eq!(server.counters().undecodable, 1);
}
