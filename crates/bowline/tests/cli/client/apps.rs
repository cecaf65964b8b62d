//! Several apps over one link.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::BOTH;
use crate::harness::{Board, Server};

fn boots(server: &Server, id: &str, dialect: &str) -> Option<Board> {
    let address = server.address();
    let (host, port) = address.rsplit_once(':').unwrap();
    Board::runs(&[], "apps_board.py", &[host, port, id, dialect.strip_prefix("dialect=").unwrap()])
}

#[test]
fn echo_time_and_http_answer() {
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = web.local_addr().unwrap();
    thread::spawn(move || {
        for stream in web.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello");
        }
    });
    let server = Server::configured(&format!(
        "[apps.http]\nallow = [\"127.0.0.1:{}\"]\nnetworks = [\"127.0.0.0/8\"]\n[apps.time]\nzone = \"+01:00\"\n",
        host.port()
    ));
    for dialect in BOTH {
        let Some(mut board) = boots(&server, "kitchen", dialect) else { return };
        board.reports("up");
        board.does("echo {\"a\": 1}");
        assert_eq!(board.reports("echoed"), "{\"a\": 1}");
        board.does(&format!("http http://{host}/"));
        assert_eq!(board.reports("answer"), "200 hello {}");
        board.does("http http://example.org/");
        assert!(board.reports("error").contains("not-allowed"));
        board.does("time");
        let words = board.reports("time");
        let words: Vec<i64> = words.split(' ').map(|word| word.parse().unwrap()).collect();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
        assert!((now - words[0]).abs() < 60_000, "milliseconds since 1970: {words:?}");
        assert_eq!(words[1] - words[0], 3_600_000, "local time is an hour ahead");
    }
}

fn asks(server: &Server, path: &str, body: &Value) -> Value {
    let mut stream = UnixStream::connect(Path::new(server.data()).join("control.sock")).unwrap();
    let body = body.to_string();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn next(server: &Server) -> Value {
    asks(server, "/v1/apps/garden/next", &json!({ "wait_ms": 30_000 }))["messages"][0].clone()
}

fn replies(server: &Server, to: &Value, payload: &str) {
    let reply = json!({ "ack": to["id"], "reply": { "tag": to["tag"], "payload": payload } });
    assert_eq!(asks(server, "/v1/apps/garden/answers", &json!({ "answers": [reply] }))["results"][0]["ok"], true);
}

#[test]
fn an_answer_that_comes_late_is_nobodys() {
    for dialect in BOTH {
        let server = Server::configured("[[apps.external]]\nident = 7\nname = \"garden\"\n");
        let Some(mut board) = boots(&server, "kitchen", dialect) else { return };
        board.reports("up");
        board.does("ask 7 1 \"first\"");
        let first = next(&server);
        board.reports("error TimeoutError");
        board.does("ask 7 30 \"second\"");
        let second = next(&server);
        assert_ne!(first["instance"], second["instance"]);
        replies(&server, &first, "\"late\"");
        board.reports("late:");
        replies(&server, &second, "\"in time\"");
        assert_eq!(board.reports("answer"), "in time");
        board.does("stats");
        assert_eq!(board.reports("late"), "1");
    }
}

/// A mosquitto of the test's own, which ends with it.
struct Broker(Child);

impl Broker {
    fn starts(folder: &Path) -> (Self, u16) {
        let program = if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
        // Another process may take the port before mosquitto does.
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let config = folder.join("mosquitto.conf");
            fs::write(&config, format!("listener {port} 127.0.0.1\nallow_anonymous true\nlog_dest stderr\n")).unwrap();
            let mut child = Command::new(program)
                .arg("-c")
                .arg(&config)
                .stderr(Stdio::piped())
                .spawn()
                .expect("mosquitto is there");
            let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
            if lines.any(|line| line.is_ok_and(|line| line.contains("running"))) {
                thread::spawn(move || lines.for_each(drop));
                return (Broker(child), port);
            }
            child.wait().unwrap();
        }
        panic!("mosquitto does not start");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn mqtt_goes_on_after_outages() {
    let folder = TempDir::new().unwrap();
    let (_broker, port) = Broker::starts(folder.path());
    for dialect in BOTH {
        let mut server = Server::configured(&format!("[apps.mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\n"));
        let home = dialect.strip_prefix("dialect=").unwrap();
        let Some(mut watcher) = boots(&server, &format!("watcher{home}"), dialect) else { return };
        watcher.does("mqtt - -");
        watcher.does(&format!("subscribe home{home}/#"));
        watcher.reports("subscribed");
        watcher.does(&format!("publish home{home}/lamp on retain"));
        // By a wildcard.
        watcher.reports(&format!("heard home{home}/lamp on False"));

        let Some(mut lamp) = boots(&server, &format!("lamp{home}"), dialect) else { return };
        lamp.does(&format!("mqtt home{home}/status:offline home{home}/status:online"));
        // The welcome.
        watcher.reports(&format!("heard home{home}/status online False"));
        lamp.reports("told");
        lamp.does(&format!("subscribe home{home}/lamp/set"));
        lamp.reports("subscribed");
        // The state that was kept.
        lamp.reports(&format!("heard home{home}/lamp on True"));
        // Its commands are handled in order: it hears itself, so it is subscribed.
        lamp.does(&format!("publish home{home}/lamp/set itself"));
        lamp.reports(&format!("heard home{home}/lamp/set itself False"));
        watcher.does(&format!("publish home{home}/lamp/set off"));
        lamp.reports(&format!("heard home{home}/lamp/set off False"));

        // Its link is lost: its will is published, and the welcome when it is back.
        lamp.does("drop");
        watcher.reports(&format!("heard home{home}/status offline False"));
        watcher.reports(&format!("heard home{home}/status online False"));
        lamp.reports("told");

        // The server restarts: the boards subscribe again by themselves.
        server.is_killed();
        server.starts_again();
        for board in [&mut watcher, &mut lamp] {
            board.reports("told");
        }
        for board in [&mut watcher, &mut lamp] {
            board.does(&format!("publish home{home}/lamp/set again"));
            board.reports(&format!("heard home{home}/lamp/set again False"));
        }
        // The board is gone for good.
        lamp.is_killed();
        watcher.reports(&format!("heard home{home}/status offline False"));
    }
}
