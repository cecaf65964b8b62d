//! A board without a network, and a co-processor that has one, joined by a serial line: `no_std`, without allocation.
//!
//! The co-processor is a pipe. It joins the network the board names, makes the connection the board wants, and passes
//! bytes: the session runs between the board and the server, with its key on the board. So a co-processor that crashes
//! or is started anew loses nothing: to the board that is a lost link.
//!
//! On the board, [`Board`] is a network stack for [`Runner::run_on`](bowline_embedded::Runner::run_on): it connects and
//! it joins.
//!
//! ```
//! # use bowline_coprocessor::{Board, NoReset};
//! # use bowline_embedded::{Outbox, Runner};
//! # use embassy_futures::join::join;
//! # use embedded_io_async::{Read, Write};
//! async fn board<O: Outbox>(mut runner: Runner<'_, O, impl FnMut(&mut [u8])>, rx: impl Read, tx: impl Write, seed: u32) {
//!     let board = Board::<512>::new("my network", "its password").unwrap();
//!     join(board.run(rx, tx, NoReset, seed), runner.run_on(&board, &mut &board)).await;
//! }
//! ```
//!
//! On the co-processor, [`Coprocessor::run`] does the rest, over anything that has TCP and an [`Access`].
//!
//! # The line
//! Full duplex, 8 bits, any speed that both keep; without hardware flow control, each side must take in what comes while
//! it sends (a driver with a buffer, or DMA). Frames have a checksum of 32 bits. What is damaged or lost is sent again; each
//! side sends only what the other has room for. Either side may be started anew at any time.
//!
//! Both sides say what they want and have several times a second, so nothing that is lost is waited for long. A
//! co-processor that says nothing for three seconds is reset, if its reset pin is wired. A board that says nothing for five
//! is gone, and its connection is closed.
//!
//! Over I2C it is the same line, made of transactions: [`i2c`].
//!
//! Nobody encrypts the line: whoever has its wires sees the network's password, and of an encrypted session what the network
//! sees.

#![no_std]

mod board;
mod coprocessor;
pub mod i2c;
mod stream;
mod wire;

pub use board::{Board, Connection, CredentialsError, LineError, NoReset, Report};
pub use coprocessor::{Access, Coprocessor};
