//! `bowline record`: what the record app has kept.

mod aggregate;
mod output;
mod plot;
pub(crate) mod time;

use std::collections::VecDeque;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use bowline_apps::record::{Archive, Filter, Series};

use self::aggregate::Spans;
use self::output::{Csv, Json, Output, Row, Table};
use self::plot::Plot;
use self::time::readable;
use crate::cli::{Format, ListRecordArgs, QueryArgs, RecordArgs, RecordCommand, RecordFolder};
use crate::near::nearest;
use crate::talk::shown;

/// Rows of a table that nobody asked to be longer.
const ROWS: usize = 50;

/// Series in one picture.
const PLOTTED: usize = 8;

/// Columns and rows of a picture that goes to no terminal.
const SIZE: (u16, u16) = (80, 24);

pub(crate) fn run(args: RecordArgs) -> anyhow::Result<ExitCode> {
    let done = match args.command {
        RecordCommand::List(args) => list(&args),
        RecordCommand::Query(args) => query(&args),
    };
    match done {
        // Whoever read has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        done => done.map(|()| ExitCode::SUCCESS),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The record, if the data folder is there at all.
fn archive(folder: &RecordFolder) -> anyhow::Result<(Archive, PathBuf)> {
    let (outer, path) = match &folder.folder {
        Some(path) => (path, path.clone()),
        None => (&folder.data, folder.data.join("record")),
    };
    if !outer.is_dir() {
        bail!(
            "there is no folder {}: name the server's data folder with --data, or the record's own with --folder",
            outer.display()
        );
    }
    Ok((Archive::new(&path), path))
}

fn list(args: &ListRecordArgs) -> anyhow::Result<()> {
    let (archive, path) = archive(&args.folder)?;
    let filter = Filter { device: Some(args.pattern.clone()), ..Filter::default() };
    let series = archive.series(&filter)?;
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        writeln!(
            out,
            "{}",
            serde_json::to_string_pretty(&series.iter().map(output::json_series).collect::<Vec<_>>())?
        )?;
        return Ok(out.flush()?);
    }
    if series.is_empty() {
        let all = archive.series(&Filter::default())?;
        if all.is_empty() {
            writeln!(out, "{}", nothing(&path))?;
            return Ok(out.flush()?);
        }
        return Err(unknown(&filter, &all));
    }
    let width = |text: fn(&Series) -> &str, least: usize| {
        series.iter().map(|series| shown(text(series)).chars().count()).max().unwrap_or(0).max(least)
    };
    let (device, name) = (width(|series| &series.device, 6), width(|series| &series.name, 6));
    writeln!(out, "{:device$}  {:name$}  {:>9}  {:19}  last (UTC)", "device", "series", "samples", "first (UTC)")?;
    for series in &series {
        let Series { device: id, name: of, samples, first_at, last_at } = series;
        // Whole seconds.
        let [first, last] = [first_at, last_at].map(|at| readable(*at)[..19].to_owned());
        writeln!(out, "{:device$}  {:name$}  {samples:>9}  {first}  {last}", shown(id), shown(of))?;
    }
    Ok(out.flush()?)
}

fn query(args: &QueryArgs) -> anyhow::Result<()> {
    let (archive, path) = archive(&args.folder)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let filter = Filter {
        device: args.device.clone(),
        series: args.series.clone(),
        since: args.since.map(|moment| moment.ms(now)),
        until: args.until.map(|moment| moment.ms(now)),
    };
    if let (Some(since), Some(until)) = (filter.since, filter.until)
        && since >= until
    {
        bail!("--since {} is not before --until {}", readable(since), readable(until));
    }
    let whole = Filter { since: None, until: None, ..filter.clone() };
    let series = archive.series(&whole)?;
    let all = if series.is_empty() { archive.series(&Filter::default())? } else { Vec::new() };
    if !all.is_empty() {
        return Err(unknown(&filter, &all));
    }
    let out = BufWriter::new(io::stdout().lock());
    let aggregated = args.every.is_some();
    let mut output: Box<dyn Output> = match args.format {
        Format::Table => Box::new(Table::new(out, &series)),
        Format::Csv => Box::new(Csv::new(out, aggregated)?),
        Format::Json => Box::new(Json::new(out, aggregated)),
        Format::Plot => Box::new(picture(out, &series, &filter)?),
    };
    let is_long_table = args.format == Format::Table && args.since.is_none() && args.limit.is_none();
    let limit = args.limit.map(|limit| limit as usize).or(is_long_table.then_some(ROWS));
    let counts = rows(&archive, &filter, args, limit, &mut *output)?;
    let rows = output.end()?;
    if rows == 0 {
        eprintln!("{}", why_empty(&series, &filter, &counts, args, &path));
    } else if is_long_table && counts.rows > ROWS {
        eprintln!("The newest {ROWS} of {} rows; --limit or --since for others.", counts.rows);
    }
    Ok(())
}

/// What was met on the way.
#[derive(Default)]
struct Counts {
    samples: usize,
    rows: usize,
}

/// Reads, aggregates, and keeps the newest, in memory that does not depend on how much there is.
fn rows(
    archive: &Archive,
    filter: &Filter,
    args: &QueryArgs,
    limit: Option<usize>,
    output: &mut dyn Output,
) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    let mut newest = VecDeque::new();
    let mut rows = 0;
    let mut take = |row: Row| {
        rows += 1;
        match limit {
            None => return output.row(&row),
            Some(limit) if newest.len() == limit => drop(newest.pop_front()),
            Some(_) => {}
        }
        newest.push_back(row);
        Ok(())
    };
    let mut spans = args.every.map(|every| Spans::new(every, args.agg.unwrap_or_default()));
    archive.samples(filter, |sample| {
        counts.samples += 1;
        match &mut spans {
            Some(spans) => spans.add(&sample, &mut take),
            None => take(Row::of(&sample)),
        }
    })?;
    if let Some(spans) = &mut spans {
        spans.end(&mut take)?;
    }
    counts.rows = rows;
    for row in newest {
        output.row(&row)?;
    }
    Ok(counts)
}

