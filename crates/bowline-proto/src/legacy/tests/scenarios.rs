//! What broke the reference, each by its number in the list of scenarios.

use std::format;
use std::string::{String, ToString};

use super::harness::{H, P, Peer, U, ms};
use crate::Side;
use crate::legacy::{CloseReason, Config};
use crate::time::Instant;
use crate::wire::LineScanner;
use crate::wire::login::{self, Login};

#[test]
fn r03_an_undecodable_message_becomes_a_dead_letter_and_is_acknowledged_once() {
    for (dialect, line, ack) in
        [(H, &b"000001\"\xff\"\n"[..], "00002c\n"), (H, b"00ff01x\n", "00002c\n"), (U, b"00\xff\n", "00\n")]
    {
        let mut server = Peer::server(dialect).up();
        server.hears(line);
        server.expect_sends(ack);
        server.expect_buried(&[&line[..line.len() - 1]]);
        // The ACK is lost: the resend is acknowledged, and kept no second time.
        server.reconnects();
        server.hears(line);
        server.expect_sends(ack);
        server.expect_buried(&[]);
        server.expect_delivered(&[]);
        assert_eq!((server.counters().undecodable, server.counters().duplicates), (1, 1));
    }
}

#[test]
fn r04_lost_ids_leave_no_stale_marks_a_lap_later() {
    for dialect in [H, U] {
        let mut server = Peer::server(dialect).up();
        let mut expected = 0;
        for lap in 0..4 {
            for id in 1..=255 {
                // In the first lap, best effort with these ids is lost.
                if lap == 0 && (0x60..0x68).contains(&id) {
                    continue;
                }
                server.hears(if dialect == H { format!("{id:02x}0001on\n") } else { format!("{id:02x}on\n") });
                expected += 1;
            }
        }
        assert_eq!((server.counters().accepted, server.counters().duplicates), (expected, 0));
    }
}

/// The restarted device's first message is lost, so that no id 0 tells of the restart. The best outcome on
/// these dialects: bytes tell the new message from the old one. Equal bytes under a remembered id cannot be told.
#[test]
fn r05_the_ids_of_a_restarted_device_are_new_although_its_first_message_was_lost() {
    for (dialect, mark) in [(H, "0001"), (U, "")] {
        let mut server = Peer::server(dialect).up();
        for id in 0..12 {
            server.hears(format!("{id:02x}{mark}old{id}\n"));
        }
        assert_eq!(server.counters().accepted, 12);
        server.reconnects();
        for id in 1..12 {
            server.hears(format!("{id:02x}{mark}new{id}\n"));
        }
        assert_eq!((server.counters().accepted, server.counters().duplicates), (23, 0));
    }
}

#[test]
fn r06_an_ack_matches_only_what_is_in_flight() {
    let mut server = Peer::server(H).up();
    server.queues("first");
    server.hears("00002c\n");
    server.queues("second");
    server.hears("01002c\n");
    for number in 0..254 {
        server.queues_best_effort(number.to_string());
    }
    // The ids have come round: this one has id 1 again.
    server.queues("third");
    assert_eq!((server.unsent(), server.counters().acked), (1, 2));
    server.hears("02002c\n00002c\n");
    assert_eq!((server.unsent(), server.counters().stray_acks), (1, 2));
    server.hears("01002c\n");
    assert_eq!(server.unsent(), 0);
}

/// On U best effort is acknowledged too, so an ACK that is on its way must not fit a later qos message.
#[test]
fn r06_on_u_an_ack_of_best_effort_never_fits_a_qos_message() {
    let mut device = Peer::device(U).up();
    device.queues("first");
    device.hears("00\n");
    for number in 0..255 {
        device.queues_best_effort(number.to_string());
    }
    device.queues("precious");
    device.hears("01\n"); // what the server has seen is the first best-effort message
    assert_eq!(device.unsent(), 1);
}

