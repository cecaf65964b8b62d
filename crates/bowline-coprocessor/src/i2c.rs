//! The line over I2C: the board is the bus's controller, the co-processor a target with one pin that is high while it has something
//! to say.
//!
//! A transaction carries up to 32 bytes of the line. One that the board writes has nothing else in it; one that it reads has 33
//! bytes, of which the first says how many of the others are of the line. What a transaction loses or changes, the frames'
//! checksums tell, as on any line.
//!
//! Each wait has an end. A transaction has 50 ms, with all that the target stretches the clock; after one that has taken longer, or
//! that the bus has failed, the bus is freed by [`Bus::free`]. If that does not help, nothing comes, and the board resets
//! the co-processor. A pin that is stuck or not wired makes the line slow: the board asks then three times a second.

use core::cell::RefCell;

use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::mutex::Mutex;
use embassy_sync::pipe::Pipe;
use embassy_time::{Duration, Timer, with_timeout};
use embedded_hal::digital::{InputPin, OutputPin};
use embedded_hal::i2c::{Error as _, ErrorKind as BusError, Operation};
use embedded_hal_async::digital::Wait;
use embedded_hal_async::i2c::I2c;
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};

use crate::board::{PAUSE, PERIOD};

/// Most bytes of the line in a transaction.
const CHUNK: usize = 32;
/// With the byte that says how many there are.
const ANSWER: usize = CHUNK + 1;
/// A transaction takes no longer. At 100 kHz it is 4 ms.
const TRANSACTION: Duration = Duration::from_millis(50);
/// Half a clock while a bus is freed, which is slow enough for any target.
const HALF: Duration = Duration::from_micros(10);

/// The controller's bus.
#[expect(async_fn_in_trait, reason = "one executor runs all of it, so no future need be Send")]
pub trait Bus: I2c {
    /// Frees a bus whose SDA a target holds low, as one does that was reset in the middle of a byte: by clocks, until it lets go
    /// ([`clocks`] does that where the pins can be had). A target that holds SCL low is freed by nothing but its reset.
    ///
    /// The transaction before may have been dropped, and the controller has to be made ready for the next one.
    async fn free(&mut self);
}

/// Clocks a bus by hand until no target holds SDA, nine times at most, and ends with a stop. Whether it is free.
///
/// Both are open-drain outputs with pull-ups: high is let go.
pub async fn clocks<C: OutputPin, D: OutputPin + InputPin>(scl: &mut C, sda: &mut D) -> bool {
    let _ = sda.set_high();
    for _ in 0..9 {
        if sda.is_high().unwrap_or(false) {
            break;
        }
        let _ = scl.set_low();
        Timer::after(HALF).await;
        let _ = scl.set_high();
        Timer::after(HALF).await;
    }
    // A stop is SDA that rises while SCL is high.
    let _ = scl.set_low();
    let _ = sda.set_low();
    Timer::after(HALF).await;
    let _ = scl.set_high();
    Timer::after(HALF).await;
    let _ = sda.set_high();
    Timer::after(HALF).await;
    sda.is_high().unwrap_or(false)
}

/// The board's end of the line.
pub struct Controller<B> {
    bus: Mutex<NoopRawMutex, B>,
    address: u8,
}

impl<B: Bus> Controller<B> {
    /// On this bus, to the co-processor with this address.
    pub const fn new(bus: B, address: u8) -> Self {
        Controller { bus: Mutex::new(bus), address }
    }

    /// Both directions, for [`Board::run`](crate::Board::run). `attention` is the co-processor's pin.
    pub fn split<W: Wait>(&mut self, attention: W) -> (impl Read, impl Write) {
        let line = &*self;
        (Receiver { line, attention, bytes: [0; ANSWER], next: ANSWER, end: ANSWER }, Sender(line))
    }

    async fn transacts(&self, operation: Operation<'_>) -> Result<(), TransactionError> {
        let mut bus = self.bus.lock().await;
        let error = match with_timeout(TRANSACTION, bus.transaction(self.address, &mut [operation])).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.kind(),
            Err(_) => BusError::Bus,
        };
        // Who is not there, or still starts, does not hold the bus.
        if !matches!(error, BusError::NoAcknowledge(_)) {
            let _ = with_timeout(TRANSACTION, bus.free()).await;
        }
        Err(TransactionError)
    }
}

/// A transaction has failed: what it carried is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionError;

impl core::fmt::Display for TransactionError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("a transaction on the bus has failed")
    }
}

impl core::error::Error for TransactionError {}

impl embedded_io_async::Error for TransactionError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

