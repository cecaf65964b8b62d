//! Straight lines through what was measured.

/// The line `fixed + each * x` with the least squares, and how much of the spread it explains (1: all of it).
pub(crate) fn line(points: &[(f64, f64)]) -> (f64, f64, f64) {
    let count = points.len().max(1) as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let sum = |what: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(what).sum::<f64>();
    let (xx, xy, yy) = (
        sum(&|point| (point.0 - x).powi(2)),
        sum(&|point| (point.0 - x) * (point.1 - y)),
        sum(&|point| (point.1 - y).powi(2)),
    );
    let each = if xx > 0.0 { xy / xx } else { 0.0 };
    let explained = if xx > 0.0 && yy > 0.0 { xy * xy / (xx * yy) } else { 1.0 };
    (y - each * x, each, explained)
}

/// The one in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
