//! Integration tests of the engine against itself.

mod node;
mod random;
mod rng;
mod time;
mod world;
