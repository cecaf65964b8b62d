//! The scenarios that broke the reference's client, on this one. Timeouts are long: nothing is resent unless a
//! test does.

use super::legacy::Legacy;
use super::{BOTH, boots, got_until, serves, stat};
use crate::harness::{Board, Server};

/// A board on H whose timeout plays no part, and the server that it has logged in to.
fn on_h(options: &[&str]) -> Option<(Legacy, Board)> {
    let mut server = Legacy::opens();
    let address = server.address();
    let (host, port) = address.rsplit_once(':').unwrap();
    let arguments = [&[host, port, "kitchen", "120000", "dialect=H"], options].concat();
    let mut board = Board::runs(&[], "board.py", &arguments)?;
    server.accepts();
    board.reports("up");
    Some((server, board))
}

#[test]
fn r01_a_full_queue_is_back_pressure() {
    let Some((mut server, mut board)) = on_h(&["deaf=1", "queue=5"]) else { return };
    for id in 0..7 {
        server.says(&format!("{id:02x}0001{id}"));
    }
    for id in 0..5 {
        assert_eq!(server.hears(), format!("{id:02x}002c"));
    }
    // The sixth is parked, the seventh refused; neither is acknowledged, nor is a resend.
    server.says("0500015");
    server.says("none of the dialect");
    board.reports("bad");
    board.does("qos \"mark\"");
    assert_eq!(server.hears(), "000001\"mark\"", "and no ACK before it");
    server.says("00002c");
    board.does("listen");
    assert_eq!(server.hears(), "05002c", "room came free");
    server.says("0600016");
    assert_eq!(server.hears(), "06002c");
    assert_eq!(got_until(&mut board, "6"), ["0", "1", "2", "3", "4", "5", "6"]);
}

#[test]
fn r05_a_restarted_servers_messages_are_new() {
    for count in [5, 100] {
        let Some((mut server, mut board)) = on_h(&[]) else { return };
        for id in 0..=count {
            server.says(&format!("{id:02x}0001\"old {id}\""));
            assert_eq!(server.hears(), format!("{id:02x}002c"));
        }
        server.cuts();
        server.accepts();
        // Its message with id 0 was lost; those behind it have ids that were seen.
        for id in 1..=count {
            server.says(&format!("{id:02x}0001\"new {id}\""));
            assert_eq!(server.hears(), format!("{id:02x}002c"));
        }
        let got = got_until(&mut board, &format!("\"new {count}\""));
        assert_eq!(got.len(), 2 * count + 1, "{got:?}");
    }
}

/// The other way round: a server of the reference drops what comes under ids that it has seen.
#[test]
fn r05_ids_go_on_when_a_board_with_an_outbox_restarts() {
    let flash = tempfile::tempdir().unwrap();
    let outbox = format!("outbox={}", flash.path().join("bowline").display());
    let Some((mut server, mut board)) = on_h(&[&outbox]) else { return };
    board.does("qos 1");
    assert_eq!(server.hears(), "0000011");
    server.says("00002c");
    board.reports("acked 1");
    board.does("qos 2");
    assert_eq!(server.hears(), "0100012");
    board.is_killed();
    let address = server.address();
    let (host, port) = address.rsplit_once(':').unwrap();
    let Some(mut board) = Board::runs(&[], "board.py", &[host, port, "kitchen", "120000", &outbox]) else { return };
    server.accepts();
    assert_eq!(server.hears(), "0100012", "a resend has the id it had");
    server.says("01002c");
    // Six ids may have been taken by best effort, which nobody has written down.
    board.does("qos 3");
    assert_eq!(server.hears(), "0800013");
    server.says("08002c");
    for number in 1..=6 {
        board.does("be 4");
        assert_eq!(server.hears(), format!("{:02x}00004", 8 + number));
        board.reports("sent");
    }
    board.does("be 5");
    assert_eq!(server.hears(), "0f00015", "and no more than six: this one is stored");
}

#[test]
fn r14_a_resend_of_id_0_is_not_delivered_again() {
    let Some((mut server, mut board)) = on_h(&[]) else { return };
    for _ in 0..2 {
        server.says("000001\"a\"");
        assert_eq!(server.hears(), "00002c");
    }
    // Its ACK may have been lost with the link, too.
    server.cuts();
    server.accepts();
    server.says("000001\"a\"");
    assert_eq!(server.hears(), "00002c");
    server.says("010001\"b\"");
    assert_eq!(got_until(&mut board, "\"b\""), ["\"a\"", "\"b\""]);
}

#[test]
fn r23_best_effort_blocks_no_later_write() {
    for dialect in BOTH {
        let server = serves();
        let Some(mut board) = boots(&server.address(), "kitchen", &[dialect]) else { return };
        board.does("be 1");
        board.does("qos 2");
        board.does("be 3");
        board.does("qos 4");
        for event in ["sent 1", "acked 2", "sent 3", "acked 4"] {
            board.reports(event);
        }
    }
}

