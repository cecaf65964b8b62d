//! A serial line, time, and what is behind a co-processor, all of it as the fuzzer wants.

#![allow(dead_code, reason = "each target has its own of it")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker};

use bowline_coprocessor::Access;
use bowline_fuzz::crc32;
use embassy_time::Duration;
use embassy_time_driver::{Driver, time_driver_impl};
use embedded_io_async::{Error, ErrorKind, ErrorType, Read, Write};
use embedded_nal_async::TcpConnect;

/// Most bytes of a frame with its zero.
const LONGEST: usize = 143;

static NOW: AtomicU64 = AtomicU64::new(0);
static MOVED: AtomicBool = AtomicBool::new(false);

struct Clock;

time_driver_impl!(static CLOCK: Clock = Clock);

/// Nobody is woken: whenever time has passed, all are asked.
impl Driver for Clock {
    fn now(&self) -> u64 {
        NOW.load(Ordering::Relaxed)
    }

    fn schedule_wake(&self, _: u64, _: &Waker) {}
}

pub fn begins() {
    NOW.store(0, Ordering::Relaxed);
}

pub fn passes(time: Duration) {
    NOW.fetch_add(time.as_ticks(), Ordering::Relaxed);
}

struct Moved;

impl Wake for Moved {
    fn wake(self: Arc<Self>) {
        moved();
    }
}

/// Something has happened that somebody may wait for.
pub fn moved() {
    MOVED.store(true, Ordering::Relaxed);
}

/// What runs on one side.
pub type Side = Pin<Box<dyn Future<Output = Infallible>>>;

/// Lets both sides do what they can do at this time, which must come to an end.
pub fn settle(sides: &mut [Side]) {
    static WAKER: LazyLock<Waker> = LazyLock::new(|| Waker::from(Arc::new(Moved)));
    for _ in 0..5_000 {
        MOVED.store(false, Ordering::Relaxed);
        for side in &mut *sides {
            let Poll::Pending = side.as_mut().poll(&mut Context::from_waker(&WAKER));
        }
        if !MOVED.load(Ordering::Relaxed) {
            return;
        }
    }
    panic!("it goes on and on without any time passing");
}

/// One direction of the line.
#[derive(Default)]
pub struct Wire {
    pub bytes: RefCell<VecDeque<u8>>,
    /// Nothing comes out yet.
    pub is_held: Cell<bool>,
    /// What goes in is lost.
    pub is_cut: Cell<bool>,
    /// Nothing goes in, and the sender waits.
    pub is_full: Cell<bool>,
    /// So many bytes on, one changes, or is lost.
    pub damage: Cell<Option<(usize, Option<u8>)>>,
    /// What was sent of a frame, and whether its sender has given it up in the middle.
    frame: RefCell<Vec<u8>>,
    /// Frames that were sent.
    pub frames: Cell<usize>,
}

impl Wire {
    /// What is written must be frames.
    fn sends(&self, byte: u8) {
        let mut frame = self.frame.borrow_mut();
        if byte != 0 {
            frame.push(byte);
            return;
        }
        let body = decoded(&frame).expect("what is sent is COBS");
        let (fields, crc) = body.split_last_chunk().expect("what is sent has a checksum");
        assert!(frame.len() < LONGEST && crc32(fields) == u32::from_le_bytes(*crc), "{fields:?}");
        assert!((1..=4).contains(&fields[0]));
        frame.clear();
        self.frames.set(self.frames.get() + 1);
    }

    fn suffers(&self, byte: u8) -> Option<u8> {
        if self.is_cut.get() {
            return None;
        }
        match self.damage.take() {
            Some((0, change)) => change.map(|change| byte ^ change),
            Some((left, change)) => {
                self.damage.set(Some((left - 1, change)));
                Some(byte)
            }
            None => Some(byte),
        }
    }
}

fn decoded(mut encoded: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some((count, rest)) = encoded.split_first() {
        let (run, rest) = rest.split_at_checked(usize::from(*count) - 1)?;
        body.extend(run);
        if *count < 255 && !rest.is_empty() {
            body.push(0);
        }
        encoded = rest;
    }
    Some(body)
}

#[derive(Debug)]
pub struct Broken(pub ErrorKind);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

