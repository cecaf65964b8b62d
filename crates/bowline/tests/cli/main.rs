//! The binary from outside: its messages, and boards that run a real MicroPython against it.

mod bench;
mod boards;
mod client;
mod commands;
mod dead;
mod demo;
mod devices;
mod emulated;
mod external;
mod harness;
mod keys;
#[path = "../kill/ledger.rs"]
mod ledger;
mod memory;
mod numbers;
mod record;
