//! Both sides send bursts of four numbered qos messages at once, and check what they get. Calls of `send`
//! that run side by side keep the order in which they were made.
//!
//! `cargo run -p bowline --example qos_fast -- server 0.0.0.0:9999`, and on the board the reference's `qos/c_qos_fast.py`.
//! Without a board: `cargo run -p bowline --example qos_fast -- device qos`. Pull cables, switch the WiFi off and
//! on, and see that nothing is missed and nothing comes twice. These are in memory: a side that is started again begins
//! at 0.

mod common;

use std::time::Duration;

#[tokio::main]
async fn main() -> common::Result {
    common::exchange(4, Duration::from_millis(3950)).await
}
