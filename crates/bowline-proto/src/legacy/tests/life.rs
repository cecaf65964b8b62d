//! A link's life: keepalives, silence, pauses, replacement, and the contract about time.

use std::string::String;
use std::vec::Vec;

use super::harness::{H, Peer, TIMEOUT, U, ms};
use crate::Side;
use crate::legacy::{CloseReason, Config, Output, Queue};
use crate::time::Duration;

#[test]
fn an_idle_link_sends_keepalives_every_quarter_of_the_timeout() {
    for side in [Side::Device, Side::Server] {
        let mut peer = Peer::new(side, H).with(|config| config.silence = ms(60_000)).up();
        let start = peer.now;
        peer.after(4 * 500);
        let times: Vec<u64> = peer.transcript(start).into_iter().map(|(at, _)| at).collect();
        assert_eq!(times, [500, 1_000, 1_500, 2_000]);
    }
}

#[test]
fn a_server_answers_a_login_at_once() {
    let mut server = Peer::new(Side::Server, H);
    server.connects();
    server.expect_sends("\n");
    server.expect_up();
}

#[test]
fn a_busy_link_sends_no_keepalives() {
    let mut server = Peer::server(H).up();
    for _ in 0..10 {
        server.after(400);
        server.hears("050001a\n");
    }
    server.expect_sends(&"05002c\n".repeat(10));
    server.after(499);
    server.expect_sends("");
    server.after(1);
    server.expect_sends("\n");
}

#[test]
fn what_is_heard_does_not_replace_what_is_sent() {
    let mut server = Peer::server(H).up();
    server.after(400);
    server.hears("\n");
    server.after(100);
    server.expect_sends("\n");
}

#[test]
fn silence_is_an_outage_and_the_server_waits_half_as_long_again() {
    for (side, silence) in [(Side::Device, TIMEOUT), (Side::Server, TIMEOUT * 3 / 2)] {
        let mut peer = Peer::new(side, H).up();
        peer.after(silence - 1);
        peer.expect_up();
        peer.hears("0"); // any byte counts
        peer.after(silence - 1);
        peer.expect_up();
        peer.after(1);
        peer.expect_closed(CloseReason::Silence);
    }
}

#[test]
fn a_login_may_be_answered_late() {
    let mut device = Peer::device(H);
    device.connects();
    device.after(2 * TIMEOUT - 1);
    device.hears("\n");
    device.expect_up();
    device.after(TIMEOUT);
    device.expect_closed(CloseReason::Silence);

    device.connects();
    device.after(2 * TIMEOUT);
    device.expect_closed(CloseReason::Silence);
}

#[test]
fn silence_does_not_count_while_reading_is_paused() {
    let mut server = Peer::server(H).up();
    server.after(2_900);
    server.read_paused(true);
    server.after(60_000);
    server.expect_up();
    server.read_paused(false);
    server.after(2_999);
    server.expect_up();
    server.after(1);
    server.expect_closed(CloseReason::Silence);
}

#[test]
fn a_closed_link_asks_only_to_be_closed() {
    let mut server = Peer::server(H).up();
    server.queues("a");
    server.after(3_000);
    server.expect_closed(CloseReason::Silence);
    server.expect_messages("000001a\n".repeat(3).as_str());
    server.hears("00002c\n050001x\n");
    server.queues("b");
    server.after(5_000);
    server.expect_sends("");
    server.expect_delivered(&[]);
    assert_eq!(server.unsent(), 2);
}

// Replacement.

#[test]
fn a_replaced_link_consumes_nothing_and_asks_to_be_closed() {
    let mut server = Peer::server(H).up();
    server.queues("a");
    let mut old = server.link.take().expect("a link");
    server.connects();
    server.expect_messages("000001a\n000001a\n");
    let (now, session) = (server.now, &mut server.session);
    old.handle_heard(now);
    let input = old.handle_input(session, now, b"00002c\n050001x\n");
    assert_eq!((input.consumed, input.received), (0, None));
    old.handle_queue(now, Queue { qos: true, best_effort: true });
    assert_eq!(old.poll_output(session, now), Output::Close(CloseReason::Replaced));
    assert_eq!(old.poll_output(session, now), Output::Close(CloseReason::Replaced));
    assert_ne!(old.generation(), server.link.as_ref().expect("a link").generation());
    server.hears("00002c\n");
    assert_eq!(server.unsent(), 0);
    server.expect_up();
}

#[test]
fn a_replaced_link_cannot_send() {
    let mut server = Peer::server(H).up();
    server.queues("a");
    let mut old = server.link.take().expect("a link");
    server.connects();
    // All its timers are due.
    let late = server.now + ms(1_900);
    old.handle_timeout(late);
    assert_eq!(old.poll_output(&mut server.session, late), Output::Close(CloseReason::Replaced));
}

