//! Integration tests of the engine against itself.

mod board;
#[path = "../common/mod.rs"]
mod common;
mod crashes;
mod node;
mod random;
mod store;
mod texts;
mod time;
mod world;
