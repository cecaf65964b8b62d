//! The engine in virtual time, driven by scripts: what the peer sends, what goes wrong, what is expected.

mod durable;
mod granting;
mod harness;
mod laps;
mod life;
mod receiving;
mod saved;
mod scenarios;
mod sending;
