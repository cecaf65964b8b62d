//! The board's side.

use core::cell::RefCell;
use core::convert::Infallible;
use core::fmt;
use core::future::poll_fn;
use core::net::SocketAddr;
use core::task::Poll;

use bowline_embedded::Network;
use embassy_futures::join::join;
use embassy_futures::select::select;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use embassy_sync::waitqueue::WakerRegistration;
use embassy_time::{Duration, Instant, Timer, with_timeout};
use embedded_hal::digital::{ErrorType as PinErrorType, OutputPin};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use embedded_nal_async::TcpConnect;

use crate::stream::Stream;
use crate::wire::{
    self, Coprocessor, Decoder, Frame, MAX_DATA, MAX_FRAME, MAX_PASSWORD, MAX_SSID, NetworkState, TcpState,
};

/// What is wanted is said this often.
pub(crate) const PERIOD: Duration = Duration::from_millis(300);
/// A co-processor that says nothing for this long is reset.
const SILENCE: Duration = Duration::from_secs(3);
/// After a reset it may take this much longer.
const BOOT: Duration = Duration::from_secs(3);
/// How long a reset takes.
const PULSE: Duration = Duration::from_millis(20);
/// A frame takes no longer to send, at any speed that is of use.
pub(crate) const WRITE: Duration = Duration::from_secs(1);
/// Pause after a line has failed to read.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

/// A network stack at the other end of a serial line, with room for `N` bytes each way: a power of two, 256 or more.
///
/// It is a [`TcpConnect`], for one connection at a time, and as `&Board` a [`Network`]. Both work while
/// [`Board::run`] runs. All of it belongs to one executor.
pub struct Board<'a, const N: usize> {
    ssid: &'a str,
    password: &'a str,
    state: RefCell<State<N>>,
    work: Signal<NoopRawMutex, ()>,
}

/// Why there is no such network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The network's name is longer than 32 bytes.
    Ssid,
    /// The password is longer than 64 bytes.
    Password,
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CredentialsError::Ssid => "expected the name of a network: at most 32 bytes",
            CredentialsError::Password => "expected the password of a network: at most 64 bytes",
        })
    }
}

impl core::error::Error for CredentialsError {}

/// What a board knows of its co-processor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// It answers.
    pub is_there: bool,
    /// For how many seconds it runs; 0 if that is not known.
    pub uptime: u32,
    /// How often it was reset as it did not answer.
    pub resets: u32,
    /// How often it has come back after it had forgotten the board, by a reset or by itself.
    pub restarts: u32,
    /// Frames from it that were damaged on the line.
    pub damaged: u32,
}

struct State<const N: usize> {
    life: u32,
    /// Of the co-processor, as far as it was heard.
    boot: u32,
    /// The attempt to join that is wanted, 0 to leave.
    join: u8,
    joins: u8,
    /// The number of the last connection, and where it is wanted to.
    conn: u8,
    server: Option<SocketAddr>,
    /// What has come of it.
    tcp: TcpState,
    stream: Stream<N>,
    /// What the co-processor says, as long as it is there and works for this life.
    seen: Option<Coprocessor>,
    /// It is reset when it says nothing until then.
    patience: Instant,
    /// When the co-processor is to be told what is wanted.
    due: Instant,
    has_sent_credentials: bool,
    report: Report,
    network: WakerRegistration,
    reader: WakerRegistration,
    writer: WakerRegistration,
}

impl<'a, const N: usize> Board<'a, N> {
    /// A board that joins this network.
    ///
    /// # Errors
    /// If no network is called so, or has such a password.
    pub const fn new(ssid: &'a str, password: &'a str) -> Result<Self, CredentialsError> {
        if ssid.len() > MAX_SSID {
            return Err(CredentialsError::Ssid);
        }
        if password.len() > MAX_PASSWORD {
            return Err(CredentialsError::Password);
        }
        let state = State {
            life: 0,
            boot: 0,
            join: 0,
            joins: 0,
            conn: 0,
            server: None,
            tcp: TcpState::Reset,
            stream: Stream::new(),
            seen: None,
            patience: Instant::MIN,
            due: Instant::MIN,
            has_sent_credentials: false,
            report: Report { is_there: false, uptime: 0, resets: 0, restarts: 0, damaged: 0 },
            network: WakerRegistration::new(),
            reader: WakerRegistration::new(),
            writer: WakerRegistration::new(),
        };
        Ok(Board { ssid, password, state: RefCell::new(state), work: Signal::new() })
    }

