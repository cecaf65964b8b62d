//! `bowline bench` against a real server, and against peers that do what no server should.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Running, Server, bowline, stderr, stdout};

/// A server that lets anybody shake hands as often as it likes.
fn server() -> Server {
    Server::configured("[security]\nhandshakes_per_second = 0\n")
}

fn report(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|error| panic!("{error} in {output:?}"))
}

/// A run in which everything is as it should be.
fn measures(server: &Server, arguments: &[&str]) -> Value {
    let output = bowline(&[&["bench"], arguments, &["--server", &server.address(), "--json"]].concat());
    assert!(output.status.success(), "{output:?}");
    let report = report(&output);
    assert_eq!((&report["ok"], &report["links_lost"], &report["problems"]), (&true.into(), &0.into(), &json!({})));
    report
}

fn fails(output: &Output, texts: &[&str]) {
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(stdout(output), "");
    for text in texts {
        assert!(stderr(output).contains(text), "{text:?} is not in {output:?}");
    }
}

/// Every kind of run, with these options.
fn every_kind(server: &Server, options: &[&str], window: u64) {
    let run = |arguments: &[&str]| measures(server, &[arguments, options].concat());

    let latency = run(&["latency", "--messages", "20", "--warm-up", "0.05"]);
    let load = &latency["load"];
    assert_eq!((&latency["devices"], &load["window"]), (&1.into(), &1.into()));
    assert_eq!((&load["offered"], &load["acknowledged"], &load["lost"]), (&20.into(), &20.into(), &0.into()));
    assert_eq!(load["latency_us"]["count"], 20);
    assert_eq!(latency.get("echo"), None);

    let throughput = run(&["throughput", "--devices", "4", "--messages", "25", "--warm-up", "0", "--bytes", "100"]);
    let load = &throughput["load"];
    assert_eq!((&load["window"], &load["bytes"]), (&window.into(), &100.into()));
    assert_eq!((&load["offered"], &load["acknowledged"], &load["lost"]), (&100.into(), &100.into(), &0.into()));
    assert_eq!((&load["latency_us"]["count"], &load["stray_acks"]), (&100.into(), &0.into()));

    let timed = run(&["throughput", "--devices", "2", "--seconds", "0.3", "--warm-up", "0"]);
    let load = &timed["load"];
    assert_eq!(load["offered"], load["acknowledged"]);
    assert_eq!(load["offered"], load["latency_us"]["count"]);
    assert!(load["offered"].as_u64().unwrap() >= 2, "each device sends at once: {load}");

    let echo = run(&["echo", "--devices", "3", "--messages", "12", "--warm-up", "0", "--prefix", "echo"]);
    let (load, echo) = (&echo["load"], &echo["echo"]);
    assert_eq!((&load["offered"], &load["acknowledged"], &echo["received"]), (&36.into(), &36.into(), &36.into()));
    assert_eq!(
        (&echo["lost"], &echo["doubled"], &echo["wrong"], &echo["round_trip_us"]["count"]),
        (&0.into(), &0.into(), &0.into(), &36.into())
    );

    let hold = run(&["hold", "--devices", "5", "--seconds", "0.3", "--pid", &server.pid()]);
    assert_eq!((&hold["connect"]["connected"], &hold["hold"]["connected"]), (&5.into(), &5.into()));
    assert_eq!(hold["hold"]["lost"], 0);
    assert!(hold["server"]["rss_bytes"].as_u64().unwrap() > 0, "{hold}");

    let storm = run(&["storm", "--devices", "5"]);
    let storm = &storm["storm"];
    assert_eq!((&storm["back"], &storm["back_us"]["count"]), (&5.into(), &5.into()));
    let tickets = if options.contains(&"--keys") { 5 } else { 0 };
    assert_eq!(storm["resumed"], tickets, "with keys, devices come back without a full handshake");
}

/// What the server says it has received from this device.
fn received(server: &Server, id: &str) -> Value {
    let devices: Value = serde_json::from_str(&stdout(&server.command(&["devices", "--json"]))).unwrap();
    let device = devices.as_array().unwrap().iter().find(|device| device["id"] == id);
    device.unwrap_or_else(|| panic!("no {id} in {devices:#}"))["totals"]["received"].clone()
}

#[test]
fn every_kind_of_run_on_n() {
    let server = server();
    every_kind(&server, &[], 16);
    assert_eq!(received(&server, "echo-2"), 12, "the server counts as many");
}

#[test]
fn every_kind_of_run_on_n_with_keys() {
    let (server, folder) = (server(), TempDir::new().unwrap());
    let file = folder.path().join("keys.txt");
    let file = file.to_str().unwrap();
    let made = bowline(&["bench", "keys", "--count", "5", "--out", file, "--data", server.data()]);
    assert!(made.status.success() && stderr(&made).contains("The running server knows (5 ids with keys)"), "{made:?}");
    every_kind(&server, &["--keys", file], 16);
    let report = measures(&server, &["latency", "--messages", "1", "--warm-up", "0", "--keys", file]);
    assert_eq!(report["encrypted"], true);
    fails(&bowline(&["bench", "hold", "--devices", "6", "--keys", file]), &["5 keys", "6 devices"]);
}

