//! Which files there are, and what is in them.

use std::os::unix::fs::PermissionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use bowline_apps::record::{Archive, Filter, OpenError, Record, Rotate, Settings};

use crate::record::harness::{Bench, DAY, NOW};

#[tokio::test]
async fn each_period_has_a_file() {
    for (rotate, files) in [
        (Rotate::Day, &["record-2026-11-22.db", "record-2026-11-23.db", "record-2027-02-11.db"][..]),
        (Rotate::Month, &["record-2026-11.db", "record-2027-02.db"]),
        (Rotate::Year, &["record-2026.db", "record-2027.db"]),
    ] {
        let bench = Bench::with(|settings| settings.rotate = rotate);
        for (seq, at) in (1..).zip([NOW - DAY, NOW, NOW + 80 * DAY]) {
            bench.handles(seq, at, &seq.to_string()).await.unwrap();
        }
        assert_eq!(bench.files(), files);
        assert_eq!(bench.values(), ["1", "2", "3"]);
    }
}

#[tokio::test]
async fn nothing_is_made_before_there_is_something_to_keep() {
    let folder = tempfile::TempDir::new().unwrap();
    let settings = Settings::new(folder.path().join("data/record"));
    drop(Record::open(settings.clone()).unwrap());
    assert!(!folder.path().join("data").exists());
    assert_eq!(Archive::new(&settings.folder).series(&Filter::default()), Ok(vec![]));
}

#[tokio::test]
async fn a_file_is_one_file_for_its_owner_when_nobody_writes() {
    let mut bench = Bench::new();
    bench.handles(1, NOW, "1").await.unwrap();
    bench.stops();
    let mut names: Vec<_> = std::fs::read_dir(bench.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["record-2026-11.db", "record.lock"]);
    let mode = std::fs::metadata(bench.path().join("record-2026-11.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// What `docs/apps/record.md` promises to those who read the files.
#[tokio::test]
async fn the_schema_is_as_documented() {
    let bench = Bench::new();
    bench.handles(7, NOW, r#"{"door": "open", "t": 1795399383500}"#).await.unwrap();
    let database = bench.database("record-2026-11.db");
    let row = database
        .query_row("SELECT time, device, series, value, at, received_at, seq FROM record", (), |row| {
            let texts = (row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?);
            Ok((texts, row.get::<_, String>(3)?, row.get::<_, i64>(4)?, row.get::<_, i64>(5)?, row.get::<_, i64>(6)?))
        })
        .unwrap();
    let texts = ("2026-11-23T02:03:03.500Z".to_owned(), "kitchen".to_owned(), "door".to_owned());
    assert_eq!(row, (texts, "open".to_owned(), NOW - 500, NOW, 7));
    let page = include_str!("../../../../../docs/apps/record.md");
    let mut statement = database.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").unwrap();
    let made = statement.query_map((), |row| row.get::<_, String>(0)).unwrap();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for made in made {
        let made = words(&made.unwrap());
        assert!(words(page).contains(&made), "docs/apps/record.md does not have: {made}");
    }
}

#[tokio::test]
async fn what_a_later_version_wrote_is_refused_and_left_alone() {
    let mut bench = Bench::new();
    bench.handles(1, NOW, "1").await.unwrap();
    bench.stops();
    bench.database("record-2026-11.db").pragma_update(None, "user_version", 9).unwrap();
    let file = bench.path().join("record-2026-11.db");
    let newer = OpenError::Newer { file: file.clone(), found: 9, known: 1 };
    assert_eq!(bench.starts().unwrap_err(), newer);
    assert_eq!(Archive::new(bench.path()).series(&Filter::default()).unwrap_err().0, newer);
    assert!(newer.to_string().contains("has format 9, this version of Bowline knows up to 1"));
}

#[tokio::test]
async fn files_of_others_are_refused_and_left_alone() {
    let mut bench = Bench::new();
    bench.stops();
    bench.database("record-2026-11.db").execute_batch("CREATE TABLE mine (a)").unwrap();
    assert!(matches!(bench.starts(), Err(OpenError::Foreign { .. })));
    std::fs::write(bench.path().join("record-2026-11.db"), "no database at all, but long enough to be one").unwrap();
    assert!(matches!(bench.starts(), Err(OpenError::Foreign { .. })));
    assert!(matches!(Archive::new(bench.path()).series(&Filter::default()).unwrap_err().0, OpenError::Foreign { .. }));
}

#[tokio::test]
async fn two_servers_do_not_share_a_folder() {
    let bench = Bench::new();
    bench.handles(1, NOW, "1").await.unwrap();
    let error = Record::open(Settings::new(bench.path())).unwrap_err();
    assert!(error.to_string().contains("another server records into"), "{error}");
}

#[tokio::test]
async fn old_files_are_removed_by_their_age() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let mut bench = Bench::with(|settings| settings.rotate = Rotate::Day);
    for (seq, days) in (1..).zip([30, 9, 7, 0]) {
        bench.handles(seq, now - days * DAY, &seq.to_string()).await.unwrap();
    }
    assert_eq!(bench.files().len(), 4);
    bench.restarts_with(|settings| settings.keep_days = Some(8));
    assert_eq!(bench.values(), ["3", "4"], "at the start");
    assert_eq!(bench.files().len(), 2);
    // A file is swept away when the next one is begun, too; the one that is written to stays.
    bench.handles(9, now - 20 * DAY, "9").await.unwrap();
    assert_eq!(bench.values(), ["9", "3", "4"]);
    bench.handles(10, now - 3 * DAY, "10").await.unwrap();
    assert_eq!(bench.values(), ["3", "10", "4"]);
}

#[tokio::test]
async fn the_oldest_files_are_removed_when_there_is_too_much() {
    let bench = Bench::with(|settings| (settings.file_bytes, settings.keep_bytes) = (64 << 10, Some(320 << 10)));
    let text = "x".repeat(1000);
    for seq in 1..=800 {
        bench.handles(seq, NOW + seq as i64, &format!("{{\"n\": {seq}, \"text\": {text:?}}}")).await.unwrap();
    }
    let filter = Filter { series: Some("n".to_owned()), ..Filter::default() };
    let left: Vec<u64> = bench.samples(&filter).into_iter().map(|(.., n)| n.parse().unwrap()).collect();
    let first = left[0];
    // Ten messages a file, four or five files.
    assert!((740..770).contains(&first), "{first}");
    assert_eq!(left, (first..=800).collect::<Vec<_>>(), "the newest, without a hole");
    let bytes: u64 =
        std::fs::read_dir(bench.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 10 << 20, "{bytes}");
}
