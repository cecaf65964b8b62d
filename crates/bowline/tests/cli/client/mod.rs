//! The MicroPython client (`clients/micropython`) on a real MicroPython.

mod api;
mod apps;
mod keyed;
mod kills;
mod legacy;
mod memory;
mod native;
mod outages;
mod scenarios;

use crate::harness::{Board, Server};

/// The dialects it speaks.
const BOTH: [&str; 2] = ["dialect=H", "dialect=N"];

/// The script `board.py`, which does what the test says with the client.
fn boots(server: &str, id: &str, options: &[&str]) -> Option<Board> {
    let (host, port) = server.rsplit_once(':').unwrap();
    Board::runs(&[], "board.py", &[&[host, port, id, "1500"], options].concat())
}

/// What came, by `got`, until this came.
fn got_until(board: &mut Board, last: &str) -> Vec<String> {
    board.receives_until(last)
}

/// A field of what the command `stats` says.
fn stat(board: &mut Board, field: &str) -> serde_json::Value {
    board.does("stats");
    let stats = board.reports("stats");
    serde_json::from_str::<serde_json::Value>(&stats).unwrap()[field].clone()
}

/// A server as after a first start: its messages to a board begin at id 0, where the dialect H is weakest.
fn serves() -> Server {
    Server::starts()
}
