//! A board and its co-processor, a bad line between them, and a server behind: whatever is cut, held up, damaged or started anew,
//! bytes of a connection come in order and are of that connection; and when faults stop, it goes on.

#![no_main]

#[path = "coprocessor/common.rs"]
mod common;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

use bowline_coprocessor::{Board, Connection, Coprocessor, LineError};
use bowline_embedded::Network;
use bowline_fuzz::Choices;
use embassy_futures::join::join;
use embassy_futures::poll_once;
use embassy_futures::select::{Either, select};
use embassy_time::Duration;
use embedded_hal::digital::{ErrorType, OutputPin};
use embedded_io_async::{Read, Write};
use embedded_nal_async::TcpConnect;
use libfuzzer_sys::fuzz_target;

use common::{Answer, BOARD, End, Net, Rx, SERVER, Side, Stack, Tx, Wire, begins, byte, moved, passes, settle};

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    begins();
    let mut table = Table::new(choices.flag());
    while !choices.is_empty() {
        table.happens(&mut choices);
        table.settles();
        table.checks();
    }
    table.heals();
    table.checks();
});

/// What the application on the board does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Connect,
    Drop,
    Write(usize),
    Read(usize),
    Join,
    Leave,
    Look,
}

/// What the application knows.
#[derive(Default)]
struct App {
    commands: RefCell<VecDeque<Command>>,
    /// Bytes written to each attempt to connect that there was, and those read from it.
    attempts: RefCell<Vec<(usize, Vec<u8>)>>,
    is_open: Cell<bool>,
    is_up: Cell<bool>,
}

struct Table {
    app: Rc<App>,
    net: Rc<Net>,
    up: Rc<Wire>,
    down: Rc<Wire>,
    /// The board's pin was pulled.
    is_reset: Rc<Cell<bool>>,
    is_wired: bool,
    lives: u32,
    boots: u32,
    /// The board and the co-processor.
    sides: Vec<Side>,
}

impl Table {
    fn new(is_wired: bool) -> Self {
        let mut table = Table {
            app: Rc::default(),
            net: Rc::new(Net { is_honest: true, ..Net::default() }),
            up: Rc::default(),
            down: Rc::default(),
            is_reset: Rc::default(),
            is_wired,
            lives: 0,
            boots: 0,
            sides: Vec::new(),
        };
        let board = table.board();
        let coprocessor = table.coprocessor();
        table.sides = vec![board, coprocessor];
        table
    }

    fn board(&mut self) -> Side {
        self.lives += 1;
        let life = self.lives.wrapping_mul(0x9e37_79b1);
        self.app.commands.borrow_mut().clear();
        self.app.is_open.set(false);
        let (rx, tx, app) = (Rx(Rc::clone(&self.down)), Tx(Rc::clone(&self.up)), Rc::clone(&self.app));
        let pin = Pin(Rc::clone(&self.is_reset));
        Box::pin(async move {
            let board = Board::<256>::new("net", "word").unwrap();
            join(board.run(rx, tx, pin, life), runs(&app, &board)).await.0
        })
    }

    fn coprocessor(&mut self) -> Side {
        self.boots += 1;
        let boot = self.boots.wrapping_mul(0x85eb_ca77);
        self.net.is_up.set(false);
        let (rx, tx) = (Rx(Rc::clone(&self.up)), Tx(Rc::clone(&self.down)));
        let (stack, mut access) = (Stack(Rc::clone(&self.net)), Stack(Rc::clone(&self.net)));
        Box::pin(async move { Coprocessor::<512>::new().run(rx, tx, &stack, &mut access, boot).await })
    }

    fn settles(&mut self) {
        settle(&mut self.sides);
        if self.is_reset.take() && self.is_wired {
            self.sides[1] = self.coprocessor();
            settle(&mut self.sides);
        }
    }

