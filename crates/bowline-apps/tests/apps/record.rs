//! The record app.

mod disk;
mod files;
mod harness;
mod once;
mod reading;
