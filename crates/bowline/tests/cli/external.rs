//! Apps outside of the server: over HTTP on the Unix socket and on TCP, and over WebSockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use bowline_client::{Client, Dialect, RequestError};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::harness::{Server, stdout};

const CONFIG: &str = "[[apps.external]]\nident = 7\nname = \"garden\"\n[api]\nlisten = \"127.0.0.1:0\"\n";
const PATIENCE: Duration = Duration::from_secs(30);

fn starts() -> Server {
    starts_with(CONFIG)
}

fn starts_with(config: &str) -> Server {
    Server::configured(config)
}

fn socket(server: &Server) -> PathBuf {
    Path::new(server.data()).join("control.sock")
}

async fn device(server: &Server) -> Client {
    device_of(server, Dialect::Native).await
}

async fn device_of(server: &Server, dialect: Dialect) -> Client {
    let client = Client::builder("kitchen", server.address()).dialect(dialect).start().unwrap();
    tokio::time::timeout(PATIENCE, client.connected()).await.unwrap().unwrap();
    client
}

async fn asks(client: &Client, payload: &str) -> String {
    let answer = client.request(7, 3, payload.as_bytes()).timeout(PATIENCE).await.unwrap();
    assert_eq!(answer.header()[2], 3);
    answer.text().unwrap().to_owned()
}

/// A program under test, which ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn garden(arguments: &[&str]) -> Program {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/apps/garden.py");
    Program(Command::new("python3").arg(file).args(arguments).spawn().expect("python3 is there"))
}