#[test]
fn every_kind_of_run_on_h() {
    let server = server();
    every_kind(&server, &["--dialect", "h"], 1);
    assert_eq!(received(&server, "echo-0"), 12, "the server counts as many");
    measures(&server, &["echo", "--dialect", "h", "--devices", "1", "--messages", "3", "--header", "000007"]);
}

#[test]
fn every_kind_of_run_on_u() {
    let server = server();
    every_kind(&server, &["--dialect", "u"], 1);
    assert_eq!(received(&server, "echo-1"), 12, "the server counts as many");
}

#[test]
fn every_echo_is_acknowledged() {
    let mut server = server();
    for (prefix, dialect) in [("on-n", "n"), ("on-h", "h"), ("on-u", "u")] {
        let load = ["echo", "--devices", "2", "--messages", "8", "--warm-up", "0"];
        measures(&server, &[&load[..], &["--dialect", dialect, "--prefix", prefix]].concat());
    }
    server.stops();
    let log = server.whole_log();
    assert!(!log.iter().any(|line| line.contains("queued message")), "nothing is left to send: {log:#?}");
}

#[test]
fn a_table_is_for_people() {
    let server = server();
    let output = bowline(&["bench", "echo", "--devices", "2", "--messages", "5", "--server", &server.address()]);
    assert!(output.status.success(), "{output:?}");
    let table = stdout(&output);
    for text in ["echo, dialect N, 2 devices, 16 in flight each", "p99.9", "send to echo", "CPU of the generator"] {
        assert!(table.contains(text), "{text:?} is not in {table}");
    }
}

#[test]
fn a_storm_waits_for_a_server_that_restarts() {
    for dialect in ["n", "h"] {
        let mut server = server();
        let mut storm = Running::starts(&[
            "bench",
            "storm",
            "--restarts",
            "--devices",
            "4",
            "--dialect",
            dialect,
            "--server",
            &server.address(),
            "--json",
        ]);
        storm.says("restart it");
        server.is_killed();
        storm.says("all links are cut");
        server.starts_again();
        let (success, text) = storm.ends();
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((success, &report["storm"]["back"]), (true, &4.into()), "{report}");
        assert!(
            report["problems"].as_object().unwrap().keys().any(|text| text.contains("a link was lost")),
            "{report}"
        );
    }
}

#[test]
fn a_server_that_dies_is_told_from_one_that_is_slow() {
    let mut server = server();
    let mut run = Running::starts(&[
        "bench",
        "throughput",
        "--devices",
        "2",
        "--seconds",
        "60",
        "--warm-up",
        "0",
        "--patience",
        "1",
        "--server",
        &server.address(),
        "--json",
    ]);
    run.says("measuring");
    server.is_killed();
    run.is_interrupted();
    let (success, text) = run.ends();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert!(!success && report["ok"] == false && report["links_lost"] == 2, "{report}");
    let load = &report["load"];
    let [offered, acknowledged, lost] = ["offered", "acknowledged", "lost"].map(|field| load[field].as_u64().unwrap());
    assert_eq!(offered, acknowledged + lost, "{report}");
}

#[test]
fn an_interrupted_run_says_what_it_has_measured() {
    let server = server();
    let mut run = Running::starts(&[
        "bench",
        "throughput",
        "--devices",
        "2",
        "--seconds",
        "600",
        "--warm-up",
        "0",
        "--server",
        &server.address(),
        "--json",
    ]);
    run.says("measuring");
    run.is_interrupted();
    let (success, text) = run.ends();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert!(!success, "what was asked for was not done");
    assert_eq!((&report["interrupted"], &report["ok"]), (&true.into(), &false.into()));
    assert_eq!((&report["load"]["lost"], &report["links_lost"]), (&0.into(), &0.into()), "{report}");
}

#[test]
fn what_cannot_begin_is_explained() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    fails(&bowline(&["bench", "hold", "--server", &nobody]), &["nobody listens", "bowline serve", "--server"]);
    fails(&bowline(&["bench", "hold", "--server", "nowhere"]), &["HOST:PORT"]);
    fails(&bowline(&["bench", "echo", "--dialect", "u", "--window", "2"]), &["--window", "one message"]);
    fails(&bowline(&["bench", "echo", "--dialect", "h", "--keys", "x"]), &["only dialect N has keys"]);
    fails(&bowline(&["bench", "echo", "--header", "00"]), &["three bytes"]);
    fails(&bowline(&["bench", "hold", "--keys", "/no/such/file"]), &["/no/such/file", "bowline bench keys"]);
    fails(&bowline(&["bench", "hold", "--server", &nobody, "--pid", "4294967295"]), &["--pid"]);
    fails(&bowline(&["bench", "hold", "--devices", "30000", "--server", "192.0.2.1:1"]), &["--source"]);
}

