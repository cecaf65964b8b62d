//! A board, a co-processor and a real server, joined by a line that is simulated.

mod i2c;
mod line;
mod lives;
mod network;
mod session;
mod stream;
