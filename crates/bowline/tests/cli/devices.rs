//! `bowline devices`, `device show` and `device forget`, and how messages are sent.

use serde_json::Value;

use crate::harness::{Server, bowline, bowline_with_input, stderr, stdout};

fn device(server: &Server, id: &str, lines: &str) -> String {
    let output = bowline_with_input(&["device", id, "--server", &server.address(), "--linger-ms", "500"], lines);
    assert!(output.status.success(), "{output:?}");
    stdout(&output)
}

fn json(server: &Server, arguments: &[&str]) -> Value {
    let output = server.command(arguments);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_str(&stdout(&output)).unwrap()
}

#[test]
fn a_restarted_server_still_knows_the_totals() {
    let mut server = Server::starts();
    device(&server, "kitchen", "1\n22\n");
    let before = json(&server, &["device", "show", "kitchen", "--json"]);
    for (name, count) in [
        ("received", 2),
        ("received_bytes", 3),
        ("processed", 2),
        ("accepted", 2),
        ("acked", 2),
        ("connects", 1),
        ("outages", 1),
        ("duplicates", 0),
    ] {
        assert_eq!(before["totals"][name], count, "{name}: {before}");
    }
    assert_eq!(before["link"], "closed by the peer");
    assert_eq!(before["dialect"], "N");
    assert_eq!(before["outages"]["count"], 1);
    assert_eq!(before["outages"]["last_reason"], "closed by the peer");
    assert!(before["away_ms"].is_u64() && before["last_seen_ms"].as_u64() > Some(1_500_000_000_000), "{before}");
    assert_eq!(before["limits"]["unsent"], 256);
    assert_eq!(before["keys"]["state"], "none");

    server.stops();
    server.starts_again();
    let after = json(&server, &["devices", "--json"]);
    let after = &after.as_array().unwrap()[0];
    assert_eq!(after["totals"], before["totals"]);
    assert_eq!(after["link"], "not since the server started");
    assert_eq!(after["dialect"], "N");
    assert_eq!(after["last_seen_ms"], before["last_seen_ms"]);
    let table = stdout(&server.command(&["devices"]));
    assert!(table.lines().all(|line| line.len() <= 80), "{table}");
    let row = table.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(row, ["kitchen", "N", "away", "2", "2", "0", "0", "0"], "{table}");
    let page = stdout(&server.command(&["device", "show", "kitchen"]));
    assert!(page.contains("not since the server started, last on dialect N"), "{page}");
    assert!(page.lines().all(|line| line.len() <= 80), "{page}");
}

#[test]
fn a_killed_server_finds_the_totals_of_silent_devices() {
    let mut server = Server::starts();
    device(&server, "kitchen", "1\n2\n3\n");
    let before = json(&server, &["device", "show", "kitchen", "--json"]);
    // The ledger is stored some seconds after the last change, if not with it.
    std::thread::sleep(std::time::Duration::from_secs(7));
    server.is_killed();
    server.starts_again();
    assert_eq!(json(&server, &["device", "show", "kitchen", "--json"])["totals"], before["totals"]);
}

#[test]
fn a_forgotten_device_is_gone_with_everything() {
    let mut server = Server::starts();
    device(&server, "attic", "");
    device(&server, "cellar", "1\n");
    assert_eq!(server.command(&["send", "attic", "x", "--timeout-ms", "50"]).status.code(), Some(3));
    let forgotten = server.command(&["device", "forget", "attic"]);
    assert!(stdout(&forgotten).contains("1 message to it, 0 from it"), "{forgotten:?}");
    let gone = server.command(&["device", "show", "attc"]);
    assert!(!gone.status.success() && stderr(&gone).contains("no device \"attc\""), "{gone:?}");
    let again = server.command(&["device", "forget", "attic", "--yes"]);
    assert!(!again.status.success() && stderr(&again).contains("no device \"attic\""), "{again:?}");

    server.is_killed();
    server.starts_again();
    let known = json(&server, &["devices", "--json"]);
    assert_eq!(known.as_array().unwrap().iter().map(|device| &device["id"]).collect::<Vec<_>>(), ["cellar"]);
    assert_eq!(device(&server, "attic", "new\n"), "new\n", "without what was queued before");
}

#[test]
fn an_id_may_be_called_like_a_command() {
    let server = Server::starts();
    let address = server.address();
    let output = bowline_with_input(&["device", "--server", &address, "--linger-ms", "300", "--", "show"], "1\n");
    assert_eq!(stdout(&output), "1\n", "{output:?}");
    assert_eq!(json(&server, &["device", "show", "show", "--json"])["id"], "show");
    let output = bowline(&["device"]);
    assert!(stderr(&output).contains("<ID>"), "{output:?}");
}

#[test]
fn a_message_is_sent_as_it_was_asked() {
    let mut server = Server::starts();
    device(&server, "attic", "");
    let send = |server: &Server, arguments: &[&str]| {
        server.command(&[&["send", "attic", "--timeout-ms", "500"], arguments].concat())
    };
    let accepted = send(&server, &["1", "--until", "accepted"]);
    assert!(stdout(&accepted).starts_with("accepted after"), "{accepted:?}");
    let expired = send(&server, &["2", "--expires-ms", "50"]);
    assert!(stderr(&expired).contains("its time was up"), "{expired:?}");
    for text in ["3", "4", "5"] {
        send(&server, &[text, "--until", "accepted", "--policy", "keep-latest", "--header", "000001"]);
    }
    let wrong = send(&server, &["6", "--policy", "keep-latest", "--best-effort"]);
    assert!(stderr(&wrong).contains("cannot be used with"), "{wrong:?}");

    server.is_killed();
    server.starts_again();
    assert_eq!(device(&server, "attic", ""), "1\n[000001] 5\n");
    assert_eq!(json(&server, &["device", "show", "attic", "--json"])["totals"]["acked"], 2);
}