#[test]
fn more_devices_than_open_files_are_explained() {
    let limited = "ulimit -n 100; exec \"$0\" bench hold --devices 200 --server 127.0.0.1:9";
    let output = Command::new("sh").args(["-c", limited, env!("CARGO_BIN_EXE_bowline")]).output().unwrap();
    fails(&output, &["200 connections need 264 open files", "may have 100", "at most 36 devices", "ulimit"]);
}

#[test]
fn a_soft_limit_of_open_files_is_raised() {
    let server = server();
    let limited = "ulimit -S -n 60; exec \"$0\" bench hold --devices 100 --seconds 0 --json --server \"$1\"";
    let output =
        Command::new("sh").args(["-c", limited, env!("CARGO_BIN_EXE_bowline"), &server.address()]).output().unwrap();
    assert_eq!((output.status.success(), &report(&output)["hold"]["connected"]), (true, &100.into()), "{output:?}");
}

#[test]
fn a_key_the_server_does_not_know_is_explained() {
    let (server, folder) = (server(), TempDir::new().unwrap());
    let (elsewhere, file) = (folder.path().join("elsewhere"), folder.path().join("keys.txt"));
    let (elsewhere, file) = (elsewhere.to_str().unwrap(), file.to_str().unwrap());
    let keys = ["bench", "keys", "--count", "2", "--data", elsewhere, "--out", file];
    assert!(bowline(&keys).status.success());
    let run = |options: &[&str]| {
        bowline(&[&["bench", "latency", "--messages", "1", "--server", &server.address()], options].concat())
    };
    fails(&run(&["--keys", file]), &["bench-0", "does not know this key", "bowline bench keys"]);
    fails(&bowline(&keys), &["--out names one that is not there yet"]);

    let line = fs::read_to_string(file).unwrap().replace(":bench-0", ":bench-9");
    let wrong = folder.path().join("wrong.txt");
    fs::write(&wrong, line).unwrap();
    fails(&run(&["--keys", wrong.to_str().unwrap()]), &["line 1", "copy it again"]);

    let made = folder.path().join("made.txt");
    let own = ["bench", "keys", "--count", "1", "--data", server.data(), "--out"];
    assert!(bowline(&[&own[..], &[made.to_str().unwrap()]].concat()).status.success());
    fails(&run(&[]), &["bench-0", "--keys"]);
    let again = folder.path().join("again.txt");
    fails(&bowline(&[&own[..], &[again.to_str().unwrap()]].concat()), &["bench-0", "bowline key rotate"]);
    assert!(!again.exists(), "no file without keys is left behind");
}

