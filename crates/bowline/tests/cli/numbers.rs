//! Numbers to a board and from it, by an app outside of a server that may be killed at any moment.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

/// How long a server may take to answer, and to come back: twice as long as it makes an app wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// One request to the local API of a server that may be killed meanwhile.
pub(crate) fn asks(socket: &Path, path: &str, body: &Value) -> std::io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
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
pub(crate) fn takes(socket: PathBuf, up: Receiver<()>, read: fn(&str) -> Option<u64>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut diary = String::new();
        let mut seen = BTreeSet::new();
        loop {
            let Ok(answer) = asks(&socket, "/v1/apps/ledger/next", &json!({ "wait_ms": 30_000, "max": 16 })) else {
                up.recv_timeout(PATIENCE).expect("the server comes back");
                continue;
            };
            let mut answers = Vec::new();
            let mut end = false;
            for message in answer["messages"].as_array().map(Vec::as_slice).unwrap_or_default() {
                let (id, seq) = (message["id"].as_str().unwrap(), message["seq"].as_u64().unwrap());
                let payload = message["payload"].as_str().unwrap();
                let word = if seen.insert(id.to_owned()) { "take" } else { "again" };
                match read(payload) {
                    Some(number) => diary += &format!("{word} {seq} {number}\n"),
                    None => end = true,
                }
                answers.push(json!({ "ack": id }));
            }
            let answered = asks(&socket, "/v1/apps/ledger/answers", &json!({ "answers": answers }));
            if end {
                return diary;
            }
            if answered.is_err() {
                up.recv_timeout(PATIENCE).expect("the server comes back");
            }
        }
    })
}

/// Sends numbers to the board until it is to stop. Returns the diary of a sender, and the last one accepted.
pub(crate) fn sends(
    socket: PathBuf,
    up: Receiver<()>,
    stop: Arc<AtomicBool>,
    written: fn(u64) -> String,
) -> JoinHandle<(String, u64)> {
    thread::spawn(move || {
        let mut diary = String::new();
        let mut number = 0;
        loop {
            number += 1;
            diary += &format!("send {number}\n");
            let send = json!({ "device": "kitchen", "instance": 0, "tag": 0, "payload": written(number) });
            let answer = asks(&socket, "/v1/apps/ledger/answers", &json!({ "answers": [{ "send": send }] }));
            match answer {
                Ok(answer) if answer["results"][0]["ok"] == true => {
                    diary += &format!("accepted {number}\n");
                    if stop.load(Ordering::SeqCst) {
                        return (diary, number);
                    }
                }
                Ok(_) => {}
                Err(_) => up.recv_timeout(PATIENCE).expect("the server comes back"),
            }
        }
    })
}