#[test]
fn r07_an_empty_message_on_u_acknowledges_only_what_is_in_flight() {
    let mut device = Peer::device(U).up();
    device.queues("a");
    device.hears("05\n");
    assert_eq!((device.unsent(), device.counters().stray_acks), (1, 1));
    device.hears("00\n");
    device.hears("00\n");
    assert_eq!((device.unsent(), device.counters().stray_acks), (0, 2));
    device.expect_delivered(&[]);
}

#[test]
fn r14_a_resend_of_id_0_is_not_delivered_again() {
    for (dialect, line, ack) in [(H, "000001a\n", "00002c\n"), (U, "00a\n", "00\n")] {
        for side in [Side::Server, Side::Device] {
            let mut peer = Peer::new(side, dialect).up();
            peer.hears(line);
            peer.hears(line);
            peer.reconnects();
            peer.hears(line);
            peer.expect_messages(&ack.repeat(3));
            peer.expect_delivered(&["a"]);
        }
    }
}

#[test]
fn r16_a_partial_line_does_not_survive_its_link() {
    for (dialect, partial) in [(H, "000001hel"), (U, "00hel"), (P, "hel")] {
        let mut server = Peer::server(dialect).up();
        server.hears(partial);
        server.reconnects();
        server.hears("lo\n");
        server.expect_delivered(if dialect == P { &["lo"] } else { &[] });
        // The scanner's memory is gone too: a shorter line is seen at once.
        server.hears(partial);
        server.reconnects();
        server.hears("\n");
        server.hears(if dialect == H { "010001x\n" } else { "01x\n" });
        server.expect_delivered(if dialect == P { &["01x"] } else { &["x"] });
    }
}

#[test]
fn r19_three_hundred_queued_messages_go_in_order_one_at_a_time() {
    let mut server = Peer::server(H).up();
    for number in 0..300 {
        server.queues(number.to_string());
    }
    for number in 0..300 {
        let id = if number == 0 { 0 } else { (number - 1) % 255 + 1 };
        server.expect_messages(&format!("{id:02x}0001{number}\n"));
        if number % 50 == 3 {
            server.reconnects();
            server.expect_messages(&format!("{id:02x}0001{number}\n"));
        }
        server.hears(format!("{id:02x}002c\n"));
    }
    server.expect_messages("");
    assert_eq!((server.unsent(), server.counters().stray_acks), (0, 0));
}

#[test]
fn r20_what_comes_behind_the_login_belongs_to_the_new_link() {
    let mut server = Peer::server(H).up();
    server.hears("000001a\n");
    let segment = b"2c00ffboard\n010001b\n0200";
    let line = LineScanner::new(login::MAX_LINE).next(segment).ok().flatten().expect("a line");
    assert_eq!(Login::parse(line).map(|login| (login.dialect, login.id.as_str())), Ok((H, "board")));
    server.reconnects();
    server.hears(&segment[line.len() + 1..]);
    server.hears("01c\n");
    server.expect_delivered(&["a", "b", "c"]);
    server.expect_sends("00002c\n01002c\n02002c\n");
}

#[test]
fn r21_a_send_is_bound_to_its_link() {
    let mut server = Peer::server(H).up();
    server.queues("first");
    server.hears("00002c\n");
    server.queues("a");
    server.queues_best_effort("x");
    server.expect_messages("000001first\n010001a\n020000x\n");
    server.write_blocked(true); // half of it is in the socket
    server.link_cuts();
    server.connects();
    // Whole lines again, and best effort is not carried over.
    server.expect_messages("010001a\n");
    server.after(400);
    server.expect_sends("");
}

#[test]
fn r23_a_device_that_never_sends_again_still_gets_its_messages() {
    let mut server = Peer::server(H).up();
    server.hears("000000\"the write that blocks the device for ever\"\n");
    for number in 0..20 {
        server.queues(format!("{number}"));
        server.after(500);
        server.hears(format!("\n{number:02x}002c\n"));
        server.expect_up();
    }
    assert_eq!((server.unsent(), server.counters().acked), (0, 20));
}

