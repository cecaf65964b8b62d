//! The mqtt app between boards and a real mosquitto.

mod boards;
mod broker;
mod kills;
mod outages;
mod security;
mod shared;
mod topics;
mod wire;
mod word;
