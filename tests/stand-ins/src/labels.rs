//! Labels of workloads, from what Mesos tells a CNI plugin of a task's network.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// Where Mesos puts a task's `NetworkInfo` among a plugin's arguments.
const MESOS: &str = "org.apache.mesos";
/// The longest value, and name in a key, in bytes.
const LONGEST: usize = 63;

#[derive(Deserialize)]
struct Arguments {
    network_info: NetworkInfo,
}

#[derive(Deserialize)]
struct NetworkInfo {
    #[serde(default)]
    labels: List,
}

#[derive(Default, Deserialize)]
struct List {
    #[serde(default)]
    labels: Vec<Label>,
}

#[derive(Deserialize)]
struct Label {
    key: String,
    #[serde(default)]
    value: String,
}

/// The labels of the network of a task, as Calico takes them; or what it does not take, and why.
pub fn of_mesos(args: &Map<String, Value>) -> Result<BTreeMap<String, String>, String> {
    let Some(mesos) = args.get(MESOS) else { return Ok(BTreeMap::new()) };
    let arguments = Arguments::deserialize(mesos).map_err(|error| format!("args.{MESOS}: {error}"))?;
    let labels = arguments.network_info.labels.labels;
    labels.into_iter().map(|Label { key, value }| checked(key, value)).collect()
}

fn checked(key: String, value: String) -> Result<(String, String), String> {
    let (prefix, name) = key.rsplit_once('/').map_or((None, &*key), |(prefix, name)| (Some(prefix), name));
    let prefix_fits = prefix.is_none_or(crate::cni::valid_node_name);
    if !prefix_fits || name.is_empty() || !fits(name) {
        return Err(format!("label {key:?}; expected NAME or DNS-NAME/NAME, NAME of {RULE}"));
    }
    if !fits(&value) {
        return Err(format!("label {key:?} has the value {value:?}; expected {RULE}"));
    }
    Ok((key, value))
}

const RULE: &str = "at most 63 letters, digits, '-', '_' and '.', a letter or digit first and last";

fn fits(text: &str) -> bool {
    let outer = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || text.len() <= LONGEST
            && text.starts_with(outer)
            && text.ends_with(outer)
            && text.chars().all(|c| outer(c) || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(labels: &Value) -> Result<BTreeMap<String, String>, String> {
        let args = json!({MESOS: {"network_info": {"name": "calico", "labels": {"labels": labels}}}});
        of_mesos(args.as_object().unwrap())
    }

    #[test]
    fn labels_of_a_task_become_those_of_its_endpoint() {
        let labels = of(&json!([{"key": "role", "value": "web"}, {"key": "example.com/none"}])).unwrap();
        assert_eq!((&*labels["role"], &*labels["example.com/none"]), ("web", ""));
        let none = json!({MESOS: {"network_info": {"name": "calico"}}});
        assert!(of_mesos(none.as_object().unwrap()).unwrap().is_empty());
        assert!(of_mesos(&Map::new()).unwrap().is_empty());
    }

    #[test]
    fn what_calico_does_not_take_is_named() {
        let long = "x".repeat(64);
        for (key, value) in
            [("", "a"), ("a b", "c"), ("/a", "b"), ("role", &*long), ("role", "-a"), ("role", "a b")]
        {
            let error = of(&json!([{"key": key, "value": value}])).unwrap_err();
            assert!(error.contains(&format!("{key:?}")), "{error}");
        }
        assert!(of_mesos(json!({MESOS: {}}).as_object().unwrap()).unwrap_err().contains("network_info"));
    }
}
