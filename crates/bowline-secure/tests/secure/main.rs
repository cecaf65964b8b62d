//! The security layer from outside, as the two ends use it (§15).

mod arbitrary;
mod attack;
mod gate;
mod golden;
mod interop;
mod provision;
mod sizes;
mod support;
mod tickets;
