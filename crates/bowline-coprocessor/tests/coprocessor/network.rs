//! Joining, leaving, and a co-processor that does not answer.

use std::cell::Cell;
use std::convert::Infallible;
use std::time::Duration;

use bowline_coprocessor::{Board, CredentialsError, LineError, NoReset};
use bowline_embedded::Network;
use embassy_futures::join::join;
use embedded_hal::digital::{ErrorType, OutputPin};
use embedded_nal_async::TcpConnect;
use tokio::sync::Notify;

use crate::line::{Noise, Wifi, beside, coprocessor, line};

#[tokio::test(start_paused = true)]
async fn a_network_is_joined_looked_at_and_left() {
    bowline_embedded_host::begin();
    let noise = Noise::none();
    let [(rx, tx), (other_rx, other_tx)] = line(&noise);
    let (wifi, crash) = (Wifi::default(), Notify::new());
    let board = Board::<256>::new("net", "word").unwrap();
    let sides = join(board.run(rx, tx, NoReset, 1), coprocessor(other_rx, other_tx, &wifi, &crash));
    let script = async {
        let mut network = &board;
        network.join().await.unwrap();
        assert!(network.is_up());
        assert_eq!(network.signal(), Some(-67));
        assert_eq!(wifi.said.take(), ["leave", "join net word"]);

        // It is lost, and seen to be.
        wifi.is_up.set(false);
        while network.is_up() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        network.leave().await;
        assert_eq!(wifi.said.take(), ["leave"]);

        wifi.has_failed.set(true);
        assert_eq!(network.join().await, Err(LineError::Failed));
        wifi.has_failed.set(false);
        network.leave().await;
        network.join().await.unwrap();
        assert_eq!(wifi.said.take(), ["leave", "join net word", "leave", "leave", "join net word"]);
    };
    beside(sides, script).await;
}

#[tokio::test(start_paused = true)]
async fn a_coprocessor_that_has_forgotten_its_network_is_told_again() {
    bowline_embedded_host::begin();
    let noise = Noise::none();
    let [(rx, tx), (other_rx, other_tx)] = line(&noise);
    let (wifi, crash) = (Wifi::default(), Notify::new());
    let board = Board::<256>::new("net", "word").unwrap();
    let sides = join(board.run(rx, tx, NoReset, 1), coprocessor(other_rx, other_tx, &wifi, &crash));
    let script = async {
        let mut network = &board;
        network.join().await.unwrap();
        crash.notify_one();
        while network.is_up() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Nobody has to ask for it.
        while !network.is_up() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(board.report().restarts, 1);
        assert_eq!(wifi.said.take(), ["leave", "join net word", "leave", "join net word"]);
    };
    beside(sides, script).await;
}

/// Counts how often it was pulled.
struct Pin<'p>(&'p Cell<u32>);

impl ErrorType for Pin<'_> {
    type Error = Infallible;
}

impl OutputPin for Pin<'_> {
    fn set_low(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        self.0.set(self.0.get() + 1);
        Ok(())
    }
}

/// r47: whatever the other side does, nothing waits for it without an end.
#[tokio::test(start_paused = true)]
async fn r47_a_coprocessor_that_does_not_answer_is_reset_and_nobody_waits_for_it() {
    bowline_embedded_host::begin();
    let noise = Noise::none();
    let [(rx, tx), (other_rx, other_tx)] = line(&noise);
    let (wifi, crash, resets) = (Wifi::default(), Notify::new(), Cell::new(0));
    let board = Board::<256>::new("net", "word").unwrap();
    let sides = join(board.run(rx, tx, Pin(&resets), 1), coprocessor(other_rx, other_tx, &wifi, &crash));
    let script = async {
        let mut network = &board;
        network.join().await.unwrap();
        noise.cuts(true);
        let begin = tokio::time::Instant::now();
        while resets.get() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!((3_000..3_400).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
        assert!(!network.is_up() && !board.report().is_there);
        // The caller's patience is what ends these.
        let patience = Duration::from_secs(1);
        let server = "127.0.0.1:9".parse().unwrap();
        assert!(tokio::time::timeout(patience, board.connect(server)).await.is_err());
        assert!(tokio::time::timeout(patience, network.join()).await.is_err());
        // It has time to start.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(resets.get(), 1);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(resets.get(), 2);

        noise.cuts(false);
        network.join().await.unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!((resets.get(), board.report().resets), (2, 2));
    };
    beside(sides, script).await;
}

/// A line whose other end takes nothing: each frame is given up, and the reset is not held up by it.
#[tokio::test(start_paused = true)]
async fn r47_a_line_that_takes_nothing_is_not_waited_for() {
    bowline_embedded_host::begin();
    let noise = Noise::none();
    let [(rx, tx), _other] = line(&noise);
    let resets = Cell::new(0);
    let board = Board::<256>::new("net", "word").unwrap();
    let script = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!((4..=8).contains(&resets.get()), "{}", resets.get());
    };
    beside(board.run(rx, tx, Pin(&resets), 1), script).await;
}

#[test]
fn names_and_passwords_that_no_network_has_are_refused() {
    let long = "x".repeat(65);
    assert_eq!(Board::<256>::new(&long[..33], "").err(), Some(CredentialsError::Ssid));
    assert_eq!(Board::<256>::new("net", &long).err(), Some(CredentialsError::Password));
    assert!(Board::<256>::new(&long[..32], &long[..64]).is_ok());
    for error in [CredentialsError::Ssid, CredentialsError::Password] {
        assert!(error.to_string().starts_with("expected"));
    }
}
