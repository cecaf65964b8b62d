//! The engine in small worlds, in every order in which things can happen: its production code, both sides,
//! explored by `stateright`.
//!
//! Each world prints how many states it has. `BOWLINE_MODEL=large` explores the larger ones, as `cargo xtask model`
//! does with a compiler that optimizes; the small ones are for every day.

mod check;
mod node;
mod world;

use std::time::Instant;
use std::{assert, println};

use stateright::{Checker, Model};

use self::node::Keeps;
use self::world::{Budget, Small};

const ONE_EACH: Budget =
    Budget { messages: [1, 1], conns: 2, takeovers: 0, crashes: [0, 0], storage_failures: 0, restores: [0, 0] };

/// Explores all of a world: the first one, or the larger second.
fn explore(name: &str, small: Small, large: Small) {
    let is_large = std::env::var_os("BOWLINE_MODEL").is_some_and(|value| value == "large");
    let small = if is_large { large } else { small };
    let start = Instant::now();
    let checker = small.checker().threads(2).spawn_bfs().join();
    println!(
        "{name}: {} states, {} with repetitions, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        start.elapsed().as_secs_f64()
    );
    assert!(checker.is_done());
    checker.assert_properties();
}

fn world(device: Keeps, window: u8, budget: Budget) -> Small {
    Small { device, window, budget }
}

#[test]
fn cuts() {
    let small = world(Keeps::Everything, 1, Budget { messages: [2, 0], ..ONE_EACH });
    explore("cuts", small, world(Keeps::Everything, 2, Budget { messages: [3, 0], ..ONE_EACH }));
}

#[test]
fn crashes_of_both_ends() {
    let budget = Budget { messages: [1, 0], crashes: [1, 0], ..ONE_EACH };
    let small = world(Keeps::Everything, 2, budget);
    explore("crashes", small, world(Keeps::Everything, 2, Budget { messages: [2, 0], crashes: [1, 1], ..budget }));
}

#[test]
fn a_server_that_crashes_while_it_sends() {
    let budget = Budget { messages: [0, 1], crashes: [0, 1], ..ONE_EACH };
    let small = world(Keeps::Everything, 2, budget);
    explore("server crashes", small, world(Keeps::Everything, 2, Budget { messages: [1, 1], ..budget }));
}

#[test]
fn takeovers() {
    let budget = Budget { messages: [1, 0], takeovers: 1, ..ONE_EACH };
    let small = world(Keeps::Everything, 2, budget);
    explore("takeovers", small, world(Keeps::Everything, 2, Budget { messages: [1, 1], ..budget }));
}

#[test]
fn storage_that_fails() {
    let budget = Budget { messages: [1, 0], storage_failures: 1, ..ONE_EACH };
    let small = world(Keeps::Everything, 2, budget);
    explore("storage", small, world(Keeps::Everything, 2, Budget { messages: [2, 0], ..budget }));
}

#[test]
fn a_device_without_memory() {
    let budget = Budget { messages: [2, 0], crashes: [1, 0], ..ONE_EACH };
    let small = world(Keeps::Nothing, 2, budget);
    explore("no memory", small, world(Keeps::Nothing, 2, Budget { messages: [2, 1], ..budget }));
}

#[test]
fn a_volatile_device() {
    let budget = Budget { messages: [0, 1], crashes: [1, 0], ..ONE_EACH };
    let small = world(Keeps::Outbox, 2, budget);
    explore("volatile", small, world(Keeps::Outbox, 2, Budget { messages: [0, 2], ..budget }));
}

#[test]
fn a_device_that_is_set_back() {
    let budget = Budget { messages: [1, 0], restores: [1, 0], ..ONE_EACH };
    let small = world(Keeps::Everything, 2, budget);
    explore("device set back", small, world(Keeps::Everything, 2, Budget { messages: [1, 1], ..budget }));
}

#[test]
fn a_server_that_is_set_back() {
    let budget = Budget { messages: [1, 0], restores: [0, 1], ..ONE_EACH };
    let small = world(Keeps::Everything, 2, budget);
    explore("server set back", small, world(Keeps::Everything, 2, Budget { messages: [1, 1], ..budget }));
}

#[test]
fn an_epoch_that_goes_back() {
    let budget = Budget { messages: [1, 0], conns: 2, crashes: [1, 0], restores: [1, 0], ..ONE_EACH };
    let small = world(Keeps::Nothing, 2, budget);
    explore("epoch back", small, world(Keeps::Nothing, 2, Budget { messages: [2, 0], ..budget }));
}
