//! The apps through a real server and real clients.

mod harness;
mod http;
mod record;
mod relay;
mod time;
