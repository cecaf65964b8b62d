//! A board that has no network (`firmware/qemu-netduinoplus2`), and its co-processor (`firmware/qemu-lm3s6965`): two emulators,
//! and between them a serial line that either may leave and come back to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::{Bench, Diaries, Emulator, LM3S6965, Machine, kills, read, sends_the_end, written};
use crate::harness::{Lines, signal};
use crate::ledger::{Extent, compare};
use crate::numbers::{sends, takes};

const NETDUINO: Machine = Machine { name: "netduinoplus2", stack: 64 * 1024 };

/// Silence after which board and server give a link up, in milliseconds.
const TIMEOUT: u64 = 3_000;

/// The sockets of the line's ends, in the bench's folder.
const ENDS: [&str; 2] = ["board.line", "coprocessor.line"];

/// Pieces of bytes that are on their way in one direction. An emulator stands still while nobody takes what it sends.
const ON_ITS_WAY: usize = 4_096;

/// The line. What is sent to an end where nobody is is lost.
struct Line {
    paths: [PathBuf; 2],
    is_over: Arc<AtomicBool>,
}

/// Who is at an end, if anybody.
type End = Arc<Mutex<Option<UnixStream>>>;

impl Line {
    /// A line that changes one byte in `one_in`; none if that is 0.
    fn lies(folder: &Path, one_in: u32, seed: u64) -> Self {
        let paths = ENDS.map(|end| folder.join(end));
        let is_over = Arc::new(AtomicBool::new(false));
        let ends: [End; 2] = Default::default();
        for (own, path) in paths.iter().enumerate() {
            let (listener, is_over) = (UnixListener::bind(path).unwrap(), Arc::clone(&is_over));
            let (from, to) = (Arc::clone(&ends[own]), Arc::clone(&ends[1 - own]));
            let noise = Noise { one_in, random: fastrand::Rng::with_seed(seed ^ own as u64) };
            let (sender, bytes) = mpsc::sync_channel(ON_ITS_WAY);
            thread::spawn(move || takes_from(&listener, &from, &sender, noise, &is_over));
            thread::spawn(move || gives_to(&to, &bytes));
        }
        Line { paths, is_over }
    }
}

struct Noise {
    one_in: u32,
    random: fastrand::Rng,
}

impl Noise {
    fn changes(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.one_in > 0 && self.random.u32(..self.one_in) == 0 {
                *byte ^= 1 << self.random.u32(..8);
            }
        }
    }
}

/// Takes what the emulators at an end send, one after the other.
fn takes_from(listener: &UnixListener, end: &End, on: &SyncSender<Vec<u8>>, mut noise: Noise, is_over: &AtomicBool) {
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        if is_over.load(Ordering::SeqCst) {
            return;
        }
        *end.lock().unwrap() = Some(stream.try_clone().unwrap());
        let mut bytes = [0; 256];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            noise.changes(&mut bytes[..count]);
            let _ = on.try_send(bytes[..count].to_vec());
        }
        *end.lock().unwrap() = None;
    }
}

fn gives_to(end: &End, bytes: &Receiver<Vec<u8>>) {
    for bytes in bytes {
        if let Some(stream) = end.lock().unwrap().as_mut() {
            let _ = stream.write_all(&bytes);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        for path in &self.paths {
            let _ = UnixStream::connect(path);
        }
    }
}

/// The co-processor.
struct Coprocessor {
    command: Command,
    running: Option<Emulator>,
}

impl Coprocessor {
    /// Takes its power and gives it again.
    fn starts_anew(&mut self) {
        self.running = None;
        self.running = Some(Emulator::starts(&mut self.command, &LM3S6965, Lines::of));
    }

    /// Stands still, and its line is where it was.
    fn hangs(&self) {
        signal(&self.running.as_ref().unwrap().child, "STOP");
    }
}

/// Everything but the board.
struct Table {
    bench: Bench,
    coprocessor: Arc<Mutex<Coprocessor>>,
    _line: Line,
}

impl Table {
    /// If there is firmware for it.
    fn is_set(one_in: u32, seed: u64) -> Option<Self> {
        // The line is slow, and what waits on the server at the end has to go through it.
        let bench = Bench::starts_with(TIMEOUT, "[limits]\noutbox = 16\n");
        let mut command = bench.machine(&LM3S6965, "bowline-qemu-coprocessor", "")?;
        command.args(["-nic", "user,model=stellaris", "-serial", "chardev:line"]);
        command.args(["-chardev", &format!("socket,id=line,path={}", ENDS[1])]);
        let line = Line::lies(bench.folder.path(), one_in, seed);
        let mut coprocessor = Coprocessor { command, running: None };
        coprocessor.starts_anew();
        Some(Table { bench, coprocessor: Arc::new(Mutex::new(coprocessor)), _line: line })
    }

    fn coprocessor(&self) -> MutexGuard<'_, Coprocessor> {
        self.coprocessor.lock().unwrap()
    }

    /// Switches the board on. When it says that it resets the co-processor, that is done.
    fn boots(&self, settings: &str) -> Emulator {
        let mut command = self.bench.machine(&NETDUINO, "bowline-qemu-netduinoplus2", settings).unwrap();
        command.args(["-qmp", "unix:monitor,server=on,wait=off", "-serial", "chardev:line"]);
        command.args(["-chardev", &format!("socket,id=line,path={}", ENDS[0])]);
        let coprocessor = Arc::clone(&self.coprocessor);
        Emulator::starts(&mut command, &NETDUINO, |console| {
            let (mut passes, lines) = UnixStream::pair().unwrap();
            thread::spawn(move || {
                for line in BufReader::new(console).lines().map_while(Result::ok) {
                    if line == "reset" {
                        coprocessor.lock().unwrap().starts_anew();
                    }
                    if writeln!(passes, "{line}").is_err() {
                        return;
                    }
                }
            });
            Lines::of(lines)
        })
    }
}

