//! The client against a real server, over real sockets.

// embassy's time.
use bowline_embedded_host as _;

mod cancel;
mod filter;
mod gaps;
mod guard;
mod lines;
mod links;
mod net;
mod network;
mod power;
mod size;
mod status;
mod storage;
mod talk;
mod world;
