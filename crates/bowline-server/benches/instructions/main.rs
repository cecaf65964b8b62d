//! What one step of each layer costs in instructions, which are the same on a busy machine and on an idle one.
//!
//! `cargo xtask instructions` runs this under callgrind, counts, and compares with `instructions.tsv` beside this file.
//! By itself it only shows that all of it works.

mod engine;
mod secure;
mod server;
mod store;

use std::hint::black_box;

/// Payload of every message.
const PAYLOAD: [u8; 256] = [b'x'; 256];

/// Messages that go together, where several do.
const BATCH: u64 = 16;

/// Rounds that are counted of each case.
const ROUNDS: u32 = 64;

fn main() {
    engine::cases();
    secure::cases();
    store::cases();
    server::cases();
}

/// One case: prints its name, so that whoever counts knows whose turn it was. In each round `prepare` makes what
/// `work` needs and `check` looks at what it gave; only `work` is counted.
fn case<T, U>(name: &str, mut prepare: impl FnMut() -> T, mut work: impl FnMut(T) -> U, mut check: impl FnMut(U)) {
    println!("{name}\t{ROUNDS}");
    // The first ones allocate what the others find.
    for _ in 0..8 {
        check(work(prepare()));
    }
    for _ in 0..ROUNDS {
        let mut input = Some(prepare());
        let mut output = None;
        counted(&mut || output = input.take().map(&mut work));
        check(output.expect("the work was done"));
    }
    counted_all();
}

/// Callgrind counts from here to the return, by this name.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    black_box(work)();
}

/// Callgrind writes down what it has counted when this is called, by this name.
#[inline(never)]
fn counted_all() {
    black_box(());
}
