//! What was sent against what has come.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::iter::Sum;

/// Lines shown before and behind a discrepancy.
const CONTEXT: usize = 12;

/// What was counted in one stream, or in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Given to `send`.
    pub(crate) sent: usize,
    /// Known by their sender to be accepted.
    pub(crate) accepted: usize,
    pub(crate) received: usize,
    /// Handed out again after a crash, under the same seq.
    pub(crate) again: usize,
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Counts::default(), |sum, one| Counts {
            sent: sum.sent + one.sent,
            accepted: sum.accepted + one.accepted,
            received: sum.received + one.received,
            again: sum.again + one.again,
        })
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { sent, accepted, received, again } = self;
        write!(f, "given to send {sent}, accepted {accepted}, received {received} (handed out again {again})")
    }
}

/// Which messages must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Those before the last one that is there: the rest is still on its way.
    SoFar,
    /// All.
    Whole,
}

/// Compares the diaries of a sender and its receiver. Everything accepted must have come once, in order;
/// what was only given to `send` may have come, once and in order. Says what the first discrepancy is.
pub(crate) fn compare(sent: &str, received: &str, extent: Extent) -> Result<Counts, String> {
    let mut counts = Counts::default();
    let (mut given, mut accepted) = (BTreeSet::new(), BTreeMap::new());
    for (at, line) in sent.lines().enumerate() {
        match *words(line) {
            ["send", number] => drop(given.insert(parse(number))),
            ["accepted", number] => drop(accepted.insert(parse(number), at)),
            ["end"] => {}
            _ => return Err(format!("no line of a sender: {line:?}")),
        }
    }
    (counts.sent, counts.accepted) = (given.len(), accepted.len());

    let mut taken = BTreeMap::<u64, u64>::new();
    let mut seqs = BTreeMap::new();
    for (at, line) in received.lines().enumerate() {
        let problem = |what: String| Err(format!("{what}; the receiver:\n{}", around(received, at)));
        let (word, seq, number) = match *words(line) {
            [word, seq, number] => (word, parse(seq), parse(number)),
            _ => return Err(format!("no line of a receiver: {line:?}")),
        };
        if word == "again" {
            counts.again += 1;
            if seqs.get(&seq) != Some(&number) {
                return problem(format!("seq {seq} was handed out again with another message, {number}"));
            }
            continue;
        }
        if let Some(first) = taken.get(&number) {
            return problem(format!("doubled: {number} came under seq {first} and under {seq}"));
        }
        if let Some((last, _)) = taken.last_key_value().filter(|(last, _)| **last > number) {
            return problem(format!("out of order: {number} came behind {last}"));
        }
        if !given.contains(&number) {
            return problem(format!("made up: nobody has sent {number}"));
        }
        taken.insert(number, seq);
        seqs.insert(seq, number);
    }
    counts.received = taken.len();

    let last = taken.last_key_value().map_or(0, |(last, _)| *last);
    let is_lost = |number: &u64| !taken.contains_key(number) && (extent == Extent::Whole || *number < last);
    if let Some((number, at)) = accepted.iter().find(|(number, _)| is_lost(number)) {
        let lost = accepted.keys().filter(|number| is_lost(number)).count();
        let next = taken.range(number..).next().map(|(number, _)| *number);
        let behind = received.lines().position(|line| Some(parse(words(line)[2])) == next);
        let place = behind.unwrap_or(received.lines().count());
        return Err(format!(
            "lost: {number} was accepted and has not come, {lost} in all; the sender:\n{}\nthe receiver, where it is \
             missing:\n{}",
            around(sent, *at),
            around(received, place)
        ));
    }
    Ok(counts)
}

fn words(line: &str) -> Box<[&str]> {
    line.split(' ').collect()
}

fn parse(number: &str) -> u64 {
    number.parse().expect("a process writes numbers")
}

/// The lines around the one at `at`, which is marked.
fn around(lines: &str, at: usize) -> String {
    let first = at.saturating_sub(CONTEXT);
    let shown = lines.lines().enumerate().skip(first).take(2 * CONTEXT + 1);
    let shown: Vec<_> = shown.map(|(place, line)| format!("{} {line}", if place == at { ">" } else { " " })).collect();
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::{Extent, compare};

    const SENT: &str = "send 1\nsend 2\nsend 3\naccepted 1\nsend 4\naccepted 4\nend\n";

    fn problem(received: &str) -> String {
        compare(SENT, received, Extent::Whole).unwrap_err().split(':').next().unwrap().to_owned()
    }

    #[test]
    fn what_was_not_accepted_may_come_or_not() {
        for received in ["take 1 1\ntake 2 4\n", "take 1 1\ntake 2 2\ntake 3 3\nagain 3 3\ntake 4 4\n"] {
            let counts = compare(SENT, received, Extent::Whole).unwrap();
            assert_eq!((counts.sent, counts.accepted), (4, 2));
        }
    }

    #[test]
    fn discrepancies_are_found() {
        assert_eq!(problem("take 1 1\n"), "lost");
        assert_eq!(problem("take 1 4\n"), "lost");
        assert!(compare(SENT, "take 1 1\n", Extent::SoFar).is_ok());
        assert!(compare(SENT, "take 1 4\n", Extent::SoFar).is_err());
        assert_eq!(problem("take 1 1\ntake 2 1\ntake 3 4\n"), "doubled");
        assert_eq!(problem("take 1 1\ntake 2 3\ntake 3 2\ntake 4 4\n"), "out of order");
        assert_eq!(problem("take 1 1\ntake 2 5\n"), "made up");
        assert!(problem("take 1 1\nagain 1 2\n").contains("another message"));
    }
}
