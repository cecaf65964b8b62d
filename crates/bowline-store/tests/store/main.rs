//! The store on real files. Random tests print their seed; `BOWLINE_SEED=n` replays one.

mod batches;
mod commits;
mod content;
mod disk_full;
mod driven;
mod failures;
mod files;
mod golden;
mod harness;
mod kill;
mod power_cut;
mod rot;
mod words;
