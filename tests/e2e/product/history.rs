//! What the master and the agents say of our tasks: seen from outside, not by our own word.

use std::time::Duration;

use cluster::{Cluster, get_json, get_json_within};
use serde_json::Value;

/// What an agent may take for an answer: one that is cut off gives none.
const AGENT: Duration = Duration::from_secs(1);

/// One task of ours.
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
    /// What its health check said last, if it has one.
    pub healthy: Option<bool>,
}

impl Task {
    /// When it was first in `state`.
    pub fn since(&self, state: &str) -> Option<f64> {
        self.states.iter().find(|(seen, _)| seen == state).map(|(_, at)| *at)
    }

    /// Whether it only looks at what an install has done.
    pub fn only_looks(&self) -> bool {
        self.name.ends_with("-check")
    }

    /// Whether it has ended.
    pub fn ended(&self) -> bool {
        is_end(&self.state)
    }

    /// When it began, and when it ended if it has.
    pub fn span(&self) -> (f64, f64) {
        let begin = self.states.first().map_or(f64::INFINITY, |(_, at)| *at);
        let end = self.states.iter().find(|(state, _)| is_end(state));
        (begin, end.map_or(f64::INFINITY, |(_, at)| *at))
    }
}

fn is_end(state: &str) -> bool {
    !["TASK_STAGING", "TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_UNREACHABLE"].contains(&state)
}

/// Everything of our framework.
#[derive(Debug, Clone, Default)]
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

    /// The tasks that do something: all but those that only look.
    pub fn doing(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| !task.only_looks())
    }

    /// The IDs of those of them that run.
    pub fn running(&self) -> Vec<&str> {
        let running = self.doing().filter(|task| task.state == "TASK_RUNNING");
        let mut ids: Vec<&str> = running.map(|task| task.id.as_str()).collect();
        ids.sort_unstable();
        ids
    }
}

/// An agent as the master has it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// `host:port`, as our API names it.
    pub address: String,
    pub id: String,
    /// Whether it is connected and takes tasks.
    pub active: bool,
    /// Whether an operator wanted that it takes no new ones.
    pub deactivated: bool,
    /// `DRAINING` or `DRAINED`, when an operator wanted that.
    pub drain: Option<String>,
}

/// What the leading master knows.
#[derive(Debug, Clone)]
pub struct Master {
    pub agents: Vec<Listed>,
    /// Ours: there must be one, and never a second.
    pub framework: Option<Framework>,
}

/// Our framework as the master sees it: there must be one, and never a second.
pub fn framework(cluster: &Cluster) -> Framework {
    look(&cluster.master_urls()).unwrap().framework.unwrap()
}

/// What the leading master says; none while none leads.
pub fn look(masters: &[String]) -> Option<Master> {
    // Masters that do not lead point elsewhere.
    let state = masters.iter().find_map(|url| get_json(&format!("{url}/master/state")).ok())?;
    let all = ["frameworks", "completed_frameworks", "unregistered_frameworks"];
    let lists = all.iter().filter_map(|list| state[list].as_array());
    let ours: Vec<&Value> = lists.flatten().filter(|framework| framework["name"] == "calico").collect();
    assert!(ours.len() <= 1, "frameworks named calico: {ours:#?}");
    let framework = ours.first().map(|framework| {
        let lists = ["tasks", "completed_tasks", "unreachable_tasks"];
        let tasks = lists.iter().filter_map(|list| framework[list].as_array()).flatten().map(task);
        Framework {
            id: text(framework, "id"),
            offers: framework["offers"].as_array().map_or(0, Vec::len),
            tasks: by_first_state(tasks.collect()),
        }
    });
    let agents = state["slaves"].as_array().unwrap().iter().map(|agent| Listed {
        address: format!("{}:{}", text(agent, "hostname"), agent["port"]),
        id: text(agent, "id"),
        active: agent["active"] == true && agent["deactivated"] != true,
        deactivated: agent["deactivated"] == true,
        drain: agent["drain_info"]["state"].as_str().map(str::to_owned),
    });
    Some(Master { agents: agents.collect(), framework })
}

/// The tasks of ours that the agent at `host:port` runs or ran, by its own word; none when it does not answer.
pub fn on_agent(address: &str) -> Option<Vec<Task>> {
    let state = get_json_within(&format!("http://{address}/state"), AGENT).ok()?;
    let lists = |of: &Value, names: [&str; 2]| -> Vec<Value> {
        names.iter().filter_map(|name| of[name].as_array()).flatten().cloned().collect()
    };
    let frameworks = lists(&state, ["frameworks", "completed_frameworks"]);
    let ours = frameworks.iter().filter(|framework| framework["name"] == "calico");
    let executors = ours.flat_map(|framework| lists(framework, ["executors", "completed_executors"]));
    let tasks = executors.flat_map(|executor| lists(&executor, ["tasks", "completed_tasks"]));
    Some(by_first_state(tasks.map(|found| task(&found)).collect()))
}

fn by_first_state(mut tasks: Vec<Task>) -> Vec<Task> {
    tasks.sort_by(|a, b| a.span().0.total_cmp(&b.span().0));
    tasks
}

fn text(of: &Value, name: &str) -> String {
    of[name].as_str().unwrap_or_default().to_owned()
}

fn task(task: &Value) -> Task {
    let statuses = task["statuses"].as_array().unwrap();
    Task {
        id: text(task, "id"),
        name: text(task, "name"),
        agent: text(task, "slave_id"),
        state: text(task, "state"),
        states: statuses.iter().map(|s| (text(s, "state"), s["timestamp"].as_f64().unwrap())).collect(),
        healthy: statuses.iter().filter_map(|status| status["healthy"].as_bool()).next_back(),
    }
}
