//! Exactly once, in order, byte for byte.

use bowline_proto::wire::MessageError as LineError;
use bowline_server::{DownReason, Limits, Message, MessageError, SendError};
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::harness::{Board, HUGE, eventually, goes_down, millis, only, pending, receives, sending, server, soon};

#[tokio::test]
async fn r03_undecodable_messages_are_acked_once_and_kept_as_dead_letters() {
    let server = server().start().await.unwrap();
    for (mut board, lead, ack, id) in [
        (Board::logs_in_h(&server, "h").await, "000001", "00002c", "h"),
        (Board::logs_in_u(&server, "u").await, "00", "00", "u"),
    ] {
        let device = server.get(id).unwrap();
        let line = [lead.as_bytes(), b"\xff\xfe"].concat();
        for _ in 0..2 {
            board.writes([&line[..], b"\n"].concat()).await;
            board.expects(ack).await;
        }
        let letters = device.dead_letters();
        assert_eq!(letters.len(), 1, "{letters:?}");
        assert_eq!(letters[0].bytes, line);
        let ledger = device.ledger();
        assert_eq!((ledger.session.undecodable, ledger.session.duplicates, ledger.dead_letters), (1, 1, 1));

        // What comes behind it is not held up.
        let (next, ack) = if id == "h" { ("010001[2]", "01002c") } else { ("01[2]", "01") };
        board.sends(next).await;
        board.expects(ack).await;
        receives(&device, "[2]").await;
    }
}

#[tokio::test]
async fn r07_on_u_an_empty_message_is_refused_and_a_stray_ack_acknowledges_nothing() {
    let server = server().start().await.unwrap();
    let mut board = Board::logs_in_u(&server, "u").await;
    let device = server.get("u").unwrap();

    let error = device.send("").await.unwrap_err();
    assert_eq!(error, SendError::Message(MessageError::Line(LineError::Empty(bowline_proto::Dialect::Upstream))));
    assert!(error.to_string().contains("empty"), "{error}");

    let mut sent = sending(&device, "[1]");
    board.expects("00[1]").await;
    board.sends("05").await;
    eventually(|| device.ledger().session.stray_acks == 1).await;
    assert!(pending(&mut sent, millis(20)).await, "only 00 acknowledges 00");
    board.sends("00").await;
    soon(sent).await.unwrap().unwrap();
}