    /// What the board has read is the beginning of what the server has sent on the last connection of that attempt: an earlier one
    /// was never open for the board. And not more of its bytes are at the server than it has written.
    fn checks(&self) {
        let peers = self.net.peers.borrow();
        let attempts = self.app.attempts.borrow();
        for (attempt, (_, read)) in attempts.iter().enumerate().filter(|(_, (_, read))| !read.is_empty()) {
            let at = peers.iter().rposition(|peer| peer.attempt == attempt).expect("it has read");
            let sent = (0..peers[at].given).map(|place| byte(SERVER + at, place));
            assert!(sent.take(read.len()).eq(read.iter().copied()), "attempt {attempt} has not read {:?}", peers[at]);
        }
        for peer in &*peers {
            assert!(peer.received <= attempts[peer.attempt].0, "{peer:?}");
        }
    }

    fn happens(&mut self, choices: &mut Choices<'_>) {
        let wire = if choices.flag() { &self.up } else { &self.down };
        let command = |command| {
            self.app.commands.borrow_mut().push_back(command);
            moved();
        };
        match choices.below(20) {
            0..3 => passes(Duration::from_millis(4 * u64::from(choices.byte()) + 1)),
            3 => passes(Duration::from_millis(100 * u64::from(choices.byte()))),
            4 => command(Command::Connect),
            5 => command(Command::Drop),
            6 => command(Command::Write(1 + choices.below(256))),
            7 => command(Command::Read(1 + choices.below(256))),
            8 => command(if choices.flag() { Command::Join } else { Command::Leave }),
            9 | 10 => {
                if let Some(peer) = self.net.peers.borrow_mut().last_mut().filter(|peer| peer.end.is_none()) {
                    peer.sent += 1 + choices.below(256);
                }
            }
            11 => {
                if let Some(peer) = self.net.peers.borrow_mut().last_mut() {
                    peer.end = Some(if choices.flag() { End::Lost } else { End::Closed });
                }
            }
            12 => {
                // What waits at its receiver is lost with it, or is still on the line.
                if choices.flag() {
                    self.up.bytes.borrow_mut().clear();
                }
                self.sides[1] = self.coprocessor();
            }
            13 => {
                if choices.flag() {
                    self.down.bytes.borrow_mut().clear();
                }
                self.sides[0] = self.board();
            }
            14 => {
                let change = choices.byte();
                wire.damage.set(Some((choices.below(256), (change > 0).then_some(change))));
            }
            15 => wire.is_cut.set(!wire.is_cut.get()),
            16 => wire.is_held.set(!wire.is_held.get()),
            17 => wire.is_full.set(!wire.is_full.get()),
            18 => wire.bytes.borrow_mut().extend(choices.bytes(32)),
            _ => {
                let answer = choices.pick(&[Answer::Accepts, Answer::Refuses, Answer::Waits]);
                match choices.below(3) {
                    0 => self.net.answer.set(answer),
                    1 => self.net.joins.set(answer),
                    _ => self.net.is_stuck.set(answer != Answer::Accepts),
                }
            }
        }
    }

    /// Nothing fails any more: within so many seconds there is a connection, and bytes go both ways.
    fn heals(&mut self) {
        for wire in [&self.up, &self.down] {
            wire.is_cut.set(false);
            wire.is_held.set(false);
            wire.is_full.set(false);
            wire.damage.set(None);
        }
        self.net.answer.set(Answer::Accepts);
        self.net.joins.set(Answer::Accepts);
        self.net.is_stuck.set(false);
        self.is_wired = true;
        self.app.commands.borrow_mut().extend([Command::Drop, Command::Join]);
        moved();
        self.until(60, "the network is not joined", |table| {
            table.commands(&[Command::Look]);
            table.app.is_up.get()
        });
        self.until(20, "no connection", |table| {
            table.commands(&[Command::Connect]);
            table.app.is_open.get()
        });
        let (attempt, before) = {
            let attempts = self.app.attempts.borrow();
            (attempts.len() - 1, attempts.last().map_or(0, |(written, _)| *written))
        };
        let peer = self.net.peers.borrow().iter().rposition(|peer| peer.attempt == attempt).expect("it is open");
        self.net.peers.borrow_mut()[peer].sent += 600;
        self.until(20, "bytes do not go both ways", |table| {
            table.commands(&[Command::Write(100), Command::Read(100)]);
            let received = table.net.peers.borrow()[peer].received;
            let read = table.app.attempts.borrow()[attempt].1.len();
            read == 600 && received >= before + 600
        });
    }

