//! Integration tests of the native engine against itself.

mod node;
mod pipe;
mod random;
#[path = "../proto/rng.rs"]
mod rng;
mod store;
mod world;
