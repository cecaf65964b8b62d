//! A deterministic simulator of Bowline: one seed, one world.
//!
//! A world has a server, one to three devices, the network between them and their disks. Server and client are the real
//! ones, with the real store: nothing is copied or simplified. What the world gives them is virtual time (tokio's, which
//! jumps to the next timer when nothing is left to do), sockets ([`bowline_client::Socket`]), a connector and a listener,
//! random bytes and the time of day, and a store that commits when the world says so, on a disk that forgets what was not
//! synced. Everything happens in one thread, so the same seed does the same again.
//!
//! [`Simulator::run`] lets faults strike until enough links have broken, then stops them and asks the reference model (`model.rs`)
//! whether everything came that had to.

mod disk;
mod flash;
mod keys;
mod medium;
mod model;
mod net;
mod outside;
mod shrink;
mod world;

pub use shrink::shrink;
pub use world::{Options, Outcome, Simulator};

/// Keeps panics of simulated programs for the outcome, instead of printing them. Once a process.
pub fn keep_panics() {
    outside::keep_panics();
}