    fn commands(&self, commands: &[Command]) {
        let mut waiting = self.app.commands.borrow_mut();
        if waiting.is_empty() {
            waiting.extend(commands);
            moved();
        }
    }

    fn until(&mut self, seconds: u32, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..seconds * 20 {
            if is_so(self) {
                return;
            }
            passes(Duration::from_millis(50));
            self.settles();
        }
        let (peers, attempts) = (self.net.peers.borrow(), self.app.attempts.borrow());
        let written: Vec<_> = attempts.iter().map(|(written, read)| (written, read.len())).collect();
        panic!("{what} after {seconds} s: {peers:?}, the board's attempts, written and read: {written:?}");
    }
}

struct Pin(Rc<Cell<bool>>);

impl ErrorType for Pin {
    type Error = Infallible;
}

impl OutputPin for Pin {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.0.set(true);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl App {
    async fn next(&self) -> Command {
        poll_fn(|_| self.commands.borrow_mut().pop_front().map_or(Poll::Pending, Poll::Ready)).await
    }

    /// Waits until what is waited for is not wanted any more.
    async fn gives_up(&self) {
        while self.next().await != Command::Drop {}
    }
}

async fn runs(app: &App, board: &Board<'_, 256>) -> Infallible {
    let mut open: Option<(usize, Connection<'_, 256>)> = None;
    loop {
        let command = app.next().await;
        match (command, &mut open) {
            (Command::Connect, None) => {
                let attempt = app.attempts.borrow().len();
                app.attempts.borrow_mut().push((0, Vec::new()));
                let port = u16::try_from(attempt).expect("inputs are short");
                let connecting = board.connect(SocketAddr::from(([10, 0, 0, 1], port)));
                match select(connecting, app.gives_up()).await {
                    Either::First(Ok(connection)) => open = Some((attempt, connection)),
                    Either::First(Err(error)) => assert_ne!(error, LineError::Busy),
                    Either::Second(()) => {}
                }
            }
            (Command::Write(count), Some((attempt, connection))) => {
                let written = app.attempts.borrow()[*attempt].0;
                let bytes: Vec<u8> = (written..written + count).map(|at| byte(BOARD + *attempt, at)).collect();
                match poll_once(connection.write(&bytes)) {
                    Poll::Ready(Ok(count)) => app.attempts.borrow_mut()[*attempt].0 += count,
                    Poll::Ready(Err(_)) => open = None,
                    Poll::Pending => {}
                }
            }
            (Command::Read(count), Some((attempt, connection))) => {
                let mut bytes = vec![0; count];
                match poll_once(connection.read(&mut bytes)) {
                    Poll::Ready(Ok(count @ 1..)) => app.attempts.borrow_mut()[*attempt].1.extend(&bytes[..count]),
                    Poll::Ready(_) => open = None,
                    Poll::Pending => {}
                }
            }
            (Command::Join, _) => drop(poll_once(Network::join(&mut &*board))),
            (Command::Leave, _) => drop(poll_once(Network::leave(&mut &*board))),
            (Command::Look, _) => app.is_up.set(Network::is_up(&board)),
            (Command::Drop, _) => open = None,
            (Command::Connect, Some(_)) | (Command::Write(_) | Command::Read(_), None) => {}
        }
        app.is_open.set(open.is_some());
    }
}
