//! The sending half: login, one qos message in flight, resends, best effort beside it, settling, pacing.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::harness::{H, P, Peer, TIMEOUT, U, ms};
use crate::Side;
use crate::legacy::{CloseReason, Pace};
use crate::wire::MessageId;

#[test]
fn a_device_logs_in_and_is_up_at_the_first_byte() {
    for (dialect, login, message) in
        [(H, "2c00ffboard\n", "000001hi\n"), (U, "board\n", "00hi\n"), (P, "board\n", "hi\n")]
    {
        let mut device = Peer::device(dialect);
        device.queues("hi");
        device.connects();
        device.expect_sends(login);
        assert!(!device.link.as_ref().is_some_and(|link| link.is_up()));
        device.after(499);
        device.expect_sends("");
        device.after(1);
        device.expect_sends("\n");
        device.hears("\n");
        device.expect_up();
        device.expect_sends(message);
    }
}

#[test]
fn any_byte_will_do_as_the_first() {
    let mut device = Peer::device(H);
    device.connects();
    device.hears("0");
    device.expect_up();
}

#[test]
fn one_qos_message_is_in_flight() {
    for (dialect, first, ack, second) in [
        (H, "000001a\n", "00002c\n", "010001b\n"),
        (H, "000001a\n", "00002c0000\n", "010001b\n"),
        (U, "00a\n", "00\n", "01b\n"),
    ] {
        let mut device = Peer::device(dialect).up();
        assert!(device.session.is_fresh());
        device.queues("a");
        device.queues("b");
        device.expect_sends(first);
        assert_eq!((device.session.in_flight(), device.session.is_fresh()), (Some(MessageId::FIRST), false));
        device.hears("\n");
        device.expect_sends("");
        device.hears(ack);
        device.expect_sends(second);
        device.hears(ack);
        assert_eq!(device.unsent(), 1, "the first ACK again acknowledges nothing");
        assert_eq!(device.counters().stray_acks, 1);
    }
}

#[test]
fn what_is_not_acknowledged_is_sent_again_after_half_the_timeout() {
    let mut server = Peer::server(H).with(|config| config.silence = ms(60_000)).up();
    server.queues("a");
    server.expect_messages("000001a\n");
    for round in 1..=3 {
        server.after(TIMEOUT / 2 - 1);
        server.expect_nothing_sent();
        server.after(1);
        server.expect_messages("000001a\n");
        assert_eq!(server.counters().resent, round);
    }
    server.hears("00002c\n");
    server.after(5 * TIMEOUT);
    server.expect_nothing_sent();
    assert_eq!((server.counters().sent, server.counters().acked), (1, 1));
}

#[test]
fn the_resend_timer_starts_anew_with_each_message() {
    let mut server = Peer::server(H).up();
    server.queues("a");
    server.after(900);
    server.queues("b");
    server.hears("00002c\n");
    server.expect_messages("000001a\n010001b\n");
    server.after(999);
    server.expect_nothing_sent();
    server.after(1);
    server.expect_messages("010001b\n");
}

#[test]
fn what_was_in_flight_is_sent_again_at_once_on_the_next_link() {
    for (dialect, first, ack, second) in [(H, "000001a\n", "00002c\n", "010001b\n"), (U, "00a\n", "00\n", "01b\n")] {
        for side in [Side::Device, Side::Server] {
            let mut peer = Peer::new(side, dialect).with(|config| config.settle = ms(0)).up();
            peer.queues("a");
            peer.queues("b");
            peer.expect_messages(first);
            for _ in 0..2 {
                peer.reconnects();
                peer.expect_messages(first);
            }
            peer.hears(ack);
            peer.expect_messages(second);
        }
    }
}

#[test]
fn an_ack_before_the_resend_makes_it_unnecessary() {
    let mut server = Peer::new(Side::Server, H).up();
    server.queues("a");
    server.after(200);
    server.expect_messages("000001a\n");
    server.reconnects();
    server.hears("00002c\n");
    server.after(TIMEOUT);
    server.expect_nothing_sent();
    assert_eq!(server.unsent(), 0);
}

