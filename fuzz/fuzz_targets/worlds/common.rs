//! What the engines' random worlds stand on, with the fuzzer in place of their random source.

#[path = "../../../crates/bowline-proto/tests/common/pipe.rs"]
pub(crate) mod pipe;
#[path = "../../../crates/bowline-proto/tests/common/seeds.rs"]
pub(crate) mod seeds;
#[path = "../../../crates/bowline-proto/tests/common/weather.rs"]
pub(crate) mod weather;

pub(crate) use bowline_fuzz::rng;

/// The time of what does not happen by itself.
pub(crate) const NEVER: bowline_proto::time::Instant = bowline_proto::time::Instant::from_micros(u64::MAX);
