//! Telemetry from a board to the record, and `bowline record` from outside.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use bowline_apps::record::{Arrival, Record, Settings};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Server, bowline, bowline_with_input, stderr, stdout};

/// 2026-11-23 02:03:04 UTC.
const NOW: i64 = 1_795_399_384_000;

/// Sends lines to the record app, as a device, and waits until they are handled.
fn records(server: &Server, id: &str, lines: &str) {
    let address = server.address();
    let arguments = ["device", id, "--server", &address, "--linger-ms", "1", "--header", "030000"];
    let output = bowline_with_input(&[&arguments[..], &["--until", "processed"]].concat(), lines);
    assert!(output.status.success(), "{output:?}");
}

/// A data folder with a record of these messages: device, milliseconds after [`NOW`], payload.
fn data(messages: &[(&str, i64, &str)]) -> TempDir {
    let data = TempDir::new().unwrap();
    let record = Record::open(Settings::new(data.path().join("record"))).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (seq, (device, after, payload)) in (1..).zip(messages) {
        let readings = record.read(0, payload.as_bytes()).unwrap();
        let arrival = Arrival { device: (*device).to_owned(), seq: Some(seq), received_at: NOW + after };
        runtime.block_on(record.write(arrival, readings)).unwrap();
    }
    data
}

