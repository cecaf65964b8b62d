//! Both sides send numbered qos messages, one after the other, and check what they get.
//!
//! `cargo run -p bowline --example qos -- server 0.0.0.0:9999`, and on the board the reference's `qos/c_qos.py`.
//! Without a board: `cargo run -p bowline --example qos -- device qos`. Pull cables, switch the WiFi off and
//! on, and see that nothing is missed and nothing comes twice. These are in memory: a side that is started again begins
//! at 0.

mod common;

use std::time::Duration;

#[tokio::main]
async fn main() -> common::Result {
    common::exchange(1, Duration::from_secs(5)).await
}
