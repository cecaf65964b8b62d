//! What a board with 32-bit pointers needs, checked by the compiler that builds for one (`cargo xtask bare-metal`).

use core::convert::Infallible;
use core::net::SocketAddr;

use bowline_flash::{RamOutbox, Slot};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use embedded_nal_async::TcpConnect;

use crate::{Resources, Runner, buffer_for, inbox_for};

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

type Outbox = RamOutbox<'static>;
type Random = fn(&mut [u8]);
type Run = Runner<'static, Outbox, Random>;

async fn runs(runner: &'static mut Run) -> Infallible {
    runner.run(&Nowhere).await
}

const fn size_of_future<A, F: Future>(_: fn(A) -> F) -> usize {
    size_of::<F>()
}

/// Slots and payloads of the outbox, the client's memory, the runner, and its future without the network's own.
const fn total<Memory>() -> usize {
    MESSAGES * (size_of::<Slot>() + PAYLOAD) + size_of::<Memory>() + size_of::<Run>() + size_of_future(runs)
}

const BUFFER: usize = buffer_for(PAYLOAD);
type OneWay = Resources<Outbox, 1, { inbox_for(1, PAYLOAD) }, BUFFER>;
type BothWays = Resources<Outbox, MESSAGES, { inbox_for(MESSAGES, MESSAGES * PAYLOAD) }, BUFFER>;

// Four messages on their way out and one that has come, and four each way.
const _: () = assert!(total::<OneWay>() <= 4_096);
const _: () = assert!(total::<BothWays>() <= 4_608);
