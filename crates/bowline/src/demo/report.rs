//! The ledger: what was promised, and what became of it.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::checker::Counts;
use super::fleet::{Board, Snapshot};

/// The outcome of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Everything arrived exactly once and in order.
    pub(super) ok: bool,
    /// That in a sentence.
    pub(super) verdict: String,
    /// The command that replays the run.
    pub(super) replay: String,
    pub(super) run: Run,
    pub(super) devices: Vec<Row>,
    pub(super) total: Total,
}

/// How the run went.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Run {
    pub(super) seed: u64,
    /// All of it, from start to ledger.
    pub(super) seconds: f64,
    /// Ctrl-C was pressed.
    pub(super) ended_early: bool,
    pub(super) server_restarts: u32,
    /// From the last fault until everything had arrived and was acknowledged; none if that has not happened.
    pub(super) healed_after_seconds: Option<f64>,
}

/// One device.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) dialect: char,
    pub(super) to_server: Counts,
    pub(super) to_device: Counts,
    pub(super) outages: u64,
    pub(super) longest_outage_seconds: f64,
}

/// All devices together.
#[derive(Debug, Default, Serialize)]
pub(super) struct Total {
    #[serde(flatten)]
    pub(super) counts: Counts,
    pub(super) outages: u64,
    pub(super) longest_outage_seconds: f64,
    /// What the library says of itself; see [`Effort`].
    #[serde(flatten)]
    pub(super) effort: Effort,
}

/// What it took, by the library's own counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Effort {
    /// Messages sent again.
    pub(super) resent: u64,
    /// Messages that came again and were not delivered again.
    pub(super) duplicates_refused: u64,
}

impl Report {
    pub(super) fn new(run: Run, replay: String, rows: Vec<Row>, effort: Effort) -> Self {
        let mut total = Total { effort, ..Total::default() };
        for row in &rows {
            total.counts += row.to_server;
            total.counts += row.to_device;
            total.outages += row.outages;
            total.longest_outage_seconds = total.longest_outage_seconds.max(row.longest_outage_seconds);
        }
        Report { ok: total.counts.is_clean(), verdict: verdict(&run, &total), replay, run, devices: rows, total }
    }
}

impl Row {
    pub(super) fn new(board: &Board, now: &Snapshot) -> Self {
        Row {
            id: board.id.clone(),
            dialect: board.dialect.letter(),
            to_server: now.to_server,
            to_device: now.to_device,
            outages: now.outages,
            longest_outage_seconds: round(now.longest_outage),
        }
    }
}

/// Seconds with milliseconds.
pub(super) fn round(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}

fn verdict(run: &Run, total: &Total) -> String {
    let outages = match total.outages {
        1 => "1 outage".to_owned(),
        outages => format!("{outages} outages"),
    };
    let across = match run.server_restarts {
        0 => format!("across {outages}"),
        _ => format!("across {outages} and a server restart"),
    };
    let counts = &total.counts;
    if counts.sent == 0 && counts.is_clean() {
        return "Nothing was sent.".to_owned();
    }
    if counts.is_clean() {
        return format!("Every message arrived exactly once and in order, {across}.");
    }
    let mut verdict = format!(
        "The promise was broken, {across}: {} lost, {} doubled, {} out of order",
        counts.lost, counts.doubled, counts.out_of_order
    );
    for (count, what) in [(counts.altered, "altered"), (counts.refused, "refused")] {
        if count > 0 {
            verdict.push_str(&format!(", {count} {what}"));
        }
    }
    verdict + "."
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<10} {:<9} {:>6} {:>9} {:>4} {:>7} {:>12} {:>7} {:>7}",
            "device", "direction", "sent", "delivered", "lost", "doubled", "out of order", "outages", "longest"
        )?;
        for row in &self.devices {
            line(f, &row.id, "to server", &row.to_server)?;
            writeln!(f, " {:>7} {:>5.1} s", row.outages, row.longest_outage_seconds)?;
            line(f, "", "to device", &row.to_device)?;
            writeln!(f)?;
        }
        let Total { counts, outages, longest_outage_seconds, effort } = &self.total;
        line(f, "total", "", counts)?;
        writeln!(f, " {outages:>7} {longest_outage_seconds:>5.1} s\n")?;
        if counts.altered > 0 {
            writeln!(f, "{} messages were not, byte for byte, what was sent under their number.", counts.altered)?;
        }
        if counts.refused > 0 {
            writeln!(f, "{} messages were refused: `send` failed where it should have waited.", counts.refused)?;
        }
        writeln!(f, "{} messages sent again, {} duplicates refused.", effort.resent, effort.duplicates_refused)?;
        match self.run.healed_after_seconds {
            Some(seconds) => write!(f, "All had arrived {seconds:.1} s after the last fault")?,
            None => write!(f, "Not all had arrived and been acknowledged when the time for it was over")?,
        }
        writeln!(f, "; {:.1} s in total.", self.run.seconds)?;
        if self.run.ended_early {
            writeln!(f, "Ended early, by Ctrl-C.")?;
        }
        writeln!(f, "{}", self.verdict)?;
        write!(f, "Seed {}: replay with `{}`", self.run.seed, self.replay)
    }
}

fn line(f: &mut fmt::Formatter<'_>, id: &str, direction: &str, counts: &Counts) -> fmt::Result {
    write!(
        f,
        "{id:<10} {direction:<9} {:>6} {:>9} {:>4} {:>7} {:>12}",
        counts.sent, counts.delivered, counts.lost, counts.doubled, counts.out_of_order
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(counts: Counts) -> Report {
        let run =
            Run { seed: 7, seconds: 30.0, ended_early: false, server_restarts: 1, healed_after_seconds: Some(0.5) };
        let row = |outages| Row {
            id: "kitchen".to_owned(),
            dialect: 'H',
            to_server: counts,
            to_device: Counts { sent: 5, delivered: 5, ..Counts::default() },
            outages,
            longest_outage_seconds: 1.5,
        };
        Report::new(run, "bowline demo --seed 7".to_owned(), vec![row(2), row(3)], Effort::default())
    }

    #[test]
    fn a_clean_run_says_so() {
        let report = report(Counts { sent: 10, delivered: 10, ..Counts::default() });
        assert!(report.ok);
        assert_eq!((report.total.counts.sent, report.total.outages), (30, 5));
        assert_eq!(
            report.verdict,
            "Every message arrived exactly once and in order, across 5 outages and a server restart."
        );
    }

    #[test]
    fn one_broken_promise_anywhere_fails_the_run() {
        let clean = Counts { sent: 10, delivered: 10, ..Counts::default() };
        for broken in [
            Counts { lost: 1, ..clean },
            Counts { doubled: 1, ..clean },
            Counts { out_of_order: 1, ..clean },
            Counts { altered: 1, ..clean },
            Counts { refused: 1, ..clean },
        ] {
            let report = report(broken);
            assert!(!report.ok);
            assert!(report.verdict.starts_with("The promise was broken"), "{}", report.verdict);
            assert!(report.to_string().contains("--seed 7"));
        }
    }
}
