//! The engine in virtual time, driven by scripts: what the peer sends, what goes wrong, what is expected.

mod durable;
mod harness;
mod life;
mod receiving;
mod scenarios;
mod sending;
