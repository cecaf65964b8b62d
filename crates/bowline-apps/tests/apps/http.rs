use std::time::Duration;

use bowline_apps::http::{Http, HttpSettings};
use bowline_client::Dialect;
use bowline_server::Server;

use crate::harness::*;

fn settings() -> HttpSettings {
    HttpSettings {
        allow: vec!["127.0.0.1:*".parse().unwrap()],
        networks: vec!["127.0.0.1".parse().unwrap()],
        ..HttpSettings::default()
    }
}

async fn serves(settings: HttpSettings) -> Server {
    server().app(0, "echo", bowline_apps::Echo).app(2, "http", Http::new(settings).unwrap()).start().await.unwrap()
}

#[tokio::test]
async fn boards_of_all_dialects_with_channels_ask_and_are_answered() {
    let mut host = Host::starts(|_| Some("on\n".to_owned())).await;
    let server = serves(settings()).await;
    for dialect in [Dialect::Native, Dialect::Headers] {
        let board = Board::speaks(&server, "kitchen", 2, dialect);
        board.sends(3, 77, &format!("\"{}/lamp\"", host.url)).await;
        assert_eq!(board.gets().await, (3, 77, r#"[200,"on\n"]"#.to_owned()));
        assert!(host.is_asked().await.starts_with("GET /lamp "));
        board.client.close(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn parts_come_in_order_under_the_tag_of_their_request() {
    let host = Host::starts(|_| Some((0..500).map(|number| format!("{number},")).collect())).await;
    let server = serves(settings()).await;
    let board = Board::boots(&server, "kitchen", 2);
    board.sends(0, 5, &format!(r#"{{"url": "{}/", "parts": 100}}"#, host.url)).await;
    let (mut body, mut parts) = (String::new(), 0);
    loop {
        let (instance, tag, payload) = board.gets().await;
        assert_eq!((instance, tag), (0, 5));
        let part: serde_json::Value = serde_json::from_str(&payload).unwrap();
        assert_eq!(part[2]["part"], parts);
        body += part[1].as_str().unwrap();
        parts += 1;
        if part[2]["last"] == true {
            break;
        }
    }
    assert_eq!(body, (0..500).map(|number| format!("{number},")).collect::<String>());
    assert_eq!(parts, body.len().div_ceil(100));
}

#[tokio::test]
async fn what_is_wrong_is_an_answer_and_nothing_else_is_disturbed() {
    let host = Host::starts(|_| Some("on".to_owned())).await;
    let server = serves(settings()).await;
    let board = Board::boots(&server, "kitchen", 2);
    let echo = Board::boots(&server, "neighbour", 0);
    let port = host.url.rsplit(':').next().unwrap().to_owned();
    let cases = [
        ("kitchen".to_owned(), "bad-request"),
        ("file:///etc/passwd".to_owned(), "not-allowed"),
        ("http://example.org/".to_owned(), "not-allowed"),
        (format!("http://127.0.0.2:{port}/"), "not-allowed"),
        (format!("http://[::1]:{port}/"), "not-allowed"),
        (format!("https://127.0.0.1:{port}/"), "tls"),
    ];
    for (tag, (payload, word)) in (1..).zip(cases) {
        board.sends(0, tag, &payload).await;
        echo.sends(0, tag, "1").await;
        assert_eq!(echo.gets().await, (0, tag, "1".to_owned()));
        let (_, answered, answer) = board.gets().await;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((answered, &answer["error"]), (tag, &word.into()), "{payload}");
    }
    board.sends(0, 99, &host.url).await;
    assert_eq!(board.gets_json().await[0], 200);
    assert_eq!(server.get("kitchen").unwrap().dead_letters().len(), 0);
}

#[tokio::test]
async fn r41_a_host_that_does_not_answer_stalls_its_own_instance_and_nothing_else() {
    let mut silent = Host::starts(|_| None).await;
    let good = Host::starts(|_| Some("on".to_owned())).await;
    let server = serves(HttpSettings { total: Duration::from_secs(6), ..settings() }).await;
    let board = Board::boots(&server, "kitchen", 2);
    let other = Board::boots(&server, "attic", 2);
    board.sends(0, 1, &silent.url).await;
    silent.is_asked().await;
    // While it is not answered: another instance of the board, another board.
    board.sends(1, 2, &good.url).await;
    other.sends(0, 3, &good.url).await;
    assert_eq!(board.gets().await, (1, 2, r#"[200,"on"]"#.to_owned()));
    assert_eq!(other.gets().await, (0, 3, r#"[200,"on"]"#.to_owned()));
    let (instance, tag, answer) = board.gets().await;
    assert_eq!((instance, tag), (0, 1));
    assert!(answer.contains(r#""error":"timeout""#), "{answer}");
}

#[tokio::test]
async fn a_device_asks_so_often_and_no_more() {
    let host = Host::starts(|_| Some("on".to_owned())).await;
    let server = serves(HttpSettings { pace: (2, Duration::from_secs(3600)), ..settings() }).await;
    let board = Board::boots(&server, "kitchen", 2);
    for instance in 0..2 {
        board.sends(instance, 0, &host.url).await;
        assert_eq!(board.gets_json().await[0], 200);
    }
    // A new instance is no new beginning; another device is.
    board.sends(2, 0, &host.url).await;
    assert_eq!(board.gets_json().await["error"], "too-many");
    let other = Board::boots(&server, "attic", 2);
    other.sends(0, 0, &host.url).await;
    assert_eq!(other.gets_json().await[0], 200);
}

fn key_of(request: &str) -> String {
    let line = request.lines().find(|line| line.starts_with("idempotency-key: ")).expect("a key");
    line.to_owned()
}

#[tokio::test]
async fn a_request_that_is_repeated_after_a_crash_has_the_same_key() {
    let mut silent = Host::starts(|_| None).await;
    let folder = tempfile::tempdir().unwrap();
    let url = &silent.url;
    let request = format!(r#"{{"url": "{url}/", "body": "1"}}"#);

    let serves = async || {
        let http = Http::new(HttpSettings { key_seed: [7; 16], ..settings() }).unwrap();
        server().app(2, "http", http).store(store(folder.path())).start().await.unwrap()
    };
    let first = serves().await;
    let board = Board::boots(&first, "kitchen", 2);
    board.sends(0, 0, &request).await;
    let asked = silent.is_asked().await;
    assert!(asked.starts_with("POST / "), "{asked}");
    // The same once more is another request, on an instance of its own.
    board.sends(1, 0, &request).await;
    let other = silent.is_asked().await;
    assert_ne!(key_of(&asked), key_of(&other));
    first.shutdown(Duration::ZERO).await.close(Duration::from_secs(10)).await;
    drop(first);

    let _second = serves().await;
    let mut again = [silent.is_asked().await, silent.is_asked().await].map(|request| key_of(&request));
    let mut before = [key_of(&asked), key_of(&other)];
    again.sort();
    before.sort();
    assert_eq!(again, before);
}
