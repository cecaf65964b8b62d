//! A picture of series in the terminal.
//!
//! A renderer of our own: what draws charts for terminals either has no axis of time and no legend, or is part
//! of a framework for whole screens.

use std::fmt::Write as _;
use std::io::Write;
use std::ops::RangeInclusive;

use super::aggregate::number;
use super::flushed;
use super::output::{Output, Row, label};
use super::time::written;

/// Dots in a cell of Braille, across and down.
const DOTS: (usize, usize) = (2, 4);

/// Colours of series in their order: those that can be told from each other on dark and light ground.
const COLOURS: [&str; 8] =
    ["\x1b[36m", "\x1b[33m", "\x1b[35m", "\x1b[32m", "\x1b[34m", "\x1b[31m", "\x1b[96m", "\x1b[93m"];

/// The least columns and rows of the picture itself.
const LEAST: (usize, usize) = (20, 4);

/// Most rows: more are not easier to read.
const ROWS: usize = 24;

/// Gathers rows, as much of them as can be seen: what it holds depends on the size of the picture only.
pub(crate) struct Plot<W> {
    out: W,
    series: Vec<Line>,
    first: i64,
    last: i64,
    /// Columns and rows of cells for the curves.
    size: (usize, usize),
    colour: bool,
    rows: usize,
}

/// A series as it is seen: one entry for each column of dots.
struct Line {
    device: String,
    name: String,
    columns: Vec<Option<Column>>,
}

/// The values that fall on one column of dots.
#[derive(Debug, Clone, Copy)]
struct Column {
    first: f64,
    last: f64,
    min: f64,
    max: f64,
}

/// The values of the axis, which are round numbers.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl<W: Write> Plot<W> {
    /// For series given by device and name, with samples in `times`, in a terminal of so many columns and rows.
    pub(crate) fn new(
        out: W,
        series: Vec<(String, String)>,
        times: RangeInclusive<i64>,
        terminal: (usize, usize),
        colour: bool,
    ) -> Self {
        // Room for the values' labels, and for legend, axis, times and the next prompt.
        let width = terminal.0.saturating_sub(LABEL + 2).max(LEAST.0);
        let height = terminal.1.saturating_sub(5 + series.len()).clamp(LEAST.1, ROWS);
        let (first, last) = times.into_inner();
        let columns = vec![None; width * DOTS.0];
        let series = series.into_iter().map(|(device, name)| Line { device, name, columns: columns.clone() }).collect();
        Plot { out, series, first, last: last.max(first), size: (width, height), colour, rows: 0 }
    }

    fn render(&self) -> String {
        let axis = self.axis();
        let cells = self.cells(&axis);
        let ticks = axis.ticks(self.size.1);
        let mut page = String::new();
        for (at, line) in cells.iter().enumerate() {
            let tick = ticks.iter().find(|(row, _)| *row == at);
            let (label, mark) = tick.map_or(("", '│'), |(_, label)| (label.as_str(), '┤'));
            // Writing to a string does not fail.
            let _ = writeln!(page, "{label:>LABEL$} {mark}{}", self.painted(line));
        }
        page += &self.times();
        for (at, line) in self.series.iter().enumerate() {
            let mark = self.paint(at, if self.has_letters() { letter(at) } else { '━' });
            let _ = writeln!(page, "{:LABEL$}  {mark} {}", "", label(&line.device, &line.name));
        }
        page
    }

    /// Without colours, curves of several series are told from each other by letters.
    fn has_letters(&self) -> bool {
        !self.colour && self.series.len() > 1
    }

    /// What is seen in each cell, and of which series.
    fn cells(&self, axis: &Axis) -> Vec<Vec<Option<(char, usize)>>> {
        let (width, height) = self.size;
        let mut cells = vec![vec![None; width]; height];
        let dots = height * DOTS.1;
        let row = |value: f64| {
            let part = (axis.high - value) / (axis.high - axis.low);
            ((part * (dots - 1) as f64).round().max(0.0) as usize).min(dots - 1)
        };
        for (series, line) in self.series.iter().enumerate() {
            let mut bits = vec![vec![0_u8; width]; height];
            let mut before: Option<(usize, usize)> = None;
            let seen = line.columns.iter().enumerate().filter_map(|(x, column)| Some((x, (*column)?)));
            for (x, column) in seen {
                let to = row(column.first);
                if let Some((from_x, from)) = before {
                    connect((from_x, from), (x, to), |x, y| set(&mut bits, x, y));
                }
                for y in row(column.max)..=row(column.min) {
                    set(&mut bits, x, y);
                }
                before = Some((x, row(column.last)));
            }
            for (line, bits) in cells.iter_mut().zip(&bits) {
                for (cell, &bits) in line.iter_mut().zip(bits).filter(|(_, bits)| **bits != 0) {
                    *cell = Some(match (self.has_letters(), *cell) {
                        (true, None) => (letter(series), series),
                        (true, Some(_)) => ('*', series),
                        // Each cell has the colour of one series, but the dots of all.
                        (false, below) => {
                            let below = below.map_or(0, |(braille, _)| braille as u32 - 0x2800);
                            (char::from_u32(0x2800 + (below | u32::from(bits))).unwrap_or(' '), series)
                        }
                    });
                }
            }
        }
        cells
    }

    /// A line of cells, with colours.
    fn painted(&self, line: &[Option<(char, usize)>]) -> String {
        let end = line.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        line[..end].iter().map(|cell| cell.map_or(" ".to_owned(), |(char, series)| self.paint(series, char))).collect()
    }

    fn paint(&self, series: usize, char: char) -> String {
        if self.colour { format!("{}{char}\x1b[0m", COLOURS[series % COLOURS.len()]) } else { char.to_string() }
    }

    fn axis(&self) -> Axis {
        let columns = || self.series.iter().flat_map(|line| line.columns.iter().flatten());
        Axis::of(
            columns().map(|column| column.min).fold(f64::INFINITY, f64::min),
            columns().map(|column| column.max).fold(f64::NEG_INFINITY, f64::max),
        )
    }

    /// The axis of time with its labels.
    fn times(&self) -> String {
        let (width, length) = (self.size.0, self.last - self.first);
        let format = match length {
            ..10_000 => "%H:%M:%S%.3f",
            10_000..600_000 => "%H:%M:%S",
            600_000..172_800_000 => "%H:%M",
            172_800_000..5_184_000_000 => "%m-%d %H:%M",
            _ => "%Y-%m-%d",
        };
        let count = (width / 20).clamp(1, 6);
        let mut line = vec!['─'; width];
        let mut labels = vec![' '; width];
        for tick in 0..=count {
            let x = tick * (width - 1) / count;
            line[x] = '┬';
            let part = i128::from(length) * tick as i128 / count as i128;
            let text = written(self.first.saturating_add(part as i64), format);
            // In the middle below its mark, as far as there is room.
            let begin = x.saturating_sub(text.len() / 2).min(width.saturating_sub(text.len()));
            for (cell, char) in labels[begin..].iter_mut().zip(text.chars()) {
                *cell = char;
            }
        }
        let [line, labels] = [line, labels].map(|chars| chars.into_iter().collect::<String>());
        let [first, last] = [self.first, self.last].map(|at| written(at, "%Y-%m-%d %H:%M:%S"));
        let labels = labels.trim_end();
        let range = format!("{first} to {last} UTC");
        let (indent, less) = ("", (LABEL + 2).min((LABEL + 2 + width).saturating_sub(range.len())));
        format!("{indent:LABEL$} └{line}\n{indent:LABEL$}  {labels}\n{indent:less$}{range}\n")
    }
}

