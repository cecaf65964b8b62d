//! What was measured, for people and for programs.

use std::fmt;

use serde_json::{Value, json};

use crate::load::Figures;

/// Those whose ratios to the others are printed.
const OURS: &str = "bowline";

/// Against which everyone is put.
const LIMIT: &str = "echo of frames";

pub(crate) struct Report {
    /// How much was asked for.
    pub(crate) args: String,
    /// The machine's load of the last minute: before the first round and after each.
    pub(crate) loads: Vec<f64>,
    pub(crate) latency: Table,
    pub(crate) throughput: Table,
}

/// One row for each contender, with the figures of each round.
pub(crate) struct Table(pub(crate) Vec<Row>);

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) rounds: Vec<Figures>,
}

/// One of the figures.
pub(crate) type Figure = fn(&Figures) -> f64;

pub(crate) const P50: Figure = |figures| figures.p50_us;
pub(crate) const P99: Figure = |figures| figures.p99_us;
pub(crate) const RATE: Figure = |figures| figures.per_second;
pub(crate) const CPU_RATE: Figure = |figures| figures.per_cpu_second;

/// The middle of several, with the lowest and the highest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        let at = |at: usize| values.get(at).copied().unwrap_or(f64::NAN);
        let middle = (at(values.len().saturating_sub(1) / 2) + at(values.len() / 2)) / 2.0;
        Spread { median: middle, lowest: at(0), highest: at(values.len().saturating_sub(1)) }
    }

    fn json(self) -> Value {
        json!({ "median": self.median, "lowest": self.lowest, "highest": self.highest })
    }
}

impl Row {
    pub(crate) fn spread(&self, figure: Figure) -> Spread {
        Spread::of(self.rounds.iter().map(figure))
    }

    /// Of this row's figures to the other's, round for round.
    fn ratio(&self, other: &Row, figure: Figure) -> Spread {
        Spread::of(self.rounds.iter().zip(&other.rounds).map(|(one, other)| figure(one) / figure(other)))
    }
}

impl Table {
    pub(crate) fn new(names: impl Iterator<Item = &'static str>) -> Self {
        Table(names.map(|name| Row { name, rounds: Vec::new() }).collect())
    }

    pub(crate) fn put(&mut self, row: usize, figures: Figures) {
        self.0[row].rounds.push(figures);
    }

    /// Ours, each with each of the others.
    fn pairs(&self) -> impl Iterator<Item = (&Row, &Row)> {
        let is_ours = |row: &&Row| row.name.starts_with(OURS);
        let others = move || self.0.iter().filter(move |row| !is_ours(row));
        self.0.iter().filter(is_ours).flat_map(move |row| others().map(move |other| (row, other)))
    }

    fn limit(&self) -> Option<&Row> {
        self.0.iter().find(|row| row.name == LIMIT)
    }

    fn json(&self, figures: &[(&str, Figure)]) -> Value {
        let row = |row: &Row| {
            let all = figures
                .iter()
                .map(|(name, figure)| ((*name).to_owned(), row.rounds.iter().map(figure).collect::<Vec<_>>().into()));
            Value::Object([("name".to_owned(), row.name.into())].into_iter().chain(all).collect())
        };
        self.0.iter().map(row).collect()
    }

    fn ratios(&self, figures: &[(&str, Figure)]) -> Value {
        let pair = |(row, other): (&Row, &Row)| {
            let all = figures.iter().map(|(name, figure)| ((*name).to_owned(), row.ratio(other, *figure).json()));
            let names = [("of", row.name), ("to", other.name)].map(|(key, name)| (key.to_owned(), name.into()));
            Value::Object(names.into_iter().chain(all).collect())
        };
        self.pairs().map(pair).collect()
    }
}

impl Report {
    pub(crate) fn json(&self) -> Value {
        let latencies = [("p50_us", P50), ("p99_us", P99)];
        let rates = [("per_second", RATE), ("per_server_cpu_second", CPU_RATE)];
        json!({
            "amount": self.args,
            "loads": self.loads,
            "latency": self.latency.json(&latencies),
            "latency_ratios": self.latency.ratios(&latencies),
            "throughput": self.throughput.json(&rates),
            "throughput_ratios": self.throughput.ratios(&rates),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loads: Vec<_> = self.loads.iter().map(|load| format!("{load:.2}")).collect();
        writeln!(f, "{}; load of the machine {}", self.args, loads.join(", "))?;
        section(f, &self.latency, "one device, one message at a time, us", [("p50", P50), ("p99", P99)], 1)?;
        let rates = [("a second", RATE), ("a server CPU second", CPU_RATE)];
        section(f, &self.throughput, "messages, of all devices", rates, 0)?;
        ratios(f, &self.latency, "latency", [("p50", P50), ("p99", P99)])?;
        ratios(f, &self.throughput, "throughput", rates)
    }
}

fn section(
    f: &mut fmt::Formatter<'_>,
    table: &Table,
    title: &str,
    figures: [(&str, Figure); 2],
    digits: usize,
) -> fmt::Result {
    write!(f, "\n{title:38}")?;
    for (name, _) in figures {
        write!(f, " {name:>12} {:>23} {:>8}", "lowest to highest", "/ echo")?;
    }
    writeln!(f)?;
    for row in &table.0 {
        write!(f, "{:38}", row.name)?;
        for (_, figure) in figures {
            let Spread { median, lowest, highest } = row.spread(figure);
            let limit =
                table.limit().map_or_else(String::new, |limit| format!("{:.2}", row.ratio(limit, figure).median));
            let range = format!("{lowest:.digits$} to {highest:.digits$}");
            write!(f, " {median:12.digits$} {range:>23} {limit:>8}")?;
        }
        writeln!(f)?;
    }
    Ok(())
}

fn ratios(f: &mut fmt::Formatter<'_>, table: &Table, title: &str, figures: [(&str, Figure); 2]) -> fmt::Result {
    writeln!(f, "\nratios of {title}: median (lowest to highest)")?;
    for (row, other) in table.pairs() {
        write!(f, "{:26} / {:18}", row.name, other.name)?;
        for (name, figure) in figures {
            let Spread { median, lowest, highest } = row.ratio(other, figure);
            write!(f, "  {name} {median:6.2} ({lowest:.2} to {highest:.2})")?;
        }
        writeln!(f)?;
    }
    Ok(())
}
