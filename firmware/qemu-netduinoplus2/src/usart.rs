//! The first of the chip's USARTs, by interrupt: 115,200 bits a second, 8 bits, no parity.
//!
//! Source: chapter "Universal synchronous asynchronous receiver transmitter" of the STM32F405's reference manual (RM0090).

use core::convert::Infallible;
use core::future::poll_fn;
use core::task::Poll;

use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::pipe::Pipe;
use embassy_sync::waitqueue::GenericAtomicWaker;
use embedded_io_async::{ErrorType, Write};

use registers::{BRR, CR1, DR, SR};

/// The number of its interrupt.
pub(crate) const INTERRUPT: u8 = 37;

/// Bits of `SR`.
mod status {
    /// A byte was not taken before the next one came.
    pub(super) const ORE: u32 = 1 << 3;
    /// A byte has come.
    pub(super) const RXNE: u32 = 1 << 5;
    /// There is room for a byte that goes out.
    pub(super) const TXE: u32 = 1 << 7;
}

/// Bits of `CR1`.
mod control {
    pub(super) const RE: u32 = 1 << 2;
    pub(super) const TE: u32 = 1 << 3;
    /// A byte that has come interrupts.
    pub(super) const RXNEIE: u32 = 1 << 5;
    /// Room for a byte interrupts.
    pub(super) const TXEIE: u32 = 1 << 7;
    pub(super) const UE: u32 = 1 << 13;
}

/// Cycles a second of the bus that it is on.
const BUS_HZ: u32 = 84_000_000;
const BAUD: u32 = 115_200;

/// What has come. Its room is for all that the co-processor may send before it hears of more, for the emulator's line takes
/// no time.
static CAME: Pipe<CriticalSectionRawMutex, 1024> = Pipe::new();
/// Whom the interrupt wakes when there is room.
static ROOM: GenericAtomicWaker<CriticalSectionRawMutex> = GenericAtomicWaker::new(CriticalSectionRawMutex::new());

/// Switches it on; its interrupt is for the caller to let through. There is one, so this is to be called once.
pub(crate) fn starts() -> (&'static Pipe<CriticalSectionRawMutex, 1024>, Sender) {
    BRR.write((BUS_HZ + BAUD / 2) / BAUD);
    CR1.write(control::UE | control::TE | control::RE | control::RXNEIE);
    (&CAME, Sender(()))
}

/// To be called at the interrupt.
pub(crate) fn interrupted() {
    let seen = SR.read();
    if seen & (status::RXNE | status::ORE) != 0 {
        // What there is no room for is lost, as on the line.
        let _ = CAME.try_write(&[DR.read() as u8]);
    }
    if seen & status::TXE != 0 {
        CR1.change(0, control::TXEIE);
        ROOM.wake();
    }
}

/// What sends.
pub(crate) struct Sender(());

impl ErrorType for Sender {
    type Error = Infallible;
}

impl Write for Sender {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        poll_fn(|context| {
            ROOM.register(context.waker());
            let mut count = 0;
            while count < bytes.len() && SR.read() & status::TXE != 0 {
                DR.write(bytes[count].into());
                count += 1;
            }
            if count > 0 || bytes.is_empty() {
                return Poll::Ready(Ok(count));
            }
            CR1.change(control::TXEIE, 0);
            Poll::Pending
        })
        .await
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// The USART's registers.
mod registers {
    use bowline_emulated::register::Register;

    /// What has happened.
    pub(super) const SR: Register = register(0x00);
    /// A byte: read, the one that has come; written, one that is to go out.
    pub(super) const DR: Register = register(0x04);
    /// The divider for the speed.
    pub(super) const BRR: Register = register(0x08);
    /// What is switched on, and what interrupts.
    pub(super) const CR1: Register = register(0x0c);

    #[expect(unsafe_code, reason = "the compiler knows nothing of registers")]
    const fn register(offset: usize) -> Register {
        // SAFETY: a word of the USART; what it does with what is written stays in it.
        unsafe { Register::at(0x4001_1000 + offset) }
    }
}