#[test]
fn a_board_without_a_network_talks_encrypted_through_a_coprocessor() {
    let Some(mut table) = Table::is_set(0, 0) else { return };
    let mut board = table.boots("app=0 every=50");
    board.says("up");
    for number in 1..=40 {
        assert_eq!(board.says("take "), format!("take 1 {number} {number}"), "the echo");
    }
    table.bench.server.logs("link up: native, sealed device=kitchen");
    table.coprocessor().running.as_mut().unwrap().says("joins network");
    let stack = board.stack();
    println!("{stack} bytes of stack");
    assert!((2_048..=12 * 1024).contains(&stack), "{stack}");
    // It may take longer than this waits for: the board says when it has come.
    table.bench.server.command(&["send", "kitchen", "end"]);
    let said = board.ends();
    assert!(said.iter().any(|line| line.starts_with("line: ") && line.ends_with(" 0 damaged")), "{said:#?}");
}

#[test]
fn r47_an_emulated_coprocessor_that_hangs_is_reset_by_the_board() {
    let Some(table) = Table::is_set(0, 0) else { return };
    let mut board = table.boots("app=0 every=50");
    for number in 1..=10 {
        assert_eq!(board.says("take "), format!("take 1 {number} {number}"), "the echo");
    }
    table.coprocessor().hangs();
    board.says("reset");
    board.says("up");
    for number in 11..=40 {
        assert_eq!(board.says("take "), format!("take 1 {number} {number}"), "the echo");
    }
}

#[test]
fn r48_through_a_coprocessor_that_is_killed_and_hangs_nothing_is_lost_or_doubled() {
    let seed = std::env::var("BOWLINE_SEED").ok().map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("BOWLINE_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let start = Instant::now();
    let Some(mut table) = Table::is_set(3_000, seed) else { return };
    let mut board = table.boots("app=7 every=50 from=1");
    let mut diaries = Diaries { next: 1, ..Diaries::default() };
    let socket = table.bench.socket();
    let (taker_up, up) = mpsc::channel();
    let taker = takes(socket.clone(), up, read);
    let (sender_up, up) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let sender = sends(socket.clone(), up, Arc::clone(&stop), written);

    let kills = kills().div_ceil(5).max(10);
    let faults = [kills, kills.div_ceil(5), kills.div_ceil(5), kills.div_ceil(5)];
    let mut left: Vec<usize> = (0..faults.len()).flat_map(|fault| vec![fault; faults[fault] as usize]).collect();
    random.shuffle(&mut left);
    let links = left.len();
    for fault in left {
        // Each hits a link that is up, and takes it.
        board.says("up");
        thread::sleep(Duration::from_millis(random.u64(..700)));
        match fault {
            0 => table.coprocessor().starts_anew(),
            1 => {
                diaries.add(&board.loses_power());
                board = table.boots(&format!("app=7 every=50 from={}", diaries.next));
            }
            2 => {
                table.bench.server.is_killed();
                table.bench.server.starts_again();
                let _ = (taker_up.send(()), sender_up.send(()));
            }
            _ => table.coprocessor().hangs(),
        }
    }
    stop.store(true, Ordering::SeqCst);
    let (sent_by_server, _) = sender.join().unwrap();
    sends_the_end(&socket);
    let said = board.ends();
    let report = said.iter().find(|line| line.starts_with("line: ")).cloned();
    diaries.add(&said);
    let taken_by_server = taker.join().unwrap();

    let up = compare(&diaries.sent, &taken_by_server, Extent::Whole).unwrap_or_else(|lost| panic!("{lost}"));
    let down = compare(&sent_by_server, &diaries.received, Extent::Whole).unwrap_or_else(|lost| panic!("{lost}"));
    assert_eq!(diaries.epochs().len(), 1, "the outbox keeps its epoch over power cuts");
    assert!(up.received > 0 && down.received > 0);
    let [killed, power, server, hung] = faults;
    println!(
        "co-processor killed {killed} times, hung {hung} times, reset {} times; {power} power cuts, {server} kills of the \
         server, in {:.0} s, over {} links: lost 0, doubled 0\nboard to server: {up}\nserver to board: {down}\n\
         last life's {report:?}\nlinks ended: {:#?}",
        diaries.resets,
        start.elapsed().as_secs_f64(),
        diaries.links + links as u64,
        diaries.down
    );
}
