//! What the master says of our tasks: seen from outside, not by our own word.

use cluster::{Cluster, get_json};
use serde_json::Value;

/// One task that the master knows of.
#[derive(Debug, Clone)]
pub struct Task {
    pub id: String,
    /// The task type.
    pub name: String,
    /// The agent's ID.
    pub agent: String,
    /// As it is now.
    pub state: String,
    /// Each state with its time in seconds since the epoch, in order.
    pub states: Vec<(String, f64)>,
}

impl Task {
    /// When it was first in `state`.
    pub fn since(&self, state: &str) -> Option<f64> {
        self.states.iter().find(|(seen, _)| seen == state).map(|(_, at)| *at)
    }
}

/// Everything of our framework.
#[derive(Debug, Clone)]
pub struct Framework {
    pub id: String,
    /// Offers that it holds.
    pub offers: usize,
    /// Those that run and those that ended, by their first state.
    pub tasks: Vec<Task>,
}

impl Framework {
    /// The tasks of a type on an agent.
    pub fn of(&self, agent: &str, name: &str) -> Vec<&Task> {
        self.tasks.iter().filter(|task| task.agent == agent && task.name == name).collect()
    }

    /// The one task of a type on an agent.
    pub fn only(&self, agent: &str, name: &str) -> &Task {
        let found = self.of(agent, name);
        assert_eq!(found.len(), 1, "{name} on {agent}: {found:#?}");
        found[0]
    }
}

/// Our framework as the master sees it: there must be one, and never a second.
pub fn framework(cluster: &Cluster) -> Framework {
    // Masters that do not lead point elsewhere.
    let mut states = cluster.master_urls().into_iter().map(|url| get_json(&format!("{url}/master/state")));
    let state = states.find_map(Result::ok).unwrap();
    let all = ["frameworks", "completed_frameworks", "unregistered_frameworks"];
    let ours: Vec<&Value> = all
        .iter()
        .filter_map(|list| state[list].as_array())
        .flatten()
        .filter(|framework| framework["name"] == "calico")
        .collect();
    assert_eq!(ours.len(), 1, "frameworks named calico: {ours:#?}");
    let lists = ["tasks", "completed_tasks", "unreachable_tasks"];
    let mut tasks: Vec<Task> =
        lists.iter().filter_map(|list| ours[0][list].as_array()).flatten().map(task).collect();
    tasks.sort_by(|a, b| {
        a.states.first().map(|(_, at)| at).partial_cmp(&b.states.first().map(|(_, at)| at)).unwrap()
    });
    Framework {
        id: ours[0]["id"].as_str().unwrap().to_owned(),
        offers: ours[0]["offers"].as_array().map_or(0, Vec::len),
        tasks,
    }
}

fn task(task: &Value) -> Task {
    let text = |name: &str| task[name].as_str().unwrap().to_owned();
    let states = task["statuses"].as_array().unwrap().iter();
    Task {
        id: text("id"),
        name: text("name"),
        agent: text("slave_id"),
        state: text("state"),
        states: states
            .map(|s| (s["state"].as_str().unwrap().to_owned(), s["timestamp"].as_f64().unwrap()))
            .collect(),
    }
}
