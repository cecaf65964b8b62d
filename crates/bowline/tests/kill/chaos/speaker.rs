//! Somebody at the server who sends messages to devices with `bowline send`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::diary::Diary;
use crate::role::Stream;

/// Longest pause between two messages, in milliseconds.
const PAUSE: u64 = 400;

pub(super) struct Speaker {
    finishes: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Speaker {
    /// `home`: the server's folder.
    pub(super) fn starts(stream: Stream, home: PathBuf, diaries: PathBuf, seed: u64) -> Self {
        let finishes = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&finishes);
        let thread = std::thread::spawn(move || {
            let (mut diary, _) = Diary::open(&stream.sent(&diaries));
            let mut random = fastrand::Rng::with_seed(seed);
            for number in 1.. {
                let is_last = flag.load(Ordering::Relaxed);
                diary.line(format_args!("send {number}"));
                // It waits however long the server is frozen: what it gave up could be accepted later all the same, behind
                // what comes next.
                let mut send = Command::new(env!("CARGO_BIN_EXE_bowline"));
                send.args(["send", "--raw", "--until", "accepted", "--timeout-ms", "600000", "--data"]).arg(&home);
                send.args([stream.id, &stream.payload(number)]).stdin(Stdio::null());
                let sent = send.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
                if sent.success() {
                    diary.line(format_args!("accepted {number}"));
                    if is_last {
                        diary.line(format_args!("end"));
                        return;
                    }
                }
                std::thread::sleep(Duration::from_millis(random.u64(0..PAUSE)));
            }
        });
        Speaker { finishes, thread: Some(thread) }
    }

    /// It sends one more message that is accepted.
    pub(super) fn finishes(&self) {
        self.finishes.store(true, Ordering::Relaxed);
    }
}

impl Drop for Speaker {
    /// The server still runs, or is no more: either lets it end.
    fn drop(&mut self) {
        self.finishes();
        if std::thread::panicking() {
            return;
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
