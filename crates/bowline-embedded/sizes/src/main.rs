//! A program with a client, or without one: what is between them is what a client takes of flash. What it takes of memory stands
//! in `SIZES`, for the one who measures (`xtask/src/sizes.rs`) to read from the file. Another one measures its stack.

#![no_std]
#![no_main]

#[cfg(not(feature = "stack"))]
mod board;
#[cfg(all(feature = "open", not(feature = "stack")))]
mod client;
mod clock;
#[cfg(feature = "stack")]
mod stack;

#[cfg(feature = "stack")]
#[cortex_m_rt::entry]
fn main() -> ! {
    stack::measures()
}

#[cfg(not(feature = "stack"))]
#[cortex_m_rt::entry]
fn main() -> ! {
    #[cfg(not(feature = "open"))]
    let program = board::uses_everything();
    #[cfg(feature = "open")]
    let program = embassy_futures::join::join(board::uses_everything(), client::runs());
    embassy_futures::block_on(program);
    loop {
        cortex_m::asm::nop();
    }
}
