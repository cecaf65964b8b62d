//! The medians as points on a logarithmic scale, for the documentation.

use std::fmt::Write as _;

use crate::table::{CPU_RATE, Figure, P50, Report, Spread, Table};

const WIDTH: f64 = 760.0;
/// Where the scale begins, how long it is, and how far rows are apart.
const LEFT: f64 = 190.0;
const LENGTH: f64 = 480.0;
const STEP: f64 = 22.0;

/// Two panels: messages a second of the server's processor, and latency. Lines go from the lowest round to the
/// highest.
pub(crate) fn svg(report: &Report) -> String {
    let mut body = String::new();
    let mut top = 28.0;
    // Writing to a string cannot fail.
    let mut panel = |table: &Table, figure, title: &str| {
        let _ = writeln!(body, r#"<text x="12" y="{top}" class="title">{title}</text>"#);
        top = rows(&mut body, table, figure, top + 12.0) + 44.0;
    };
    panel(&report.throughput, CPU_RATE, "Messages for each second of the server's processor time: more is better");
    panel(&report.latency, P50, "One message to its acknowledgement, median, µs: less is better");
    let height = top;
    let args = &report.args;
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">
<style>.title{{font-weight:bold}} .ours{{fill:#1f6f8b;stroke:#1f6f8b}} .peer{{fill:#777;stroke:#777}} .grid{{stroke:#ddd}} .axis{{fill:gray}}</style>
<rect width="100%" height="100%" fill="white"/>
{body}<text x="12" y="{}" fill="gray">Throughput: {args}. Points: medians; lines: all rounds.</text>
</svg>
"#,
        height - 10.0
    )
}

/// Returns where they end.
fn rows(body: &mut String, table: &Table, figure: Figure, top: f64) -> f64 {
    let spreads: Vec<_> = table.0.iter().map(|row| (row.name, row.spread(figure))).collect();
    if spreads.is_empty() {
        return top;
    }
    let powers = |values: fn(&Spread) -> f64| spreads.iter().map(move |(_, spread)| values(spread).log10());
    let from = powers(|spread| spread.lowest).fold(f64::MAX, f64::min).floor();
    let to = powers(|spread| spread.highest).fold(f64::MIN, f64::max).ceil().max(from + 1.0);
    let at = |value: f64| LEFT + (value.log10() - from) / (to - from) * LENGTH;
    let bottom = top + STEP * spreads.len() as f64;
    for power in from as i32..=to as i32 {
        let x = at(10f64.powi(power));
        let _ = writeln!(
            body,
            r#"<line x1="{x:.1}" x2="{x:.1}" y1="{top:.1}" y2="{bottom:.1}" class="grid"/>
<text x="{x:.1}" y="{:.1}" text-anchor="middle" class="axis">{}</text>"#,
            bottom + 14.0,
            10f64.powi(power)
        );
    }
    for (row, (name, Spread { median, lowest, highest })) in spreads.into_iter().enumerate() {
        let class = if name.starts_with("bowline") { "ours" } else { "peer" };
        let middle = top + STEP * (row as f64 + 0.5);
        let (base, label, text) = (middle + 4.0, LEFT - 10.0, at(highest) + 8.0);
        let _ = writeln!(
            body,
            r#"<text x="{label}" y="{base:.1}" text-anchor="end">{name}</text>
<line x1="{:.1}" x2="{:.1}" y1="{middle:.1}" y2="{middle:.1}" stroke-width="2" class="{class}"/>
<circle cx="{:.1}" cy="{middle:.1}" r="4" class="{class}"/>
<text x="{text:.1}" y="{base:.1}">{median:.0}</text>"#,
            at(lowest),
            at(highest),
            at(median),
        );
    }
    bottom
}
