//! What docs/architecture.md says about tests is true.

use std::collections::BTreeSet;
use std::path::Path;

/// The tables of what must hold, and how many rules each of them has.
const TABLES: [(&str, usize); 3] = [
    ("## What a Mesos scheduler must do, and what shows it", 31),
    ("## What a rollout must do, and what shows it", 19),
    ("## What is done on a host, and what shows it", 37),
];

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

#[test]
fn each_rule_has_a_test_that_there_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut known = BTreeSet::new();
    for directory in ["scheduler/src", "scheduler/tests", "scheduler/mesos-v1", "installer-tasks", "tests"] {
        tests(&root.join(directory), &mut known);
    }
    let page = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    for (heading, number) in TABLES {
        let (_, section) = page.split_once(heading).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
        assert_eq!(rows.len(), number, "a rule was left out of '{heading}'");
        for row in rows {
            let shown = row.split('|').nth(3).unwrap();
            let names: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
            assert!(!names.is_empty() || shown.contains("not built"), "nothing shows {row}");
            for name in names {
                assert!(known.contains(name), "there is no test '{name}': {row}");
            }
        }
    }
}
