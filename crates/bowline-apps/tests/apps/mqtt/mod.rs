//! The mqtt app between boards and a real mosquitto.

mod blame;
mod boards;
mod broker;
mod handshake;
mod house;
mod kills;
mod outages;
mod restarts;
mod security;
mod shared;
mod tape;
mod topics;
mod wire;
mod word;
