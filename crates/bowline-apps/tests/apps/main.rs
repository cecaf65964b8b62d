//! The apps through a real server and real clients. Tests named `rNN_…` are scenarios that broke the library they replace.

mod harness;
mod http;
mod mqtt;
mod record;
mod relay;
mod time;
