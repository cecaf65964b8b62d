//! A board, a co-processor and a real server, joined by a line that is simulated.

mod line;
mod network;
mod session;
mod stream;
