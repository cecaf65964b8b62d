//! The co-processor's side.

use core::cell::RefCell;
use core::net::SocketAddr;

use embassy_futures::join::join3;
use embassy_futures::select::{Either, Either3, select, select3};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use embassy_time::{Duration, Instant, Timer, with_timeout};
use embedded_io_async::{Error as _, ErrorKind, Read, Write};
use embedded_nal_async::TcpConnect;

use crate::board::{PAUSE, PERIOD, WRITE};
use crate::stream::Stream;
use crate::wire::{self, Decoder, Frame, MAX_DATA, MAX_FRAME, MAX_PASSWORD, MAX_SSID, NetworkState, TcpState};

/// A board that says nothing for this long is gone.
const SILENCE: Duration = Duration::from_secs(5);
/// Joining and leaving the network, connecting and writing may take this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// The network of a co-processor, such as WiFi.
///
/// Futures are dropped when they take too long, or when the board wants something else; what was begun then must not
/// stand in the way of the next call.
#[expect(async_fn_in_trait, reason = "one executor runs all of it, so no future need be Send")]
pub trait Access {
    /// Why it cannot be joined.
    type Error;

    /// Joins it: returns when there is an address and connections can be made.
    ///
    /// # Errors
    /// If that cannot be.
    async fn join(&mut self, ssid: &str, password: &str) -> Result<(), Self::Error>;

    /// Leaves it, or gives up joining. Called before each attempt to join.
    async fn leave(&mut self);

    /// Whether connections can be made.
    fn is_up(&self) -> bool;

    /// How well it is received, in dBm, if that is known.
    fn signal(&self) -> Option<i8> {
        None
    }
}

/// A network stack for a board at the other end of a serial line, with room for `N` bytes each way: a power of two,
/// 256 or more. It need not be the board's number.
pub struct Coprocessor<const N: usize> {
    state: RefCell<State<N>>,
    /// For who speaks with the board.
    work: Signal<NoopRawMutex, ()>,
    /// For who has the network: the board wants something else, or there are bytes, or room for some.
    wants: Signal<NoopRawMutex, ()>,
}

struct State<const N: usize> {
    start: Instant,
    boot: u32,
    /// What the board wants, and when it said so.
    board: Option<wire::Board>,
    heard: Instant,
    credentials: Credentials,
    /// What is: the attempt to join and the connection.
    join: u8,
    network: NetworkState,
    signal: Option<i8>,
    /// A number that has had its connection gets no other.
    conn: u8,
    tcp: TcpState,
    stream: Stream<N>,
    /// When the board is to be told.
    due: Instant,
}

/// For one attempt to join.
struct Credentials {
    join: u8,
    ssid: Text<MAX_SSID>,
    password: Text<MAX_PASSWORD>,
}

/// A short text.
#[derive(Clone, Copy)]
struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    const EMPTY: Self = Text { bytes: [0; N], len: 0 };

    /// As much of it as there is room for, which is all of what frames have.
    fn new(text: &[u8]) -> Self {
        let len = text.len().min(N);
        let mut bytes = [0; N];
        bytes[..len].copy_from_slice(&text[..len]);
        Text { bytes, len }
    }

    fn as_str(&self) -> Option<&str> {
        core::str::from_utf8(&self.bytes[..self.len]).ok()
    }
}

impl<const N: usize> Default for Coprocessor<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Coprocessor<N> {
    /// One that has heard of no board.
    #[must_use]
    pub const fn new() -> Self {
        Coprocessor { state: RefCell::new(State::NEW), work: Signal::new(), wants: Signal::new() }
    }

    /// Does what the board wants. Never returns.
    ///
    /// Connections of `tcp` must be such that a read whose future was dropped has read nothing: so are those of
    /// embassy-net.
    ///
    /// `boot` is to be another number each time, as from the chip's random generator: it tells the board that nothing
    /// is left of what it had here before.
    ///
    /// Cancel-safe: dropping the future ends the connection there is, and the next call begins anew.
    pub async fn run<R: Read, W: Write, T: TcpConnect, A: Access>(
        &self,
        rx: R,
        tx: W,
        tcp: &T,
        access: &mut A,
        boot: u32,
    ) -> ! {
        *self.state.borrow_mut() = State { start: Instant::now(), boot: boot.max(1), ..State::NEW };
        join3(self.listens(rx), self.speaks(tx), self.works(tcp, access)).await.0
    }

    async fn listens<R: Read>(&self, mut rx: R) -> ! {
        let mut decoder = Decoder::new();
        let mut bytes = [0; 64];
        loop {
            // An error is an overrun, or a bit that was not where it should be: it costs a frame.
            let Ok(count @ 1..) = rx.read(&mut bytes).await else {
                Timer::after(PAUSE).await;
                continue;
            };
            let now = Instant::now();
            let mut state = self.state.borrow_mut();
            for byte in &bytes[..count] {
                if let Some(Ok(frame)) = decoder.push(*byte) {
                    state.handle(&frame, now);
                    self.wants.signal(());
                    self.work.signal(());
                }
            }
        }
    }

