//! The first of the chip's UARTs (PL011), by interrupt: 115,200 bits a second, 8 bits, no parity.
//!
//! Source: chapter "Universal Asynchronous Receivers/Transmitters" of the LM3S6965 data sheet.

use core::convert::Infallible;
use core::future::poll_fn;
use core::task::Poll;

use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::pipe::Pipe;
use embassy_sync::waitqueue::GenericAtomicWaker;
use embedded_io_async::{ErrorType, Read, Write};

use crate::{CORE_HZ, Interrupt, lets_through};
use registers::{CTL, DR, FBRD, FR, IBRD, ICR, IM, LCRH};

/// The number of its interrupt.
pub(crate) const INTERRUPT: u8 = 5;

/// Interrupts: bits of `IM` and `ICR`.
mod interrupt {
    /// Bytes have come.
    pub(super) const RX: u32 = 1 << 4;
    /// There is room for bytes that go out.
    pub(super) const TX: u32 = 1 << 5;
    /// Bytes have come, and no more for a while.
    pub(super) const RT: u32 = 1 << 6;
}

/// Bits of `FR`.
mod flag {
    /// No byte has come.
    pub(super) const RXFE: u32 = 1 << 4;
    /// There is no room for bytes that go out.
    pub(super) const TXFF: u32 = 1 << 5;
}

/// `LCRH`: 8 bits, and queues of 16 bytes.
const LINE: u32 = 3 << 5 | 1 << 4;
/// `CTL`: switched on, both ways.
const ON: u32 = 1 << 0 | 1 << 8 | 1 << 9;
const BAUD: u32 = 115_200;
/// What `CORE_HZ / 16` is divided by to give it, in 64ths.
const DIVIDER: u32 = (CORE_HZ * 4 + BAUD / 2) / BAUD;

/// What has come. Its room is for all that the board may send before it hears of more, for the emulator's line takes no time.
static CAME: Pipe<CriticalSectionRawMutex, 1024> = Pipe::new();
/// Whom the interrupt wakes when there is room.
static ROOM: GenericAtomicWaker<CriticalSectionRawMutex> = GenericAtomicWaker::new(CriticalSectionRawMutex::new());

/// Switches it on. There is one, so this is to be called once.
pub fn starts() -> (impl Read, impl Write) {
    CTL.write(0);
    IBRD.write(DIVIDER / 64);
    FBRD.write(DIVIDER % 64);
    LCRH.write(LINE);
    CTL.write(ON);
    IM.write(interrupt::RX | interrupt::RT);
    lets_through(Interrupt(INTERRUPT));
    (&CAME, Sender)
}

/// To be called at the interrupt.
pub(crate) fn interrupted() {
    // Taken back before the queue is emptied: what comes behind that sets it again.
    ICR.write(interrupt::RX | interrupt::RT | interrupt::TX);
    while FR.read() & flag::RXFE == 0 {
        // What there is no room for is lost, as on the line.
        let _ = CAME.try_write(&[DR.read() as u8]);
    }
    IM.change(0, interrupt::TX);
    ROOM.wake();
}

struct Sender;

impl ErrorType for Sender {
    type Error = Infallible;
}

impl Write for Sender {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        poll_fn(|context| {
            ROOM.register(context.waker());
            let mut count = 0;
            while count < bytes.len() && FR.read() & flag::TXFF == 0 {
                DR.write(bytes[count].into());
                count += 1;
            }
            if count > 0 || bytes.is_empty() {
                return Poll::Ready(Ok(count));
            }
            IM.change(interrupt::TX, 0);
            Poll::Pending
        })
        .await
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// The UART's registers.
mod registers {
    use bowline_emulated::register::Register;

    /// The next byte: read, of those that have come; written, one that is to go out.
    pub(super) const DR: Register = register(0x00);
    /// How the queues are.
    pub(super) const FR: Register = register(0x18);
    /// The divider for the speed.
    pub(super) const IBRD: Register = register(0x24);
    /// Its 64ths.
    pub(super) const FBRD: Register = register(0x28);
    /// How bytes look on the line.
    pub(super) const LCRH: Register = register(0x2c);
    /// What is switched on.
    pub(super) const CTL: Register = register(0x30);
    /// What interrupts.
    pub(super) const IM: Register = register(0x38);
    /// Takes back what has happened.
    pub(super) const ICR: Register = register(0x44);

    #[expect(unsafe_code, reason = "the compiler knows nothing of registers")]
    const fn register(offset: usize) -> Register {
        // SAFETY: a word of the UART; what it does with what is written stays in it.
        unsafe { Register::at(0x4000_c000 + offset) }
    }
}