#[test]
fn a_board_gets_its_pause_after_the_login() {
    let mut server = Peer::new(Side::Server, H);
    server.queues("a");
    server.connects();
    server.expect_sends("\n");
    server.expect_up();
    server.hears("000001\"hi\"\n");
    server.expect_sends("00002c\n");
    server.after(199);
    server.expect_sends("");
    server.after(1);
    server.expect_sends("000001a\n");
}

// Best effort.

/// A server whose first message has arrived, so that best effort may go.
fn established() -> Peer {
    let mut server = Peer::server(H).up();
    server.queues("first");
    server.hears("00002c\n");
    server.expect_messages("000001first\n");
    server
}

#[test]
fn best_effort_goes_without_an_ack_and_only_once() {
    let mut server = established();
    server.queues_best_effort("a");
    server.expect_sends("010000a\n");
    server.reconnects();
    server.after(TIMEOUT);
    server.expect_nothing_sent();
    assert_eq!(server.counters().best_effort, 1);
}

#[test]
fn best_effort_passes_a_qos_message_in_flight() {
    let mut server = established();
    server.queues("slow");
    server.queues_best_effort("fast");
    server.expect_sends("010001slow\n020000fast\n");
    server.reconnects();
    server.expect_sends("010001slow\n");
    server.queues("next");
    server.hears("01002c\n");
    server.expect_sends("030001next\n");
}

#[test]
fn at_most_32_best_effort_messages_pass_one_in_flight() {
    let mut server = established();
    server.queues("slow");
    for number in 0..40 {
        server.queues_best_effort(number.to_string());
    }
    let expected: String = (0..32).map(|number| format!("{:02x}0000{number}\n", number + 2)).collect();
    server.expect_sends(&format!("010001slow\n{expected}"));
    server.after(TIMEOUT / 2);
    server.expect_messages("010001slow\n");
    server.hears("01002c\n");
    let expected: String = (32..40).map(|number| format!("{:02x}0000{number}\n", number + 2)).collect();
    server.expect_messages(&expected);
}

#[test]
fn best_effort_never_goes_before_id_0_is_acknowledged() {
    for dialect in [H, U] {
        let mut device = Peer::device(dialect).up();
        device.queues_best_effort("early");
        device.after(600);
        device.expect_nothing_sent();
        device.queues("first");
        device.after(500);
        device.hears("\n");
        device.expect_messages(if dialect == H { "000001first\n" } else { "00first\n" });
        device.hears(if dialect == H { "00002c\n" } else { "00\n" });
        device.expect_messages(if dialect == H { "010000early\n" } else { "01early\n" });
    }
}

/// A receiver on U cannot tell best effort from qos, so each of them moves its memory on.
#[test]
fn on_u_a_resend_is_known_again_behind_all_best_effort_that_may_pass() {
    let (mut device, mut server) = (Peer::device(U).up(), Peer::server(U).up());
    device.queues("first");
    device.hears("00\n");
    device.queues("precious");
    for number in 0..40 {
        device.queues_best_effort(number.to_string());
    }
    let sent: String = device.transcript(device.now).into_iter().map(|(_, line)| line).collect();
    server.hears(&sent);
    // No acknowledgement gets through, and the link is lost.
    device.reconnects();
    device.queues_best_effort("later");
    device.expect_sends("01precious\n");
    server.reconnects();
    server.hears("01precious\n");
    server.expect_delivered_once("precious");
}

// Pacing.

fn paced(burst: u32) -> Peer {
    let mut server = established();
    server.config.pace = Pace { burst, interval: ms(50) };
    server.reconnects();
    server
}

#[test]
fn messages_go_in_a_burst_and_then_at_the_interval() {
    let mut server = paced(4);
    let start = server.now;
    for number in 1..=6 {
        server.queues(number.to_string());
        server.hears(format!("{number:02x}002c\n"));
    }
    server.after(49);
    let at_once: Vec<_> = (1..=4).map(|number| (0, format!("{number:02x}0001{number}\n"))).collect();
    assert_eq!(server.transcript(start), at_once);
    server.after(1);
    server.hears("05002c\n");
    server.after(60);
    assert_eq!(server.transcript(start), [(50, "0500015\n".into()), (100, "0600016\n".into())]);
}

