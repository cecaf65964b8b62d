//! Rows for people and for programs.

use std::io::Write;

use bowline_apps::record::{Sample, Series, Value};
use serde_json::json;

use super::time::{iso, readable};
use super::{csv_error, flushed};
use crate::talk::shown;

/// A sample, or one value for a span.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// When it was taken, or when the span begins, in milliseconds since 1970.
    pub(crate) at: i64,
    pub(crate) device: String,
    pub(crate) series: String,
    pub(crate) value: Value,
    /// Of a sample: when its message came, and the message's number.
    pub(crate) message: Option<(i64, Option<u64>)>,
}

impl Row {
    pub(crate) fn of(sample: &Sample<'_>) -> Self {
        Row {
            at: sample.at,
            device: sample.device.to_owned(),
            series: sample.series.to_owned(),
            value: sample.value.clone(),
            message: Some((sample.received_at, sample.seq)),
        }
    }
}

/// Takes rows, oldest first.
pub(crate) trait Output {
    fn row(&mut self, row: &Row) -> anyhow::Result<()>;

    /// Writes what is left, and says how many rows there were.
    fn end(self: Box<Self>) -> anyhow::Result<usize>;
}

/// Columns.
pub(crate) struct Table<W> {
    out: W,
    device: usize,
    series: usize,
    rows: usize,
}

impl<W: Write> Table<W> {
    /// As wide as the names of these series need it.
    pub(crate) fn new(out: W, series: &[Series]) -> Self {
        let width = |text: fn(&Series) -> &str| series.iter().map(|series| shown(text(series)).chars().count()).max();
        let device = width(|series| &series.device).unwrap_or(0).max(6);
        let series = width(|series| &series.name).unwrap_or(0).max(6);
        Table { out, device, series, rows: 0 }
    }
}

impl<W: Write> Output for Table<W> {
    fn row(&mut self, row: &Row) -> anyhow::Result<()> {
        let Table { device, series, .. } = *self;
        if self.rows == 0 {
            writeln!(self.out, "{:23}  {:device$}  {:series$}  value", "time (UTC)", "device", "series")?;
        }
        self.rows += 1;
        let value = match &row.value {
            // A mean has more digits than anybody reads.
            Value::Real(value) if row.message.is_none() => short(*value),
            value => text(value),
        };
        let (id, name) = (shown(&row.device), shown(&row.series));
        Ok(writeln!(self.out, "{}  {id:device$}  {name:series$}  {}", readable(row.at), shown(&value))?)
    }

    fn end(self: Box<Self>) -> anyhow::Result<usize> {
        flushed(self.out)?;
        Ok(self.rows)
    }
}

/// Comma-separated, quoted where needed.
pub(crate) struct Csv<W: Write> {
    out: csv::Writer<W>,
    rows: usize,
}

impl<W: Write> Csv<W> {
    pub(crate) fn new(out: W, aggregated: bool) -> anyhow::Result<Self> {
        let mut out = csv::Writer::from_writer(out);
        let columns = ["time", "device", "series", "value", "received", "seq"];
        out.write_record(if aggregated { &columns[..4] } else { &columns }).map_err(csv_error)?;
        Ok(Csv { out, rows: 0 })
    }
}

impl<W: Write> Output for Csv<W> {
    fn row(&mut self, row: &Row) -> anyhow::Result<()> {
        self.rows += 1;
        let mut fields = vec![iso(row.at), row.device.clone(), row.series.clone(), text(&row.value)];
        if let Some((received_at, seq)) = row.message {
            fields.extend([iso(received_at), seq.map(|seq| seq.to_string()).unwrap_or_default()]);
        }
        self.out.write_record(&fields).map_err(csv_error)
    }

    fn end(mut self: Box<Self>) -> anyhow::Result<usize> {
        self.out.flush()?;
        Ok(self.rows)
    }
}

/// A JSON array with one object a line.
pub(crate) struct Json<W> {
    out: W,
    aggregated: bool,
    rows: usize,
}

impl<W: Write> Json<W> {
    pub(crate) fn new(out: W, aggregated: bool) -> Self {
        Json { out, aggregated, rows: 0 }
    }
}

