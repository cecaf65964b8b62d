//! What it takes of memory.

use bowline_embedded::{Config, DeviceId, RamOutbox, Resources, Slot, buffer_for, inbox_for};

use crate::net::Net;

/// Four messages of 256 bytes in flight each way. Here pointers have 64 bits; on a board with 32 it is less, and is
/// measured there (`cargo xtask sizes`).
#[test]
fn memory_is_as_documented() {
    type Memory<'a> = Resources<RamOutbox<'a>, 4, { inbox_for(4, 4 * 256) }, { buffer_for(256) }>;
    let (mut slots, mut bytes) = ([Slot::EMPTY; 4], [0; 4 * 256]);
    let outside = size_of_val(&slots) + size_of_val(&bytes);
    let mut memory = Memory::new();
    let resources = size_of_val(&memory);
    let config = Config::new(DeviceId::new("board").unwrap(), "127.0.0.1:9".parse().unwrap());
    let outbox = RamOutbox::new(&mut slots, &mut bytes, 256);
    let (_, mut runner) = bowline_embedded::new(&mut memory, outbox, config, |_| {}).unwrap();
    let own = size_of_val(&runner);
    let net = Net::new();
    let run = size_of_val(&runner.run(&net));
    println!(
        "outbox {outside}, resources {resources}, runner {own}, its future {run}: {}",
        outside + resources + own + run
    );
    assert!(outside + resources + own + run <= 8_192);
}