#[test]
fn r26_best_effort_without_an_ack_never_blocks_qos() {
    for (dialect, sent, ack) in [(H, "020001b\n", "01002c\n"), (U, "02b\n", "02\n")] {
        let mut device = Peer::device(dialect).up();
        device.queues("a");
        device.hears(if dialect == H { "00002c\n" } else { "00\n" });
        device.expect_messages(if dialect == H { "000001a\n" } else { "00a\n" });
        device.queues_best_effort("lost");
        device.queues("b");
        device.expect_messages(&format!("{}{sent}", if dialect == H { "010000lost\n" } else { "01lost\n" }));
        device.hears(ack);
        device.reconnects();
        device.queues("c");
        device.expect_messages(if dialect == H { sent } else { "03c\n" });
    }
}

#[test]
fn r27_an_undecodable_message_does_not_block_those_behind_it() {
    let mut server = Peer::server(H).up();
    server.hears(b"010001\xc3\n020001b\n");
    server.expect_sends("01002c\n02002c\n");
    server.expect_delivered(&["b"]);
}

#[test]
fn r28_the_reader_survives_any_bytes_or_closes_the_link() {
    let mut server = Peer::server(H).up();
    // A character in two segments is no fault.
    let line = "000001\"ä\"\n".as_bytes();
    server.hears(&line[..8]);
    server.hears(&line[8..]);
    server.expect_delivered(&["\"ä\""]);
    server.hears("not hex\n\u{0}\u{1}\n");
    server.hears(b"\xff\xfe\n");
    server.expect_buried(&[b"not hex", b"\0\x01", b"\xff\xfe"]);
    server.hears("010001\"b\"\n");
    server.expect_delivered(&["\"b\""]);
    server.expect_up();
    for byte in 0..=255 {
        server.hears([byte, b'\n']);
    }
    server.expect_closed(CloseReason::Malformed);
}

#[test]
fn r29_a_device_reads_on_after_a_malformed_line() {
    for (dialect, line) in [(H, "000001a\n"), (U, "00a\n")] {
        let mut device = Peer::device(dialect).up();
        device.hears("?\n");
        device.hears(line);
        device.expect_delivered(&["a"]);
        device.expect_up();
        assert_eq!(device.counters().malformed, 1);
    }
}

#[test]
fn r39_late_keepalives_do_not_end_a_healthy_link() {
    let timeout = ms(1_500);
    let mut server = Peer::new(Side::Server, H).with(|config| *config = Config::new(Side::Server, timeout)).up();
    for round in 0..100 {
        let jitter = [0, 450, 130, 449][round % 4];
        server.after(1_250 + jitter);
        server.hears("\n");
        server.expect_up();
    }
    server.after(2_250);
    server.expect_closed(CloseReason::Silence);
}

/// Time comes in only with the inputs; whatever the driver's clock does, only silence can follow.
#[test]
fn r40_a_clock_that_jumps_ends_a_link_by_silence_or_not_at_all() {
    for jump in [60_000, 3_600_000, u64::MAX / 1_000] {
        let mut server = Peer::server(H).up();
        server.queues("a");
        server.oversleeps(jump);
        server.expect_closed(CloseReason::Silence);
    }
    // What was heard before the engine looked at the clock counts.
    let mut server = Peer::server(H).up();
    server.now += ms(3_600_000);
    server.hears("000001a\n");
    server.expect_up();
    server.expect_delivered(&["a"]);
}

#[test]
fn r40_a_clock_that_stands_still_or_is_set_back_changes_nothing() {
    let mut server = Peer::server(H).up();
    server.queues("a");
    let mut acks = String::new();
    for number in 0..50 {
        server.oversleeps(0);
        server.hears(format!("{number:02x}0001x\n"));
        acks += &format!("{number:02x}002c\n");
    }
    server.expect_messages(&format!("000001a\n{acks}"));
    server.now = Instant::ZERO;
    server.hears("320001x\n");
    server.expect_sends("32002c\n");
    server.expect_up();
}