impl<W: Write> Output for Plot<W> {
    fn row(&mut self, row: &Row) -> anyhow::Result<()> {
        let Some(value) = number(&row.value) else { return Ok(()) };
        let line = self.series.iter_mut().find(|line| line.device == row.device && line.name == row.series);
        let Some(line) = line else { return Ok(()) };
        let length = (self.last - self.first).max(1);
        // A span may begin before the first sample.
        let part = (row.at - self.first).clamp(0, length) as f64 / length as f64;
        let x = (part * (line.columns.len() - 1) as f64).round() as usize;
        let column = line.columns[x].get_or_insert(Column { first: value, last: value, min: value, max: value });
        column.last = value;
        column.min = column.min.min(value);
        column.max = column.max.max(value);
        self.rows += 1;
        Ok(())
    }

    fn end(mut self: Box<Self>) -> anyhow::Result<usize> {
        if self.rows > 0 {
            let page = self.render();
            self.out.write_all(page.as_bytes())?;
        }
        flushed(self.out)?;
        Ok(self.rows)
    }
}

/// Columns of a value's label.
const LABEL: usize = 10;

impl Axis {
    /// One that holds all from `min` to `max`.
    fn of(min: f64, max: f64) -> Self {
        // So far that what is between can be counted, and divided into steps.
        let (min, max) = (min.clamp(-1e300, 1e300), max.clamp(-1e300, 1e300));
        let least = (min.abs().max(max.abs()) * 1e-9).max(1e-300);
        let (min, max) = if max - min < least { (min - middle(min), max + middle(max)) } else { (min, max) };
        let rough = (max - min) / 4.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= rough).unwrap_or(rough);
        Axis { low: (min / step).floor() * step, high: (max / step).ceil() * step, step }
    }

    /// Which rows have a label, and which.
    fn ticks(&self, rows: usize) -> Vec<(usize, String)> {
        let count = ((self.high - self.low) / self.step).round() as usize;
        let decimals = (-self.step.log10().floor()).clamp(0.0, 12.0) as usize;
        let row = |tick: usize| ((count - tick) as f64 / count as f64 * (rows - 1) as f64).round() as usize;
        let label = |tick: usize| {
            let value = self.low + tick as f64 * self.step;
            // A step below what a number can tell is 0.
            let value = if value.abs() < self.step / 2.0 { 0.0 } else { value };
            let text = format!("{value:.decimals$}");
            if text.len() > LABEL || (value != 0.0 && self.step < 1e-6) { format!("{value:.2e}") } else { text }
        };
        (0..=count).map(|tick| (row(tick), label(tick))).collect()
    }
}

/// What is added around values that are all the same.
fn middle(value: f64) -> f64 {
    if value == 0.0 { 1.0 } else { value.abs() * 0.1 }
}

fn letter(series: usize) -> char {
    char::from(b'a' + (series % 26) as u8)
}

/// Sets a dot.
fn set(bits: &mut [Vec<u8>], x: usize, y: usize) {
    /// By row, then column: the order of dots in Braille has grown.
    const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
    if let Some(cell) = bits.get_mut(y / DOTS.1).and_then(|line| line.get_mut(x / DOTS.0)) {
        *cell |= BITS[y % DOTS.1][x % DOTS.0];
    }
}

/// A straight line of dots, from left to right.
fn connect(from: (usize, usize), to: (usize, usize), mut set: impl FnMut(usize, usize)) {
    let (across, down) = (to.0 - from.0, to.1 as f64 - from.1 as f64);
    let steps = across.max(down.abs() as usize).max(1);
    for step in 0..=steps {
        let part = step as f64 / steps as f64;
        let x = from.0 + (part * across as f64).round() as usize;
        set(x, (from.1 as f64 + part * down).round() as usize);
    }
}

#[cfg(test)]
mod tests;
