//! Bytes through the line.

use bowline_coprocessor::{Board, LineError, NoReset};
use bowline_embedded::Network;
use embassy_futures::join::join;
use embedded_io_async::{Read, Write};
use embedded_nal_async::TcpConnect;
use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::line::{Noise, Wifi, beside, coprocessor, line, seed};

/// What the other end of a connection does with it.
async fn echo(listener: &TcpListener, pieces: usize) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = vec![0; pieces];
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        if stream.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

/// Sends so many bytes to an echo and compares what comes back.
pub(crate) async fn goes_and_comes(board: &Board<'_, 256>, listener: &TcpListener, len: usize, random: &mut Rng) {
    let sent: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
    let pieces = random.usize(1..2_000);
    let client = async {
        let mut connection = board.connect(listener.local_addr().unwrap()).await.unwrap();
        let mut came: Vec<u8> = Vec::new();
        let mut bytes = [0; 100];
        let mut next = 0;
        while came.len() < len {
            // As much is on its way as has room somewhere, so writing waits for nobody who waits for reading.
            if next < len && next - came.len() < 400 {
                let most = random.usize(1..=200);
                next += connection.write(&sent[next..][..most.min(len - next)]).await.unwrap();
            } else {
                let most = random.usize(1..=bytes.len());
                let count = connection.read(&mut bytes[..most]).await.unwrap();
                came.extend(&bytes[..count]);
            }
        }
        assert!(came == sent, "every byte, in order");
    };
    tokio::select! {
        () = client => {}
        () = async { echo(listener, pieces).await; std::future::pending().await } => {}
    }
}

#[tokio::test]
async fn bytes_come_as_they_went_in_pieces_of_any_size() {
    let seed = seed();
    let mut random = Rng::with_seed(seed);
    let noise = Noise::none();
    let [(rx, tx), (other_rx, other_tx)] = line(&noise);
    let (wifi, crash) = (Wifi::default(), Notify::new());
    let board = Board::<256>::new("net", "word").unwrap();
    let sides = join(board.run(rx, tx, NoReset, 1), coprocessor(other_rx, other_tx, &wifi, &crash));
    let script = async {
        (&board).join().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for _ in 0..5 {
            goes_and_comes(&board, &listener, 20_000, &mut random).await;
        }
        assert_eq!(board.report().damaged, 0);
    };
    beside(sides, script).await;
}

/// With one byte in 500 damaged, every fourth frame is.
#[tokio::test]
async fn a_line_that_damages_bytes_is_slower_and_nothing_else() {
    let seed = seed();
    let mut random = Rng::with_seed(seed);
    let noise = Noise::seeded(seed, 500);
    let [(rx, tx), (other_rx, other_tx)] = line(&noise);
    let (wifi, crash) = (Wifi::default(), Notify::new());
    let board = Board::<256>::new("net", "word").unwrap();
    let sides = join(board.run(rx, tx, NoReset, 1), coprocessor(other_rx, other_tx, &wifi, &crash));
    let script = async {
        (&board).join().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        goes_and_comes(&board, &listener, 10_000, &mut random).await;
        assert!(board.report().damaged > 0);
    };
    beside(sides, script).await;
}

#[tokio::test]
async fn what_the_peer_says_last_is_read_before_its_end() {
    let noise = Noise::none();
    let [(rx, tx), (other_rx, other_tx)] = line(&noise);
    let (wifi, crash) = (Wifi::default(), Notify::new());
    let board = Board::<256>::new("net", "word").unwrap();
    let sides = join(board.run(rx, tx, NoReset, 1), coprocessor(other_rx, other_tx, &wifi, &crash));
    let script = async {
        (&board).join().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&[7; 5_000]).await.unwrap();
        });
        let mut connection = board.connect(address).await.unwrap();
        let (mut came, mut bytes) = (0, [0; 100]);
        loop {
            match connection.read(&mut bytes).await.unwrap() {
                0 => break,
                count => came += count,
            }
        }
        assert_eq!(came, 5_000);
    };
    beside(sides, script).await;
}

#[tokio::test]
async fn who_refuses_is_told_and_there_is_one_connection_at_a_time() {
    let noise = Noise::none();
    let [(rx, tx), (other_rx, other_tx)] = line(&noise);
    let (wifi, crash) = (Wifi::default(), Notify::new());
    let board = Board::<256>::new("net", "word").unwrap();
    let sides = join(board.run(rx, tx, NoReset, 1), coprocessor(other_rx, other_tx, &wifi, &crash));
    let script = async {
        (&board).join().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let first = board.connect(address).await.unwrap();
        assert_eq!(board.connect(address).await.unwrap_err(), LineError::Busy);
        drop(first);
        // To the other side it is closed, too.
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(!matches!(stream.read(&mut [0]).await, Ok(1..)));
        drop(listener);
        assert_eq!(board.connect(address).await.unwrap_err(), LineError::Refused);
    };
    beside(sides, script).await;
}
