//! The outbox on a simulated flash: power cuts everywhere, damage, wear, policies.

mod cuts;
mod damage;
mod geometry;
mod golden;
mod lives;
mod model;
mod policies;
mod ram;
mod size;
mod wear;
mod world;
