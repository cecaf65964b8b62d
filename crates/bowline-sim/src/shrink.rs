//! Finding out which faults a failure needs.

use crate::{Options, Outcome, Simulator};

/// Leaves out what is not needed for the failure of `seed`: first large parts, then single faults. Calls `progress` with
/// how many are left. Returns the options that still fail, and how.
pub fn shrink(simulator: &Simulator, seed: u64, options: &Options, progress: impl Fn(usize)) -> (Options, Outcome) {
    let mut outcome = simulator.run(seed, options);
    // No more faults than there were, however few of them break a link.
    let mut best = Options { most: Some(outcome.faults), trace: false, ..options.clone() };
    let mut part = outcome.faults.div_ceil(2).max(1);
    loop {
        let mut from = 0;
        while from < outcome.faults {
            let more = (from..(from + part).min(outcome.faults)).filter(|at| !best.without.contains(at));
            let mut without = best.without.clone();
            without.extend(more);
            if without.len() > best.without.len() {
                let candidate = Options { without, ..best.clone() };
                let tried = simulator.run(seed, &candidate);
                if tried.failure.is_some() {
                    outcome.failure = tried.failure;
                    best = candidate;
                    progress(outcome.faults - best.without.len());
                }
            }
            from += part;
        }
        if part == 1 {
            break;
        }
        part = part.div_ceil(2);
    }
    best.trace = true;
    let shrunk = simulator.run(seed, &best);
    (best, shrunk)
}
