use bowline_apps::record::Value;

use super::*;

/// 2026-11-23 00:00:00 UTC.
const BEGIN: i64 = 1_795_392_000_000;
const HOUR: i64 = 3_600_000;

/// A picture of functions of the hour, over so many hours.
fn picture(size: (usize, usize), colour: bool, hours: i64, series: &[(&str, &dyn Fn(f64) -> Value)]) -> String {
    let mut out = Vec::new();
    let names = series.iter().map(|(name, _)| ("kitchen".to_owned(), (*name).to_owned())).collect();
    let mut plot = Box::new(Plot::new(&mut out, names, BEGIN..=BEGIN + hours * HOUR, size, colour));
    for at in (BEGIN..=BEGIN + hours * HOUR).step_by(60_000) {
        for (name, value) in series {
            let value = value((at - BEGIN) as f64 / HOUR as f64);
            let (device, series) = ("kitchen".to_owned(), (*name).to_owned());
            plot.row(&Row { at, device, series, value, message: None }).unwrap();
        }
    }
    plot.end().unwrap();
    String::from_utf8(out).unwrap()
}

fn wave(hour: f64) -> Value {
    Value::Real(20.0 + 5.0 * (hour * std::f64::consts::PI / 6.0).sin())
}

#[test]
fn one_series_is_a_curve_with_axes() {
    let page = picture((60, 14), false, 24, &[("temp", &wave)]);
    println!("{page}");
    assert_eq!(page, include_str!("one.txt"));
}

#[test]
fn several_series_without_colours_are_told_by_letters() {
    let page = picture((60, 14), false, 4, &[("temp", &wave), ("hum", &|hour| Value::Real(24.0 - hour * 2.0))]);
    println!("{page}");
    assert_eq!(page, include_str!("two.txt"));
}

#[test]
fn colours_say_the_same_with_the_same_shape() {
    let (plain, colour) =
        (picture((60, 14), false, 24, &[("temp", &wave)]), picture((60, 14), true, 24, &[("temp", &wave)]));
    assert_ne!(plain, colour);
    assert_eq!(colour.replace("\x1b[36m", "").replace("\x1b[0m", ""), plain);
    assert!(!plain.contains('\x1b'));
}

#[test]
fn a_picture_is_as_wide_as_the_terminal_and_no_wider() {
    for size in [(48, 10), (80, 24), (200, 60)] {
        let page = picture(size, false, 24, &[("temp", &wave)]);
        let widest = page.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= size.0 && widest > size.0 - 4, "{size:?}: {widest}");
        assert!(page.lines().count() < size.1, "{size:?}");
    }
    // In the smallest there is room for something all the same.
    assert!(!picture((0, 0), false, 24, &[("temp", &wave)]).is_empty());
}

#[test]
fn any_value_has_an_axis() {
    for value in [0.0, -1.0, 5e-324, -1e-9, 21.5, 1e15, 1.7e308, -1.7e308] {
        let page = picture((60, 14), false, 1, &[("x", &|_| Value::Real(value))]);
        assert!(page.lines().all(|line| line.chars().count() <= 60), "{value}:\n{page}");
        assert!(
            page.contains('⠉') || page.contains('⠒') || page.contains('⠤') || page.contains('⣀'),
            "{value}:\n{page}"
        );
    }
    let wide = |hour: f64| Value::Real(if hour < 0.5 { -1.7e308 } else { 1.7e308 });
    assert!(picture((60, 14), false, 1, &[("x", &wide)]).contains("e3"));
    let page = picture((60, 14), false, 0, &[("x", &|_| Value::Integer(3))]);
    assert!(page.contains("2026-11-23 00:00:00 to 2026-11-23 00:00:00 UTC"), "one moment:\n{page}");
}

#[test]
fn a_peak_between_two_columns_is_seen() {
    let peak = |hour: f64| Value::Integer(if (hour - 12.0).abs() < 0.001 { 100 } else { 0 });
    let page = picture((60, 14), false, 24, &[("x", &peak)]);
    let top = page.lines().next().unwrap();
    assert!(
        top.trim_start().starts_with("100 ┤") && top.chars().any(|char| ('\u{2801}'..='\u{28ff}').contains(&char)),
        "{page}"
    );
}

#[test]
fn texts_are_no_curve() {
    assert_eq!(picture((60, 14), false, 1, &[("door", &|_| Value::Text("open".into()))]), "");
}
