//! Links, servers and boards come and go.

use std::fs;

use tempfile::TempDir;

use super::{BOTH, boots, got_until, serves, stat};
use crate::harness::{Board, Server, stdout};

fn numbers(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// A board with its outbox in a file, which it finds again when it boots the next time.
struct Flash {
    folder: TempDir,
    dialect: &'static str,
}

impl Flash {
    fn of(dialect: &'static str) -> Self {
        Flash { folder: TempDir::new().unwrap(), dialect }
    }

    fn boots(&self, server: &Server, options: &[&str]) -> Option<Board> {
        let outbox = format!("outbox={}", self.folder.path().join("bowline").display());
        boots(&server.address(), "kitchen", &[&[self.dialect, &outbox], options].concat())
    }
}

#[test]
fn links_that_are_cut_lose_and_double_nothing() {
    for dialect in BOTH {
        let server = serves();
        let Some(mut board) = boots(&server.address(), "kitchen", &[dialect]) else { return };
        for number in 1..=24 {
            board.does(&format!("post {number}"));
            if number % 5 == 1 {
                board.does("drop");
            }
        }
        board.does("flush");
        board.reports("flushed");
        assert_eq!(got_until(&mut board, "24"), numbers(1..=24), "every echo once and in order");
        let devices = stdout(&server.command(&["devices", "--json"]));
        assert!(devices.contains("\"received\": 24"), "each accepted once: {devices}");
    }
}

#[test]
fn servers_that_stop_or_are_killed_lose_and_double_nothing() {
    for dialect in BOTH {
        let mut server = serves();
        let Some(mut board) = boots(&server.address(), "kitchen", &[dialect]) else { return };
        board.does("qos 1");
        board.reports("acked 1");
        server.stops();
        board.does("qos 2");
        board.reports("down");
        server.starts_again();
        board.reports("acked 2");
        board.does("many 20");
        server.is_killed();
        server.starts_again();
        board.reports("acked 22");
        let mut expected = numbers(1..=22);
        expected.sort();
        let mut got = got_until(&mut board, "22");
        got.sort();
        assert_eq!(got, expected);
    }
}

#[test]
fn a_board_without_an_outbox_begins_anew() {
    for dialect in BOTH {
        let server = serves();
        for life in 1..=3 {
            let Some(mut board) = boots(&server.address(), "kitchen", &[dialect]) else { return };
            board.does(&format!("qos \"life {life}\""));
            board.reports("acked 1");
            assert_eq!(board.reports("got"), format!("- \"life {life}\""));
            board.is_killed();
        }
        let devices = stdout(&server.command(&["devices", "--json"]));
        assert!(devices.contains("\"received\": 3"), "{devices}");
    }
}

#[test]
fn what_is_in_the_outbox_survives_the_board() {
    for dialect in BOTH {
        let mut server = serves();
        let flash = Flash::of(dialect);
        server.stops();
        for (life, number) in [(1, 1), (2, 11)] {
            let Some(mut board) = flash.boots(&server, &[]) else { return };
            for number in number..number + 10 {
                board.does(&format!("post {number}"));
            }
            board.reports("posted 10");
            assert_eq!(stat(&mut board, "waiting"), life * 10);
            board.is_killed();
        }
        server.starts_again();
        let Some(mut board) = flash.boots(&server, &[]) else { return };
        board.does("post 21");
        board.does("flush");
        board.reports("flushed");
        assert_eq!(got_until(&mut board, "21"), numbers(1..=21));
    }
}

#[test]
fn a_full_outbox_pushes_back() {
    for dialect in BOTH {
        let mut server = serves();
        server.stops();
        let flash = Flash::of(dialect);
        let Some(mut board) = flash.boots(&server, &["size=512"]) else { return };
        board.does("many 60");
        board.reports("no server");
        let waiting = stat(&mut board, "waiting").as_u64().unwrap();
        assert!((10..30).contains(&waiting), "{waiting} of 60 have room");
        server.starts_again();
        board.reports("acked 60");
        assert_eq!(got_until(&mut board, "60"), numbers(1..=60));
        for file in fs::read_dir(flash.folder.path()).unwrap() {
            assert!(file.unwrap().metadata().unwrap().len() <= 512);
        }
    }
}

/// What was handled does not come again; what was handed out and not handled does, and nothing is skipped.
#[test]
fn the_receive_cursor_survives_the_board() {
    for dialect in BOTH {
        let server = serves();
        let flash = Flash::of(dialect);
        let options = ["cursor=1", "deaf=1", "queue=3"];
        let Some(mut board) = flash.boots(&server, &options) else { return };
        board.reports("up");
        for number in 1..=6 {
            let sent = server.command(&["send", "kitchen", &number.to_string(), "--until", "accepted"]);
            assert!(sent.status.success(), "{sent:?}");
        }
        for number in 1..=2 {
            board.does("read");
            assert_eq!(board.reports("got"), format!("- {number}"));
        }
        let seq = stat(&mut board, "seq");
        board.is_killed();
        let Some(mut board) = flash.boots(&server, &options) else { return };
        for number in 2..=6 {
            board.does("read");
            assert_eq!(board.reports("got"), format!("- {number}"));
            if number == 2 {
                assert_eq!(stat(&mut board, "seq"), seq, "the same message has the same number");
            }
        }
    }
}

/// Without a cursor, what was acknowledged is taken for seen.
#[test]
fn without_a_cursor_what_was_acknowledged_does_not_come_again() {
    let server = serves();
    let flash = Flash::of("dialect=N");
    let Some(mut board) = flash.boots(&server, &["deaf=1"]) else { return };
    board.reports("up");
    for number in 1..=3 {
        let sent = server.command(&["send", "kitchen", &number.to_string()]);
        assert!(sent.status.success(), "{sent:?}");
    }
    board.is_killed();
    let Some(mut board) = flash.boots(&server, &[]) else { return };
    board.reports("up");
    let sent = server.command(&["send", "kitchen", "4"]);
    assert!(sent.status.success(), "{sent:?}");
    assert_eq!(board.reports("got"), "- 4");
    assert_eq!(stat(&mut board, "skipped"), 3, "and that is counted");
}

#[test]
fn a_flash_that_goes_back_in_time_is_not_believed() {
    let server = serves();
    let flash = Flash::of("dialect=N");
    let Some(mut board) = flash.boots(&server, &[]) else { return };
    board.does("qos 1");
    board.reports("acked 1");
    board.is_killed();
    let backup = TempDir::new().unwrap();
    for n in ["bowline.0", "bowline.1"] {
        fs::copy(flash.folder.path().join(n), backup.path().join(n)).unwrap();
    }
    let Some(mut board) = flash.boots(&server, &[]) else { return };
    board.does("qos 2");
    board.reports("acked 1");
    board.is_killed();
    for n in ["bowline.0", "bowline.1"] {
        fs::copy(backup.path().join(n), flash.folder.path().join(n)).unwrap();
    }
    let Some(mut board) = flash.boots(&server, &["verbose=1"]) else { return };
    board.reports("no link: code 5");
    // Forgotten at one end, everything begins anew.
    board.is_killed();
    for n in ["bowline.0", "bowline.1"] {
        fs::remove_file(flash.folder.path().join(n)).unwrap();
    }
    let Some(mut board) = flash.boots(&server, &[]) else { return };
    board.does("qos 3");
    board.reports("acked 1");
}

#[test]
fn a_server_that_lost_its_store_gets_what_it_has_not_acknowledged() {
    let mut server = serves();
    let flash = Flash::of("dialect=N");
    let Some(mut board) = flash.boots(&server, &[]) else { return };
    board.does("qos 1");
    board.reports("acked 1");
    assert_eq!(board.reports("got"), "- 1");
    server.stops();
    board.reports("down");
    board.does("post 2");
    board.reports("posted 2");
    for entry in fs::read_dir(server.data()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() { fs::remove_file(path).unwrap() } else { fs::remove_dir_all(path).unwrap() }
    }
    server.starts_again();
    board.does("flush");
    board.reports("flushed");
    assert_eq!(board.reports("got"), "- 2", "and nothing again");
}

/// On a real littlefs in RAM, with the power cut at every write of a block.
#[test]
fn the_outbox_survives_a_power_cut_at_every_write() {
    let Some(mut script) = Board::runs(&["-X", "heapsize=8m"], "power_cuts.py", &[]) else { return };
    script.reports("cut at every one of");
    script.ends();
}
