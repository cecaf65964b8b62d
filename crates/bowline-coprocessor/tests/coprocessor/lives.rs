//! Bytes of a connection are never taken for those of another, whichever side has begun anew meanwhile.

use std::time::Duration;

use bowline_coprocessor::{Board, LineError, NoReset};
use embassy_futures::join::join;
use embedded_io_async::Read;
use embedded_nal_async::TcpConnect;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::line::{BOARD, COPROCESSOR, DATA, Noise, Wifi, beside, coprocessor, line_of};

/// What a connection begins with.
async fn begins_with(board: &Board<'_, 256>, listener: &TcpListener) -> [u8; 3] {
    let mut connection = board.connect(listener.local_addr().unwrap()).await.unwrap();
    let mut bytes = [0; 3];
    connection.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// The co-processor has not heard that the board has begun anew, and sends again what the earlier life has not confirmed. The
/// numbers of connections have begun anew with the board.
#[tokio::test]
async fn bytes_for_an_earlier_life_of_the_board_are_not_taken_for_this_one_s() {
    let (up, down) = (Noise::none(), Noise::none());
    let [(mut rx, mut tx), (other_rx, other_tx)] = line_of([&up, &down]);
    let (wifi, crash) = (Wifi::default(), Notify::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let script = async {
        let board = Board::<256>::new("net", "word").unwrap();
        let first = async {
            let peer = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                // So the co-processor knows that there is room.
                up.passes(BOARD).await;
                up.passes(BOARD).await;
                up.cuts(true);
                stream.write_all(b"old").await.unwrap();
                stream
            };
            let (bytes, stream) = tokio::join!(begins_with(&board, &listener), peer);
            assert_eq!(&bytes, b"old");
            stream
        };
        let _first = beside(board.run(&mut rx, &mut tx, NoReset, 1), first).await;

        let board = Board::<256>::new("net", "word").unwrap();
        let second = async {
            let peer = async {
                // The earlier life has had some of both.
                for kind in [COPROCESSOR, COPROCESSOR, DATA, DATA] {
                    down.passes(kind).await;
                }
                up.cuts(false);
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(b"new").await.unwrap();
                stream
            };
            let (bytes, _stream) = tokio::join!(begins_with(&board, &listener), peer);
            assert_eq!(&bytes, b"new");
        };
        beside(board.run(&mut rx, &mut tx, NoReset, 2), second).await;
    };
    beside(coprocessor(other_rx, other_tx, &wifi, &crash), script).await;
}

/// The same with a board that goes on, and has dropped a connection of which it has confirmed nothing.
#[tokio::test]
async fn bytes_of_the_connection_before_are_not_taken_for_this_one_s() {
    let (up, down) = (Noise::none(), Noise::none());
    let [(rx, tx), (other_rx, other_tx)] = line_of([&up, &down]);
    let (wifi, crash) = (Wifi::default(), Notify::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let board = Board::<256>::new("net", "word").unwrap();
    let sides = join(board.run(rx, tx, NoReset, 1), coprocessor(other_rx, other_tx, &wifi, &crash));
    let script = async {
        let first = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            up.passes(BOARD).await;
            up.passes(BOARD).await;
            up.cuts(true);
            stream.write_all(b"old").await.unwrap();
            stream
        };
        let (bytes, _first) = tokio::join!(begins_with(&board, &listener), first);
        assert_eq!(&bytes, b"old");
        let second = async {
            down.passes(DATA).await;
            down.passes(DATA).await;
            up.cuts(false);
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"new").await.unwrap();
            stream
        };
        let (bytes, _second) = tokio::join!(begins_with(&board, &listener), second);
        assert_eq!(&bytes, b"new");
    };
    beside(sides, script).await;
}

/// The board has bytes of a connection and has not heard that it is open, when the co-processor crashes. The next one makes
/// another under the same number.
#[tokio::test]
async fn bytes_from_before_the_coprocessor_crashed_do_not_begin_the_next_connection() {
    let (up, down) = (Noise::none(), Noise::none());
    let [(rx, tx), (other_rx, other_tx)] = line_of([&up, &down]);
    let (wifi, crash) = (Wifi::default(), Notify::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let board = Board::<256>::new("net", "word").unwrap();
    let sides = join(board.run(rx, tx, NoReset, 1), coprocessor(other_rx, other_tx, &wifi, &crash));
    let script = async {
        let peer = async {
            let (mut first, _) = listener.accept().await.unwrap();
            down.loses_states(true);
            first.write_all(b"old").await.unwrap();
            down.passes(DATA).await;
            crash.notify_one();
            down.loses_states(false);
            let (mut second, _) = listener.accept().await.unwrap();
            second.write_all(b"new").await.unwrap();
            (first, second)
        };
        let (bytes, _streams) = tokio::join!(begins_with(&board, &listener), peer);
        assert_eq!(&bytes, b"new");
        assert_eq!(board.report().restarts, 1);
    };
    beside(sides, script).await;
}

/// The co-processor has given a board up that was silent for long, and its connection. It does not make another under that number,
/// which the board would take for the one it had.
#[tokio::test(start_paused = true)]
async fn a_connection_that_was_given_up_is_not_made_again_behind_the_board_s_back() {
    bowline_embedded_host::begin();
    let (up, down) = (Noise::none(), Noise::none());
    let [(rx, tx), (other_rx, other_tx)] = line_of([&up, &down]);
    let (wifi, crash) = (Wifi::default(), Notify::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let board = Board::<256>::new("net", "word").unwrap();
    let sides = join(board.run(rx, tx, NoReset, 1), coprocessor(other_rx, other_tx, &wifi, &crash));
    let script = async {
        let mut connection = board.connect(listener.local_addr().unwrap()).await.unwrap();
        let _first = listener.accept().await.unwrap();
        // It goes on hearing the co-processor, but not that it is given up.
        up.cuts(true);
        tokio::time::sleep(Duration::from_millis(4_500)).await;
        down.cuts(true);
        tokio::time::sleep(Duration::from_secs(1)).await;
        up.cuts(false);
        tokio::time::sleep(Duration::from_millis(500)).await;
        down.cuts(false);
        let mut bytes = [0; 1];
        assert_eq!(connection.read(&mut bytes).await.unwrap_err(), LineError::Reset);
        let again = tokio::time::timeout(Duration::from_secs(5), listener.accept()).await;
        assert!(again.is_err(), "nobody has asked for a connection");
    };
    beside(sides, script).await;
}