/// One request by hand; what came back, status line and all.
fn asks_by_hand(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn post(server: &Server, path: &str, body: &Value) -> Value {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = asks_by_hand(UnixStream::connect(socket(server)).unwrap(), &request);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {head}\n{body}"))
}

fn next(server: &Server) -> Value {
    let answer = post(server, "/v1/apps/garden/next", &json!({ "wait_ms": 30_000 }));
    answer["messages"][0].clone()
}

fn answers(server: &Server, answer: Value) -> Value {
    post(server, "/v1/apps/garden/answers", &json!({ "answers": [answer] }))["results"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_python_answers_on_the_socket() {
    let server = starts();
    let _garden = garden(&["--socket", socket(&server).to_str().unwrap()]);
    let client = device(&server).await;
    assert_eq!(asks(&client, "{\"litres\": 2}").await, "{\"total\": 2}");
    assert_eq!(asks(&client, "{\"litres\": 3}").await, "{\"total\": 5}");
    // What it cannot handle becomes a dead letter with its reason.
    let refused = client.request(7, 3, b"[]").timeout(Duration::from_secs(1)).await;
    assert!(matches!(refused, Err(RequestError::NoAnswer { .. })), "{refused:?}");
    let list = stdout(&server.command(&["dead", "list"]));
    assert!(list.contains("expected {\"litres\": number}"), "{list}");
    // On lines with a header of three bytes it is the same app.
    drop(client);
    let client = device_of(&server, Dialect::Headers).await;
    assert_eq!(asks(&client, "{\"litres\": 1}").await, "{\"total\": 6}");
}

/// Cargo builds the examples with the tests, beside the binary.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_rust_answers() {
    let server = starts();
    let binary = Path::new(env!("CARGO_BIN_EXE_bowline")).with_file_name("examples").join("external");
    let program = Command::new(binary).arg(socket(&server)).arg("garden").spawn();
    let _program = Program(program.expect("cargo builds the examples, unless told to build some tests only"));
    assert_eq!(asks(&device(&server).await, "\"hello\"").await, "\"HELLO\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_python_answers_on_tcp() {
    let mut server = starts();
    let line = server.logs("local API on ");
    let address = line.split("local API on ").nth(1).unwrap().split(',').next().unwrap();
    let token = Path::new(server.data()).join("api-token");
    let _garden = garden(&["--tcp", address, "--token-file", token.to_str().unwrap()]);
    assert_eq!(asks(&device(&server).await, "{\"litres\": 2}").await, "{\"total\": 2}");
}

#[test]
fn without_the_token_and_for_pages_of_others_there_is_nothing_on_tcp() {
    let mut server = starts();
    let line = server.logs("local API on ");
    let address = line.split("local API on ").nth(1).unwrap().split(',').next().unwrap();
    let token = std::fs::read_to_string(Path::new(server.data()).join("api-token")).unwrap();
    let token = token.trim();
    let status = |host: &str, headers: &str| {
        let request = format!("GET /v1/apps HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n");
        asks_by_hand(TcpStream::connect(address).unwrap(), &request)[9..12].to_owned()
    };
    let right = format!("authorization: Bearer {token}\r\n");
    assert_eq!(status(address, &right), "200");
    assert_eq!(status(address, ""), "401");
    assert_eq!(status(address, &format!("authorization: Bearer {}\r\n", &token[1..])), "401");
    let other = if token.starts_with('0') { '1' } else { '0' };
    assert_eq!(status(address, &format!("authorization: Bearer {other}{}\r\n", &token[1..])), "401");
    assert_eq!(status("evil.example", &right), "403");
    assert_eq!(status(address, &format!("{right}origin: http://evil.example\r\n")), "403");
    assert_eq!(status(address, &format!("{right}origin: http://{address}\r\n")), "200");
    // The token is in no log.
    server.stops();
    assert!(server.whole_log().iter().all(|line| !line.contains(token)));
}

#[test]
fn one_connection_too_many_on_tcp_is_told_so() {
    let mut server = starts();
    let line = server.logs("local API on ");
    let address = line.split("local API on ").nth(1).unwrap().split(',').next().unwrap();
    let held: Vec<_> = (0..64).map(|_| TcpStream::connect(address).unwrap()).collect();
    let request = format!("GET /v1/apps HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    let refused = asks_by_hand(TcpStream::connect(address).unwrap(), &request);
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("64 connections are open"), "{refused}");
    // Those who have a place keep it.
    assert!(asks_by_hand(&held[63], &request).starts_with("HTTP/1.1 401 "));
}

/// Without a program messages wait, and use up none of their attempts; with one they come under the same id
/// until it has answered, over a crash of the server.
#[tokio::test(flavor = "multi_thread")]
async fn messages_wait_for_a_program_and_come_until_they_are_answered() {
    let config = format!("{CONFIG}[apps.limits]\nattempts = 3\nfirst_pause_ms = 1\nhandle_timeout_ms = 400\n");
    let mut server = starts_with(&config);
    let client = device(&server).await;
    let mut request = tokio::spawn({
        let client = client.clone();
        async move { asks(&client, "1").await }
    });
    // Many times what the attempts would last for.
    assert!(tokio::time::timeout(Duration::from_secs(2), &mut request).await.is_err());
    let first = next(&server);
    assert_eq!((&first["device"], &first["payload"], &first["attempt"]), (&json!("kitchen"), &json!("1"), &json!(1)));
    server.is_killed();
    server.starts_again();
    let second = next(&server);
    assert_eq!(second["id"], first["id"]);
    // It took too long with that one: a new attempt, and the answer to whichever counts once.
    let third = next(&server);
    assert_eq!((&third["id"], &third["attempt"]), (&first["id"], &json!(2)));
    let answer = json!({ "ack": first["id"], "reply": { "tag": 3, "payload": "2" } });
    assert_eq!(answers(&server, answer.clone())["ok"], json!(true));
    let late = answers(&server, answer);
    assert!(late["ok"] == json!(false) && late["error"].as_str().unwrap().contains("nobody waits"), "{late}");
    assert_eq!(tokio::time::timeout(PATIENCE, request).await.unwrap().unwrap(), "2");
}

/// A program on a WebSocket.
struct Socket(WebSocket<UnixStream>);

impl Socket {
    fn opens(server: &Server, window: usize) -> Self {
        let stream = UnixStream::connect(socket(server)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let url = format!("ws://localhost/v1/apps/garden?window={window}");
        Socket(tungstenite::client(url, stream).unwrap().0)
    }

    fn hears(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.0.read().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    fn says(&mut self, command: &Value) {
        self.0.send(Message::text(command.to_string())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_takes_messages_within_its_window_and_hears_of_links() {
    let server = starts();
    let mut socket = Socket::opens(&server, 2);
    let client = device(&server).await;
    assert_eq!(socket.hears(), json!({ "event": "up", "device": "kitchen" }));
    for instance in 0..4 {
        client.send(bowline_client::Message::on_channel(7, instance, 1, &[0xff, instance])).await.unwrap();
    }
    let (one, two) = (socket.hears(), socket.hears());
    assert_eq!((&one["event"], &one["payload_base64"]), (&json!("message"), &json!("/wA=")));
    // Two are in hand: what comes next is the outcome, and no third message.
    socket.says(&json!({ "send": { "device": "kitchen", "instance": 9, "payload": "hello" }, "ref": "a" }));
    assert_eq!(socket.hears(), json!({ "event": "outcome", "ref": "a", "ok": true }));
    assert_eq!(client.recv().await.unwrap().header(), [7, 9, 0]);
    socket.says(&json!({ "ack": one["id"] }));
    let three = socket.hears();
    assert!(three["event"] == "message" && three["instance"] != two["instance"], "{three}");
    socket.says(&json!({ "acknowledge": 1 }));
    let outcome = socket.hears();
    assert!(outcome["error"].as_str().unwrap().contains("unknown field `acknowledge`"), "{outcome}");
    socket.says(&json!({ "send": { "device": "kitchn", "payload": "hello" } }));
    assert!(socket.hears()["error"].as_str().unwrap().contains("did you mean \"kitchen\"?"));
    client.close(Duration::ZERO).await;
    drop(client);
    let down = socket.hears();
    assert!(down["event"] == "down" && down["device"] == "kitchen", "{down}");
}

/// A program that goes away with messages in hand: others get them, under the same ids.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_websocket_had_goes_to_another_when_it_is_gone() {
    let server = starts();
    let mut first = Socket::opens(&server, 16);
    let client = device(&server).await;
    first.hears();
    let request = tokio::spawn(async move { asks(&client, "1").await });
    let message = first.hears();
    let mut second = Socket::opens(&server, 16);
    assert_eq!(second.hears()["event"], "up");
    drop(first);
    let again = second.hears();
    assert_eq!((&again["id"], &again["attempt"]), (&message["id"], &json!(2)));
    second.says(&json!({ "nack": again["id"], "reason": "not yet" }));
    let again = second.hears();
    assert_eq!((&again["id"], &again["attempt"]), (&message["id"], &json!(3)));
    second.says(&json!({ "ack": again["id"], "reply": { "tag": 3, "payload": "2" }, "end": true }));
    assert_eq!(tokio::time::timeout(PATIENCE, request).await.unwrap().unwrap(), "2");
}

#[test]
fn the_server_stops_at_once_though_a_program_has_messages_in_hand() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut server = starts();
    let mut socket = Socket::opens(&server, 16);
    let client = runtime.block_on(device(&server));
    runtime.block_on(client.send(bowline_client::Message::on_channel(7, 0, 0, b"1")).into_future()).unwrap();
    while socket.hears()["event"] != "message" {}
    let start = std::time::Instant::now();
    server.stops();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn what_is_asked_for_wrongly_is_told_what_was_expected() {
    let server = starts();
    let error = |path: &str, body: Value| post(&server, path, &body)["error"].as_str().unwrap().to_owned();
    assert!(error("/v1/apps/gardn/next", json!({})).contains("did you mean \"garden\"?"));
    assert!(error("/v1/apps/garden/next", json!({ "max": 0 })).contains("expected 1 to 256"));
    let both = answers(&server, json!({ "ack": "a", "nack": "b" }));
    assert!(both["error"].as_str().unwrap().contains("expected one of"), "{both}");
    let payload = answers(&server, json!({ "send": { "device": "x", "payload_base64": "!" } }));
    assert!(payload["ok"] == json!(false), "{payload}");
}
