//! What the commands say, to users who do the right thing and to those who do not.

use std::fs;
use std::net::TcpListener;

use tempfile::TempDir;

use crate::harness::{Server, bowline, bowline_with_input, stderr, stdout};

#[test]
fn a_device_gets_its_echo() {
    let server = Server::starts();
    for dialect in ["h", "u"] {
        let output = bowline_with_input(
            &["device", "kitchen", "--dialect", dialect, "--server", &server.address()],
            "[1, 2]\n\"three\"\n",
        );
        assert!(output.status.success(), "{output:?}");
        assert_eq!(stdout(&output), "[1, 2]\n\"three\"\n", "{output:?}");
    }
}

#[test]
fn plain_lines_need_a_setting_and_then_work() {
    let mut server = Server::starts();
    let plain = |server: &Server| {
        bowline_with_input(&["device", "meter", "--dialect", "p", "--server", &server.address()], "hello\n")
    };
    plain(&server);
    server.logs("a device that sends plain lines has to be configured as one");

    let server = Server::configured("[devices]\nplain = [\"met*\"]\n");
    assert_eq!(stdout(&plain(&server)), "hello\n");
}

#[test]
fn a_port_in_use_is_explained() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let data = TempDir::new().unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = bowline(&["serve", "--listen", &address, "--data", data.path().to_str().unwrap()]);
    assert!(!output.status.success());
    let message = stderr(&output);
    assert!(message.contains(&address) && message.contains("--listen"), "{message}");
}

#[test]
fn a_data_folder_that_cannot_be_used_is_explained() {
    let output = bowline(&["serve", "--listen", "127.0.0.1:0", "--data", "/proc/bowline"]);
    assert!(!output.status.success());
    let message = stderr(&output);
    assert!(message.contains("/proc/bowline") && message.contains("--data"), "{message}");
}

#[test]
fn a_data_folder_has_one_server() {
    let server = Server::starts();
    let output = bowline(&["serve", "--listen", "127.0.0.1:0", "--data", server.data()]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("another `bowline serve` uses the data folder"), "{output:?}");
}

#[test]
fn the_network_is_not_let_in_by_accident() {
    let output = bowline(&["serve", "--listen", "0.0.0.0:0", "--check"]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("--open-lan"), "{output:?}");
    let output = bowline(&["serve", "--open-lan", "--check"]);
    assert!(output.status.success(), "{output:?}");
    assert!(stdout(&output).contains("0.0.0.0:9999, 0.0.0.0:8123"), "{output:?}");
}

#[test]
fn a_wrong_configuration_is_explained() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("bowline.toml");
    fs::write(&config, "lisen = [\"127.0.0.1:9999\"]\n").unwrap();
    let output = bowline(&["serve", "--config", config.to_str().unwrap(), "--check"]);
    assert!(!output.status.success());
    let message = stderr(&output);
    assert!(message.contains("unknown field `lisen`") && message.contains("did you mean `listen`?"), "{message}");

    let output = bowline(&["serve", "--config", "no-such-file.toml"]);
    assert!(stderr(&output).contains("no-such-file.toml"), "{output:?}");
}

#[test]
fn commands_without_a_server_say_so() {
    let data = TempDir::new().unwrap();
    let data = data.path().to_str().unwrap();
    for command in [&["send", "kitchen", "hi"][..], &["tail"], &["devices"]] {
        let output = bowline(&[command, &["--data", data]].concat());
        assert!(!output.status.success());
        assert!(stderr(&output).contains("start `bowline serve`"), "{output:?}");
    }
}

#[test]
fn a_message_for_nobody_is_explained() {
    let server = Server::starts();
    let output = server.command(&["send", "kitchen", "hi"]);
    assert!(stderr(&output).contains("no device has connected yet"), "{output:?}");

    bowline_with_input(&["device", "kitchen", "--server", &server.address(), "--linger-ms", "0"], "");
    let output = server.command(&["send", "kitchn", "hi"]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("did you mean \"kitchen\"?"), "{output:?}");
}

#[test]
fn a_message_for_a_device_that_is_away_stays_queued_and_arrives() {
    let server = Server::starts();
    let device =
        |input| bowline_with_input(&["device", "attic", "--server", &server.address(), "--linger-ms", "1000"], input);
    assert_eq!(stdout(&device("1\n")), "1\n");
    let output = server.command(&["send", "attic", "later", "--timeout-ms", "200"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(stderr(&output).contains("stays queued"), "{output:?}");
    assert_eq!(stdout(&device("")), "later\n");

    let output = server.command(&["send", "attic", "now", "--best-effort"]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("no link"), "{output:?}");
}

#[test]
fn a_device_without_a_server_may_give_up() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = bowline_with_input(&["device", "kitchen", "--server", &free, "--fail-fast"], "1\n");
    assert!(!output.status.success());
    assert!(stderr(&output).contains(&format!("no link to {free}")), "{output:?}");

    let output = bowline(&["device", "kitchen", "--server", "nonsense"]);
    assert!(stderr(&output).contains("expected host:port"), "{output:?}");
    let output = bowline(&["device", "", "--server", &free]);
    assert!(stderr(&output).contains("at least one character"), "{output:?}");
}

#[test]
fn a_message_there_is_no_room_for_is_not_called_queued() {
    let server = Server::configured("[limits]\noutbox = 1\n");
    let device =
        |linger| bowline_with_input(&["device", "attic", "--server", &server.address(), "--linger-ms", linger], "");
    device("0");
    let send = |text| server.command(&["send", "attic", text, "--timeout-ms", "100"]);
    assert_eq!(send("1").status.code(), Some(3));
    let refused = send("2");
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("the queue for \"attic\" is full"), "{refused:?}");
    assert_eq!(stdout(&device("1000")), "1\n");
}

#[test]
fn a_device_fails_if_a_line_cannot_be_sent_as_asked() {
    let server = Server::starts();
    let device = |options: &[&str]| {
        let always = ["device", "attic", "--server", &server.address(), "--linger-ms", "0"];
        let output = bowline_with_input(&[&always, options].concat(), "1\n");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        stderr(&output)
    };
    assert!(device(&["--header", "0700"]).contains("not sent: the header has 2 bytes"));
    assert!(device(&["--dialect", "h", "--until", "processed"]).contains("the receipt \"processed\" does not come"));
}

#[test]
fn a_device_without_a_link_says_so_and_nothing_else() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let device = |options: &[&str], input| {
        let always = ["device", "attic", "--server", &free, "--linger-ms", "0"];
        let output = bowline_with_input(&[&always, options].concat(), input);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        stderr(&output)
    };
    assert!(!device(&["--fail-fast"], "1\n").contains("closed"));
    assert!(device(&[], "").ends_with("ended without a link\n"));
}