struct Receiver<'l, B, W> {
    line: &'l Controller<B>,
    attention: W,
    /// The last answer, and what of it was not taken yet.
    bytes: [u8; ANSWER],
    next: usize,
    end: usize,
}

impl<B, W> ErrorType for Receiver<'_, B, W> {
    type Error = TransactionError;
}

impl<B: Bus, W: Wait> Read for Receiver<'_, B, W> {
    async fn read(&mut self, out: &mut [u8]) -> Result<usize, TransactionError> {
        while self.next == self.end {
            let _ = with_timeout(PERIOD, self.attention.wait_for_high()).await;
            self.line.transacts(Operation::Read(&mut self.bytes)).await?;
            match usize::from(self.bytes[0]) {
                // The pin may be stuck, and the bus has others.
                0 => Timer::after(PAUSE).await,
                count @ 1..=CHUNK => (self.next, self.end) = (1, 1 + count),
                _ => return Err(TransactionError),
            }
        }
        let count = out.len().min(self.end - self.next);
        out[..count].copy_from_slice(&self.bytes[self.next..][..count]);
        self.next += count;
        Ok(count)
    }
}

struct Sender<'l, B>(&'l Controller<B>);

impl<B> ErrorType for Sender<'_, B> {
    type Error = TransactionError;
}

impl<B: Bus> Write for Sender<'_, B> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, TransactionError> {
        let count = bytes.len().min(CHUNK);
        self.0.transacts(Operation::Write(&bytes[..count])).await?;
        Ok(count)
    }

    async fn flush(&mut self) -> Result<(), TransactionError> {
        Ok(())
    }
}

/// A chip's I2C as a target. There is no trait of the ecosystem for that.
#[expect(async_fn_in_trait, reason = "one executor runs all of it, so no future need be Send")]
pub trait Peripheral {
    /// Why a transaction has failed.
    type Error;

    /// Waits for the controller's next transaction, with all that it writes. What does not go into `bytes`, at least 32, is not
    /// acknowledged or lost.
    ///
    /// # Errors
    /// If the bus has failed.
    async fn listen(&mut self, bytes: &mut [u8]) -> Result<Request, Self::Error>;

    /// Answers a [`Request::Read`]: returns when the controller has ended it, however much it has taken.
    ///
    /// # Errors
    /// If the bus has failed.
    async fn answer(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// What the controller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// It has written so many bytes.
    Written(usize),
    /// It reads, and the clock is stretched until there is an answer.
    Read,
}

/// The co-processor's end of the line, with room for `N` bytes each way: 256 or more.
pub struct Target<P, const N: usize> {
    attention: RefCell<P>,
    came: Pipe<NoopRawMutex, N>,
    goes: Pipe<NoopRawMutex, N>,
}

impl<P: OutputPin, const N: usize> Target<P, N> {
    /// With the pin that the board watches.
    pub const fn new(attention: P) -> Self {
        Target { attention: RefCell::new(attention), came: Pipe::new(), goes: Pipe::new() }
    }

    /// Both directions, for [`Coprocessor::run`](crate::Coprocessor::run).
    pub fn split(&self) -> (impl Read, impl Write) {
        (&self.came, Speaker(self))
    }

    /// Does what the controller wants. Runs beside the co-processor, and never returns.
    pub async fn run<T: Peripheral>(&self, mut peripheral: T) -> ! {
        let mut bytes = [0; ANSWER];
        loop {
            self.tells();
            match peripheral.listen(&mut bytes[..CHUNK]).await {
                // What there is no room for is lost, as on a line.
                Ok(Request::Written(count)) => drop(self.came.try_write(&bytes[..count.min(CHUNK)])),
                Ok(Request::Read) => {
                    let count = self.goes.try_read(&mut bytes[1..]).unwrap_or(0);
                    bytes[0] = count as u8;
                    let _ = with_timeout(TRANSACTION, peripheral.answer(&bytes)).await;
                }
                Err(_) => Timer::after(PAUSE).await,
            }
        }
    }

    fn tells(&self) {
        let mut pin = self.attention.borrow_mut();
        // Without the pin the board asks all the same.
        let _ = if self.goes.is_empty() { pin.set_low() } else { pin.set_high() };
    }
}

struct Speaker<'t, P, const N: usize>(&'t Target<P, N>);

impl<P, const N: usize> ErrorType for Speaker<'_, P, N> {
    type Error = core::convert::Infallible;
}

impl<P: OutputPin, const N: usize> Write for Speaker<'_, P, N> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        let count = self.0.goes.write(bytes).await;
        self.0.tells();
        Ok(count)
    }

    async fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}
