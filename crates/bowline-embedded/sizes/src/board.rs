//! What a program may find on its board, with a client or without one: a network and a flash. Neither does anything, and the
//! compiler cannot know that.

use core::convert::Infallible;
use core::hint::black_box;
use core::net::SocketAddr;

use embedded_io_async::{ErrorType, Read, Write};
use embedded_nal_async::TcpConnect;
use embedded_storage_async::nor_flash::{self, NorFlash, NorFlashErrorKind, ReadNorFlash};

/// A network that takes no memory.
pub struct Nowhere;

impl ErrorType for Nowhere {
    type Error = embedded_io_async::ErrorKind;
}

impl Read for Nowhere {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Self::Error> {
        black_box(Ok(black_box(bytes).len()))
    }
}

impl Write for Nowhere {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        black_box(Ok(black_box(bytes).len()))
    }

    async fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

impl TcpConnect for Nowhere {
    type Error = embedded_io_async::ErrorKind;
    type Connection<'a> = Nowhere;

    async fn connect(&self, to: SocketAddr) -> Result<Nowhere, Self::Error> {
        black_box(to);
        black_box(Ok(Nowhere))
    }
}

#[derive(Debug)]
pub struct Broken;

impl nor_flash::NorFlashError for Broken {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl nor_flash::ErrorType for Nowhere {
    type Error = Broken;
}

impl ReadNorFlash for Nowhere {
    const READ_SIZE: usize = 4;

    async fn read(&mut self, _: u32, bytes: &mut [u8]) -> Result<(), Broken> {
        black_box(bytes);
        black_box(Ok(()))
    }

    fn capacity(&self) -> usize {
        65_536
    }
}

impl NorFlash for Nowhere {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4_096;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Broken> {
        black_box((from, to));
        black_box(Ok(()))
    }

    async fn write(&mut self, _: u32, bytes: &[u8]) -> Result<(), Broken> {
        black_box(bytes);
        black_box(Ok(()))
    }
}

/// What a chip's generator would give.
pub fn random(bytes: &mut [u8]) {
    black_box(bytes);
}

/// What any program with a network does, and the compiler has functions of its own for: it copies memory, fills it, compares it
/// and divides 64 bits, of which time is made.
#[cfg(not(feature = "bare"))]
fn copies_and_divides(bytes: &mut [u8; 64]) {
    let count = black_box(16);
    bytes.copy_within(count.., 0);
    let (into, from) = bytes.split_at_mut(32);
    if let (Some(into), Some(from)) = (into.get_mut(..count), from.get(..count)) {
        into.copy_from_slice(from);
        black_box(*into == *from);
    }
    bytes.fill(black_box(0));
    black_box(embassy_time::Instant::now().as_ticks() / black_box(7));
}

/// Uses all of the above as a program without a client might.
pub async fn uses_everything() -> Infallible {
    let mut bytes = [0; 64];
    loop {
        random(&mut bytes);
        #[cfg(not(feature = "bare"))]
        copies_and_divides(&mut bytes);
        let server = SocketAddr::from(([192, 168, 0, 41], 9999));
        if let Ok(mut connection) = Nowhere.connect(black_box(server)).await {
            let _ = Write::write(&mut connection, &bytes).await;
            let _ = Read::read(&mut connection, &mut bytes).await;
        }
        let mut flash = Nowhere;
        let _ = flash.erase(0, black_box(4_096)).await;
        let _ = NorFlash::write(&mut flash, 0, &bytes).await;
        let _ = ReadNorFlash::read(&mut flash, 0, &mut bytes).await;
        embassy_time::Timer::after_millis(black_box(10)).await;
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        cortex_m::asm::nop();
    }
}
