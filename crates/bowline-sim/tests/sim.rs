//! The simulator itself: that it repeats, and that it reaches what is rare.

use std::collections::BTreeMap;

use bowline_sim::{Options, Simulator};

#[test]
fn the_same_seed_does_the_same_again_byte_for_byte() {
    let simulator = Simulator::new().unwrap();
    let options = Options { trace: true, ..Options::default() };
    for seed in 1..=8 {
        let [first, second] = [(), ()].map(|()| simulator.run(seed, &options));
        assert!(first.trace.len() > 1_000, "seed {seed}: something happens");
        assert!(first.trace == second.trace, "seed {seed}: two runs differ");
        assert_eq!((first.hash, first.failure), (second.hash, None), "seed {seed}");
    }
}

#[test]
fn writing_down_what_happens_changes_nothing() {
    let simulator = Simulator::new().unwrap();
    let [silent, traced] = [false, true].map(|trace| simulator.run(3, &Options { trace, ..Options::default() }));
    assert_eq!(silent.hash, traced.hash);
    assert!(silent.trace.is_empty());
}

#[test]
fn a_few_worlds_reach_what_is_rare() {
    let simulator = Simulator::new().unwrap();
    let mut reached = BTreeMap::new();
    for seed in 100..130 {
        let outcome = simulator.run(seed, &Options::default());
        assert_eq!(outcome.failure, None, "seed {seed}");
        for (what, count) in outcome.counts {
            *reached.entry(what).or_insert(0) += count;
        }
    }
    let rare = [
        "dropped",
        "fault: half-open",
        "fault: server loses power",
        "fault: sync fails",
        "given back",
        "given up, accepted",
        "replayed opening",
        "stopped in a write",
    ];
    for what in rare {
        assert!(reached.get(what).is_some_and(|count| *count > 0), "{what} was not reached: {reached:?}");
    }
    assert!(reached["links"] >= 30 * 20, "links break: {reached:?}");
}

#[test]
fn leaving_out_a_fault_changes_no_other() {
    let simulator = Simulator::new().unwrap();
    let trace = |without| {
        let options = Options { without, most: Some(20), trace: true, ..Options::default() };
        simulator.run(7, &options).trace
    };
    let faults = |trace: &str| -> Vec<String> {
        let faults = trace.lines().filter_map(|line| line.split_once('#'));
        faults.map(|(_, fault)| fault.to_owned()).collect()
    };
    let (all, some) = (faults(&trace(Vec::new())), faults(&trace(vec![4, 5])));
    let left: Vec<_> = all.iter().enumerate().filter(|(at, _)| ![4, 5].contains(at)).map(|(_, fault)| fault).collect();
    assert_eq!(left, some.iter().collect::<Vec<_>>());
}
