//! The server over real loopback sockets. Tests named `rNN_…` are the scenarios of `docs/scenarios.md`.

mod apps;
mod cancel;
mod delivery;
mod durable;
mod failing_apps;
mod golden;
mod harness;
mod hostile;
mod identity;
mod idle;
mod intruders;
mod keyed;
mod keys;
mod lifecycle;
mod load;
mod native;
mod openers;
mod plain;
mod policies;
mod pressure;
mod recovery;
mod scripted;

/// Counts what is allocated, for [`idle`].
#[global_allocator]
static ALLOCATOR: stats_alloc::StatsAlloc<std::alloc::System> = stats_alloc::StatsAlloc::system();