    async fn speaks<W: Write>(&self, mut tx: W) -> ! {
        let mut bytes = [0; MAX_FRAME];
        loop {
            let len = self.state.borrow_mut().poll(Instant::now(), &mut bytes);
            if let Some(len) = len {
                // What does not go out is as good as lost on the way.
                let _ = with_timeout(WRITE, tx.write_all(&bytes[..len])).await;
                continue;
            }
            let deadline = self.state.borrow().deadline();
            select(self.work.wait(), Timer::at(deadline)).await;
        }
    }

    /// Something else is, which the board is told.
    fn is_now(&self, change: impl FnOnce(&mut State<N>)) {
        let mut state = self.state.borrow_mut();
        change(&mut state);
        state.due = Instant::MIN;
        self.work.signal(());
    }

    /// Joins, leaves, connects and passes bytes.
    async fn works<T: TcpConnect, A: Access>(&self, tcp: &T, access: &mut A) -> ! {
        loop {
            let now = Instant::now();
            let (join, wanted, is, conn) = {
                let state = self.state.borrow();
                (state.wanted_join(), state.wanted(now), state.join, state.conn)
            };
            if join != is {
                self.joins(access, join).await;
            } else if let Some((wanted, server)) = wanted.filter(|(wanted, _)| *wanted != conn) {
                self.is_now(|state| {
                    (state.conn, state.tcp, state.stream) = (wanted, TcpState::Connecting, Stream::new());
                });
                let end = self.connects(tcp, access, wanted, server).await;
                self.is_now(|state| state.tcp = end);
            } else {
                if wanted.is_none() && self.state.borrow().tcp != TcpState::Reset {
                    self.is_now(|state| state.tcp = TcpState::Reset);
                }
                self.looks(access);
                select(self.wants.wait(), Timer::after(PERIOD)).await;
            }
        }
    }

    /// How the network is.
    fn looks<A: Access>(&self, access: &A) {
        let mut state = self.state.borrow_mut();
        state.signal = access.signal();
        let network = if access.is_up() { NetworkState::Up } else { NetworkState::Down };
        // A network that was not joined has failed, until something else is wanted.
        if state.network != NetworkState::Failed && state.join != 0 && state.network != network {
            state.network = network;
            state.due = Instant::MIN;
            self.work.signal(());
        }
    }

    /// Joins or leaves the network, until it is done or something else is wanted.
    async fn joins<A: Access>(&self, access: &mut A, join: u8) {
        self.is_now(|state| (state.join, state.network, state.tcp) = (join, NetworkState::Down, TcpState::Reset));
        let _ = with_timeout(PATIENCE, access.leave()).await;
        if join == 0 {
            return;
        }
        let (ssid, password) = {
            let Credentials { ssid, password, .. } = &self.state.borrow().credentials;
            (*ssid, *password)
        };
        let joining = async {
            match (ssid.as_str(), password.as_str()) {
                (Some(ssid), Some(password)) => {
                    matches!(with_timeout(PATIENCE, access.join(ssid, password)).await, Ok(Ok(())))
                }
                _ => false,
            }
        };
        let other = self.until(|state| state.wanted_join() != join);
        if let Either::First(joined) = select(joining, other).await {
            let network = if joined { NetworkState::Up } else { NetworkState::Failed };
            self.is_now(|state| state.network = network);
        }
    }

    /// Waits until it is so, as far as that follows from what the board says.
    async fn until(&self, is_so: impl Fn(&State<N>) -> bool) {
        while !is_so(&self.state.borrow()) {
            self.wants.wait().await;
        }
    }

    /// One connection, from connecting to its end, for as long as it is wanted.
    async fn connects<T: TcpConnect, A: Access>(&self, tcp: &T, access: &A, conn: u8, server: SocketAddr) -> TcpState {
        let is_other = |state: &State<N>| state.wants_other(conn, Instant::now());
        let connecting = with_timeout(PATIENCE, tcp.connect(server));
        let mut connection = match select(connecting, self.until(is_other)).await {
            Either::First(Ok(Ok(connection))) => connection,
            Either::First(Ok(Err(error))) => return end(error.kind()),
            Either::First(Err(_)) => return TcpState::Failed,
            Either::Second(()) => return TcpState::Reset,
        };
        self.is_now(|state| state.tcp = TcpState::Open);
        let mut bytes = [0; MAX_DATA];
        loop {
            self.looks(access);
            let (count, room) = {
                let mut state = self.state.borrow_mut();
                if is_other(&state) {
                    return TcpState::Reset;
                }
                (state.stream.input.read(&mut bytes), state.stream.out.room())
            };
            if count > 0 {
                // There is room again.
                self.work.signal(());
                let writing = with_timeout(PATIENCE, connection.write_all(&bytes[..count]));
                match select(writing, self.until(is_other)).await {
                    Either::First(Ok(Ok(()))) => {}
                    Either::First(Ok(Err(error))) => return end(error.kind()),
                    Either::First(Err(_)) => return TcpState::Failed,
                    Either::Second(()) => return TcpState::Reset,
                }
                continue;
            }
            let room = room.min(bytes.len());
            let reading = async {
                match room {
                    0 => core::future::pending().await,
                    room => connection.read(&mut bytes[..room]).await,
                }
            };
            match select3(reading, self.wants.wait(), Timer::after(PERIOD)).await {
                Either3::First(Ok(0)) => return TcpState::Ended(self.state.borrow().stream.out.total()),
                Either3::First(Ok(count)) => {
                    self.state.borrow_mut().stream.out.write(&bytes[..count]);
                    self.work.signal(());
                }
                Either3::First(Err(error)) => return end(error.kind()),
                Either3::Second(()) | Either3::Third(()) => {}
            }
        }
    }
}

