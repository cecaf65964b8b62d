//! The keyed login (§15.6) of the MicroPython client, at a real server.

use super::{boots, got_until};
use crate::harness::{Server, stdout};

/// A server that lets `kitchen` do without encryption.
fn serves() -> Server {
    Server::configured("[security]\nunencrypted = [\"kitchen\"]\n")
}

fn key(server: &Server, id: &str) -> String {
    format!("key={}", stdout(&server.command(&["key", "new", id])).trim())
}

#[test]
fn a_board_shows_its_key_and_goes_on_when_the_server_was_killed() {
    let mut server = serves();
    let key = key(&server, "kitchen");
    let Some(mut board) = boots(&server.address(), "kitchen", &["dialect=N", &key]) else { return };
    board.does("many 10");
    board.reports("acked 10");
    let list = stdout(&server.command(&["devices"]));
    let row = list.lines().find(|row| row.starts_with("kitchen")).unwrap();
    assert_eq!(row.split_whitespace().take(3).collect::<Vec<_>>(), ["kitchen", "N", "keyed"], "{list}");
    assert!(stdout(&server.command(&["devices", "--json"])).contains("\"id\": \"kitchen\""));
    server.is_killed();
    board.does("qos 11");
    board.reports("down");
    server.starts_again();
    board.reports("acked 11");
    let numbers: Vec<_> = (1..=11).map(|number: u32| number.to_string()).collect();
    assert_eq!(got_until(&mut board, "11"), numbers, "every echo once and in order");
}

#[test]
fn a_board_without_the_key_of_its_id_or_with_another_one_does_not_get_in() {
    let mut server = serves();
    key(&server, "kitchen");
    let other = serves();
    let foreign = key(&other, "kitchen");
    for (options, log) in
        [(vec!["dialect=N"], "gets in by nothing else"), (vec!["dialect=N", &foreign], "no key that is in force")]
    {
        let Some(mut board) = boots(&server.address(), "kitchen", &options) else { return };
        board.does("qos 1");
        board.reports("no server");
        server.logs(log);
    }
    let list = stdout(&server.command(&["devices", "--json"]));
    assert!(!list.contains("\"id\": \"kitchen\""), "nothing of it was taken: {list}");
}
