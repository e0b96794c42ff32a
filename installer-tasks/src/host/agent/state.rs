//! What an agent says of itself at `/state`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

/// An agent, as far as a restart of it is concerned.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct AgentState {
    /// The ID that a master gave it; empty before that.
    #[serde(default)]
    pub id: String,
    /// When it was started, in seconds since the epoch.
    pub start_time: f64,
    /// `slave(1)@ADDRESS:PORT`.
    #[serde(default)]
    pid: String,
    #[serde(default)]
    frameworks: Vec<Framework>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Framework {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    checkpoint: bool,
    #[serde(default)]
    executors: Vec<Executor>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Executor {
    id: String,
    #[serde(default)]
    tasks: Vec<Task>,
    #[serde(default)]
    queued_tasks: Vec<Task>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Task {
    id: String,
    #[serde(default)]
    statuses: Vec<Status>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Status {
    #[serde(default)]
    container_status: ContainerStatus,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
struct ContainerStatus {
    #[serde(default)]
    network_infos: Vec<NetworkInfo>,
}

/// Up to Mesos 0.26 an address stands alone.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct NetworkInfo {
    ip_address: Option<String>,
    #[serde(default)]
    ip_addresses: Vec<IpAddress>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct IpAddress {
    ip_address: Option<String>,
}

impl Task {
    /// The addresses that it was told to have.
    fn addresses(&self) -> impl Iterator<Item = &str> {
        let infos = self.statuses.iter().flat_map(|status| &status.container_status.network_infos);
        infos.flat_map(|info| {
            info.ip_address
                .iter()
                .chain(info.ip_addresses.iter().flat_map(|it| &it.ip_address))
                .map(String::as_str)
        })
    }
}

impl AgentState {
    /// The tasks, and the executors that have none, of frameworks that do not checkpoint: a restart of the agent ends
    /// them.
    pub fn ended_by_restart(&self) -> Vec<String> {
        let mut ended = Vec::new();
        for framework in self.frameworks.iter().filter(|framework| !framework.checkpoint) {
            let Framework { id, name, executors, .. } = framework;
            for executor in executors {
                let tasks: Vec<&str> = executor
                    .tasks
                    .iter()
                    .chain(&executor.queued_tasks)
                    .map(|task| task.id.as_str())
                    .collect();
                let what = if tasks.is_empty() { vec![executor.id.as_str()] } else { tasks };
                ended.extend(what.into_iter().map(|what| format!("{what} of framework {name} ({id})")));
            }
        }
        ended
    }

    /// The tasks that have another address than the agent, or may have: an isolator gives it before anything is told of it.
    /// Who gave it is not told.
    pub fn tasks_with_own_addresses(&self) -> Vec<String> {
        let own = self.pid.split_once('@').and_then(|(_, address)| address.rsplit_once(':'));
        let own = own.map(|(address, _)| address);
        let mut tasks = Vec::new();
        for Framework { id, name, executors, .. } in &self.frameworks {
            let all =
                executors.iter().flat_map(|executor| executor.tasks.iter().chain(&executor.queued_tasks));
            for task in all {
                let told = task.addresses().next().is_some();
                let address = task.addresses().find(|address| Some(*address) != own);
                if let Some(address) = address.or((!told).then_some("of no known address")) {
                    tasks.push(format!("{} ({address}) of framework {name} ({id})", task.id));
                }
            }
        }
        tasks
    }

    /// When it was started.
    pub fn started(&self) -> SystemTime {
        UNIX_EPOCH + Duration::try_from_secs_f64(self.start_time).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_frameworks_without_checkpoints_run_is_ended() {
        let executor = |id: &str, tasks: &[&str], queued: &[&str]| {
            let list =
                |ids: &[&str]| ids.iter().map(|id| json!({ "id": id, "name": "t" })).collect::<Vec<_>>();
            json!({ "id": id, "tasks": list(tasks), "queued_tasks": list(queued), "completed_tasks": [{}] })
        };
        let state: AgentState = serde_json::from_value(json!({
            "id": "S1", "start_time": 1_700_000_000.25, "version": "1.0.4",
            "frameworks": [
                { "id": "F1", "name": "marathon", "checkpoint": true, "executors": [executor("e", &["web"], &[])] },
                { "id": "F2", "name": "chronos", "checkpoint": false, "executors": [
                    executor("e1", &["a"], &["b"]), executor("e2", &[], &[]),
                ] },
                { "id": "F3", "name": "none", "checkpoint": false, "executors": [] },
            ],
            "completed_frameworks": [{ "id": "F0", "checkpoint": false }],
        }))
        .unwrap();
        let expected = ["a", "b", "e2"].map(|what| format!("{what} of framework chronos (F2)"));
        assert_eq!(state.ended_by_restart(), expected);
        assert_eq!(state.started(), UNIX_EPOCH + Duration::from_millis(1_700_000_000_250));
    }

    /// As Mesos 0.28 answers, where each task is told its agent's address unless a module gives it one.
    #[test]
    fn tasks_with_addresses_of_their_own_are_known_by_what_they_were_told() {
        let told = |infos: serde_json::Value| json!([{ "state": "TASK_RUNNING", "container_status": { "network_infos": infos } }]);
        let address = |it: &str| json!([{ "ip_addresses": [{ "ip_address": it, "protocol": "IPv4" }] }]);
        let state: AgentState = serde_json::from_value(json!({
            "id": "S1", "start_time": 1.0, "pid": "slave(1)@10.0.0.11:5051",
            "frameworks": [{ "id": "F1", "name": "marathon", "executors": [{ "id": "e", "tasks": [
                { "id": "web", "statuses": told(address("192.168.0.1")) },
                { "id": "host", "statuses": told(address("10.0.0.11")) },
                { "id": "old", "statuses": told(json!([{ "ip_address": "192.168.0.2" }])) },
                { "id": "staging", "statuses": [{ "state": "TASK_STAGING" }] },
                { "id": "fetching" },
            ], "queued_tasks": [{ "id": "queued" }] }] }],
        }))
        .unwrap();
        let unknown = |id: &str| format!("{id} (of no known address)");
        let expected = ["web (192.168.0.1)".to_owned(), "old (192.168.0.2)".to_owned()]
            .into_iter()
            .chain(["staging", "fetching", "queued"].map(unknown))
            .map(|it| format!("{it} of framework marathon (F1)"))
            .collect::<Vec<_>>();
        assert_eq!(state.tasks_with_own_addresses(), expected);
    }

    /// As Mesos 1.0 to 1.11 answer before they are registered, and an agent that nothing runs on.
    #[test]
    fn an_agent_without_anything_is_read() {
        let state: AgentState =
            serde_json::from_str(r#"{"start_time":1.5,"id":"","frameworks":[]}"#).unwrap();
        assert_eq!((state.id.as_str(), state.ended_by_restart()), ("", Vec::new()));
    }
}
