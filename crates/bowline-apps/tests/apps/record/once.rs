//! Each message is in the record once.

use bowline_apps::record::{Rotate, WriteError};
use futures_util::FutureExt;

use crate::record::harness::{Bench, DAY, NOW};

#[tokio::test]
async fn a_message_that_is_handled_again_is_there_once() {
    let mut bench = Bench::new();
    bench.handles(1, NOW, r#"{"temp": 20, "hum": 60}"#).await.unwrap();
    // Before the host could note that it was handled, the server was killed.
    bench.restarts_with(|_| ());
    bench.handles(1, NOW, r#"{"temp": 20, "hum": 60}"#).await.unwrap();
    bench.handles(1, NOW, r#"{"temp": 20, "hum": 60}"#).await.unwrap();
    bench.handles(2, NOW, r#"{"temp": 20, "hum": 60}"#).await.unwrap();
    assert_eq!(bench.values(), ["60", "60", "20", "20"]);
    let samples: i64 =
        bench.database("record-2026-11.db").query_row("SELECT sum(samples) FROM series", (), |row| row.get(0)).unwrap();
    assert_eq!(samples, 4, "the counts agree");
}

#[tokio::test]
async fn whoever_gives_up_waiting_may_come_again() {
    let bench = Bench::new();
    for _ in 0..20 {
        // Dropped when it begins to wait, whatever the writer has made of it.
        let _ = bench.handles(1, NOW, "1").now_or_never();
    }
    bench.handles(1, NOW, "1").await.unwrap();
    assert_eq!(bench.values(), ["1"]);
}

#[tokio::test]
async fn a_forgotten_device_that_counts_anew_loses_nothing() {
    let bench = Bench::new();
    bench.handles(1, NOW, "20").await.unwrap();
    bench.handles(1, NOW + 1, "21").await.unwrap();
    assert_eq!(bench.values(), ["20", "21"]);
}

#[tokio::test]
async fn devices_have_numbers_of_their_own() {
    let bench = Bench::new();
    bench.handles_of("attic", Some(1), NOW, "1").await.unwrap();
    bench.handles_of("cellar", Some(1), NOW, "2").await.unwrap();
    assert_eq!(bench.values(), ["1", "2"]);
}

#[tokio::test]
async fn best_effort_has_no_number_and_is_kept_as_often_as_it_comes() {
    let mut bench = Bench::new();
    bench.handles_of("kitchen", None, NOW, "1").await.unwrap();
    bench.handles_of("kitchen", None, NOW, "1").await.unwrap();
    bench.restarts_with(|_| ());
    bench.handles_of("kitchen", None, NOW, "1").await.unwrap();
    assert_eq!(bench.values(), ["1", "1", "1"]);
    let seqs: i64 =
        bench.database("record-2026-11.db").query_row("SELECT count(seq) FROM record", (), |row| row.get(0)).unwrap();
    assert_eq!(seqs, 0, "nobody is shown a number that is none");
}

#[tokio::test]
async fn a_message_from_before_a_full_file_is_not_written_to_the_next_one() {
    let mut bench = Bench::with(|settings| settings.file_bytes = 1);
    for seq in 1..=5 {
        bench.handles(seq, NOW + seq as i64, &seq.to_string()).await.unwrap();
    }
    assert_eq!(bench.files().len(), 5);
    for restart in [false, true] {
        if restart {
            bench.restarts_with(|_| ());
        }
        for seq in 1..=5 {
            bench.handles(seq, NOW + seq as i64, &seq.to_string()).await.unwrap();
        }
        assert_eq!(bench.values(), ["1", "2", "3", "4", "5"]);
    }
}

#[tokio::test]
async fn a_message_from_before_other_settings_is_found() {
    let mut bench = Bench::new();
    bench.handles(1, NOW, "1").await.unwrap();
    for rotate in [Rotate::Day, Rotate::Year, Rotate::Month] {
        bench.restarts_with(|settings| settings.rotate = rotate);
        bench.handles(1, NOW, "1").await.unwrap();
    }
    assert_eq!(bench.values(), ["1"]);
}

#[tokio::test]
async fn a_clock_that_goes_back_loses_nothing_and_doubles_nothing() {
    let mut bench = Bench::with(|settings| (settings.file_bytes, settings.rotate) = (1, Rotate::Day));
    let times = [NOW, NOW - 1, NOW - DAY, NOW - 40 * DAY, 0, NOW, NOW + 1];
    for (seq, at) in (1..).zip(times) {
        bench.handles(seq, at, &seq.to_string()).await.unwrap();
    }
    bench.restarts_with(|_| ());
    for (seq, at) in (1..).zip(times).collect::<Vec<_>>().into_iter().rev() {
        bench.handles(seq, at, &seq.to_string()).await.unwrap();
    }
    assert_eq!(bench.values(), ["5", "4", "3", "2", "1", "6", "7"]);
}

#[tokio::test]
async fn a_device_that_makes_up_names_is_refused_and_hurts_nobody() {
    let mut bench = Bench::with(|settings| settings.series = 3);
    for name in ["a", "b", "c"] {
        bench.handles(1, NOW, &format!("{{{name:?}: 1}}")).await.unwrap();
    }
    for restart in [false, true] {
        if restart {
            bench.restarts_with(|_| ());
        }
        let error = bench.handles(2, NOW, r#"{"a": 1, "d": 1}"#).await.unwrap_err();
        assert_eq!(error, WriteError::TooManySeries { needed: 4, limit: 3 });
        bench.handles(3, NOW, r#"{"a": 1, "c": 1}"#).await.unwrap();
        bench.handles_of("attic", Some(1), NOW, r#"{"d": 1}"#).await.unwrap();
    }
    assert_eq!(bench.values().len(), 3 + 2 + 1);
}
