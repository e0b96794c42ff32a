//! The form in which records are stored, and how an older one becomes today's.
//!
//! Version 1 held its number alone. Version 2 also names the scheduler that wrote it, so that one that finds a newer
//! form can say which scheduler to start; its records are those of version 1. Version 3 has task types, phases and a slot
//! for restarts that older schedulers do not know; what they held because it needed a restart waits for that. Version 4
//! has rollouts: an agent on which all was done counts as complete with the first of them. Version 5 has installs that are
//! being looked at, which older schedulers cannot read.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is written beside the records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Schema {
    pub version: u32,
    /// Which scheduler gave it this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_by: Option<String>,
}

/// Which record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    FrameworkId,
    Cluster,
    Agent,
}

/// One record, from one version to the next. A crash may leave records of both versions below the older one's
/// number: what is of the next version already must stay as it is.
type Step = fn(Part, &mut Value);

/// From each version to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migrations(pub &'static [Step]);

/// All there are.
pub(super) const MIGRATIONS: Migrations = Migrations(&[|_, _| {}, wait_for_restart, was_complete, |_, _| {}]);

/// To version 3: an install that ended with status 79 was held like one that has failed for good.
fn wait_for_restart(part: Part, record: &mut Value) {
    let tasks = record.get_mut("tasks").and_then(Value::as_object_mut).filter(|_| part == Part::Agent);
    for task in tasks.into_iter().flat_map(|tasks| tasks.values_mut()) {
        let failure = task.get("failure").and_then(Value::as_str).unwrap_or_default();
        if task.get("phase") == Some(&Value::from("held")) && failure.contains("exited with status 79 ") {
            task["phase"] = Value::from("needs-restart");
        }
    }
}

/// To version 4: an agent that was complete is not changed but by a rollout.
fn was_complete(part: Part, record: &mut Value) {
    let tasks = record.get("tasks").and_then(Value::as_object).filter(|_| part == Part::Agent);
    let at_goal = |task: &Value| match task.get("phase").and_then(Value::as_str) {
        Some("done" | "skipped") => true,
        Some("active") => task.get("run").and_then(Value::as_str) == Some("ready"),
        _ => false,
    };
    let complete = tasks.is_some_and(|tasks| !tasks.is_empty() && tasks.values().all(at_goal));
    if complete && record.get("settled").is_none() {
        record["settled"] = Value::from(1);
    }
}

impl Schema {
    /// Today's.
    pub fn today(migrations: Migrations) -> Self {
        Self { version: migrations.version(), written_by: Some(this_scheduler()) }
    }

    /// As version 1 wrote it, or a later one.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let schema = match serde_json::from_slice(text).ok()? {
            Value::Number(version) => {
                Self { version: u32::try_from(version.as_u64()?).ok()?, written_by: None }
            }
            other => serde_json::from_value(other).ok()?,
        };
        Some(schema).filter(|schema| schema.version > 0)
    }
}

impl Migrations {
    /// The version that they lead to.
    pub fn version(self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// A record of version `from`, which is not newer than ours, in today's form.
    pub fn apply(self, from: u32, part: Part, record: &mut Value) {
        let done = usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX);
        for step in self.0.iter().skip(done) {
            step(part, record);
        }
    }
}

/// As it names itself to others.
pub(super) fn this_scheduler() -> String {
    format!("calico-scheduler {}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// Two changes that never were: version 2 adds a field, version 3 gives it another name.
    pub const INVENTED: Migrations = Migrations(&[
        |part, record| {
            if part == Part::Agent && record.get("rack").is_none() && record.get("place").is_none() {
                record["place"] = json!("unknown");
            }
        },
        |part, record| {
            if part == Part::Agent
                && let Some(place) = record.as_object_mut().and_then(|record| record.remove("place"))
            {
                record["rack"] = place;
            }
        },
        // So that this is newer than what there really is.
        |_, _| {},
        |_, _| {},
        |_, _| {},
    ]);

    #[test]
    fn a_record_goes_through_every_version_and_twice_is_as_once() {
        assert_eq!(MIGRATIONS.version(), 5);
        for from in [1, 2] {
            let mut record = json!({"key": "a:1"});
            if from == 2 {
                record["place"] = json!("unknown");
            }
            INVENTED.apply(from, Part::Agent, &mut record);
            assert_eq!(record, json!({"key": "a:1", "rack": "unknown"}));
            INVENTED.apply(from, Part::Agent, &mut record);
            assert_eq!(record, json!({"key": "a:1", "rack": "unknown"}));
        }
        let mut other = json!("F1");
        INVENTED.apply(1, Part::FrameworkId, &mut other);
        assert_eq!(other, json!("F1"));
    }

    #[test]
    fn what_was_held_for_a_restart_waits_for_it_and_all_else_stays() {
        let failure = |status| format!("Command exited with status {status} (what it means): error: more");
        let held = |status| json!({"phase": "held", "since": 5, "target": "t", "failure": failure(status)});
        let mut record = json!({"key": "a:1", "tasks": {"cni": held(79), "calico-node": held(78)}});
        let mut waits = held(79);
        waits["phase"] = json!("needs-restart");
        let expect = json!({"key": "a:1", "tasks": {"cni": waits, "calico-node": held(78)}});
        MIGRATIONS.apply(2, Part::Agent, &mut record);
        assert_eq!(record, expect);
        MIGRATIONS.apply(2, Part::Agent, &mut record);
        assert_eq!(record, expect);
        let cluster = json!({"tasks": {"cluster-init": held(79)}});
        let mut same = cluster.clone();
        MIGRATIONS.apply(2, Part::Cluster, &mut same);
        assert_eq!(same, cluster);
    }

    #[test]
    fn the_number_of_version_1_and_the_object_since_then_are_read() {
        assert_eq!(Schema::parse(b"1"), Some(Schema { version: 1, written_by: None }));
        let today = Schema::today(MIGRATIONS);
        assert_eq!(Schema::parse(&serde_json::to_vec(&today).unwrap()), Some(today));
        let later = br#"{"version": 7, "written_by": "x 9", "and": "more"}"#;
        assert_eq!(Schema::parse(later).unwrap().version, 7);
        for wrong in ["0", "-1", "", "{}", "one", "99999999999"] {
            assert_eq!(Schema::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
