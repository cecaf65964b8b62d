//! Integration tests of the native engine against itself.

mod node;
mod random;
#[path = "../proto/rng.rs"]
mod rng;
mod store;
mod world;