// Time.

/// A conversation with a resend, settling, pacing, keepalives and an outage in it.
fn conversation(mut server: Peer) -> Vec<(u64, String)> {
    let start = server.now;
    for number in 0..8 {
        server.queues(std::format!("{number}"));
        server.queues_best_effort("x");
    }
    server.connects();
    for number in 0..6 {
        server.after(300);
        server.hears(std::format!("{number:02x}002c\n070001a\n"));
    }
    server.after(1_700);
    server.connects();
    server.after(5_000);
    server.expect_closed(CloseReason::Silence);
    server.transcript(start)
}

#[test]
fn early_and_repeated_timeouts_change_nothing() {
    for dialect in [H, U] {
        let exact = conversation(Peer::new(Side::Server, dialect));
        assert!(exact.len() > 20, "a conversation worth comparing");
        assert_eq!(conversation(Peer::new(Side::Server, dialect).fidgeting()), exact);
    }
}

#[test]
fn a_late_timeout_is_made_up_for_once() {
    let mut server = Peer::server(H).up();
    server.queues("a");
    server.expect_messages("000001a\n");
    server.oversleeps(2_900);
    server.expect_sends("000001a\n");
    server.expect_up();
    server.after(499);
    server.hears("\n");
    server.expect_sends("");
}

#[test]
fn timeouts_at_the_same_time_do_nothing_more() {
    let mut server = Peer::server(H).up();
    server.queues("a");
    server.after(1_000);
    server.expect_messages("000001a\n000001a\n");
    for _ in 0..100 {
        server.oversleeps(0);
    }
    server.expect_sends("");
    server.expect_up();
}

#[test]
#[should_panic(expected = "drained")]
#[cfg(debug_assertions)]
fn time_may_not_move_on_before_the_drain() {
    let mut server = Peer::server(H).up();
    let link = server.link.as_mut().expect("a link");
    link.handle_queue(server.now, Queue { qos: true, best_effort: false });
    link.handle_timeout(server.now + ms(1));
}

#[test]
#[should_panic(expected = "drained")]
#[cfg(debug_assertions)]
fn a_drain_ends_only_with_wait_or_close() {
    let mut server = Peer::server(H).up();
    let link = server.link.as_mut().expect("a link");
    link.handle_queue(server.now, Queue { qos: true, best_effort: false });
    assert!(matches!(link.poll_output(&mut server.session, server.now), Output::Message(..)));
    link.handle_timeout(server.now + ms(1));
}

/// The harness gives up on a drain that goes on and on.
#[test]
fn every_drain_ends_however_short_the_times() {
    for micros in 0..8 {
        for side in [Side::Device, Side::Server] {
            let timeout = Duration::from_micros(micros);
            let mut peer = Peer::new(side, H).with(|config| *config = Config::new(side, timeout));
            peer.queues("a");
            peer.connects();
            peer.after(1);
        }
    }
    let mut server = Peer::server(H).with(|config| config.resend = ms(0)).up();
    server.queues("a");
}

#[test]
fn times_are_derived_from_the_timeout() {
    let device = Config::new(Side::Device, ms(4_000));
    let server = Config::new(Side::Server, ms(4_000));
    for config in [device, server] {
        assert_eq!((config.keepalive, config.resend, config.write), (ms(1_000), ms(2_000), ms(4_000)));
    }
    assert_eq!((device.silence, device.settle), (ms(4_000), ms(0)));
    assert_eq!((server.silence, server.settle), (ms(6_000), ms(200)));
    assert!(server.pace.burst < 5 && server.pace.interval > ms(0), "a board on H has room for 5 messages");
}

#[test]
fn a_device_that_spoke_another_engines_dialect_is_another_program() {
    let mut server = Peer::server(H).up();
    server.hears("010001a\n");
    server.expect_delivered(&["a"]);
    server.queues("x");
    server.expect_messages("01002c\n000001x\n");
    server.session.handle_other_program();
    server.reconnects();
    // What was in flight has the first id of a new program, and so have the device's own messages.
    server.expect_messages("000001x\n");
    server.hears("010001a\n");
    server.expect_delivered(&["a"]);
    // A session that has spoken none has nothing to begin anew.
    let mut new = Peer::server(H);
    new.session.handle_other_program();
    assert!(new.session.is_fresh());
}

#[test]
fn a_message_that_is_written_is_not_delivered_where_the_peer_acknowledges() {
    let mut server = Peer::server(H).up();
    server.queues("a");
    let now = server.now;
    server.link.as_mut().expect("a link").handle_written(&mut server.session, now);
    assert!(server.session.in_flight().is_some());
    server.write_blocked(true);
    server.write_blocked(false);
    server.expect_messages("000001a\n");
}
