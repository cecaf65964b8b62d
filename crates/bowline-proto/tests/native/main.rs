//! Integration tests of the native engine against itself.

#[path = "../common/mod.rs"]
mod common;
mod conn;
mod node;
mod random;
mod store;
mod world;
