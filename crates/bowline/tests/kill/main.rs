//! `kill -9` in a loop: a server and ten devices, each a process with a store on disk, are killed and
//! started again while messages go both ways. Whatever `send` accepted must have come exactly once
//! and in order, and the devices that ask must have one answer each.
//!
//! The processes are this test binary, started again with a [`Role`] in its environment. Each writes down
//! what it sends and receives; [`ledger::compare`] finds in that what was lost, doubled or out of order.
//!
//! `BOWLINE_KILLS=2000` kills more often, `BOWLINE_SEED=<seed>` in the order of an earlier run; the
//! processes themselves are not deterministic.

mod app;
mod chaos;
mod diary;
mod fleet;
mod handler;
mod ledger;
mod process;
mod role;

use std::sync::Mutex;
use std::time::Duration;

use bowline_store::Durability;

use crate::fleet::{Fleet, Pauses};
use crate::role::Role;

/// Fleets do not share the machine: their processes need it.
static TURN: Mutex<()> = Mutex::new(());

/// Often enough that starts, restarts and links that are half open are hit, too.
const PAUSES: Pauses = Pauses { shortest: Duration::from_millis(50), longest: Duration::from_millis(300) };

fn kills(normally: u32) -> u32 {
    std::env::var("BOWLINE_KILLS").ok().map_or(normally, |kills| kills.parse().expect("BOWLINE_KILLS is a number"))
}

/// The test that the fleet's processes are started as. One that has a role plays it there, until it is killed.
const ENTRANCE: &str = "nothing_is_lost_or_doubled_by_kills";

#[test]
fn nothing_is_lost_or_doubled_by_kills() {
    if let Some(role) = Role::of_this_process() {
        return app::run(&role);
    }
    let _turn = TURN.lock();
    Fleet::starts("kills", Durability::Os).survives(kills(200), PAUSES);
}

#[test]
fn nothing_is_lost_or_doubled_by_kills_with_fsync() {
    let _turn = TURN.lock();
    Fleet::starts("kills with fsync", Durability::Fsync).survives(kills(200) / 5, PAUSES);
}
