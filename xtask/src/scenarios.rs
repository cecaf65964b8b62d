//! Whether `docs/scenarios.md` accounts for all scenarios, by tests that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The tests of each scenario in the tree, with their files, relative to the root.
type Tests = BTreeMap<String, BTreeSet<(PathBuf, String)>>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn page() -> String {
    fs::read_to_string(root().join("docs/scenarios.md")).unwrap()
}

fn all() -> BTreeSet<String> {
    (1..=48).map(|number| format!("r{number:02}")).collect()
}

/// `r01` and `r08` of `r01_r08_on_h`.
fn numbers(test: &str) -> impl Iterator<Item = &str> {
    let is_number = |part: &&str| matches!(part.as_bytes(), [b'r', b'0'..=b'9', b'0'..=b'9']);
    test.split('_').take_while(is_number)
}

fn tests_in_the_tree() -> Tests {
    let mut tests = Tests::new();
    let mut folders = vec![root().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = path.strip_prefix(root()).unwrap();
                for (test, is_test) in functions(&fs::read_to_string(&path).unwrap()) {
                    for number in numbers(&test).filter(|_| is_test) {
                        tests.entry(number.to_owned()).or_default().insert((file.to_owned(), test.clone()));
                    }
                }
            }
        }
    }
    tests
}

/// The functions of a file, and whether they are tests: the line before them says so.
fn functions(source: &str) -> Vec<(String, bool)> {
    let (mut functions, mut is_test) = (Vec::new(), false);
    for line in source.lines().map(str::trim) {
        let function = line.trim_start_matches("async ").strip_prefix("fn ");
        if let Some((name, _)) = function.and_then(|rest| rest.split_once('(')) {
            functions.push((name.to_owned(), is_test));
        }
        is_test = line.starts_with('#') && (line.contains("test]") || line.contains("test("));
    }
    functions
}

/// The scenarios of the page with the tests that it names.
fn told(page: &str) -> Tests {
    let (mut tests, mut number, mut file) = (Tests::new(), String::new(), PathBuf::new());
    for line in page.lines() {
        let quoted = line.split('`').nth(1).unwrap_or_default();
        if let Some(heading) = line.strip_prefix("### ") {
            number = heading.to_owned();
            assert!(tests.insert(number.clone(), BTreeSet::new()).is_none(), "{number} is there twice");
        } else if line.starts_with("- `") {
            file = quoted.into();
        } else if line.starts_with("  - `") {
            tests.get_mut(&number).unwrap().insert((file.clone(), quoted.to_owned()));
        }
    }
    tests
}

#[test]
fn every_scenario_has_a_test() {
    let tests = tests_in_the_tree();
    let without: Vec<String> = all().into_iter().filter(|number| !tests.contains_key(number)).collect();
    assert!(without.is_empty(), "scenarios without a test `fn rNN_…`: {without:?}");
    let strange: Vec<&String> = tests.keys().filter(|number| !all().contains(*number)).collect();
    assert!(strange.is_empty(), "there are no scenarios {strange:?}");
}

#[test]
fn the_page_accounts_for_every_scenario_by_tests_that_exist() {
    let told = told(&page());
    assert_eq!(told.keys().cloned().collect::<BTreeSet<String>>(), all());
    let tests = tests_in_the_tree();
    for (number, named) in &told {
        assert!(!named.is_empty(), "docs/scenarios.md names no test of {number}");
        for test in named {
            let exists = tests.get(number).is_some_and(|tests| tests.contains(test));
            assert!(exists, "docs/scenarios.md, {number}: there is no test {} in {}", test.1, test.0.display());
        }
    }
}