    /// Speaks with the co-processor, and resets it when it does not answer: `reset` is low for 20 ms then. Never returns.
    ///
    /// `life` is to be another number each time, as from the chip's random generator: it tells the co-processor that
    /// what it had for the board before is of no use any more.
    ///
    /// Cancel-safe: dropping the future ends the connection there is, and the next call begins anew.
    pub async fn run<R: Read, W: Write, P: OutputPin>(&self, rx: R, tx: W, reset: P, life: u32) -> ! {
        self.state.borrow_mut().begins(life.max(1), Instant::now());
        join(self.listens(rx), self.speaks(tx, reset)).await.0
    }

    /// What is known of the co-processor.
    #[must_use]
    pub fn report(&self) -> Report {
        let state = self.state.borrow();
        let uptime = state.seen.map_or(0, |seen| seen.uptime);
        Report { is_there: state.seen.is_some(), uptime, ..state.report }
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
                match decoder.push(*byte) {
                    None => continue,
                    Some(Ok(frame)) => state.handle(&frame, now),
                    Some(Err(_)) => state.report.damaged = state.report.damaged.saturating_add(1),
                }
                self.work.signal(());
            }
        }
    }

    async fn speaks<W: Write, P: OutputPin>(&self, mut tx: W, mut reset: P) -> ! {
        let mut bytes = [0; MAX_FRAME];
        loop {
            let now = Instant::now();
            let is_lost = self.state.borrow_mut().is_lost(now);
            if is_lost {
                // A pin that cannot be set is one that is not wired.
                let _ = reset.set_low();
                Timer::after(PULSE).await;
                let _ = reset.set_high();
                continue;
            }
            let len = self.state.borrow_mut().poll(self.ssid, self.password, now, &mut bytes);
            if let Some(len) = len {
                // What does not go out is as good as lost on the way.
                let _ = with_timeout(WRITE, tx.write_all(&bytes[..len])).await;
                continue;
            }
            let deadline = self.state.borrow().deadline();
            select(self.work.wait(), Timer::at(deadline)).await;
        }
    }

    fn wants(&self, change: impl FnOnce(&mut State<N>)) {
        let mut state = self.state.borrow_mut();
        change(&mut state);
        state.due = Instant::MIN;
        self.work.signal(());
    }
}

impl<const N: usize> State<N> {
    fn begins(&mut self, life: u32, now: Instant) {
        self.life = life;
        self.stream = Stream::new();
        self.forgotten();
        (self.due, self.patience) = (now, now + SILENCE);
    }

    /// The co-processor knows nothing of this board, or of this life.
    fn forgotten(&mut self) {
        if self.seen.take().is_some() {
            self.report.restarts = self.report.restarts.saturating_add(1);
        }
        if self.tcp != TcpState::Connecting {
            self.tcp = TcpState::Reset;
        }
        self.wake();
    }

    fn wake(&mut self) {
        self.network.wake();
        self.reader.wake();
        self.writer.wake();
    }

    fn handle(&mut self, frame: &Frame<'_>, now: Instant) {
        match *frame {
            Frame::Coprocessor(seen) => {
                self.patience = now + SILENCE;
                if seen.life != self.life || self.seen.is_some_and(|before| before.boot != seen.boot) {
                    self.due = now;
                    self.forgotten();
                }
                if self.boot != seen.boot && self.tcp == TcpState::Connecting {
                    // It makes another connection under this number: what has come was of one before it.
                    self.stream = Stream::new();
                }
                self.boot = seen.boot;
                if seen.life != self.life {
                    return;
                }
                if self.seen.replace(seen).is_none_or(|before| before.join != seen.join) {
                    self.has_sent_credentials = false;
                }
                if self.server.is_some() && seen.conn == self.conn {
                    // One that is lost stays so.
                    if self.check().is_ok() {
                        self.tcp = seen.tcp;
                        self.stream.out.handle(seen.flow, now);
                    }
                } else if self.tcp != TcpState::Connecting {
                    self.tcp = TcpState::Reset;
                }
                self.wake();
            }
            Frame::Data { tag, offset, bytes } if self.server.is_some() && tag == self.tag() => {
                self.stream.input.take(offset, bytes, now);
                self.reader.wake();
            }
            // Of a connection before, or of another board.
            Frame::Data { .. } | Frame::Board(_) | Frame::Credentials { .. } => {}
        }
    }

