//! An emulated board: QEMU's `lm3s6965evb`, a Cortex-M3 with 256 KiB of flash, 64 KiB of RAM and Ethernet. How to build and
//! run what is made of it: `README.md`.

#![no_std]

mod ethernet;
pub mod network;
pub mod uart;

use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::NVIC;
use cortex_m_rt::exception;

/// Cycles of the core a second, as it is after a reset: the oscillator, divided by 16.
pub const CORE_HZ: u32 = 12_500_000;

/// An interrupt of the board.
#[derive(Clone, Copy)]
struct Interrupt(u8);

#[expect(unsafe_code, reason = "the trait asks for a promise")]
// SAFETY: always the same number, and one that the board has: those of the two drivers.
unsafe impl InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self.0.into()
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
        Ok(ethernet::INTERRUPT) => ethernet::interrupted(),
        Ok(uart::INTERRUPT) => uart::interrupted(),
        _ => panic!("interrupt {number}, which nothing has asked for"),
    }
}
