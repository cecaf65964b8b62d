//! `bowline dead`: what nobody could handle gets a second chance, once.

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Server, bowline_with_input, stderr, stdout};

/// A server whose app can be changed between its lives.
struct Changing {
    server: Server,
}

impl Changing {
    fn echoes() -> Self {
        Changing { server: Server::configured("app = \"echo\"\n") }
    }

    /// Killed, and started again with an app that takes whatever comes.
    fn prints_from_now_on(&mut self) {
        self.server.is_killed();
        fs::write(self.server.config(), "app = \"print\"\n").unwrap();
        self.server.starts_again();
    }
}

/// A device on this dialect sends these lines, with this header, and says what it gets.
fn device(server: &Server, id: &str, dialect: &str, header: &str, lines: &str) -> String {
    run(server, id, dialect, header, lines, &[])
}

fn run(server: &Server, id: &str, dialect: &str, header: &str, lines: &str, more: &[&str]) -> String {
    let address = server.address();
    let mut arguments = vec!["device", id, "--server", &address, "--dialect", dialect, "--linger-ms", "500"];
    if !header.is_empty() {
        arguments.extend(["--header", header]);
    }
    arguments.extend(more);
    let output = bowline_with_input(&arguments, lines);
    assert!(output.status.success(), "{output:?}");
    stdout(&output)
}

fn letters(server: &Server, which: &[&str]) -> Vec<Value> {
    let output = ok(server.command(&[&["dead", "list", "--json"], which].concat()));
    serde_json::from_str(&output).unwrap()
}

fn show(server: &Server, id: &str) -> Value {
    serde_json::from_str(&ok(server.command(&["device", "show", id, "--json"]))).unwrap()
}

/// Waits until the device's count is this.
fn counts(server: &Server, id: &str, name: &str, count: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while show(server, id)["totals"][name] != count {
        assert!(Instant::now() < deadline, "{name} does not become {count}: {}", show(server, id));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[expect(clippy::needless_pass_by_value, reason = "reads better")]
fn ok(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    stdout(&output)
}

#[expect(clippy::needless_pass_by_value, reason = "reads better")]
fn fails(output: Output, text: &str) {
    assert!(!output.status.success() && stderr(&output).contains(text), "{text:?} is not in {output:?}");
}

#[test]
fn a_received_letter_is_retried_once_after_a_restart() {
    let mut changing = Changing::echoes();
    assert_eq!(device(&changing.server, "kitchen", "n", "050000", "21.5\n"), "");
    let listed = letters(&changing.server, &["kitchen"]);
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["direction"], "received");
    assert_eq!(listed[0]["header"], "050000");
    assert!(listed[0].get("text").is_none(), "lists are without payloads: {listed:?}");
    let number = listed[0]["number"].to_string();

    changing.prints_from_now_on();
    let server = &mut changing.server;
    let shown = ok(server.command(&["dead", "show", &number]));
    assert!(shown.contains("no app takes messages") && shown.ends_with("\n21.5\n"), "{shown}");
    counts(server, "kitchen", "processed", 0);
    ok(server.command(&["dead", "retry", &number]));
    counts(server, "kitchen", "processed", 1);
    fails(server.command(&["dead", "retry", &number]), &format!("there is no dead letter {number}"));

    server.is_killed();
    server.starts_again();
    assert_eq!(letters(server, &[]), Vec::<Value>::new());
    let now = show(server, "kitchen");
    assert_eq!((&now["unread"], &now["dead_letters"]), (&0.into(), &0.into()), "not again: {now}");
}

/// A retried letter takes a place in the inbox among those of the device's own numbering.
#[test]
fn what_comes_after_a_retried_letter_is_delivered() {
    let mut server = Server::starts();
    // With its outbox the device keeps its epoch and its numbers.
    let outbox = TempDir::new().unwrap();
    let data = ["--data", outbox.path().to_str().unwrap()];
    run(&server, "kitchen", "n", "050000", "1\n2\n", &data);
    let epoch = show(&server, "kitchen")["epoch"].clone();
    for (round, echo) in ["a\n", "b\n", "c\n"].into_iter().enumerate() {
        // The echo app refuses them again, under new numbers.
        ok(server.command(&["dead", "retry", "--all"]));
        counts(&server, "kitchen", "dead_letters", 4 + 2 * round as u64);
        assert_eq!(run(&server, "kitchen", "n", "", echo, &data), echo);
        if round == 1 {
            server.stops();
        } else {
            server.is_killed();
        }
        server.starts_again();
        let mut payloads: Vec<_> = letters(&server, &[])
            .iter()
            .map(|letter| ok(server.command(&["dead", "show", &letter["number"].to_string(), "--json"])))
            .map(|letter| serde_json::from_str::<Value>(&letter).unwrap()["text"].as_str().unwrap().to_owned())
            .collect();
        payloads.sort();
        assert_eq!(payloads, ["1", "2"], "neither lost nor doubled");
        let now = show(&server, "kitchen");
        assert_eq!((&now["epoch"], &now["unread"]), (&epoch, &0.into()), "{now}");
    }
    assert_eq!(device(&server, "kitchen", "h", "", "4\n"), "4\n", "on another dialect too");
}

/// Both have a number in the inbox, and not the same.
#[test]
fn a_retried_letter_and_what_comes_after_it_are_both_stored() {
    let folder = TempDir::new().unwrap();
    let store =
        bowline_store::Store::open(folder.path(), bowline_store::Durability::Fsync, Default::default()).unwrap();
    let admission = bowline_server::Admission { open: vec!["*".to_owned()], ..bowline_server::Admission::open() };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let builder = bowline_server::Server::builder().listen("127.0.0.1:0".parse().unwrap());
        let server = builder.admission(admission).store(store).start().await.unwrap();
        let address = server.addresses()[0].to_string();
        let client = bowline_client::Client::builder("kitchen", address).start().unwrap();
        client.send("a").await.unwrap();
        let kitchen = server.device("kitchen").await.unwrap();
        kitchen.next().await.unwrap().bury("not now");
        let letter = loop {
            match server.dead_letters(None).await.unwrap().first() {
                Some(letter) => break letter.id,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        server.retry_dead(letter).await.unwrap();
        client.send("b").await.unwrap();
        let stored = server.store().unwrap().load("kitchen").unwrap().unwrap().inbox;
        let payloads: Vec<_> = stored.iter().map(|message| &message.payload[..]).collect();
        assert_eq!(payloads, [b"a", b"b"], "acknowledged, so stored");
        assert_eq!(kitchen.recv().await.unwrap().text(), Some("a"));
        assert_eq!(kitchen.recv().await.unwrap().text(), Some("b"));
    });
}

#[test]
fn a_letter_to_a_device_is_retried_once_after_a_restart() {
    let mut server = Server::starts();
    device(&server, "attic", "h", "", "");
    // H takes any header; N takes three bytes or none.
    ok(server.command(&["send", "attic", "x", "--header", "0102", "--until", "accepted"]));
    device(&server, "attic", "n", "", "");
    let listed = letters(&server, &[]);
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["direction"], "sent");
    let number = listed[0]["number"].to_string();

    server.is_killed();
    server.starts_again();
    fails(server.command(&["dead", "retry", &number]), "stays in the box: it cannot be sent: the header has 2 bytes");
    assert_eq!(device(&server, "attic", "h", "", ""), "");
    ok(server.command(&["dead", "retry", "--all", "attic"]));
    assert_eq!(letters(&server, &[]), Vec::<Value>::new());
    server.is_killed();
    server.starts_again();
    assert_eq!(device(&server, "attic", "h", "", ""), "[0102] \"x\"\n");
    assert_eq!(device(&server, "attic", "h", "", ""), "", "once");
}

