//! The process is killed in the middle of its work, again and again.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::harness::{assert_bad, bad_transaction, fast_folder, open, progress, see, seed, state_after, transaction};

/// Tells the child which folder is its.
const FOLDER: &str = "BOWLINE_STORE_KILL_FOLDER";
const KILLS: u32 = 40;

#[test]
fn forty_kills_lose_nothing_and_keep_the_order() {
    let mut random = fastrand::Rng::with_seed(seed("kill"));
    let folder = fast_folder();
    let mut acked = None;
    let mut most = 0;
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "kill::child", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (first, started) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut last = None;
            for line in output.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if let Some(n) = line.strip_prefix("acked ").and_then(|n| n.strip_suffix('.')) {
                    last = Some(n.parse::<u64>().expect("a number"));
                    // The receiver waits for the first only.
                    let _ = first.send(());
                }
            }
            last
        });
        started.recv_timeout(Duration::from_secs(30)).expect("the child commits");
        // Not a wait for anything: the kill is to come at any moment.
        std::thread::sleep(Duration::from_micros(random.u64(0..40_000)));
        child.kill().expect("killed");
        child.wait().expect("gone");
        acked = acked.max(reader.join().expect("reads"));

        let store = open(folder.path());
        let seen = see(&store);
        let found = progress(&seen);
        assert!(found >= acked, "kill {kill}: found {found:?}, acknowledged {acked:?}");
        assert!(seen == state_after(found), "kill {kill}: the state is not that after {found:?}");
        most = found.unwrap_or(0);
    }
    println!("{KILLS} kills, {most} transactions");
}

/// Not a test of its own: what is killed.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = open(folder.as_ref());
    let mut next = progress(&see(&store)).map_or(0, |n| n + 1);
    loop {
        let burst: Vec<_> =
            (next..next + 16).map(|n| (n, store.commit(transaction(n)), store.commit(bad_transaction()))).collect();
        for (n, good, bad) in burst {
            good.wait().expect("commits");
            // One write, so that the end of a line is never alone.
            println!("acked {n}.");
            assert_bad(&bad.wait());
        }
        next += 16;
    }
}