    /// Whether the co-processor is to be reset.
    fn is_lost(&mut self, now: Instant) -> bool {
        if now < self.patience {
            return false;
        }
        self.patience = now + PULSE + BOOT + SILENCE;
        self.report.resets = self.report.resets.saturating_add(1);
        self.forgotten();
        true
    }

    /// The next frame to send, if there is one now. Its length.
    fn poll(&mut self, ssid: &str, password: &str, now: Instant, out: &mut [u8; MAX_FRAME]) -> Option<usize> {
        if self.said_at() <= now {
            let knows = self.seen.is_some_and(|seen| seen.join == self.join);
            if self.join != 0 && !knows && !self.has_sent_credentials {
                self.has_sent_credentials = true;
                let (ssid, password) = (ssid.as_bytes(), password.as_bytes());
                return Some(Frame::Credentials { join: self.join, ssid, password }.emit(out));
            }
            // If they were lost, they go again with what is said next.
            self.has_sent_credentials = false;
            self.due = now + PERIOD;
            let wanted = self.server.filter(|_| self.check().is_ok()).map(|server| (self.conn, server));
            let flow = self.stream.input.flow();
            let &mut State { life, boot, join, .. } = self;
            return Some(Frame::Board(wire::Board { life, boot, join, wanted, flow }).emit(out));
        }
        if self.tcp != TcpState::Open {
            return None;
        }
        let mut bytes = [0; MAX_DATA];
        let (offset, count) = self.stream.out.poll(now, &mut bytes)?;
        Some(Frame::Data { tag: self.tag(), offset, bytes: &bytes[..count] }.emit(out))
    }

    fn tag(&self) -> u32 {
        wire::tag(self.life, self.conn)
    }

    /// When the co-processor is to be told next what is wanted.
    fn said_at(&self) -> Instant {
        let flow = self.stream.input.deadline().filter(|_| self.tcp == TcpState::Open);
        flow.map_or(self.due, |flow| flow.min(self.due))
    }

    /// When something is to be done next.
    fn deadline(&self) -> Instant {
        let again = self.stream.out.deadline().filter(|_| self.tcp == TcpState::Open);
        let first = self.said_at().min(self.patience);
        again.map_or(first, |again| again.min(first))
    }

    /// Whether the connection can be used.
    fn check(&self) -> Result<(), LineError> {
        match self.tcp {
            TcpState::Connecting | TcpState::Open | TcpState::Ended(_) => Ok(()),
            TcpState::Refused => Err(LineError::Refused),
            TcpState::Reset => Err(LineError::Reset),
            TcpState::Failed => Err(LineError::Failed),
        }
    }
}

/// Joins through the co-processor. The name and the password go over the line with each attempt.
impl<const N: usize> Network for &Board<'_, N> {
    type Error = LineError;

    async fn join(&mut self) -> Result<(), LineError> {
        self.wants(|state| {
            state.joins = state.joins % u8::MAX + 1;
            state.join = state.joins;
        });
        poll_fn(|context| {
            let mut state = self.state.borrow_mut();
            match state.seen {
                Some(Coprocessor { join, network: NetworkState::Up, .. }) if join == state.join => Poll::Ready(Ok(())),
                Some(Coprocessor { join, network: NetworkState::Failed, .. }) if join == state.join => {
                    Poll::Ready(Err(LineError::Failed))
                }
                _ => {
                    state.network.register(context.waker());
                    Poll::Pending
                }
            }
        })
        .await
    }

    async fn leave(&mut self) {
        self.wants(|state| state.join = 0);
        poll_fn(|context| {
            let mut state = self.state.borrow_mut();
            if state.seen.is_none_or(|seen| seen.join == 0) {
                return Poll::Ready(());
            }
            state.network.register(context.waker());
            Poll::Pending
        })
        .await;
    }

    fn is_up(&self) -> bool {
        let state = self.state.borrow();
        state.seen.is_some_and(|seen| seen.join == state.join && seen.network == NetworkState::Up)
    }

    fn signal(&self) -> Option<i8> {
        self.state.borrow().seen.and_then(|seen| seen.signal)
    }
}