#[tokio::test]
async fn r07_acks_of_nothing_are_survived_whatever_they_name() {
    let server = server().start().await.unwrap();
    for (id, ack) in [("h", "002c"), ("u", "")] {
        let mut board = match id {
            "h" => Board::logs_in_h(&server, id).await,
            _ => Board::logs_in_u(&server, id).await,
        };
        let device = server.get(id).unwrap();
        for rounds in 1..=2 {
            for number in 0..=255 {
                board.sends(&format!("{number:02x}{ack}")).await;
            }
            eventually(|| device.ledger().session.stray_acks == rounds * 256).await;
            let sent = sending(&device, format!("[{rounds}]"));
            let line = soon(board.line()).await.unwrap();
            board.sends(&format!("{}{ack}", &line[..2])).await;
            soon(sent).await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn r13_best_effort_without_a_link_fails() {
    let server = server().admission(only(&["h"])).start().await.unwrap();
    let device = server.get("h").unwrap();
    assert_eq!(device.send_best_effort("[1]").await, Err(SendError::NoLink));

    Board::logs_in_h(&server, "h").await.cuts();
    goes_down(&device).await;
    assert_eq!(device.send_best_effort("[1]").await, Err(SendError::NoLink));
}

#[tokio::test]
async fn r13_best_effort_fails_if_the_link_ends_before_it_is_written() {
    for fresh in [true, false] {
        let limits = Limits { line: 2 * HUGE, ..Limits::default() };
        let server = server().limits(limits).start().await.unwrap();
        let mut board = Board::logs_in_h(&server, "h").await;
        let device = server.get("h").unwrap();
        if !fresh {
            let sent = sending(&device, "[0]");
            board.acknowledges_h(1).await;
            sent.await.unwrap().unwrap();
        }
        let sent = {
            let device = device.clone();
            tokio::spawn(async move { device.send_best_effort("x".repeat(HUGE)).await })
        };
        board.reads_only(1000).await;
        board.cuts();
        let result = soon(sent).await.unwrap();
        assert!(matches!(result, Err(SendError::LinkEnded(DownReason::Transport(_)))), "{fresh} {result:?}");
    }
}

#[tokio::test]
async fn r15_lines_arrive_whole_at_every_split_point() {
    let server = server().start().await.unwrap();
    let mut h = Board::logs_in_h(&server, "h").await;
    let mut u = Board::logs_in_u(&server, "u").await;
    let (at_h, at_u) = (server.get("h").unwrap(), server.get("u").unwrap());
    for split in 0..30 {
        let (first, second) = (1 + 2 * split, 2 + 2 * split);
        // A line end of its own is a keepalive, a space belongs to the payload.
        let stream_h = format!("{first:02x}0201abcd[1] \n\n{second:02x}0001 [ä]\n");
        let stream_u = format!("{first:02x}[1] \n\n{second:02x} [ä]\n");
        for (board, device, stream, acks) in [
            (&mut h, &at_h, stream_h, [format!("{first:02x}002c"), format!("{second:02x}002c")]),
            (&mut u, &at_u, stream_u, [format!("{first:02x}"), format!("{second:02x}")]),
        ] {
            let (head, tail) = stream.as_bytes().split_at(split.min(stream.len()));
            board.writes(head).await;
            // Nothing tells when the server has read a part of a line.
            tokio::time::sleep(millis(2)).await;
            board.writes(tail).await;
            receives(device, "[1] ").await;
            receives(device, " [ä]").await;
            for ack in &acks {
                board.expects(ack).await;
            }
            assert_eq!(device.ledger().session.malformed, 0);
        }
    }
}

#[tokio::test]
async fn r16_a_partial_line_dies_with_its_link() {
    for end in [Board::leaves, Board::cuts, |board: Board| std::mem::forget(board.goes_silent())] {
        let server = server().start().await.unwrap();
        let mut board = Board::logs_in_h(&server, "h").await;
        let device = server.get("h").unwrap();
        board.sends("000001[0]").await;
        board.expects("00002c").await;
        board.writes("010001[1, ").await;
        tokio::time::sleep(millis(5)).await;
        end(board);

        let mut board = Board::logs_in_h(&server, "h").await;
        board.sends("010001[2]").await;
        board.expects("01002c").await;
        receives(&device, "[0]").await;
        receives(&device, "[2]").await;
        assert!(device.dead_letters().is_empty());
        board.expects_nothing_for(millis(5)).await;
    }
}

#[tokio::test]
async fn r17_a_timed_out_send_keeps_its_place() {
    let server = server().start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();

    assert!(timeout(millis(30), device.send("[1]")).await.is_err(), "nobody has acknowledged it");
    let second = sending(&device, "[2]");
    board.expects("000001[1]").await;
    board.expects_nothing_for(millis(20)).await;
    board.sends("00002c").await;
    board.expects("010001[2]").await;
    board.sends("01002c").await;
    soon(second).await.unwrap().unwrap();
    board.expects_nothing_for(millis(20)).await;
}

#[tokio::test]
async fn r17_a_send_cancelled_in_an_outage_is_delivered_once_after_it() {
    let server = server().start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    assert!(timeout(millis(30), device.send("[1]")).await.is_err());
    board.expects("000001[1]").await;
    board.cuts();
    goes_down(&device).await;
    assert!(timeout(millis(30), device.send("[2]")).await.is_err());

    let mut board = Board::logs_in_h(&server, "h").await;
    let third = sending(&device, "[3]");
    assert_eq!(board.acknowledges_h(3).await, ["000001[1]", "010001[2]", "020001[3]"]);
    soon(third).await.unwrap().unwrap();
    board.expects_nothing_for(millis(20)).await;
}

#[tokio::test]
async fn r19_on_u_300_concurrent_sends_arrive_in_order_under_ids_that_do_not_collide() {
    let server = server().start().await.unwrap();
    let mut board = Board::logs_in_u(&server, "u").await;
    let device = server.get("u").unwrap();
    let sends = join_all((0..300).map(|number| device.send(format!("[{number}]"))));
    let board = async {
        for number in 0..300 {
            let id = if number == 0 { 0 } else { (number - 1) % 255 + 1 };
            board.expects(&format!("{id:02x}[{number}]")).await;
            board.sends(&format!("{id:02x}")).await;
        }
    };
    let (results, ()) = soon(async { tokio::join!(sends, board) }).await;
    assert!(results.iter().all(Result::is_ok));
}

#[tokio::test]
async fn r19_on_u_messages_sent_without_waiting_stay_in_order_when_there_is_no_room() {
    let limits = Limits { inbox: 4, ..Limits::default() };
    let server = server().limits(limits).start().await.unwrap();
    let mut board = Board::logs_in_u(&server, "u").await;
    let device = server.get("u").unwrap();
    // A board with wait=False sends on. Some find no room: not acknowledged, they come again.
    let mut number = 0;
    while device.ledger().session.refused == 0 {
        board.sends(&format!("{number:02x}[{number}]")).await;
        number += 1;
        tokio::time::sleep(millis(1)).await;
        assert!(number < 255, "everything is accepted");
    }
    let refused = number - 1;
    receives(&device, "[0]").await;
    // There is room now, and the next new message comes before the resend of the refused one.
    board.sends(&format!("{number:02x}[{number}]")).await;
    board.sends(&format!("{refused:02x}[{refused}]")).await;
    board.sends(&format!("{number:02x}[{number}]")).await;
    for number in 1..=number {
        receives(&device, &format!("[{number}]")).await;
    }
}

#[tokio::test]
async fn r20_data_in_the_same_segment_as_the_login_belongs_to_the_link() {
    let server = server().start().await.unwrap();
    for (login, id, lines, ack) in
        [("2c00ffh", "h", ["000001[0]", "010001[1]"], "002c"), ("u", "u", ["00[0]", "01[1]"], "")]
    {
        for (round, line) in lines.iter().enumerate() {
            let mut board = Board::connects(&server).await;
            board.writes(format!("{login}\n{line}\n")).await;
            board.expects(&format!("{round:02x}{ack}")).await;
            let device = server.get(id).unwrap();
            receives(&device, &format!("[{round}]")).await;
            board.leaves();
        }
    }
}

#[tokio::test]
async fn r21_a_message_cut_in_the_middle_starts_afresh_on_the_next_link() {
    let limits = Limits { line: 2 * HUGE, ..Limits::default() };
    let server = server().limits(limits).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    let payload = "x".repeat(HUGE);
    let sent = sending(&device, payload.clone());
    board.reads_only(100_000).await;
    board.cuts();

    let mut board = Board::logs_in_h(&server, "h").await;
    let line = soon(board.line()).await.unwrap();
    assert!(line == format!("000001{payload}"), "{} bytes that start with {:?}", line.len(), &line[..12]);
    board.sends("00002c").await;
    soon(sent).await.unwrap().unwrap();
}

#[tokio::test]
async fn messages_are_acked_after_they_can_be_received() {
    let server = server().start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    for number in 0..50 {
        board.sends(&format!("{number:02x}0001[{number}]")).await;
        board.expects(&format!("{number:02x}002c")).await;
        let message = device.try_recv().unwrap().expect("an acknowledged message is there");
        assert_eq!(message.text(), Some(&*format!("[{number}]")));
    }
}

#[tokio::test]
async fn a_resend_is_acked_again_and_not_delivered_again() {
    let server = server().start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    for line in ["000001[0]", "000001[0]", "010001[1]", "010001[1]"] {
        board.sends(line).await;
        board.expects(&format!("{}002c", &line[..2])).await;
    }
    board.cuts();
    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("010001[1]").await;
    board.expects("01002c").await;
    receives(&device, "[0]").await;
    receives(&device, "[1]").await;
    assert_eq!(device.try_recv(), Ok(None));
    assert_eq!(device.ledger().session.duplicates, 3);
}

#[tokio::test]
async fn an_unacknowledged_message_is_sent_again_on_the_same_link() {
    let server = server().timeout(millis(1000)).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    let sent = sending(&device, Message::with_header(&[1, 2, 3], b"[1]"));
    board.expects("000301010203[1]").await;
    board.expects("000301010203[1]").await;
    board.sends("00002c0000").await;
    soon(sent).await.unwrap().unwrap();
    assert_eq!(device.ledger().session.resent, 1);
}
