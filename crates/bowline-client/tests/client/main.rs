//! The client over real sockets: against a scripted server that does what it should not, and against ours.

mod cancel;
mod durable;
mod gaps;
mod harness;
mod links;
mod native;
mod random;
mod requests;
mod sending;
mod world;
