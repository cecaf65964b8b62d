//! The client against a real server, over real sockets.

// embassy's time.
use bowline_embedded_host as _;

mod cancel;
mod links;
mod net;
mod power;
mod size;
mod status;
mod talk;
mod world;
