//! Reading, by itself and while something is written.

use std::time::Instant;

use bowline_apps::record::{Archive, Arrival, Filter, ReadError, Rotate, Series};
use futures_util::future::join_all;

use crate::record::harness::{Bench, DAY, NOW};

#[tokio::test]
async fn samples_come_in_the_order_of_their_own_time_from_all_files() {
    let bench = Bench::with(|settings| settings.rotate = Rotate::Day);
    bench.handles(1, NOW - 2 * DAY, "1").await.unwrap();
    bench.handles(2, NOW, "4").await.unwrap();
    // Recorded while there was no network, two of them before what came the day before.
    for (seq, (n, at)) in (3..).zip([(3, NOW - DAY), (2, NOW - 2 * DAY + 1), (0, NOW - 2 * DAY - 1)]) {
        bench.handles(seq, NOW + 1, &format!("[\"value\", {n}, {at}]")).await.unwrap();
    }
    assert_eq!(bench.values(), ["0", "1", "2", "3", "4"]);
    let filter = Filter { since: Some(NOW - 2 * DAY), until: Some(NOW), ..Filter::default() };
    let values: Vec<_> = bench.samples(&filter).into_iter().map(|(.., value)| value).collect();
    assert_eq!(values, ["1", "2", "3"], "from the first to before the last");
}

#[tokio::test]
async fn devices_and_series_are_chosen_by_pattern() {
    let bench = Bench::new();
    for device in ["attic-1", "attic-2", "cellar"] {
        bench.handles_of(device, Some(1), NOW, r#"{"temp": 1, "temp_out": 2, "hum": 3}"#).await.unwrap();
    }
    let chosen = |device: &str, series: &str| {
        let filter = Filter { device: Some(device.into()), series: Some(series.into()), ..Filter::default() };
        let names = Archive::new(bench.path()).series(&filter).unwrap().into_iter();
        let names: Vec<_> = names.map(|series| format!("{}/{}", series.device, series.name)).collect();
        let samples = bench.samples(&filter).into_iter().map(|(_, device, series, _)| format!("{device}/{series}"));
        assert_eq!(samples.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>(), names);
        names.join(" ")
    };
    assert_eq!(chosen("attic-?", "temp"), "attic-1/temp attic-2/temp");
    assert_eq!(chosen("cellar", "temp*"), "cellar/temp cellar/temp_out");
    assert_eq!(chosen("none", "*"), "");
}

#[tokio::test]
async fn series_are_counted_over_all_files() {
    let bench = Bench::with(|settings| settings.file_bytes = 1);
    for seq in 1..=3 {
        bench.handles(seq, NOW + seq as i64, "1").await.unwrap();
    }
    assert_eq!(bench.files().len(), 3);
    assert_eq!(
        Archive::new(bench.path()).series(&Filter::default()).unwrap(),
        [Series { device: "kitchen".into(), name: "value".into(), samples: 3, first_at: NOW + 1, last_at: NOW + 3 }]
    );
}

#[tokio::test]
async fn reader_and_writer_do_not_wait_for_each_other() {
    let bench = Bench::new();
    for seq in 1..=100 {
        bench.handles(seq, NOW + seq as i64, &seq.to_string()).await.unwrap();
    }
    let (ask, mut asked) = tokio::sync::mpsc::channel(1);
    let (go, mut gone) = tokio::sync::mpsc::channel::<()>(1);
    let archive = Archive::new(bench.path());
    let reader = std::thread::spawn(move || {
        let mut read = 0;
        let result = archive.samples(&Filter::default(), |_| {
            read += 1;
            if read == 50 {
                ask.blocking_send(()).unwrap();
                gone.blocking_recv().unwrap();
            }
            Ok::<_, ReadError>(())
        });
        result.map(|()| read)
    });
    asked.recv().await.unwrap();
    // In the middle of the query.
    for seq in 101..=200 {
        bench.handles(seq, NOW + seq as i64, &seq.to_string()).await.unwrap();
    }
    go.send(()).await.unwrap();
    assert_eq!(reader.join().unwrap(), Ok(100), "as it was when it began");
    assert_eq!(bench.values().len(), 200);
}

/// So many messages with 64 values each, of 16 devices at a time.
async fn fill(bench: &Bench, messages: u64) {
    for round in 0..messages / 16 {
        join_all((0..16).map(|device| async move {
            let values = (0..64).map(|n| format!("\"series {n}\": \"value {round} of {device}\""));
            let payload = format!("{{{}}}", values.collect::<Vec<_>>().join(","));
            let readings = bench.record().read(0, payload.as_bytes()).unwrap();
            let arrival =
                Arrival { device: format!("device {device}"), seq: Some(round + 1), received_at: NOW + round as i64 };
            bench.record().write(arrival, readings).await.unwrap();
        }))
        .await;
    }
}

/// Most memory that the process has held so far, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn memory_does_not_grow_with_what_is_read() {
    let bench = Bench::new();
    fill(&bench, 2_000).await;
    let before = peak();
    let (mut read, mut bytes, mut last) = (0, 0, 0);
    let result = Archive::new(bench.path()).samples(&Filter::default(), |sample| {
        assert!(sample.at >= last);
        last = sample.at;
        read += 1;
        bytes += sample.device.len() + sample.series.len() + 32;
        Ok::<_, ReadError>(())
    });
    assert_eq!(result, Ok(()));
    assert_eq!(read, 2_000 * 64);
    let grown = peak() - before;
    println!("{read} samples of {} KiB in all read with {grown} KiB", bytes / 1024);
    assert!(grown < 6 * 1024, "{grown} KiB");
}

/// Prints how fast the writer is; asserts nothing about it.
#[tokio::test]
async fn throughput_of_the_writer() {
    for sync in [true, false] {
        for devices in [1, 64, 512] {
            let bench = Bench::with(|settings| settings.sync = sync);
            let rounds = if sync && devices == 1 { 100 } else { 1 + 20_000 / devices };
            let begin = Instant::now();
            join_all((0..devices).map(|device| {
                let bench = &bench;
                async move {
                    let device = format!("device {device}");
                    for round in 1..=rounds {
                        let payload = format!("{{\"temp\": {round}, \"hum\": 60.5}}");
                        bench.handles_of(&device, Some(round), NOW + round as i64, &payload).await.unwrap();
                    }
                }
            }))
            .await;
            let rows = 2 * devices * rounds;
            let rate = rows as f64 / begin.elapsed().as_secs_f64();
            println!("sync {sync}, {devices} devices: {rate:.0} rows/s");
            assert_eq!(bench.values().len() as u64, rows);
        }
    }
}
