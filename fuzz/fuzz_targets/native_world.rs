//! Two native engines, their stores and a bad network, all of whose decisions are the fuzzer's:
//! everything arrives once and in order, whatever is cut, crashes, stalls, or is stored late.
//!
//! World and checker are those of the engine's random tests.

#![no_main]
#![allow(dead_code, reason = "the tests' own parts of their modules")]

#[path = "worlds/common.rs"]
mod common;
#[path = "../../crates/bowline-proto/tests/native/conn.rs"]
mod conn;
#[path = "../../crates/bowline-proto/tests/native/node.rs"]
mod node;
#[path = "../../crates/bowline-proto/tests/native/random.rs"]
mod random;
#[path = "../../crates/bowline-proto/tests/native/store.rs"]
mod store;
#[path = "../../crates/bowline-proto/tests/native/world.rs"]
mod world;

use std::collections::HashMap;

use bowline_fuzz::Choices;
use bowline_proto::native::Transport;
use libfuzzer_sys::fuzz_target;

use crate::common::rng::Rng;
use crate::common::weather::Weather;
use crate::store::Keeps;

/// Short storms: the fuzzer makes more of two hundred decisions than of two thousand.
const WEATHER: Weather = Weather { storm: (0, 2_500), work: (1, 250), faults: (1, 900), ..random::WEATHER };

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    let transport = choices.pick(&[Transport::Lossless, Transport::Lossy]);
    let keeps = choices.pick(&[Keeps::Everything, Keeps::Outbox, Keeps::Nothing]);
    // §14.4: a volatile device is for lossless transports, as in the tests.
    let keeps = if transport == Transport::Lossy && keeps == Keeps::Outbox { Keeps::Everything } else { keeps };
    let world = world::World::new(transport, keeps, Rng::of(choices.rest()), false);
    random::Run::new(world).goes(&WEATHER, &mut HashMap::new());
});
