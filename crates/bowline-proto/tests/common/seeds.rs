//! Runs by the seed.
//!
//! Every failure prints its seed; `BOWLINE_SEED=<seed>` replays it alone and prints what happens,
//! `BOWLINE_SEEDS=<count>` tries more of them.

/// Calls `run` with each seed that the environment asks for, or with so many, and says which one
/// failed. `run` is told whether to print what happens. Returns how many there were, unless one was
/// replayed: that one need not have met with everything.
pub(crate) fn run_seeds(name: &str, normally: u64, mut run: impl FnMut(u64, bool)) -> Option<u64> {
    struct Report<'a>(&'a str, u64);
    impl Drop for Report<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let Report(name, seed) = self;
                eprintln!("{name}: seed {seed} failed; BOWLINE_SEED={seed} replays it");
            }
        }
    }
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let one = number("BOWLINE_SEED");
    let (from, to) = match one {
        Some(seed) => (seed, seed + 1),
        None => (0, number("BOWLINE_SEEDS").unwrap_or(normally)),
    };
    for seed in from..to {
        let report = Report(name, seed);
        run(seed, one.is_some());
        drop(report);
    }
    one.is_none().then_some(to)
}