#[test]
fn a_queued_message_that_cannot_be_sent_after_all_is_kept() {
    let server = Server::starts();
    device(&server, "attic", "h", "", "");
    let queued = server.command(&["send", "attic", "x", "--header", "0102", "--timeout-ms", "50"]);
    assert_eq!(queued.status.code(), Some(3), "{queued:?}");
    device(&server, "attic", "n", "", "");
    counts(&server, "attic", "dead_letters", 1);
}

#[test]
fn letters_are_dropped() {
    let server = Server::starts();
    device(&server, "kitchen", "n", "050000", "1\n2\n3\n");
    device(&server, "attic", "n", "050000", "4\n");
    let first = letters(&server, &["kitchen"])[0]["number"].to_string();
    ok(server.command(&["dead", "drop", &first]));
    fails(server.command(&["dead", "drop", &first]), &format!("there is no dead letter {first}"));
    assert_eq!(letters(&server, &["kitchen"]).len(), 2);
    ok(server.command(&["dead", "drop", "--all", "kitchen"]));
    assert_eq!(letters(&server, &[]).len(), 1, "of the other one");
    fails(server.command(&["dead", "list", "kitchn"]), "did you mean \"kitchen\"?");
    fails(server.command(&["dead", "show", "4711"]), "there is no dead letter 4711");
    fails(server.command(&["dead", "drop"]), "NUMBER");
}

#[test]
fn a_letter_there_is_no_room_for_stays() {
    let server = Server::configured("[limits]\noutbox = 1\n");
    device(&server, "attic", "h", "", "");
    ok(server.command(&["send", "attic", "x", "--header", "0102", "--until", "accepted"]));
    device(&server, "attic", "n", "", "");
    device(&server, "attic", "h", "", "");
    ok(server.command(&["send", "attic", "y", "--until", "accepted"]));
    fails(server.command(&["dead", "retry", "--all"]), "the outbox is full (1 messages): try again later");
    assert_eq!(letters(&server, &[]).len(), 1);
}

#[test]
fn without_a_store_there_are_none() {
    let server = Server::configured("[store]\ndurability = \"memory\"\n");
    fails(server.command(&["dead", "list"]), "store.durability = \"memory\"");
}