/// A picture of these series, as large as the terminal.
fn picture<W: Write>(out: W, series: &[Series], filter: &Filter) -> anyhow::Result<Plot<W>> {
    let (since, until) = (filter.since.unwrap_or(i64::MIN), filter.until.unwrap_or(i64::MAX));
    let meant: Vec<_> = series.iter().filter(|series| series.last_at >= since && series.first_at < until).collect();
    if meant.len() > PLOTTED {
        let names: Vec<_> = meant.iter().map(|series| output::label(&series.device, &series.name)).collect();
        bail!(
            "{} series are too many for one picture, expected at most {PLOTTED}: choose with --device and --series \
             among {}",
            names.len(),
            some(&names)
        );
    }
    let first = meant.iter().map(|series| series.first_at).min().unwrap_or(0).max(since);
    let last = meant.iter().map(|series| series.last_at).max().unwrap_or(0).min(until.saturating_sub(1));
    let is_terminal = io::stdout().is_terminal();
    let size = if is_terminal { terminal_size::terminal_size() } else { None };
    let (width, height) = size.map_or(SIZE, |(width, height)| (width.0, height.0));
    let colour = is_terminal
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let labels = meant.iter().map(|series| (series.device.clone(), series.name.clone())).collect();
    Ok(Plot::new(out, labels, first..=last, (width.into(), height.into()), colour))
}

fn nothing(path: &std::path::Path) -> String {
    format!("Nothing is recorded in {} yet: boards send to the app 3, for example {{\"temp\": 21.5}}.", path.display())
}

/// Why there is no row, and what to do.
fn why_empty(series: &[Series], filter: &Filter, counts: &Counts, args: &QueryArgs, path: &std::path::Path) -> String {
    let (Some(first), Some(last)) =
        (series.iter().map(|series| series.first_at).min(), series.iter().map(|series| series.last_at).max())
    else {
        return nothing(path);
    };
    if counts.samples > 0 {
        let what = match (args.every, args.format) {
            (Some(_), _) => "--agg last and count take them",
            _ => "--format table shows them",
        };
        return format!("There are no numbers among these {} values: {what}.", counts.samples);
    }
    let since = filter.since.map(|at| format!(" since {}", readable(at))).unwrap_or_default();
    let until = filter.until.map(|at| format!(" until {}", readable(at))).unwrap_or_default();
    format!("Nothing{since}{until}: there are samples from {} to {} UTC.", readable(first), readable(last))
}

/// Nothing fits: which part of the question is to blame, and what is near.
fn unknown(filter: &Filter, all: &[Series]) -> anyhow::Error {
    let fits = |pattern: &Option<String>, text: &str| {
        pattern.as_deref().is_none_or(|pattern| bowline_server::IdPattern::new(pattern).matches(text))
    };
    let of_device: Vec<_> = all.iter().filter(|series| fits(&filter.device, &series.device)).collect();
    let (what, asked, mut known): (_, _, Vec<&str>) = if of_device.is_empty() {
        ("device", &filter.device, all.iter().map(|series| &*series.device).collect())
    } else {
        ("series", &filter.series, of_device.iter().map(|series| &*series.name).collect())
    };
    known.sort_unstable();
    known.dedup();
    let asked = asked.as_deref().unwrap_or("*");
    let of = match &filter.device {
        Some(device) if what == "series" => format!(" of {device:?}"),
        _ => String::new(),
    };
    let advice = match nearest(asked, known.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("there are {}", some(&known.iter().map(|known| format!("{known:?}")).collect::<Vec<_>>())),
    };
    anyhow::anyhow!("nothing is recorded of a {what} {asked:?}{of}: {advice}")
}

/// The first of many names.
fn some(names: &[String]) -> String {
    let first = names.iter().take(10).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len() {
        0..=10 => first,
        all => format!("{first} and {} more", all - 10),
    }
}

/// What a writer of CSV has met.
fn csv_error(error: csv::Error) -> anyhow::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error.into(),
        // Every row has as many fields as the header.
        other => anyhow::anyhow!("{other:?}"),
    }
}

fn flushed<W: Write>(mut out: W) -> anyhow::Result<()> {
    out.flush().context("the output cannot be written")
}
