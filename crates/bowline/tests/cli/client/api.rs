//! What a program uses.

use super::{BOTH, boots, got_until, serves, stat};
use crate::harness::{Board, stdout};

#[test]
fn it_talks() {
    for dialect in BOTH {
        let server = serves();
        let Some(mut board) = boots(&server.address(), "kitchen", &[dialect]) else { return };
        board.reports("up");
        board.does("qos [1, 2, 3]");
        board.reports("acked 1");
        assert_eq!(board.reports("got"), "- [1, 2, 3]", "the echo");
        board.does("qos \"grüße ☃ 😀\"");
        assert_eq!(board.reports("got"), "- \"grüße ☃ 😀\"");
        board.does("be \"best effort\"");
        board.reports("sent 3");
        assert_eq!(board.reports("got"), "- \"best effort\"");
        board.does("qos");
        assert_eq!(board.reports("got"), "- null", "nothing at all");
        board.does("head 000501 \"to the echo app\"");
        board.reports("acked 5");
        assert_eq!(board.reports("got"), "000501 \"to the echo app\"");
        let sent = server.command(&["send", "kitchen", r#"{"led": 1}"#]);
        assert!(stdout(&sent).contains("acknowledged"), "{sent:?}");
        assert_eq!(board.reports("got"), r#"- {"led": 1}"#);
        assert_eq!(stat(&mut board, "connects"), 1);
        assert_eq!(stat(&mut board, "call"), true);
        board.does("close");
        board.reports("down");
        board.does("qos \"too late\"");
        assert!(board.reports("error 6").contains("closed"));
    }
}

#[test]
fn many_writers_keep_their_order() {
    for dialect in BOTH {
        let server = serves();
        let Some(mut board) = boots(&server.address(), "kitchen", &[dialect]) else { return };
        board.does("many 60");
        let numbers: Vec<_> = (1..=60).map(|number| number.to_string()).collect();
        assert_eq!(got_until(&mut board, "60"), numbers);
        board.does("post \"posted\"");
        board.reports("posted 61");
        board.does("flush");
        board.reports("flushed");
        assert_eq!(stat(&mut board, "waiting"), 0);
    }
}

#[test]
fn the_server_is_told_when_a_message_was_handled() {
    let server = serves();
    let Some(mut board) = boots(&server.address(), "kitchen", &["dialect=N", "deaf=1"]) else { return };
    board.reports("up");
    let sent = server.command(&["send", "kitchen", "1", "--until", "stored"]);
    assert!(sent.status.success(), "{sent:?}");
    // A program that comes back for the next message has handled this one.
    board.does("listen");
    let sent = server.command(&["send", "kitchen", "2", "--until", "processed"]);
    assert!(sent.status.success(), "{sent:?}");
    assert_eq!(got_until(&mut board, "2"), ["1", "2"]);
}

#[test]
fn a_reader_that_is_slow_loses_nothing() {
    for dialect in BOTH {
        let server = serves();
        let Some(mut board) = boots(&server.address(), "kitchen", &[dialect, "deaf=1"]) else { return };
        board.reports("up");
        for number in 1..=20 {
            board.does(&format!("qos {number}"));
            board.reports(&format!("acked {number}"));
        }
        for number in 1..=20 {
            board.does("read");
            assert_eq!(board.reports("got"), format!("- {number}"));
        }
    }
}

#[test]
fn wifi_led_and_watchdog_are_looked_after() {
    let server = serves();
    let options = ["dialect=N", "standins=1", "ssid=home", "pw=secret", "wdog=1"];
    let Some(mut board) = boots(&server.address(), "kitchen", &options) else { return };
    board.reports("up");
    board.does("standins");
    let seen = board.reports("joins");
    assert!(seen.starts_with(r#"[["home", "secret"]] actions [["ap", false], ["sta", true]] blinked"#), "{seen}");
    board.does("wifi drop");
    assert_eq!(board.reports("down"), "no WiFi");
    board.does("qos \"while it was away\"");
    board.does("wifi back");
    board.reports("up");
    board.reports("acked 1");
    // While the program runs, the watchdog is fed; when it hangs for 20 s of the timer, the board is reset.
    board.does("tick 19");
    assert_eq!(board.reports("resets"), "0");
    board.does("tick 25");
    assert_eq!(board.reports("resets"), "1");
    board.does("close");
    board.does("tick 100");
    assert_eq!(board.reports("resets"), "1", "the timer is stopped");
}

#[test]
fn a_script_for_the_reference_needs_two_other_lines() {
    let server = serves();
    let script = include_str!("../../micropython/reference_app.py");
    let ported = script
        .replace("import uasyncio as asyncio\n", "import asyncio\n")
        .replace("from micropython_iot import client\n", "from bowline import client\n");
    let changed: Vec<_> = script.lines().zip(ported.lines()).filter(|(before, after)| before != after).collect();
    assert_eq!(changed.len(), 2, "{changed:?}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c_app.py");
    std::fs::write(&file, ported).unwrap();
    let (host, port) = server.address().rsplit_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let local =
        format!("MY_ID = '1'\nSERVER = '{host}'\nPORT = {port}\nSSID = 'home'\nPW = 'secret'\nTIMEOUT = 1500\n");
    std::fs::write(folder.path().join("local.py"), local).unwrap();
    let Some(mut board) = Board::runs(&[], "run.py", &[file.to_str().unwrap()]) else { return };
    board.reports("Connection state: True");
    let got = board.reports("Got");
    assert!(got.starts_with("[1, 0, "), "the echo of [connects, count, memory]: {got}");
    board.ends();
}

#[test]
fn the_keyed_login_is_that_of_the_vectors() {
    let Some(mut script) = Board::runs(&[], "keyed_vectors.py", &[]) else { return };
    script.reports("all vectors");
    script.ends();
}

#[test]
fn the_package_lists_every_module() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/micropython");
    let package: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("package.json")).unwrap()).unwrap();
    let mut listed: Vec<_> = package["urls"].as_array().unwrap().iter().map(|url| url[1].as_str().unwrap()).collect();
    listed.sort_unstable();
    let mut there: Vec<_> = std::fs::read_dir(folder.join("bowline"))
        .unwrap()
        .map(|file| format!("bowline/{}", file.unwrap().file_name().to_str().unwrap()))
        .filter(|name| name.ends_with(".py"))
        .collect();
    there.sort_unstable();
    assert_eq!(listed, there);
}

#[test]
fn wifi_is_looked_after_as_each_board_needs_it() {
    let Some(mut script) = Board::runs(&[], "wifi_boards.py", &[]) else { return };
    script.reports("all boards");
    script.ends();
}
