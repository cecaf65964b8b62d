//! `kill -9` in a loop: a server and ten devices, each a process with a store on disk, are killed and
//! started again while messages go both ways. Whatever `send` accepted must have come exactly once
//! and in order, and the devices that ask must have one answer each.
//!
//! The processes are this test binary, started again with a [`Role`](role::Role) in its environment. Each writes down
//! what it sends and receives; [`ledger::compare`] finds in that what was lost, doubled or out of order.
//!
//! `BOWLINE_KILLS=2000` kills more often, `BOWLINE_SEED=<seed>` in the order of an earlier run; the
//! processes themselves are not deterministic.

mod app;
mod diary;
mod fleet;
mod handler;
mod ledger;
mod role;

use std::sync::Mutex;
use std::time::Duration;

use bowline_store::Durability;

use crate::fleet::{Fleet, Pauses};

/// Fleets do not share the machine: their processes need it.
static TURN: Mutex<()> = Mutex::new(());

/// Often enough that starts, restarts and links that are half open are hit, too.
const PAUSES: Pauses = Pauses { shortest: Duration::from_millis(50), longest: Duration::from_millis(300) };

fn kills(normally: u32) -> u32 {
    std::env::var("BOWLINE_KILLS").ok().map_or(normally, |kills| kills.parse().expect("BOWLINE_KILLS is a number"))
}

#[test]
fn nothing_is_lost_or_doubled_by_kills() {
    let _turn = TURN.lock();
    Fleet::starts("kills", Durability::Os).survives(kills(200), PAUSES);
}

#[test]
fn nothing_is_lost_or_doubled_by_kills_with_fsync() {
    let _turn = TURN.lock();
    Fleet::starts("kills with fsync", Durability::Fsync).survives(kills(200) / 5, PAUSES);
}

/// What the others start: a server or a device, until it is killed.
#[test]
#[ignore = "a process of the other tests; alone it does nothing"]
fn process() {
    if let Some(role) = role::Role::of_this_process() {
        app::run(&role);
    }
    handler::run();
}
