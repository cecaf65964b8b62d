//! `bowline key`, with a server and without.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use bowline_secure::Provision;
use tempfile::TempDir;

use crate::harness::{Server, bowline, bowline_with_input, stderr, stdout};

/// A data folder that no server uses yet.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Folder(TempDir::new().unwrap())
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn key(&self, arguments: &[&str]) -> Output {
        bowline(&[&["key"], arguments, &["--data", self.path()]].concat())
    }

    fn keys(&self) -> String {
        stdout(&self.key(&["list", "--json"]))
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.path().join("keys.txt")
    }
}

fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    stdout(output)
}

/// Fails, and says all of this.
fn fails(output: &Output, texts: &[&str]) {
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(stdout(output), "");
    for text in texts {
        assert!(stderr(output).contains(text), "{text:?} is not in {output:?}");
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// What is secret in a provisioning line.
fn secret(line: &str) -> String {
    line.split(':').nth(2).unwrap().to_owned()
}

#[test]
fn a_key_is_made_rotated_revoked_and_removed() {
    let folder = Folder::new();
    let made = folder.key(&["new", "kitchen"]);
    let line = ok(&made);
    assert_eq!(line.lines().count(), 1, "a line and no QR code: this is no terminal");
    let provision = Provision::parse(&line).unwrap();
    assert_eq!((provision.id.as_str(), provision.key_id.get()), ("kitchen", 1));
    assert!(stderr(&made).contains("nobody else") && stderr(&made).contains("No server runs"), "{made:?}");
    assert!(!stderr(&made).contains(&secret(&line)));

    let rotated = folder.key(&["rotate", "kitchen", "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&ok(&rotated)).unwrap();
    assert_eq!((&answer["key_id"], &answer["server"]), (&2.into(), &"not running".into()));
    assert_eq!(Provision::parse(answer["line"].as_str().unwrap()).unwrap().key_id.get(), 2);
    let list = ok(&folder.key(&["list"]));
    assert!(list.contains("until the device has shown the next one") && list.contains("not shown yet"), "{list}");
    assert!(folder.keys().contains("outgoing") && folder.keys().contains("incoming"));

    assert!(ok(&folder.key(&["revoke", "kitchen", "--key-id", "1"])).contains("Revoked key 1"));
    assert!(ok(&folder.key(&["revoke", "kitchen"])).contains("Revoked key 2"));
    assert!(ok(&folder.key(&["list"])).contains("revoked"));
    let again = ok(&folder.key(&["new", "kitchen"]));
    assert_eq!(Provision::parse(&again).unwrap().key_id.get(), 3);
    ok(&folder.key(&["remove", "kitchen"]));
    assert!(ok(&folder.key(&["list"])).contains("No device has a key"));
}

#[test]
fn mistakes_are_explained() {
    let folder = Folder::new();
    fails(&folder.key(&["rotate", "kitchen"]), &["no device \"kitchen\" has a key", "`bowline key new`"]);
    ok(&folder.key(&["new", "kitchen"]));
    fails(&folder.key(&["new", "kitchen"]), &["has a key already", "`bowline key rotate`"]);
    for command in ["rotate", "revoke", "remove"] {
        fails(&folder.key(&[command, "kitchn"]), &["did you mean \"kitchen\"?"]);
        fails(&folder.key(&[command, "zzz"]), &["`bowline key list`"]);
    }
    fails(&folder.key(&["revoke", "kitchen", "--key-id", "9"]), &["no live key 9", "live: 1"]);
    fails(&folder.key(&["new", ""]), &["at least one character"]);
    fails(&folder.key(&["new", "a\tb"]), &["no device id"]);
    fails(&folder.key(&["new", &"x".repeat(97)]), &["at most 96 bytes", "has 97"]);
    ok(&folder.key(&["rotate", "kitchen"]));
    fails(&folder.key(&["rotate", "kitchen"]), &["two live keys already", "`bowline key revoke --key-id 2`"]);
    ok(&folder.key(&["revoke", "kitchen"]));
    fails(&folder.key(&["revoke", "kitchen"]), &["is revoked", "`bowline key new`"]);
    fails(&folder.key(&["rotate", "kitchen"]), &["is revoked", "`bowline key new`"]);
}

#[test]
fn a_line_can_be_a_file_and_a_qr_code() {
    let folder = Folder::new();
    let out = folder.0.path().join("kitchen.key");
    let made = folder.key(&["new", "kitchen", "--out", out.to_str().unwrap()]);
    assert_eq!(ok(&made), "");
    assert_eq!(mode(&out), 0o600);
    let line = fs::read_to_string(&out).unwrap();
    assert_eq!(Provision::parse(&line).unwrap().id.as_str(), "kitchen");
    assert!(!stderr(&made).contains(&secret(&line)));

    // Nothing is overwritten, and no key made that goes nowhere.
    let before = fs::read(folder.file()).unwrap();
    fails(&folder.key(&["new", "attic", "--out", out.to_str().unwrap()]), &["is there already", "--out"]);
    fails(&folder.key(&["new", "attic", "--out", "/no/such/folder/file"]), &["/no/such/folder/file"]);
    assert_eq!(fs::read(folder.file()).unwrap(), before);
    // Nor a file left behind when there is no key.
    let other = folder.0.path().join("other.key");
    fails(&folder.key(&["new", "kitchen", "--out", other.to_str().unwrap()]), &["has a key already"]);
    assert!(!other.exists());

    let text = ok(&folder.key(&["new", "attic", "--qr"]));
    let (line, code) = text.split_once('\n').unwrap();
    Provision::parse(line).unwrap();
    let rows: Vec<_> = code.lines().filter(|row| !row.is_empty()).collect();
    let width = rows[0].chars().count();
    assert!(rows.len() == width.div_ceil(2) && rows.iter().all(|row| row.chars().count() == width), "{code}");
    assert!(code.contains("█▀▀▀▀▀█") && !code.contains('\x1b'), "{code}");
}

#[test]
fn keys_at_rest_are_for_their_owner_only() {
    let folder = Folder::new();
    let data = folder.0.path().join("new").join("data");
    ok(&bowline(&["key", "new", "kitchen", "--data", data.to_str().unwrap()]));
    assert_eq!((mode(&data), mode(&data.join("keys.txt"))), (0o700, 0o600));

    ok(&folder.key(&["new", "kitchen"]));
    fs::set_permissions(folder.file(), fs::Permissions::from_mode(0o644)).unwrap();
    let serve = || bowline(&["serve", "--listen", "127.0.0.1:0", "--data", folder.path()]);
    for refused in [folder.key(&["list"]), folder.key(&["new", "attic"]), serve()] {
        fails(&refused, &["mode 644", "chmod 600"]);
    }
    fs::set_permissions(folder.file(), fs::Permissions::from_mode(0o600)).unwrap();
    let text = fs::read_to_string(folder.file()).unwrap();
    let damaged = text.replace("kitchen", "kitschen");
    fs::write(folder.file(), &damaged).unwrap();
    for refused in [folder.key(&["list"]), folder.key(&["new", "attic"]), serve()] {
        fails(&refused, &["keys.txt, line 4", "expected", "backup"]);
    }
    assert_eq!(fs::read_to_string(folder.file()).unwrap(), damaged, "left as it was");
}

/// A board on dialect H that has just logged in: whether it is let in.
fn logs_in(server: &Server, id: &str) -> Option<TcpStream> {
    let mut board = TcpStream::connect(server.address()).unwrap();
    board.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    writeln!(board, "2c00ff{id}").unwrap();
    let mut first = [0];
    matches!(board.read(&mut first), Ok(1)).then_some(board)
}

fn is_closed(board: &mut TcpStream) {
    let mut rest = Vec::new();
    // A FIN or an RST, whichever: not a timeout.
    match board.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
}

#[test]
fn a_running_server_is_told_and_acts_at_once() {
    let mut server = Server::starts_with(&["--log", "trace"]);
    assert!(server.logs("without a key").contains("no id has a key"));
    let mut board = logs_in(&server, "kitchen").expect("open to everyone");
    let mut secrets = Vec::new();

    let made = server.command(&["key", "new", "kitchen"]);
    secrets.push(secret(&ok(&made)));
    assert!(stderr(&made).contains("The running server knows"), "{made:?}");
    is_closed(&mut board);
    server.logs("ending the link: the id has a key now");
    assert!(logs_in(&server, "kitchen").is_none());
    server.logs("its id has or had a key, and gets in by nothing else");
    assert!(logs_in(&server, "attic").is_some(), "others are not concerned");

    let rotated = server.command(&["key", "rotate", "kitchen"]);
    secrets.push(secret(&ok(&rotated)));
    server.logs("key 2 is in force");
    let revoked = server.command(&["key", "revoke", "kitchen", "--json"]);
    assert!(ok(&revoked).contains("\"told\""), "{revoked:?}");
    server.logs("key 1 is revoked");
    server.logs("key 2 is revoked");
    assert!(logs_in(&server, "kitchen").is_none(), "a revoked key opens nothing");
    ok(&server.command(&["key", "remove", "kitchen"]));
    server.logs("its keys are forgotten");
    assert!(logs_in(&server, "kitchen").is_some());

    // A file that is damaged under the server's feet changes nothing.
    secrets.push(secret(&ok(&server.command(&["key", "new", "cellar"]))));
    fs::write(Path::new(server.data()).join("keys.txt"), "damaged").unwrap();
    fails(&server.command(&["key", "remove", "cellar"]), &["line 1"]);
    assert!(logs_in(&server, "cellar").is_none());

    server.stops();
    let log = server.whole_log();
    assert!(log.len() >= 10, "{log:#?}");
    for secret in secrets {
        assert!(!log.iter().any(|line| line.contains(&secret[..12])), "a key is in the log");
    }
}

/// Between reading the keys and having a socket it would learn nothing of a key that is revoked. Which of the two comes
/// first shows in what it complains of when both are wrong.
#[test]
fn a_server_that_starts_can_be_told_of_keys_before_it_reads_them() {
    let folder = Folder::new();
    ok(&folder.key(&["new", "kitchen"]));
    fs::write(folder.file(), "damaged").unwrap();
    fs::create_dir(folder.0.path().join("control.sock")).unwrap();
    let serve = bowline(&["serve", "--listen", "127.0.0.1:0", "--data", folder.path()]);
    fails(&serve, &["cannot replace the socket"]);
}

#[test]
fn a_server_that_starts_says_who_gets_in() {
    let folder = Folder::new();
    ok(&folder.key(&["new", "kitchen"]));
    let check = |config: &str| {
        let file = folder.0.path().join("bowline.toml");
        fs::write(&file, config).unwrap();
        bowline(&["serve", "--check", "--config", file.to_str().unwrap(), "--data", folder.path()])
    };
    assert!(
        ok(&check("")).contains("open: everyone on this machine may connect under any id without a key (H, U, P, N)")
    );
    assert!(ok(&check("")).contains("1 id has or had a key, and gets in with that only, encrypted"));
    let unencrypted = ok(&check("[security]\nunencrypted = [\"hut-*\"]"));
    assert!(unencrypted.contains("not encrypted: hut-* may use their key without encryption"), "{unencrypted}");
    assert!(!unencrypted.contains("with that only, encrypted"), "{unencrypted}");
    assert!(ok(&check("open_lan = true")).contains("open: everyone who can reach these ports"));
    let closed = check("listen = []\nlisten_secured = [\"0.0.0.0:9999\"]");
    assert!(ok(&closed).contains("closed: nobody gets in without a key"), "{closed:?}");
    assert!(ok(&closed).contains("listening on 0.0.0.0:9999 for devices with keys,"), "{closed:?}");
    let both = ok(&check("listen = [\"127.0.0.1:9999\"]\nlisten_secured = [\"0.0.0.0:9998\"]"));
    assert!(both.contains("on 127.0.0.1:9999 for any device, on 0.0.0.0:9998 for devices with keys,"), "{both}");
    assert!(ok(&check("[devices]\ndialects = [\"N\"]\n[security]\nopen = [\"lab-*\"]")).contains("(N for lab-*)"));
    let nobody = check("[devices]\nallow = []\ndialects = [\"H\"]");
    fails(&nobody, &["no device may connect", "bowline key new"]);
    ok(&check("[devices]\nallow = []"));
}

#[test]
fn a_device_may_do_without_encryption_where_the_server_says_so() {
    let mut server = Server::configured("[security]\nunencrypted = [\"hut-*\"]\n");
    server.logs("not encrypted: hut-* may use their key without encryption");
    let line = |id: &str| ok(&server.command(&["key", "new", id])).trim().to_owned();
    let (hut, kitchen) = (line("hut-1"), line("kitchen"));
    let device = |id: &str, options: &[&str]| {
        let common = ["device", id, "--server", &server.address(), "--fail-fast"];
        bowline_with_input(&[&common, options].concat(), "\"21.5\"\n")
    };

    let sent = device("hut-1", &["--key", &hut, "--unencrypted"]);
    assert!(ok(&sent).contains("21.5"), "the echo: {sent:?}");
    assert!(stderr(&sent).contains("not encrypted: everybody on the way can read"), "{sent:?}");
    let list = ok(&server.command(&["devices"]));
    let row = list.lines().find(|row| row.starts_with("hut-1")).unwrap();
    assert_eq!(row.split_whitespace().take(3).collect::<Vec<_>>(), ["hut-1", "N", "keyed"], "{list}");
    assert!(ok(&server.command(&["devices", "--json"])).contains("\"protection\": \"keyed\""));

    // The same device may encrypt, and is then shown without a remark.
    assert!(ok(&device("hut-1", &["--key", &hut])).contains("21.5"));
    assert!(ok(&server.command(&["devices", "--json"])).contains("\"protection\": \"encrypted\""));

    let refused = device("kitchen", &["--key", &kitchen, "--unencrypted"]);
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("lets this id in with encryption only"), "{refused:?}");
    server.logs("would not encrypt, which its id may not do: name it in security.unencrypted");
    let keyless = bowline(&["device", "kitchen", "--unencrypted"]);
    assert!(stderr(&keyless).contains("--key"), "{keyless:?}");
}
