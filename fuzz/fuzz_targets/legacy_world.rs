//! Two legacy engines on H or U, their stores and a bad network, all of whose decisions are the
//! fuzzer's: everything arrives once and in order, whatever is cut, crashes, stalls, or is stored late.
//!
//! Worlds and checkers are those of the engine's random tests.

#![no_main]
#![allow(dead_code, reason = "the tests' own parts of their modules")]

#[path = "worlds/common.rs"]
mod common;
#[path = "../../crates/bowline-proto/tests/proto/crashes.rs"]
mod crashes;
#[path = "../../crates/bowline-proto/tests/proto/node.rs"]
mod node;
#[path = "../../crates/bowline-proto/tests/proto/random.rs"]
mod random;
#[path = "../../crates/bowline-proto/tests/proto/store.rs"]
mod store;
#[path = "../../crates/bowline-proto/tests/proto/world.rs"]
mod world;

use bowline_fuzz::Choices;
use bowline_proto::Dialect;
use libfuzzer_sys::fuzz_target;

use crate::common::rng::Rng;
use crate::common::weather::Weather;
use crate::crashes::Durable;
use crate::random::Payloads;

/// Short storms: the fuzzer makes more of two hundred decisions than of two thousand.
const WEATHER: Weather = Weather { storm: (0, 4_000), work: (1, 400), faults: (1, 1_200), ..crashes::WEATHER };

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    let dialect = choices.pick(&[Dialect::Headers, Dialect::Upstream]);
    let payloads = choices.pick(&[Payloads::Unique, Payloads::Alike]);
    let kind = choices.below(5);
    let world = world::World::new(dialect, Rng::of(choices.rest()), false);
    let durable = match kind {
        0 => Durable::Both,
        1 => Durable::Server,
        2 => Durable::Device,
        // A device without memory that reboots; payloads say which of its lives a message is of.
        3 => {
            random::Run::new(world, Payloads::Unique, true).goes(&WEATHER);
            return;
        }
        _ => {
            random::Run::new(world, payloads, false).goes(&WEATHER);
            return;
        }
    };
    crashes::Run::new(world, durable, payloads).goes(&WEATHER);
});