impl<const N: usize> TcpConnect for Board<'_, N> {
    type Error = LineError;
    type Connection<'c>
        = Connection<'c, N>
    where
        Self: 'c;

    /// Connects. One connection at a time.
    async fn connect(&self, server: SocketAddr) -> Result<Connection<'_, N>, LineError> {
        if self.state.borrow().server.is_some() {
            return Err(LineError::Busy);
        }
        self.wants(|state| {
            state.conn = state.conn % u8::MAX + 1;
            (state.server, state.tcp, state.stream) = (Some(server), TcpState::Connecting, Stream::new());
        });
        let connection = Connection { board: self };
        poll_fn(|context| {
            let mut state = self.state.borrow_mut();
            if let Err(error) = state.check() {
                return Poll::Ready(Err(error));
            }
            if state.tcp == TcpState::Connecting {
                state.reader.register(context.waker());
                return Poll::Pending;
            }
            Poll::Ready(Ok(()))
        })
        .await?;
        Ok(connection)
    }
}

/// A connection that the co-processor has made. Dropping it closes it.
pub struct Connection<'c, const N: usize> {
    board: &'c Board<'c, N>,
}

impl<const N: usize> Drop for Connection<'_, N> {
    fn drop(&mut self) {
        self.board.wants(|state| (state.server, state.tcp) = (None, TcpState::Reset));
    }
}

impl<const N: usize> fmt::Debug for Connection<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl<const N: usize> ErrorType for Connection<'_, N> {
    type Error = LineError;
}

impl<const N: usize> Read for Connection<'_, N> {
    /// Cancel-safe.
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, LineError> {
        poll_fn(|context| {
            let mut state = self.board.state.borrow_mut();
            let count = state.stream.input.read(bytes);
            if count > 0 || bytes.is_empty() {
                // There is room again, which may have to be told.
                self.board.work.signal(());
                return Poll::Ready(Ok(count));
            }
            state.check()?;
            if state.tcp == TcpState::Ended(state.stream.input.total()) {
                return Poll::Ready(Ok(0));
            }
            state.reader.register(context.waker());
            Poll::Pending
        })
        .await
    }
}

impl<const N: usize> Write for Connection<'_, N> {
    /// Cancel-safe.
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, LineError> {
        poll_fn(|context| {
            let mut state = self.board.state.borrow_mut();
            state.check()?;
            let count = state.stream.out.write(bytes);
            if count > 0 || bytes.is_empty() {
                self.board.work.signal(());
                return Poll::Ready(Ok(count));
            }
            state.writer.register(context.waker());
            Poll::Pending
        })
        .await
    }

    /// What was written goes out without it.
    async fn flush(&mut self) -> Result<(), LineError> {
        Ok(())
    }
}

/// Why there is no network or no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LineError {
    /// The server was reached, and refuses.
    Refused,
    /// The connection is lost, perhaps as the co-processor was started anew.
    Reset,
    /// The co-processor cannot.
    Failed,
    /// There is a connection already.
    Busy,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LineError::Refused => "the server refuses connections",
            LineError::Reset => "the connection is lost",
            LineError::Failed => "the co-processor cannot join the network or reach the server",
            LineError::Busy => "a co-processor has one connection at a time, and the last one was not dropped",
        })
    }
}

impl core::error::Error for LineError {}

impl embedded_io_async::Error for LineError {
    fn kind(&self) -> ErrorKind {
        match self {
            LineError::Refused => ErrorKind::ConnectionRefused,
            LineError::Reset => ErrorKind::ConnectionReset,
            LineError::Failed => ErrorKind::Other,
            LineError::Busy => ErrorKind::AddrInUse,
        }
    }
}

/// No reset pin: a co-processor that hangs needs a watchdog of its own.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoReset;

impl PinErrorType for NoReset {
    type Error = Infallible;
}

impl OutputPin for NoReset {
    fn set_low(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