#[test]
fn r24_a_bad_header_or_a_cancelled_write_blocks_nothing() {
    let Some((mut server, mut board)) = on_h(&[]) else { return };
    board.does("bad 12");
    assert!(board.reports("error 1").contains("header"));
    board.does("qos \"cancelled\"");
    assert_eq!(server.hears(), "000001\"cancelled\"");
    board.does("cancel 2");
    board.does("qos \"behind it\"");
    server.says("00002c");
    assert_eq!(server.hears(), "010001\"behind it\"");
    server.says("01002c");
    board.reports("acked 3");
    // Those that wait for room in the outbox, the first and one in the middle.
    board.does("many 20");
    assert_eq!(server.hears(), "0200014");
    board.does("cancel 20");
    board.does("cancel 22");
    board.reports("cancelled 22");
    for (id, number) in (2..20).zip((4..24).filter(|number| ![20, 22].contains(number))) {
        server.says(&format!("{id:02x}002c"));
        board.reports(&format!("acked {number}"));
    }
    assert_eq!(stat(&mut board, "waiting"), 0);
}

#[test]
fn r24_the_same_on_n() {
    let server = serves();
    let Some(mut board) = boots(&server.address(), "kitchen", &["dialect=N"]) else { return };
    board.reports("up");
    board.does("bad 12");
    assert!(board.reports("error 1").contains("three bytes"));
    board.does("many 40");
    board.does("cancel 2");
    board.does("cancel 30");
    board.does("qos \"behind them\"");
    board.reports("acked 42");
    assert!(got_until(&mut board, "\"behind them\"").len() >= 39);
}

#[test]
fn r27_what_cannot_be_read_is_acknowledged_once_and_counted() {
    let Some((mut server, mut board)) = on_h(&[]) else { return };
    server.says("000001{no json");
    assert_eq!(server.hears(), "00002c");
    server.says_bytes(b"010001\"\xff\xfe\"\n");
    assert_eq!(server.hears(), "01002c");
    server.says("02ff01\"a header of 255 bytes\"");
    assert_eq!(server.hears(), "02002c");
    server.says("030001\"next\"");
    assert_eq!(got_until(&mut board, "\"next\""), ["\"next\""]);
    assert_eq!(stat(&mut board, "bad"), 3);
}

#[test]
fn r27_the_same_on_n() {
    let server = serves();
    let Some(mut board) = boots(&server.address(), "kitchen", &["dialect=N"]) else { return };
    board.reports("up");
    for text in ["{no json", "\"next\""] {
        let sent = server.command(&["send", "kitchen", text]);
        assert!(sent.status.success(), "acknowledged: {sent:?}");
    }
    assert_eq!(got_until(&mut board, "\"next\""), ["\"next\""]);
    assert_eq!(stat(&mut board, "bad"), 1);
}

#[test]
fn r29_a_malformed_line_ends_nothing() {
    let Some((mut server, mut board)) = on_h(&[]) else { return };
    for line in ["zz", "zzzzzz\"x\"", "0", "2c00ffsomebody"] {
        server.says(line);
        board.reports("bad");
    }
    server.says_bytes(b"\xff\xfe\n");
    board.reports("bad");
    server.says("000001\"heard\"");
    assert_eq!(server.hears(), "00002c");
    assert_eq!(got_until(&mut board, "\"heard\""), ["\"heard\""]);
    assert_eq!(stat(&mut board, "status"), true);
    // Who says nothing else has another protocol: the link ends, and the next one is as good as new.
    for _ in 0..16 {
        server.says("none of the dialect");
    }
    server.accepts();
    server.says("010001\"heard again\"");
    assert_eq!(server.hears(), "01002c");
}

/// A port where nobody listens, until the server does.
fn absent() -> Server {
    let mut server = serves();
    server.stops();
    server
}

#[test]
fn r33_a_server_that_is_down_at_first_is_waited_for() {
    for dialect in BOTH {
        let mut server = absent();
        let Some(mut board) = boots(&server.address(), "kitchen", &[dialect]) else { return };
        board.reports("no server");
        board.does("qos 1");
        server.starts_again();
        board.reports("up");
        board.reports("acked 1");
    }
}

#[test]
fn r33_unless_the_program_wants_otherwise() {
    let server = absent();
    let Some(mut board) = boots(&server.address(), "kitchen", &["give_up=1"]) else { return };
    board.reports("no server");
    assert_eq!(board.reports("ended"), "given up");
    board.does("qos 1");
    assert!(board.reports("error 1").contains("given up"), "and nobody waits for ever");
}
