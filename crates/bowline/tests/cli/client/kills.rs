//! `kill -9` of the board and of the server, mixed, while messages go both ways: what was accepted comes once and
//! in order. `BOWLINE_BOARD_KILLS` says how often each is killed, `BOWLINE_SEED` in which order.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Board, Server};
use crate::ledger::{Extent, compare};

/// One request to the local API of a server that may be killed meanwhile.
fn asks(socket: &Path, path: &str, body: &Value) -> std::io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    let body = body.to_string();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).map_err(std::io::Error::other)
}

/// The app that the board's messages are for. Returns what it was given: the diary of a receiver. A message that
/// comes again, for the server was killed before it knew of its handling, has the same id.
fn takes(socket: PathBuf, up: Receiver<()>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut diary = String::new();
        let mut seen = BTreeSet::new();
        loop {
            let Ok(answer) = asks(&socket, "/v1/apps/ledger/next", &json!({ "wait_ms": 30_000, "max": 16 })) else {
                up.recv().expect("the server comes back");
                continue;
            };
            let mut answers = Vec::new();
            let mut end = false;
            for message in answer["messages"].as_array().map(Vec::as_slice).unwrap_or_default() {
                let (id, seq) = (message["id"].as_str().unwrap(), message["seq"].as_u64().unwrap());
                let payload = message["payload"].as_str().unwrap();
                let word = if seen.insert(id.to_owned()) { "take" } else { "again" };
                match payload.parse::<u64>() {
                    Ok(number) => diary += &format!("{word} {seq} {number}\n"),
                    Err(_) => end = true,
                }
                answers.push(json!({ "ack": id }));
            }
            let answered = asks(&socket, "/v1/apps/ledger/answers", &json!({ "answers": answers }));
            if end {
                return diary;
            }
            if answered.is_err() {
                up.recv().expect("the server comes back");
            }
        }
    })
}

/// Sends numbers to the board until it is to stop. Returns the diary of a sender, and the last one accepted.
fn sends(socket: PathBuf, up: Receiver<()>, stop: Arc<AtomicBool>) -> JoinHandle<(String, u64)> {
    thread::spawn(move || {
        let mut diary = String::new();
        let mut number = 0;
        loop {
            number += 1;
            diary += &format!("send {number}\n");
            let send = json!({ "device": "kitchen", "instance": 0, "tag": 0, "payload": number.to_string() });
            let answer = asks(&socket, "/v1/apps/ledger/answers", &json!({ "answers": [{ "send": send }] }));
            match answer {
                Ok(answer) if answer["results"][0]["ok"] == true => {
                    diary += &format!("accepted {number}\n");
                    if stop.load(Ordering::SeqCst) {
                        return (diary, number);
                    }
                }
                Ok(_) => {}
                Err(_) => up.recv().expect("the server comes back"),
            }
        }
    })
}

fn survives(dialect: &str, kills: u64) {
    let seed = std::env::var("BOWLINE_SEED").ok().map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("BOWLINE_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let config = TempDir::new().unwrap();
    let file = config.path().join("bowline.toml");
    fs::write(
        &file,
        "[[apps.external]]\nident = 7\nname = \"ledger\"\n[apps]\nlines = \"ledger\"\n[store]\ndurability = \"os\"\n",
    )
    .unwrap();
    let mut server = Server::starts_with(&["--config", file.to_str().unwrap()]);
    let socket = Path::new(server.data()).join("control.sock");
    let flash = TempDir::new().unwrap();
    let folder = flash.path().to_str().unwrap().to_owned();
    let address = server.address();
    let (host, port) = address.rsplit_once(':').unwrap();
    let arguments = [host, port, dialect, &folder];
    let Some(mut board) = Board::runs(&[], "diary.py", &arguments) else { return };

    let (taker_up, up) = mpsc::channel();
    let taker = takes(socket.clone(), up);
    let (sender_up, up) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let sender = sends(socket, up, Arc::clone(&stop));
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
