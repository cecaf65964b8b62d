//! Dialect P: bare lines.

use bowline_proto::wire::MessageError as LineError;
use bowline_server::{Admission, Dialect, Dialects, Limits, LinkState, MessageError, SendError, Server};

use crate::harness::{Board, HUGE, goes_down, loopback, millis, only, receives, sending, server, soon};

fn speaks(server: &Server, id: &str) -> Option<Dialect> {
    match server.get(id)?.status().link {
        LinkState::Up { dialect, .. } => Some(dialect),
        _ => None,
    }
}

#[tokio::test]
async fn devices_speak_plain_lines_by_pattern() {
    let admission = Admission { plain: vec!["meter-*".to_owned()], ..Admission::open() };
    let server = server().admission(admission).start().await.unwrap();
    let mut board = Board::logs_in_u(&server, "meter-1").await;
    let _u = Board::logs_in_u(&server, "other").await;
    assert_eq!(speaks(&server, "meter-1"), Some(Dialect::Plain));
    assert_eq!(speaks(&server, "other"), Some(Dialect::Upstream));

    let device = server.get("meter-1").unwrap();
    board.sends("000001 is text").await;
    receives(&device, "000001 is text").await;
    soon(device.send("00")).await.unwrap();
    board.expects("00").await;
    soon(device.send_best_effort("now")).await.unwrap();
    board.expects("now").await;
    assert_eq!(
        device.send("").await,
        Err(SendError::Message(MessageError::Line(LineError::Empty(bowline_proto::Dialect::Plain))))
    );
    board.expects_nothing_for(millis(10)).await;
}

#[tokio::test]
async fn devices_speak_plain_lines_by_listener() {
    let server = server().listen_plain(loopback()).start().await.unwrap();
    let mut board = Board::connects_to(server.addresses()[1]).await;
    board.sends("p").await;
    board.is_up().await;
    let _u = Board::logs_in_u(&server, "u").await;
    assert_eq!(speaks(&server, "p"), Some(Dialect::Plain));
    assert_eq!(speaks(&server, "u"), Some(Dialect::Upstream));
    board.sends("line").await;
    receives(&server.get("p").unwrap(), "line").await;
}

#[tokio::test]
async fn plain_lines_can_be_switched_off() {
    let admission = Admission { dialects: Dialects { plain: false, ..Dialects::ALL }, ..Admission::open() };
    let server = server().listen_plain(loopback()).admission(admission).start().await.unwrap();
    let mut board = Board::connects_to(server.addresses()[1]).await;
    board.sends("p").await;
    board.expects_end().await;
    assert_eq!(server.stats().refused_dialect, 1);
}

#[tokio::test]
async fn a_full_inbox_stops_the_reading_and_loses_no_line() {
    let admission = Admission { plain: vec!["*".to_owned()], ..only(&["p"]) };
    let limits = Limits { inbox: 4, ..Limits::default() };
    let server = server().admission(admission).limits(limits).start().await.unwrap();
    let mut board = Board::logs_in_u(&server, "p").await;
    let device = server.get("p").unwrap();
    for number in 0..100 {
        board.sends(&number.to_string()).await;
    }
    for number in 0..100 {
        receives(&device, &number.to_string()).await;
    }
}

#[tokio::test]
async fn a_line_cut_in_the_middle_is_sent_again_on_the_next_link() {
    let admission = Admission { plain: vec!["*".to_owned()], ..only(&["p"]) };
    let limits = Limits { line: 2 * HUGE, ..Limits::default() };
    let server = server().admission(admission).limits(limits).settle(millis(100)).start().await.unwrap();
    let mut board = Board::logs_in_u(&server, "p").await;
    let device = server.get("p").unwrap();
    let payload = "z".repeat(HUGE);
    let sent = sending(&device, payload.clone());
    board.reads_only(100_000).await;
    board.cuts();
    goes_down(&device).await;
    assert!(!sent.is_finished(), "it was not written");

    // The board's pause after its login is on, and a keepalive is all that is written.
    let mut board = Board::logs_in_u(&server, "p").await;
    let line = soon(board.line()).await;
    assert!(line.as_deref() == Some(&payload), "the line was lost");
    soon(sent).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_device_that_says_it_speaks_h_is_believed() {
    let admission = Admission { plain: vec!["*".to_owned()], ..Admission::open() };
    let server = server().admission(admission).listen_plain(loopback()).start().await.unwrap();
    for address in server.addresses() {
        let mut board = Board::connects_to(*address).await;
        board.sends("2c00ffh").await;
        board.is_up().await;
        assert_eq!(speaks(&server, "h"), Some(Dialect::Headers));
        board.sends("000001[1]").await;
        board.expects("00002c").await;
        board.leaves();
    }
}
