//! What the emulated boards have in common: the host behind them, embassy's time, a flash chip in a file, the device's
//! client put together, and what it does.

#![no_std]

pub mod board;
pub mod clock;
pub mod diary;
pub mod flash;
pub mod host;
pub mod register;
pub mod settings;