impl<W: Write> Output for Json<W> {
    fn row(&mut self, row: &Row) -> anyhow::Result<()> {
        let value = match &row.value {
            Value::Integer(value) => json!(value),
            Value::Real(value) => json!(value),
            Value::Text(value) => json!(value),
        };
        let Row { at, device, series, .. } = row;
        let mut object = json!({ "at_ms": at, "device": device, "series": series, "value": value });
        if let (false, Some((received_at, seq))) = (self.aggregated, row.message) {
            object["received_ms"] = json!(received_at);
            object["seq"] = json!(seq);
        }
        write!(self.out, "{}{object}", if self.rows == 0 { "[\n" } else { ",\n" })?;
        self.rows += 1;
        Ok(())
    }

    fn end(mut self: Box<Self>) -> anyhow::Result<usize> {
        writeln!(self.out, "{}", if self.rows == 0 { "[]" } else { "\n]" })?;
        flushed(self.out)?;
        Ok(self.rows)
    }
}

pub(crate) fn json_series(series: &Series) -> serde_json::Value {
    let Series { device, name, samples, first_at, last_at } = series;
    json!({ "device": device, "series": name, "samples": samples, "first_ms": first_at, "last_ms": last_at })
}

/// A series of a device, briefly.
pub(crate) fn label(device: &str, series: &str) -> String {
    format!("{} {}", shown(device), shown(series))
}

fn text(value: &Value) -> String {
    match value {
        Value::Integer(value) => value.to_string(),
        // Its shortest form that is read as the same number; without zeros for large ones.
        Value::Real(value) if value.abs() >= 1e16 => format!("{value:e}"),
        Value::Real(value) => value.to_string(),
        Value::Text(value) => value.clone(),
    }
}

/// Six digits.
fn short(value: f64) -> String {
    if value != 0.0 && !(1e-4..1e9).contains(&value.abs()) {
        return format!("{value:.5e}");
    }
    let before = if value.abs() < 1.0 { 1 } else { value.abs().log10() as usize + 1 };
    let text = format!("{value:.*}", 6_usize.saturating_sub(before));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: Value) -> Row {
        Row {
            at: 1_795_399_384_000,
            device: "a \"b\", c".into(),
            series: "door\nstate".into(),
            value,
            message: Some((1_795_399_385_000, Some(7))),
        }
    }

    #[test]
    fn csv_is_quoted_where_it_must_be() {
        let mut out = Vec::new();
        let mut csv = Box::new(Csv::new(&mut out, false).unwrap());
        csv.row(&row(Value::Text("=1,5".into()))).unwrap();
        csv.row(&Row {
            message: Some((0, None)),
            device: "kitchen".into(),
            series: "t".into(),
            ..row(Value::Real(0.1))
        })
        .unwrap();
        assert_eq!(csv.end().unwrap(), 2);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "time,device,series,value,received,seq\n\
             2026-11-23T02:03:04.000Z,\"a \"\"b\"\", c\",\"door\nstate\",\"=1,5\",2026-11-23T02:03:05.000Z,7\n\
             2026-11-23T02:03:04.000Z,kitchen,t,0.1,1970-01-01T00:00:00.000Z,\n"
        );
    }

    #[test]
    fn json_is_one_array_however_many_rows_there_are() {
        for count in 0..3 {
            let mut out = Vec::new();
            let mut json = Box::new(Json::new(&mut out, false));
            for _ in 0..count {
                json.row(&row(Value::Integer(-3))).unwrap();
            }
            json.end().unwrap();
            let read: Vec<serde_json::Value> = serde_json::from_slice(&out).unwrap();
            assert_eq!(read.len(), count);
            assert!(read.iter().all(|row| row["value"] == -3 && row["seq"] == 7 && row["device"] == "a \"b\", c"));
        }
    }

    #[test]
    fn numbers_are_short_for_people_and_exact_for_programs() {
        let shorts = [0.0, 21.5, 20.0 / 3.0, -0.05, 123_456_789.0, 1e12, 1e-9, 999.9999999].map(short);
        assert_eq!(shorts, ["0", "21.5", "6.66667", "-0.05", "123456789", "1.00000e12", "1.00000e-9", "1000"]);
        assert_eq!(text(&Value::Real(20.0 / 3.0)), "6.666666666666667");
        assert_eq!(text(&Value::Real(1e300)), "1e300");
    }
}
