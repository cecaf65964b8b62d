//! Arithmetic on times never wraps and never panics.

use bowline_proto::time::{Duration, Instant};

#[test]
fn times_saturate() {
    let end = Instant::from_micros(u64::MAX);
    assert_eq!(end + Duration::from_millis(1), end);
    assert_eq!(Instant::ZERO - end, Duration::ZERO);
    assert_eq!(end.since(Instant::ZERO).as_micros(), u64::MAX);
    assert_eq!(Duration::from_millis(u64::MAX).as_micros(), u64::MAX);
    assert_eq!(Duration::from_micros(u64::MAX).scaled(3, 2).as_micros(), u64::MAX / 2);
}

#[test]
fn times_scale_and_add() {
    assert_eq!(Duration::from_millis(1_500).scaled(1, 4), Duration::from_micros(375_000));
    assert_eq!(Duration::from_millis(7).scaled(1, 0), Duration::from_millis(7));
    let mut now = Instant::ZERO;
    now += Duration::from_millis(3);
    assert_eq!(now, Instant::from_micros(3_000));
    assert_eq!(now - Instant::from_micros(1_000), Duration::from_millis(2));
}
