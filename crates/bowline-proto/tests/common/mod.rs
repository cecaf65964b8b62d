//! What the random tests of both engines stand on.

pub(crate) mod pipe;
pub(crate) mod rng;
pub(crate) mod seeds;
pub(crate) mod weather;

use bowline_proto::time::Instant;

/// The time of what does not happen by itself.
pub(crate) const NEVER: Instant = Instant::from_micros(u64::MAX);
