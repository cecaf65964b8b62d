//! Two ends of a serial line, which may change and lose bytes, and what is behind it: the system's network.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bowline_coprocessor::{Access, Coprocessor};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use embedded_nal_async::TcpConnect;
use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Kinds of frames: docs/coprocessor.md.
pub(crate) const BOARD: usize = 2;
pub(crate) const COPROCESSOR: usize = 3;
pub(crate) const DATA: usize = 4;

/// How long a script may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);
/// Bytes that the line's drivers hold.
const BUFFER: usize = 256;

#[derive(Debug)]
pub(crate) struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

impl embedded_io_async::Error for Broken {
    fn kind(&self) -> ErrorKind {
        ErrorKind::ConnectionReset
    }
}

/// What happens to bytes on a line.
#[derive(Clone)]
pub(crate) struct Noise {
    random: Rc<RefCell<Rng>>,
    /// One byte in so many is changed or lost; 0 for none.
    one_in: Rc<Cell<u32>>,
    /// Nothing comes through, and nobody waits for it.
    is_cut: Rc<Cell<bool>>,
    /// Frames that say how the sender is do not come through.
    loses_states: Rc<Cell<bool>>,
    /// Told of frames that come through, by their kinds.
    passed: Rc<[Notify; 5]>,
}

impl Noise {
    pub(crate) fn none() -> Self {
        Noise::seeded(0, 0)
    }

    pub(crate) fn seeded(seed: u64, one_in: u32) -> Self {
        let random = Rc::new(RefCell::new(Rng::with_seed(seed)));
        let (is_cut, loses_states, passed) = Default::default();
        Noise { random, one_in: Rc::new(Cell::new(one_in)), is_cut, loses_states, passed }
    }

    pub(crate) fn cuts(&self, is_cut: bool) {
        self.is_cut.set(is_cut);
    }

    pub(crate) fn loses_states(&self, loses: bool) {
        self.loses_states.set(loses);
    }

    /// Waits until a frame of this kind comes through, unless one has since this was asked last.
    pub(crate) async fn passes(&self, kind: usize) {
        self.passed[kind].notified().await;
    }

    /// Both sides write whole frames, the kind of which is the byte behind the one that COBS adds.
    fn suffer(&self, bytes: &[u8]) -> Vec<u8> {
        let (mut random, one_in) = (self.random.borrow_mut(), self.one_in.get());
        if self.is_cut.get() || self.loses_states.get() && [BOARD, COPROCESSOR].contains(&bytes[1].into()) {
            return Vec::new();
        }
        self.passed[usize::from(bytes[1])].notify_one();
        let suffer = |byte: &u8| match one_in {
            0 => Some(*byte),
            _ if random.u32(..one_in) > 0 => Some(*byte),
            _ if random.bool() => Some(byte ^ 1 << random.u32(..8)),
            _ => None,
        };
        bytes.iter().filter_map(suffer).collect()
    }
}

pub(crate) struct Rx(ReadHalf<DuplexStream>);

pub(crate) struct Tx(WriteHalf<DuplexStream>, Noise);

/// A line: both ends' receivers and senders.
pub(crate) fn line(noise: &Noise) -> [(Rx, Tx); 2] {
    line_of([noise, noise])
}

/// The same, with what the left one sends on one noise and what the right one sends on another.
pub(crate) fn line_of([from_left, from_right]: [&Noise; 2]) -> [(Rx, Tx); 2] {
    let (left, right) = tokio::io::duplex(BUFFER);
    [(left, from_left), (right, from_right)].map(|(end, noise)| {
        let (rx, tx) = tokio::io::split(end);
        (Rx(rx), Tx(tx, noise.clone()))
    })
}

impl ErrorType for Rx {
    type Error = Broken;
}

impl Read for Rx {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Broken> {
        match self.0.read(bytes).await {
            Ok(0) | Err(_) => Err(Broken),
            Ok(count) => Ok(count),
        }
    }
}

impl ErrorType for Tx {
    type Error = Broken;
}

impl Write for Tx {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        self.0.write_all(&self.1.suffer(bytes)).await.map_err(|_| Broken)?;
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        Ok(())
    }
}

/// The co-processor's network, and what it was told.
#[derive(Default)]
pub(crate) struct Wifi {
    pub(crate) is_up: Cell<bool>,
    pub(crate) has_failed: Cell<bool>,
    pub(crate) said: RefCell<Vec<String>>,
}

impl Access for &Wifi {
    type Error = ();

    async fn join(&mut self, ssid: &str, password: &str) -> Result<(), ()> {
        self.said.borrow_mut().push(format!("join {ssid} {password}"));
        self.is_up.set(!self.has_failed.get());
        if self.has_failed.get() { Err(()) } else { Ok(()) }
    }

    async fn leave(&mut self) {
        self.said.borrow_mut().push("leave".to_owned());
        self.is_up.set(false);
    }

    fn is_up(&self) -> bool {
        self.is_up.get()
    }

    fn signal(&self) -> Option<i8> {
        Some(-67)
    }
}

/// The system's TCP.
pub(crate) struct System;

pub(crate) struct Connection(TcpStream);

#[derive(Debug)]
pub(crate) struct SystemError(std::io::Error);

impl std::fmt::Display for SystemError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for SystemError {}

impl embedded_io_async::Error for SystemError {
    fn kind(&self) -> ErrorKind {
        match self.0.kind() {
            std::io::ErrorKind::ConnectionRefused => ErrorKind::ConnectionRefused,
            std::io::ErrorKind::ConnectionReset => ErrorKind::ConnectionReset,
            _ => ErrorKind::Other,
        }
    }
}

impl TcpConnect for System {
    type Error = SystemError;
    type Connection<'a> = Connection;

    async fn connect(&self, server: SocketAddr) -> Result<Connection, SystemError> {
        TcpStream::connect(server).await.map(Connection).map_err(SystemError)
    }
}

impl ErrorType for Connection {
    type Error = SystemError;
}

impl Read for Connection {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, SystemError> {
        self.0.read(bytes).await.map_err(SystemError)
    }
}

impl Write for Connection {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, SystemError> {
        self.0.write(bytes).await.map_err(SystemError)
    }

    async fn flush(&mut self) -> Result<(), SystemError> {
        Ok(())
    }
}

/// A co-processor with this end of the line, that starts anew whenever it is told to.
pub(crate) async fn coprocessor(mut rx: Rx, mut tx: Tx, mut wifi: &Wifi, crash: &Notify) -> ! {
    for boot in 1.. {
        let coprocessor = Coprocessor::<512>::new();
        tokio::select! {
            biased;
            () = crash.notified() => {}
            _ = coprocessor.run(&mut rx, &mut tx, &System, &mut wifi, boot) => unreachable!("it never returns"),
        }
        wifi.is_up.set(false);
    }
    unreachable!("so often nobody crashes")
}

/// Runs both sides until the script is done.
pub(crate) async fn beside<T>(sides: impl Future<Output = impl Sized>, script: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        _ = sides => unreachable!("no side returns"),
        result = tokio::time::timeout(PATIENCE, script) => result.expect("in time"),
    }
}

/// A seed for this run, unless `BOWLINE_SEED` says which.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("BOWLINE_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    println!("BOWLINE_SEED={seed}");
    seed
}
