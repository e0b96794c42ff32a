//! What docs/architecture.md says about tests is true.

use std::collections::BTreeSet;
use std::path::Path;

/// The names of all test functions in the Rust files below `directory`.
fn tests(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut lines = text.lines().map(str::trim);
            while let Some(line) = lines.next() {
                if line == "#[test]" || line.starts_with("#[tokio::test") {
                    let function = lines.find_map(|line| line.split_once("fn ")).map(|(_, rest)| rest);
                    names.extend(function.and_then(|rest| rest.split('(').next()).map(str::to_owned));
                }
            }
        }
    }
}

/// Each row of the table below a heading names tests that there are.
fn assert_shown(heading: &str, expected: usize) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut known = BTreeSet::new();
    for directory in ["scheduler/src", "scheduler/tests", "scheduler/mesos-v1", "installer-tasks", "tests"] {
        tests(&root.join(directory), &mut known);
    }
    let page = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let (_, section) = page.split_once(heading).unwrap();
    let rows: Vec<&str> = section
        .split("\n## ")
        .next()
        .unwrap()
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(2)
        .collect();
    assert_eq!(rows.len(), expected, "a row was left out");
    for row in rows {
        let shown = row.split('|').nth(3).unwrap();
        let names: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty() || shown.contains("not built"), "nothing shows {row}");
        for name in names {
            assert!(known.contains(name), "there is no test '{name}': {row}");
        }
    }
}

#[test]
fn each_rule_of_a_mesos_scheduler_has_a_test_that_there_is() {
    assert_shown("## What a Mesos scheduler must do, and what shows it", 31);
}

#[test]
fn each_thing_that_is_done_on_a_host_has_a_test_that_there_is() {
    assert_shown("## What is done on a host, and what shows it", 36);
}
