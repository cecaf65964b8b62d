//! One value for each span of time.

use std::collections::BTreeMap;

use bowline_apps::record::{Sample, Value};

use super::output::Row;
use crate::cli::Aggregate;

/// Gathers samples, which come in the order of time, into spans that begin at multiples of their length.
/// Holds one span: a value for each series.
pub(crate) struct Spans {
    every: i64,
    aggregate: Aggregate,
    begin: i64,
    series: BTreeMap<(String, String), Gathered>,
}

#[derive(Default)]
struct Gathered {
    count: i64,
    numbers: u32,
    mean: f64,
    min: Option<Value>,
    max: Option<Value>,
    last: Option<Value>,
}

impl Spans {
    pub(crate) fn new(every: i64, aggregate: Aggregate) -> Self {
        Spans { every, aggregate, begin: i64::MIN, series: BTreeMap::new() }
    }

    /// Takes a sample. When it is the first of a span, the one before goes to `take`.
    pub(crate) fn add(
        &mut self,
        sample: &Sample<'_>,
        take: &mut impl FnMut(Row) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let begin = sample.at - sample.at.rem_euclid(self.every);
        if begin != self.begin {
            self.end(take)?;
            self.begin = begin;
        }
        let key = (sample.device.to_owned(), sample.series.to_owned());
        self.series.entry(key).or_default().add(&sample.value);
        Ok(())
    }

    /// Ends the span there is.
    pub(crate) fn end(&mut self, take: &mut impl FnMut(Row) -> anyhow::Result<()>) -> anyhow::Result<()> {
        for ((device, series), gathered) in std::mem::take(&mut self.series) {
            if let Some(value) = gathered.value(self.aggregate) {
                take(Row { at: self.begin, device, series, value, message: None })?;
            }
        }
        Ok(())
    }
}

impl Gathered {
    fn add(&mut self, value: &Value) {
        self.count += 1;
        self.last = Some(value.clone());
        let Some(number) = number(value) else { return };
        self.numbers += 1;
        // As it is, so that no sum overflows.
        self.mean += (number - self.mean) / f64::from(self.numbers);
        if self.min.as_ref().and_then(self::number).is_none_or(|min| number < min) {
            self.min = Some(value.clone());
        }
        if self.max.as_ref().and_then(self::number).is_none_or(|max| number > max) {
            self.max = Some(value.clone());
        }
    }

    /// `None`: there is no number.
    fn value(self, aggregate: Aggregate) -> Option<Value> {
        match aggregate {
            Aggregate::Mean => (self.numbers > 0).then_some(Value::Real(self.mean)),
            Aggregate::Min => self.min,
            Aggregate::Max => self.max,
            Aggregate::Last => self.last,
            Aggregate::Count => Some(Value::Integer(self.count)),
        }
    }
}

/// A value as a number, if it is one.
pub(crate) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(value) => Some(*value as f64),
        Value::Real(value) => Some(*value),
        Value::Text(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(aggregate: Aggregate, samples: &[(i64, &str, Value)]) -> Vec<(i64, String, Value)> {
        let mut spans = Spans::new(1000, aggregate);
        let mut rows = Vec::new();
        let mut take = |row: Row| {
            rows.push((row.at, row.series, row.value));
            Ok(())
        };
        for (at, series, value) in samples {
            let sample =
                Sample { device: "kitchen", series, at: *at, received_at: *at, seq: None, value: value.clone() };
            spans.add(&sample, &mut take).unwrap();
        }
        spans.end(&mut take).unwrap();
        rows
    }

    #[test]
    fn each_span_has_one_value_of_each_series() {
        let text = |text: &str| Value::Text(text.to_owned());
        let samples = [
            (-1, "temp", Value::Integer(7)),
            (0, "temp", Value::Integer(3)),
            (1, "door", text("open")),
            (500, "temp", Value::Real(1.5)),
            (999, "temp", text("broken")),
            (3000, "temp", Value::Integer(i64::MAX)),
            (3001, "temp", Value::Integer(i64::MAX)),
        ];
        let of = |aggregate, values: [Option<Value>; 4]| {
            let keys = [(-1000, "temp"), (0, "door"), (0, "temp"), (3000, "temp")];
            let expected: Vec<_> = keys
                .into_iter()
                .zip(values)
                .filter_map(|((at, series), value)| Some((at, series.to_owned(), value?)))
                .collect();
            assert_eq!(spans(aggregate, &samples), expected, "{aggregate:?}");
        };
        let int = |value| Some(Value::Integer(value));
        let real = |value| Some(Value::Real(value));
        of(Aggregate::Mean, [real(7.0), None, real(2.25), real(i64::MAX as f64)]);
        of(Aggregate::Min, [int(7), None, real(1.5), int(i64::MAX)]);
        of(Aggregate::Max, [int(7), None, int(3), int(i64::MAX)]);
        of(Aggregate::Last, [int(7), Some(text("open")), Some(text("broken")), int(i64::MAX)]);
        of(Aggregate::Count, [int(1), int(1), int(3), int(2)]);
    }
}