#[test]
fn handshakes_that_the_server_puts_off_are_counted() {
    let folder = TempDir::new().unwrap();
    let server = Server::configured("[security]\nhandshakes_per_second = 10\nhandshake_burst = 1\n");
    let file = folder.path().join("keys.txt");
    let file = file.to_str().unwrap();
    assert!(bowline(&["bench", "keys", "--count", "4", "--out", file, "--data", server.data()]).status.success());
    let output = bowline(&[
        "bench",
        "hold",
        "--devices",
        "4",
        "--seconds",
        "0",
        "--keys",
        file,
        "--json",
        "--server",
        &server.address(),
    ]);
    let report = report(&output);
    assert_eq!((output.status.success(), &report["hold"]["connected"]), (false, &4.into()), "{report}");
    assert!(report["connect"]["refused"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn a_payload_that_the_server_does_not_take_is_explained() {
    let server = server();
    let run = |dialect: &str| {
        bowline(&[
            "bench",
            "latency",
            "--dialect",
            dialect,
            "--bytes",
            "20000",
            "--messages",
            "3",
            "--warm-up",
            "0",
            "--patience",
            "1",
            "--json",
            "--server",
            &server.address(),
        ])
    };
    fails(&run("n"), &["at most 16384 bytes", "limits.line"]);
    // On H a server can only end the link, again and again.
    let report = report(&run("h"));
    assert_eq!(
        (&report["load"]["offered"], &report["load"]["lost"], &report["ok"]),
        (&1.into(), &1.into(), &false.into())
    );
}

/// A peer that speaks U and answers each message as it is told to: with lines, in which `{}` is the message's id.
fn peer(answer: impl Fn(u64, &str) -> Vec<String> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut writer: TcpStream = stream.try_clone().unwrap();
        let mut lines = BufReader::new(stream).lines();
        lines.next();
        // The first byte lets the device in.
        writer.write_all(b"\n").unwrap();
        let mut number = 0;
        for line in lines.map_while(Result::ok).filter(|line| line.len() > 2) {
            number += 1;
            for answer in answer(number, &line) {
                // It may be gone already.
                let _ = writer.write_all(format!("{answer}\n").as_bytes());
            }
        }
    });
    address
}

fn measures_peer(kind: &str, address: &str) -> Value {
    let devices = if kind == "latency" { &[][..] } else { &["--devices", "1"] };
    let common = [
        "bench",
        kind,
        "--dialect",
        "u",
        "--messages",
        "4",
        "--warm-up",
        "0",
        "--patience",
        "1",
        "--timeout-ms",
        "60000",
        "--json",
        "--server",
        address,
    ];
    let output = bowline(&[&common[..], devices].concat());
    let report = report(&output);
    assert_eq!((output.status.success(), &report["ok"]), (false, &false.into()), "{report}");
    report
}

/// The peer's own ids begin at 1 and never repeat in these tests; 0 is for the first message after a login.
fn echo(id: u64, line: &str) -> String {
    format!("{id:02x}{}", &line[2..])
}

#[test]
fn an_echo_that_is_not_what_was_sent_is_found() {
    let address = peer(|number, line| {
        let text = if number == 2 { line.replace("xyz", "xyy") } else { line.to_owned() };
        vec![line[..2].to_owned(), echo(number, &text)]
    });
    let report = measures_peer("echo", &address);
    assert_eq!(report["echo"]["wrong"], 1, "{report}");
    assert_eq!(report["load"]["lost"], 0, "{report}");
}

#[test]
fn an_echo_that_comes_twice_is_found() {
    let address = peer(|number, line| {
        let mut lines = vec![line[..2].to_owned(), echo(2 * number, line)];
        lines.extend((number == 3).then(|| echo(2 * number + 1, line)));
        lines
    });
    let report = measures_peer("echo", &address);
    assert_eq!((&report["echo"]["doubled"], &report["echo"]["received"]), (&1.into(), &4.into()), "{report}");
}

#[test]
fn an_echo_that_is_left_out_is_found() {
    let address = peer(|number, line| {
        let mut lines = vec![line[..2].to_owned()];
        lines.extend((number < 4).then(|| echo(number, line)));
        lines
    });
    let report = measures_peer("echo", &address);
    assert_eq!((&report["echo"]["lost"], &report["echo"]["received"]), (&1.into(), &3.into()), "{report}");
    assert_eq!(report["load"]["lost"], 0, "{report}");
}

#[test]
fn a_message_that_is_not_acknowledged_is_lost() {
    let address = peer(|number, line| if number < 3 { vec![line[..2].to_owned()] } else { Vec::new() });
    let report = measures_peer("latency", &address);
    assert_eq!((&report["load"]["acknowledged"], &report["load"]["lost"]), (&2.into(), &1.into()), "{report}");
}

#[test]
fn an_acknowledgement_that_comes_twice_is_found() {
    let address = peer(|_, line| vec![line[..2].to_owned(), line[..2].to_owned()]);
    let report = measures_peer("latency", &address);
    assert_eq!((&report["load"]["acknowledged"], &report["load"]["lost"]), (&4.into(), &0.into()), "{report}");
    assert!(report["load"]["stray_acks"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn what_is_lost_before_the_measured_time_counts_too() {
    let address = peer(|_, _| Vec::new());
    let output = bowline(&[
        "bench",
        "latency",
        "--dialect",
        "u",
        "--messages",
        "4",
        "--warm-up",
        "0.3",
        "--patience",
        "0.5",
        "--timeout-ms",
        "60000",
        "--json",
        "--server",
        &address,
    ]);
    let report = report(&output);
    assert_eq!((output.status.success(), &report["ok"]), (false, &false.into()), "{report}");
    assert_eq!(report["problems"]["a device waits in vain for what it has sent"], 1, "{report}");
}

/// One device is let in and thrown out again and again, the other never gets in.
#[test]
fn a_device_that_comes_and_goes_is_one_device() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut login = String::new();
            let read = BufReader::new(stream.try_clone().unwrap()).read_line(&mut login);
            if read.is_ok() && login == "bench-0\n" {
                // It may be gone already.
                let _ = stream.write_all(b"\n");
            }
        }
    });
    let output = bowline(&[
        "bench",
        "hold",
        "--dialect",
        "u",
        "--devices",
        "2",
        "--seconds",
        "0",
        "--patience",
        "2",
        "--json",
        "--server",
        &address,
    ]);
    let report = report(&output);
    assert_eq!((output.status.success(), &report["connect"]["connected"]), (false, &1.into()), "{report}");
    assert!(
        report["links_lost"].as_u64().unwrap() > 0 && report["connect"]["failed"].as_u64().unwrap() > 0,
        "{report}"
    );
}
