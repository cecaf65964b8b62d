//! A short run of the demo keeps the promise, and says so.

use crate::harness::{bowline, stderr, stdout};

#[test]
fn the_demo_keeps_the_promise() {
    let output = bowline(&["demo", "--seconds", "6", "--devices", "4", "--seed", "1", "--json"]);
    assert!(output.status.success(), "{}\n{}", stdout(&output), stderr(&output));
    let ledger: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    eprintln!("{ledger:#}");
}
