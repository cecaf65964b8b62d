//! `kill -9` of the board and of the server, mixed, while messages go both ways: what was accepted comes once and
//! in order. `BOWLINE_BOARD_KILLS` says how often each is killed, `BOWLINE_SEED` in which order.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::{Board, Server};
use crate::ledger::{Extent, compare};
use crate::numbers::{sends, takes};

fn survives(dialect: &str, kills: u64) {
    let seed = std::env::var("BOWLINE_SEED").ok().map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("BOWLINE_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut server = Server::configured(
        "[[apps.external]]\nident = 7\nname = \"ledger\"\n[apps]\nlines = \"ledger\"\n[store]\ndurability = \"os\"\n",
    );
    let socket = Path::new(server.data()).join("control.sock");
    let flash = TempDir::new().unwrap();
    let folder = flash.path().to_str().unwrap().to_owned();
    let address = server.address();
    let (host, port) = address.rsplit_once(':').unwrap();
    let arguments = [host, port, dialect, &folder];
    let Some(mut board) = Board::runs(&[], "diary.py", &arguments) else { return };

    let (taker_up, up) = mpsc::channel();
    let taker = takes(socket.clone(), up, |payload| payload.parse().ok());
    let (sender_up, up) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let sender = sends(socket, up, Arc::clone(&stop), |number| number.to_string());
    let mut left = [kills, kills];
    while left != [0, 0] {
        // What is killed is chosen evenly among the kills that are left.
        let which = usize::from(random.u64(..left[0] + left[1]) >= left[0]);
        left[which] -= 1;
        thread::sleep(Duration::from_millis(random.u64(100..500)));
        if which == 0 {
            board.is_killed();
            board = Board::runs(&[], "diary.py", &arguments).unwrap();
        } else {
            server.is_killed();
            server.starts_again();
            let _ = (taker_up.send(()), sender_up.send(()));
        }
    }
    stop.store(true, Ordering::SeqCst);
    let (sent_by_server, last) = sender.join().unwrap();
    board.is_killed();
    let last = last.to_string();
    let mut board = Board::runs(&[], "diary.py", &[host, port, dialect, &folder, &last]).unwrap();
    board.reports("done");
    board.ends();
    let taken_by_server = taker.join().unwrap();

    let read = |name| fs::read_to_string(flash.path().join(name)).unwrap();
    let up = compare(&read("sent"), &taken_by_server, Extent::Whole);
    let down = compare(&sent_by_server, &read("received"), Extent::Whole);
    println!("{dialect}, {kills} kills of each: board to server {up:?}, server to board {down:?}");
    let (up, down) = (up.unwrap_or_else(|lost| panic!("{lost}")), down.unwrap_or_else(|lost| panic!("{lost}")));
    assert!(up.received > 0 && down.received > 0);
}

fn kills() -> u64 {
    std::env::var("BOWLINE_BOARD_KILLS")
        .ok()
        .map_or(10, |kills| kills.parse().expect("BOWLINE_BOARD_KILLS is a number"))
}

/// Boards need the machine for themselves.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn kills_of_board_and_server_lose_and_double_nothing_on_n() {
    let _turn = TURN.lock();
    survives("N", kills());
}

#[test]
fn kills_of_board_and_server_lose_and_double_nothing_on_h() {
    let _turn = TURN.lock();
    survives("H", kills());
}
