//! Integration tests of the engine against itself.

mod board;
mod crashes;
mod node;
mod random;
mod rng;
mod store;
mod time;
mod world;