impl Error for Broken {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

pub struct Rx(pub Rc<Wire>);

impl ErrorType for Rx {
    type Error = Broken;
}

impl Read for Rx {
    async fn read(&mut self, out: &mut [u8]) -> Result<usize, Broken> {
        poll_fn(|_| {
            let mut bytes = self.0.bytes.borrow_mut();
            let count = if self.0.is_held.get() { 0 } else { bytes.len().min(out.len()) };
            if count == 0 {
                return Poll::Pending;
            }
            out[..count].iter_mut().zip(bytes.drain(..count)).for_each(|(place, byte)| *place = byte);
            Poll::Ready(Ok(count))
        })
        .await
    }
}

pub struct Tx(pub Rc<Wire>);

impl ErrorType for Tx {
    type Error = Broken;
}

impl Write for Tx {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        poll_fn(|_| if self.0.is_full.get() { Poll::Pending } else { Poll::Ready(()) }).await;
        for byte in bytes {
            self.0.sends(*byte);
            self.0.bytes.borrow_mut().extend(self.0.suffers(*byte));
        }
        moved();
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        Ok(())
    }
}

/// A byte of a stream, like no other stream's.
pub fn byte(stream: usize, at: usize) -> u8 {
    let mixed =
        (stream as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (at as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes()[0]
}

/// A connection at the server.
#[derive(Debug)]
pub struct Peer {
    /// The board's attempt that it belongs to: the port tells.
    pub attempt: usize,
    /// What the server has sent, and what the co-processor has taken of it.
    pub sent: usize,
    pub given: usize,
    pub end: Option<End>,
    /// What has come from the board.
    pub received: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Closed,
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answer {
    #[default]
    Accepts,
    Refuses,
    Waits,
}

/// The network behind the co-processor.
#[derive(Default)]
pub struct Net {
    pub peers: RefCell<Vec<Peer>>,
    pub answer: Cell<Answer>,
    /// Whether written bytes are taken.
    pub is_stuck: Cell<bool>,
    /// What joining comes to.
    pub joins: Cell<Answer>,
    pub is_up: Cell<bool>,
    /// Who sends to the board's server is no stranger.
    pub is_honest: bool,
}

/// As the co-processor has it.
pub struct Stack(pub Rc<Net>);

pub struct Connection {
    net: Rc<Net>,
    at: usize,
}

/// Server's streams, and the board's, by connections and attempts.
pub const SERVER: usize = 0;
pub const BOARD: usize = 1 << 20;

impl TcpConnect for Stack {
    type Error = Broken;
    type Connection<'c> = Connection;

    async fn connect(&self, server: SocketAddr) -> Result<Connection, Broken> {
        let net = Rc::clone(&self.0);
        poll_fn(|_| match net.answer.get() {
            Answer::Accepts => Poll::Ready(Ok(())),
            Answer::Refuses => Poll::Ready(Err(Broken(ErrorKind::ConnectionRefused))),
            Answer::Waits => Poll::Pending,
        })
        .await?;
        let attempt = usize::from(server.port());
        let at = net.peers.borrow().len();
        net.peers.borrow_mut().push(Peer { attempt, sent: 0, given: 0, end: None, received: 0 });
        Ok(Connection { net, at })
    }
}

impl ErrorType for Connection {
    type Error = Broken;
}

impl Read for Connection {
    async fn read(&mut self, out: &mut [u8]) -> Result<usize, Broken> {
        poll_fn(|_| {
            let peer = &mut self.net.peers.borrow_mut()[self.at];
            if peer.end == Some(End::Lost) {
                return Poll::Ready(Err(Broken(ErrorKind::ConnectionReset)));
            }
            let count = (peer.sent - peer.given).min(out.len());
            for place in &mut out[..count] {
                *place = byte(SERVER + self.at, peer.given);
                peer.given += 1;
            }
            if count == 0 && peer.end.is_none() { Poll::Pending } else { Poll::Ready(Ok(count)) }
        })
        .await
    }
}

impl Write for Connection {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        poll_fn(|_| if self.net.is_stuck.get() { Poll::Pending } else { Poll::Ready(()) }).await;
        let peer = &mut self.net.peers.borrow_mut()[self.at];
        if peer.end == Some(End::Lost) {
            return Err(Broken(ErrorKind::ConnectionReset));
        }
        for came in bytes {
            let sent = byte(BOARD + peer.attempt, peer.received);
            assert!(!self.net.is_honest || *came == sent, "the board's bytes, in order: {peer:?}");
            peer.received += 1;
        }
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        Ok(())
    }
}

impl Access for Stack {
    type Error = ();

    async fn join(&mut self, _: &str, _: &str) -> Result<(), ()> {
        match self.0.joins.get() {
            Answer::Accepts => {
                self.0.is_up.set(true);
                Ok(())
            }
            Answer::Refuses => Err(()),
            Answer::Waits => pending().await,
        }
    }

    async fn leave(&mut self) {
        self.0.is_up.set(false);
    }

    fn is_up(&self) -> bool {
        self.0.is_up.get()
    }
}