fn two_rooms() -> TempDir {
    data(&[
        ("kitchen", 0, r#"{"temp": 21.5, "door": "open"}"#),
        ("attic", 1000, r#"{"temp": 10}"#),
        ("kitchen", 60_000, r#"{"temp": 22.5, "door": "shut, \"locked\""}"#),
        ("attic", 60_000, r#"{"temp": 11}"#),
    ])
}

/// What a command of `record` prints, which does not fail.
fn prints(data: &TempDir, arguments: &[&str]) -> String {
    let output = fails_or_not(data, arguments);
    assert!(output.status.success(), "{output:?}");
    stdout(&output)
}

/// What a command of `record` complains about.
fn complains(data: &TempDir, arguments: &[&str]) -> String {
    let output = fails_or_not(data, arguments);
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    stderr(&output)
}

fn fails_or_not(data: &TempDir, arguments: &[&str]) -> std::process::Output {
    bowline(&[&["record"], arguments, &["--data", data.path().to_str().unwrap()]].concat())
}

#[test]
fn what_a_board_sends_is_recorded_and_can_be_asked_for() {
    let mut server = Server::starts();
    for device in ["attic", "cellar"] {
        let lines = "{\"temp\": 21.5, \"on\": true}\n[\"hum\", 60]\n7\n{\"temp\": 19, \"t\": 1795399384000}\n";
        records(&server, device, lines);
    }
    for running in [true, false] {
        if !running {
            server.stops();
        }
        let output = server.command(&["record", "query", "--format", "json"]);
        assert!(output.status.success(), "{output:?}");
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        for device in ["attic", "cellar"] {
            let of_device: Vec<_> = rows.iter().filter(|row| row["device"] == device).collect();
            let mut values: Vec<_> =
                of_device.iter().map(|row| format!("{} {}", row["series"].as_str().unwrap(), row["value"])).collect();
            values.sort();
            assert_eq!(values, ["hum 60", "on 1", "temp 19", "temp 21.5", "value 7"], "running: {running}");
            let own = of_device.iter().find(|row| row["value"] == 19).unwrap();
            assert_eq!(own["at_ms"], NOW);
            assert!(own["received_ms"].as_i64().unwrap() != NOW && own["seq"].is_u64(), "{own}");
        }
    }
}

#[test]
fn what_is_no_telemetry_is_kept_as_a_dead_letter_with_the_reason() {
    let server = Server::starts();
    records(&server, "kitchen", "{\"temp\": 1}\n{\"temp\": null}\n{\"temp\": 2}\n");
    let letters: Vec<Value> = serde_json::from_slice(&server.command(&["dead", "list", "--json"]).stdout).unwrap();
    assert_eq!(letters.len(), 1, "{letters:?}");
    let reason = letters[0]["reason"].as_str().unwrap();
    assert!(reason.contains("\"temp\" is null: expected a number"), "{reason}");
    let csv = stdout(&server.command(&["record", "query", "--format", "csv"]));
    assert_eq!(csv.lines().count(), 3, "{csv}");
}

#[test]
fn a_server_that_is_killed_again_and_again_records_everything_once() {
    let mut server = Server::starts();
    let (address, count) = (server.address(), 400);
    let board = std::thread::spawn(move || {
        let lines: String = (0..count).map(|n| format!("{{\"n\": {n}}}\n")).collect();
        let arguments = ["device", "kitchen", "--server", &address, "--linger-ms", "1", "--header", "030000"];
        bowline_with_input(&[&arguments[..], &["--timeout-ms", "500", "--until", "processed"]].concat(), &lines)
    });
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(150));
        server.is_killed();
        server.starts_again();
    }
    let output = board.join().unwrap();
    assert!(output.status.success(), "{output:?}");
    server.stops();
    let rows: Vec<Value> =
        serde_json::from_slice(&server.command(&["record", "query", "--format", "json"]).stdout).unwrap();
    let mut seen: Vec<_> = rows.iter().map(|row| row["value"].as_i64().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..count).collect::<Vec<_>>());
}

#[test]
fn a_server_can_do_without_a_record() {
    let server = Server::configured("[apps.record]\nenabled = false\n");
    records(&server, "kitchen", "1\n");
    let list = server.command(&["dead", "list"]);
    assert!(stdout(&list).contains("kitchen"), "{list:?}");
    assert!(!std::path::Path::new(server.data()).join("record").exists());
}

#[test]
fn a_table_is_for_people() {
    let data = two_rooms();
    assert_eq!(
        prints(&data, &["query"]),
        "time (UTC)               device   series  value\n\
         2026-11-23 02:03:04.000  kitchen  door    open\n\
         2026-11-23 02:03:04.000  kitchen  temp    21.5\n\
         2026-11-23 02:03:05.000  attic    temp    10\n\
         2026-11-23 02:04:04.000  kitchen  door    shut, \"locked\"\n\
         2026-11-23 02:04:04.000  kitchen  temp    22.5\n\
         2026-11-23 02:04:04.000  attic    temp    11\n"
    );
    assert_eq!(
        prints(&data, &["list"]),
        "device   series    samples  first (UTC)          last (UTC)\n\
         attic    temp            2  2026-11-23 02:03:05  2026-11-23 02:04:04\n\
         kitchen  door            2  2026-11-23 02:03:04  2026-11-23 02:04:04\n\
         kitchen  temp            2  2026-11-23 02:03:04  2026-11-23 02:04:04\n"
    );
}

#[test]
fn questions_choose_and_aggregate() {
    let data = two_rooms();
    let values = |arguments: &[&str]| {
        let csv = prints(&data, &[&["query", "--format", "csv"], arguments].concat());
        let rows = csv.lines().skip(1).map(|row| row.splitn(4, ',').skip(1).collect::<Vec<_>>());
        rows.map(|row| format!("{} {} {}", row[0], row[1], row[2].split(',').next().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(values(&["--device", "att*"]), ["attic temp 10", "attic temp 11"]);
    assert_eq!(values(&["--series", "temp", "--limit", "1"]), ["attic temp 11"]);
    assert_eq!(values(&["--series", "temp", "--until", "2026-11-23T02:03:05"]), ["kitchen temp 21.5"]);
    assert_eq!(
        values(&["--series", "temp", "--every", "1h"]),
        ["attic temp 10.5", "kitchen temp 22"],
        "the mean if nothing else is said"
    );
    assert_eq!(values(&["--every", "1d", "--agg", "count"]), ["attic temp 2", "kitchen door 2", "kitchen temp 2"]);
    assert!(
        prints(&data, &["query", "--every", "1h", "--format", "csv"])
            .contains("\n2026-11-23T02:00:00.000Z,attic,temp,")
    );
}

#[test]
fn a_picture_goes_into_a_file_without_colours() {
    let data = two_rooms();
    let page = prints(&data, &["query", "--series", "temp", "--format", "plot"]);
    assert!(page.contains("a attic temp") && page.contains("b kitchen temp"), "{page}");
    assert!(page.contains("2026-11-23 02:03:04 to 2026-11-23 02:04:04 UTC"), "{page}");
    assert!(!page.contains('\x1b') && page.lines().all(|line| line.chars().count() <= 80), "{page}");
    let output = fails_or_not(&data, &["query", "--series", "door", "--format", "plot"]);
    assert!(stderr(&output).contains("no numbers among these 2 values"), "{output:?}");
    let many: Vec<_> = (0..9).map(|n| format!("{{\"s{n}\": 1}}")).collect();
    let many: Vec<_> = many.iter().map(|payload| ("kitchen", 0, &**payload)).collect();
    let error = complains(&self::data(&many), &["query", "--format", "plot"]);
    assert!(error.contains("9 series are too many for one picture, expected at most 8"), "{error}");
}

#[test]
fn what_cannot_be_answered_says_why() {
    let data = two_rooms();
    let near = complains(&data, &["query", "--device", "kitchn"]);
    assert!(near.contains("nothing is recorded of a device \"kitchn\": did you mean \"kitchen\"?"), "{near}");
    let near = complains(&data, &["query", "--device", "attic", "--series", "tmp"]);
    assert!(near.contains("of a series \"tmp\" of \"attic\": did you mean \"temp\"?"), "{near}");
    let all = complains(&data, &["list", "x*"]);
    assert!(all.contains("there are \"attic\", \"kitchen\""), "{all}");
    let time = complains(&data, &["query", "--since", "yesterday"]);
    assert!(time.contains("2h") && time.contains("2026-11-01T12:30"), "{time}");
    let order = complains(&data, &["query", "--since", "2026-11-02", "--until", "2026-11-01"]);
    assert!(order.contains("is not before"), "{order}");
    let aggregate = complains(&data, &["query", "--agg", "max"]);
    assert!(aggregate.contains("--every"), "{aggregate}");
    let nothing = fails_or_not(&data, &["query", "--since", "2027-01-01"]);
    assert!(nothing.status.success() && stdout(&nothing).is_empty(), "{nothing:?}");
    assert!(
        stderr(&nothing).contains("there are samples from 2026-11-23 02:03:04.000 to 2026-11-23 02:04:04.000"),
        "{nothing:?}"
    );
}

#[test]
fn an_empty_record_is_no_error_and_a_missing_folder_is() {
    let data = TempDir::new().unwrap();
    assert!(prints(&data, &["list"]).contains("Nothing is recorded in"));
    assert_eq!(prints(&data, &["list", "--json"]).trim(), "[]");
    assert_eq!(prints(&data, &["query", "--format", "json"]), "[]\n");
    assert_eq!(prints(&data, &["query", "--format", "csv"]), "time,device,series,value,received,seq\n");
    for format in ["table", "plot"] {
        let output = fails_or_not(&data, &["query", "--format", format]);
        assert!(output.status.success() && stderr(&output).contains("boards send to the app 3"), "{output:?}");
    }
    let missing = bowline(&["record", "list", "--data", "/nowhere/at/all"]);
    assert!(stderr(&missing).contains("there is no folder /nowhere/at/all"), "{missing:?}");
}

#[test]
fn a_long_table_is_cut_unless_somebody_asks_for_it() {
    let messages: Vec<_> = (0..60).map(|n| ("kitchen", n, "1")).collect();
    let data = data(&messages);
    let output = fails_or_not(&data, &["query"]);
    assert_eq!(stdout(&output).lines().count(), 51);
    assert!(stderr(&output).contains("The newest 50 of 60 rows"), "{output:?}");
    assert_eq!(prints(&data, &["query", "--since", "2026-11-01"]).lines().count(), 61);
    assert_eq!(prints(&data, &["query", "--limit", "3"]).lines().count(), 4);
}

#[test]
fn whoever_has_read_enough_may_go() {
    let values: Vec<_> = (0..60).map(|n| format!("\"s{n}\": {n}")).collect();
    let payload = format!("{{{}}}", values.join(","));
    let messages: Vec<_> = (0..50).map(|n| ("kitchen", n, &*payload)).collect();
    let data = data(&messages);
    for format in ["table", "csv", "json"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bowline"))
            .args(["record", "query", "--since", "2026-11-01", "--format", format, "--data"])
            .arg(data.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut [0; 100]).unwrap();
        drop(out);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{format}: {output:?}");
    }
}