fn end(kind: ErrorKind) -> TcpState {
    match kind {
        ErrorKind::ConnectionRefused => TcpState::Refused,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => TcpState::Reset,
        _ => TcpState::Failed,
    }
}

impl<const N: usize> State<N> {
    const NEW: Self = State {
        start: Instant::MIN,
        boot: 0,
        board: None,
        heard: Instant::MIN,
        credentials: Credentials { join: 0, ssid: Text::EMPTY, password: Text::EMPTY },
        join: 0,
        network: NetworkState::Down,
        signal: None,
        conn: 0,
        tcp: TcpState::Reset,
        stream: Stream::new(),
        due: Instant::MIN,
    };

    fn handle(&mut self, frame: &Frame<'_>, now: Instant) {
        match *frame {
            Frame::Board(board) => {
                self.heard = now;
                if self.board.replace(board).is_none_or(|before| before.life != board.life) {
                    // Nothing of its last life is of use to it.
                    (self.conn, self.join, self.credentials.join) = (0, 0, 0);
                    (self.network, self.due) = (NetworkState::Down, now);
                }
                if self.wanted(now).is_some_and(|(conn, _)| conn == self.conn) {
                    self.stream.out.handle(board.flow, now);
                }
            }
            Frame::Credentials { join, ssid, password } => {
                self.credentials = Credentials { join, ssid: Text::new(ssid), password: Text::new(password) };
            }
            Frame::Data { tag, offset, bytes } if self.conn != 0 && tag == self.tag() => {
                self.stream.input.take(offset, bytes, now);
            }
            Frame::Data { .. } | Frame::Coprocessor(_) => {}
        }
    }

    /// The attempt to join that is wanted, if what it needs is known; otherwise the one that is.
    fn wanted_join(&self) -> u8 {
        match self.board {
            Some(board) if board.join == 0 || board.join == self.credentials.join => board.join,
            _ => self.join,
        }
    }

    fn wanted(&self, now: Instant) -> Option<(u8, SocketAddr)> {
        // Of one before this co-processor: what that had is lost.
        let board = self.board.filter(|board| board.boot == self.boot && now < self.heard + SILENCE);
        board.and_then(|board| board.wanted)
    }

    fn wants_other(&self, conn: u8, now: Instant) -> bool {
        let is_wanted = self.wanted(now).is_some_and(|(wanted, _)| wanted == conn);
        !is_wanted || self.conn != conn || self.wanted_join() != self.join
    }

    /// The next frame to send, if there is one now. Its length.
    fn poll(&mut self, now: Instant, out: &mut [u8; MAX_FRAME]) -> Option<usize> {
        if self.said_at() <= now {
            self.due = now + PERIOD;
            let &mut State { boot, join, network, signal, conn, tcp, start, .. } = self;
            let life = self.life();
            let uptime = u32::try_from((now - start).as_secs()).unwrap_or(u32::MAX);
            let flow = self.stream.input.flow();
            let said = wire::Coprocessor { life, boot, join, network, signal, uptime, conn, tcp, flow };
            return Some(Frame::Coprocessor(said).emit(out));
        }
        if !self.passes() {
            return None;
        }
        let mut bytes = [0; MAX_DATA];
        let (offset, count) = self.stream.out.poll(now, &mut bytes)?;
        Some(Frame::Data { tag: self.tag(), offset, bytes: &bytes[..count] }.emit(out))
    }

    fn life(&self) -> u32 {
        self.board.map_or(0, |board| board.life)
    }

    fn tag(&self) -> u32 {
        wire::tag(self.life(), self.conn)
    }

    /// Whether there is a connection whose bytes go to the board, or are still to go.
    fn passes(&self) -> bool {
        self.conn != 0 && matches!(self.tcp, TcpState::Open | TcpState::Ended(_))
    }

    /// When the board is to be told next what is.
    fn said_at(&self) -> Instant {
        let flow = self.stream.input.deadline().filter(|_| self.passes());
        flow.map_or(self.due, |flow| flow.min(self.due))
    }

    /// When something is to be said next.
    fn deadline(&self) -> Instant {
        let again = self.stream.out.deadline().filter(|_| self.passes());
        again.map_or(self.said_at(), |again| again.min(self.said_at()))
    }
}