#[test]
fn a_resend_is_paced_too() {
    let mut server = paced(1);
    server.queues("a");
    server.config.resend = ms(10);
    server.reconnects();
    let start = server.now;
    server.after(120);
    server.expect_messages(&"010001a\n".repeat(4));
    assert_eq!(server.now, start + ms(120), "at 0, 50 and 100 ms, and once before");
}

#[test]
fn a_token_is_kept_for_qos() {
    let mut server = paced(4);
    let start = server.now;
    for number in 1..=5 {
        server.queues_best_effort(number.to_string());
    }
    server.queues("urgent");
    let at = |millis, line: &str| (millis, line.to_string());
    let at_once = [at(0, "0100001\n"), at(0, "0200002\n"), at(0, "0300003\n"), at(0, "040001urgent\n")];
    assert_eq!(server.transcript(start), at_once);
    server.after(200);
    assert_eq!(server.transcript(start), [at(100, "0500004\n"), at(150, "0600005\n")]);
}

#[test]
fn waiting_best_effort_does_not_delay_qos() {
    let mut server = paced(2);
    for number in 1..=2 {
        server.queues("x");
        server.hears(format!("{number:02x}002c\n"));
    }
    server.expect_messages("010001x\n020001x\n");
    let start = server.now;
    server.queues_best_effort("later");
    server.queues("urgent");
    server.after(80);
    assert_eq!(server.transcript(start), [(50, "030001urgent\n".into())]);
}

#[test]
fn without_pacing_all_goes_at_once() {
    let mut server = established();
    for number in 0..100 {
        server.queues_best_effort(number.to_string());
    }
    assert_eq!(server.transcript(server.now).len(), 100);
}

// Plain lines.

#[test]
fn on_p_a_message_is_in_flight_until_it_is_written() {
    let mut server = Peer::server(P).up();
    server.queues("a");
    server.queues("b");
    server.expect_messages("a\n");
    server.after(TIMEOUT);
    server.expect_messages("");
    server.reconnects();
    server.expect_messages("a\n");
    server.has_written();
    server.expect_messages("b\n");
}

#[test]
fn on_p_a_replaced_link_has_written_nothing() {
    let mut server = Peer::server(P).up();
    server.queues("a");
    let mut old = server.link.take().expect("a link");
    server.connects();
    old.handle_written(&mut server.session, server.now);
    assert_eq!(server.session.in_flight(), Some(MessageId::FIRST));
}

#[test]
fn a_device_that_changes_its_dialect_starts_anew() {
    let mut server = Peer::server(H).up();
    server.queues("a");
    server.hears("050001x\n");
    server.expect_messages("000001a\n05002c\n");
    let mut server = Peer::server(U).continues(server);
    server.reconnects();
    server.expect_messages("00a\n");
    server.hears("050001x\n");
    server.expect_delivered(&["x", "0001x"]);
}

#[test]
fn a_peer_that_takes_no_bytes_is_given_up() {
    let mut server = established();
    server.queues("a");
    server.expect_messages("010001a\n");
    server.write_blocked(true);
    server.after(1_900);
    server.expect_sends("");
    server.write_blocked(true); // some bytes were written
    server.after(900);
    server.hears("\n"); // it speaks, but it does not read
    server.after(1_099);
    server.expect_up();
    server.after(1);
    server.expect_closed(CloseReason::NotReading);
}

#[test]
fn nothing_is_repeated_behind_bytes_that_wait() {
    let mut server = established();
    server.queues("a");
    server.expect_messages("010001a\n");
    server.write_blocked(true);
    server.after(1_500);
    server.expect_sends("");
    // The peer can acknowledge only what it has got: the time for that starts now.
    server.write_blocked(false);
    server.after(900);
    server.expect_messages("");
    server.after(100);
    server.expect_messages("010001a\n");
}
