//! What a board with 32-bit pointers needs, checked by the compiler that builds for one (`cargo xtask bare-metal`).

use core::convert::Infallible;
use core::net::SocketAddr;

use bowline_flash::{RamOutbox, Slot};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use embedded_nal_async::TcpConnect;
use embedded_storage_async::nor_flash;

use crate::{Outbox, Resources, Runner, buffer_for, inbox_for};

/// Messages each way, and bytes of each.
const MESSAGES: usize = 4;
const PAYLOAD: usize = 256;

/// A network that takes no memory itself.
struct Nowhere;

#[derive(Debug)]
struct Never;

impl core::fmt::Display for Never {
    fn fmt(&self, _: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        Ok(())
    }
}

impl core::error::Error for Never {}

impl embedded_io_async::Error for Never {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

impl ErrorType for Nowhere {
    type Error = Never;
}

impl Read for Nowhere {
    async fn read(&mut self, _: &mut [u8]) -> Result<usize, Never> {
        Err(Never)
    }
}

impl Write for Nowhere {
    async fn write(&mut self, _: &[u8]) -> Result<usize, Never> {
        Err(Never)
    }

    async fn flush(&mut self) -> Result<(), Never> {
        Err(Never)
    }
}

impl TcpConnect for Nowhere {
    type Error = Never;
    type Connection<'a> = Nowhere;

    async fn connect(&self, _: SocketAddr) -> Result<Nowhere, Never> {
        Err(Never)
    }
}

impl nor_flash::NorFlashError for Never {
    fn kind(&self) -> nor_flash::NorFlashErrorKind {
        nor_flash::NorFlashErrorKind::Other
    }
}

impl nor_flash::ErrorType for Nowhere {
    type Error = Never;
}

impl nor_flash::ReadNorFlash for Nowhere {
    const READ_SIZE: usize = 4;

    async fn read(&mut self, _: u32, _: &mut [u8]) -> Result<(), Never> {
        Err(Never)
    }

    fn capacity(&self) -> usize {
        0
    }
}

impl nor_flash::NorFlash for Nowhere {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4_096;

    async fn erase(&mut self, _: u32, _: u32) -> Result<(), Never> {
        Err(Never)
    }

    async fn write(&mut self, _: u32, _: &[u8]) -> Result<(), Never> {
        Err(Never)
    }
}

type Random = fn(&mut [u8]);
type Run<O> = Runner<'static, O, Random>;

async fn runs<O: Outbox + 'static>(runner: &'static mut Run<O>) -> Infallible {
    runner.run(&Nowhere).await
}

const fn size_of_future<A, F: Future>(_: fn(A) -> F) -> usize {
    size_of::<F>()
}

/// The client's memory with its outbox, the runner, and its future without the network's own.
const fn client<O: Outbox + 'static, const INCOMING: usize, const INBOX: usize>() -> usize {
    size_of::<Resources<O, INCOMING, INBOX, { buffer_for(PAYLOAD) }>>()
        + size_of::<Run<O>>()
        + size_of_future(runs::<O>)
}

const ONE: usize = inbox_for(1, PAYLOAD);
const ALL: usize = inbox_for(MESSAGES, MESSAGES * PAYLOAD);

type InMemory = RamOutbox<'static>;
type OnFlash = bowline_flash::Outbox<'static, Nowhere>;

// Four messages on their way out and one that has come, and four each way; on flash with slots for 64.
const _: () = assert!(MESSAGES * (size_of::<Slot>() + PAYLOAD) + client::<InMemory, 1, ONE>() <= 4_096);
const _: () = assert!(MESSAGES * (size_of::<Slot>() + PAYLOAD) + client::<InMemory, MESSAGES, ALL>() <= 4_800);
const _: () = assert!(64 * size_of::<Slot>() + client::<OnFlash, MESSAGES, ALL>() <= 6_144);
