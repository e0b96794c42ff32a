//! The scheduler's HTTP API, as its users see it.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::command::wait_until;
use crate::error::{Error, Result};
use crate::http;

/// A scheduler's API.
#[derive(Debug, Clone)]
pub struct Api {
    address: SocketAddr,
    health: String,
}

/// A plan, in the DC/OS SDK's form.
#[derive(Debug, Clone, Deserialize)]
pub struct Plan {
    /// As a whole.
    pub status: String,
    /// What an operator must act on.
    pub errors: Vec<String>,
    /// A task type each.
    pub phases: Vec<Phase>,
}

/// A phase of a plan.
#[derive(Debug, Clone, Deserialize)]
pub struct Phase {
    /// The task type.
    pub name: String,
    /// As a whole.
    pub status: String,
    /// One a place.
    pub steps: Vec<Step>,
}

/// A step of a plan.
#[derive(Debug, Clone, Deserialize)]
pub struct Step {
    /// The agent's address, or the task type.
    pub name: String,
    /// Where it stands.
    pub status: String,
    /// Why.
    pub message: String,
}

/// An agent.
#[derive(Debug, Clone, Deserialize)]
pub struct Agent {
    /// Its address.
    pub agent: String,
    /// The ID of its registration.
    pub agent_id: String,
    /// `active`, `excluded`, `duplicate`, `deactivated`, `draining` or `absent`; `unknown` before the first inventory.
    pub presence: String,
    /// As a whole.
    pub status: String,
    /// What it waits for, or what went wrong.
    pub reason: String,
    /// What its last offer had too little of.
    #[serde(default)]
    pub shortage: Option<Shortage>,
    /// Since when it waits for an offer and gets none.
    #[serde(default)]
    pub no_offer_since: Option<String>,
    /// A task type each.
    pub tasks: Vec<Task>,
}

/// What an agent has too little of.
#[derive(Debug, Clone, Deserialize)]
pub struct Shortage {
    /// `cpus` or `mem`.
    pub resource: String,
    /// How much is needed.
    pub needed: f64,
    /// How much there was.
    pub offered: f64,
    /// Since when.
    pub since: String,
}

/// A task type on an agent.
#[derive(Debug, Clone, Deserialize)]
pub struct Task {
    /// The task type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// Where it stands.
    pub status: String,
    /// The launch that is alive.
    pub task_id: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// Why it stands there.
    pub reason: String,
}

/// Services that are launched again.
#[derive(Debug, Clone, Deserialize)]
pub struct Recovery {
    /// How many are under way.
    pub under_way: usize,
    /// How many may be.
    pub at_most: usize,
    /// Agents with a service that was ready before and is not now.
    pub agents_down: usize,
}

impl Agent {
    /// One of its tasks.
    pub fn task(&self, task_type: &str) -> Result<&Task> {
        let found = self.tasks.iter().find(|task| task.task_type == task_type);
        found.ok_or_else(|| Error::Invalid(format!("agent {} has no task type '{task_type}'", self.agent)))
    }
}

impl Api {
    pub(crate) fn new(address: SocketAddr, health: &str) -> Self {
        Self { address, health: health.to_owned() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Status code and body of the answer to `GET path`.
    pub fn get(&self, path: &str) -> Result<(u16, Value)> {
        let said = |reason: String| Error::Invalid(format!("http://{}{path}: {reason}", self.address));
        let (status, body) = http::request(self.address, path).map_err(said)?;
        // Not everything is JSON: what is not is given as text.
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        Ok((status, serde_json::from_slice(&body).unwrap_or_else(|_| text())))
    }

    /// The plan `deploy`, and the status code with which it came.
    pub fn deploy(&self) -> Result<(u16, Plan)> {
        let (status, body) = self.get("/v1/plans/deploy")?;
        Ok((status, self.decode("/v1/plans/deploy", &body)?))
    }

    /// All agents.
    pub fn agents(&self) -> Result<Vec<Agent>> {
        let (_, body) = self.get("/v1/agents")?;
        self.decode("/v1/agents", &body)
    }

    /// Services that are launched again, and how many may be.
    pub fn recovery(&self) -> Result<Recovery> {
        let (_, body) = self.get("/v1/recovery")?;
        self.decode("/v1/recovery", &body)
    }

    /// The agent at an address (`host:port`).
    pub fn agent(&self, address: &str) -> Result<Agent> {
        let path = format!("/v1/agents/{address}");
        let (_, body) = self.get(&path)?;
        self.decode(&path, &body)
    }

    /// Our framework ID.
    pub fn framework_id(&self) -> Result<String> {
        let (_, body) = self.get("/v1/state/frameworkId")?;
        let ids: Vec<String> = self.decode("/v1/state/frameworkId", &body)?;
        ids.into_iter().next().ok_or_else(|| Error::Invalid("an empty list of framework IDs".to_owned()))
    }

    /// Waits until Marathon's health check passes.
    pub fn wait_alive(&self, limit: Duration) -> Result<()> {
        wait_until("the scheduler's health check", limit, || {
            Ok(match self.get(&self.health) {
                Ok((200, _)) => Ok(()),
                Ok((status, body)) => Err(format!("it answers {status} {body}")),
                Err(error) => Err(error.to_string()),
            })
        })
    }

    /// Waits until the plan `deploy` is complete and counts `agents` agents.
    pub fn wait_deployed(&self, agents: usize, limit: Duration) -> Result<Plan> {
        let mut complete = None;
        wait_until(&format!("the install on {agents} agents"), limit, || {
            Ok(match self.deploy() {
                Ok((200, plan)) if plan.counts(agents) => {
                    complete = Some(plan);
                    Ok(())
                }
                Ok((status, plan)) => Err(format!("{status} {}", plan.summary())),
                Err(error) => Err(error.to_string()),
            })
        })?;
        complete.ok_or_else(|| Error::Invalid("no plan was seen".to_owned()))
    }

    fn decode<T: for<'de> Deserialize<'de>>(&self, path: &str, body: &Value) -> Result<T> {
        T::deserialize(body)
            .map_err(|error| Error::Invalid(format!("http://{}{path}: {error}: {body}", self.address)))
    }
}

impl Plan {
    /// Whether every phase that is about agents has so many steps.
    fn counts(&self, agents: usize) -> bool {
        let once = ["cluster-init", "docker-network"];
        self.phases.iter().all(|phase| once.contains(&&*phase.name) || phase.steps.len() == agents)
    }

    /// One line: what is not complete.
    pub fn summary(&self) -> String {
        let open = self.phases.iter().flat_map(|phase| {
            let open = phase.steps.iter().filter(|step| step.status != "COMPLETE");
            open.map(|step| format!("{} on {}: {} {}", phase.name, step.name, step.status, step.message))
        });
        format!("{}: {}", self.status, open.collect::<Vec<_>>().join("; "))
    }
}
