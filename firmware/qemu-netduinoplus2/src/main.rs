//! Bowline's device client on an emulated board that has no network: QEMU's `netduinoplus2`, an STM32F405. Its network is a
//! co-processor at the first USART. How to build and run it: `README.md`.

#![no_std]
#![no_main]

mod usart;

use core::convert::Infallible;

use bowline_coprocessor::Board;
use bowline_emulated::board::{self, Runner};
use bowline_emulated::host::{self, say};
use bowline_emulated::{clock, diary};
use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::NVIC;
use cortex_m_rt::exception;
use embassy_executor::{Spawner, main, task};
use embedded_hal::digital::{ErrorType, OutputPin};
use static_cell::StaticCell;

/// Cycles of the core a second: the emulator's are always as many as the chip has at most.
const CORE_HZ: u32 = 168_000_000;
/// Bytes that each direction of the connection has room for.
const STREAM: usize = 512;

#[main]
async fn main(spawner: Spawner) {
    let settings = board::settings();
    let mut core = cortex_m::Peripherals::take().expect("the first and only time");
    clock::starts(&mut core.SYST, CORE_HZ);
    static LINE: StaticCell<Board<'static, STREAM>> = StaticCell::new();
    let line = LINE.init(Board::new("network", "password").expect("so a network may be called"));
    let (client, runner) = board::client(&settings).await;
    spawner.spawn(speaks(line).expect("spawned once"));
    spawner.spawn(links(runner, line).expect("spawned once"));
    diary::keep(client, &settings).await;
    let report = line.report();
    say(format_args!("line: {} resets, {} restarts, {} damaged", report.resets, report.restarts, report.damaged));
    host::ends(true);
}

#[task]
async fn speaks(line: &'static Board<'static, STREAM>) -> ! {
    let (rx, tx) = usart::starts();
    lets_through(Interrupt);
    line.run(rx, tx, Reset, host::random_number()).await
}

#[task]
async fn links(mut runner: Runner, line: &'static Board<'static, STREAM>) -> ! {
    let mut network = line;
    runner.run_on(line, &mut network).await
}

/// The pin that resets the co-processor. No wire leads from one emulator to the other: who watches the console is the wire.
struct Reset;

impl ErrorType for Reset {
    type Error = Infallible;
}

impl OutputPin for Reset {
    fn set_low(&mut self) -> Result<(), Infallible> {
        say(format_args!("reset"));
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// The USART's interrupt.
#[derive(Clone, Copy)]
struct Interrupt;

#[expect(unsafe_code, reason = "the trait asks for a promise")]
// SAFETY: always the same number, and one that the board has.
unsafe impl InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        usart::INTERRUPT.into()
    }
}

#[expect(unsafe_code, reason = "an interrupt that is let through may break critical sections that mask it")]
fn lets_through(interrupt: Interrupt) {
    // SAFETY: critical sections here mask all interrupts and none of its own.
    unsafe { NVIC::unmask(interrupt) }
}

#[exception]
#[allow(unsafe_code, reason = "the attribute asks for it")]
unsafe fn DefaultHandler(number: i16) {
    match u8::try_from(number) {
        Ok(usart::INTERRUPT) => usart::interrupted(),
        _ => panic!("interrupt {number}, which nothing has asked for"),
    }
}
