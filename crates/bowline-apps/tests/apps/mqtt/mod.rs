//! The mqtt app between boards and a real mosquitto.

mod boards;
mod broker;
mod handshake;
mod outages;
mod restarts;
mod security;
mod shared;
mod topics;
mod wire;
mod word;
