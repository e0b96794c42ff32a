//! What a test does to agents' hosts and to the tasks on them.

use std::sync::Arc;

use mesos_v1::TaskState;
use mesos_v1::task_status::Reason;

use crate::agent::Said;
use crate::script::End;
use crate::settings::{AgentRef, AgentSpec};
use crate::state::{TaskKey, is_terminal};
use crate::world::World;

impl World {
    /// The agent's process ends; tasks of frameworks that checkpoint go on.
    pub fn stop_agent(&mut self, agent: AgentRef) {
        let agent = &mut self.agents[agent.index()];
        let was_there = std::mem::replace(&mut agent.runs, false) && agent.registered && !agent.partitioned;
        agent.registered = false;
        agent.held.clear();
        let key = agent.key;
        if key.is_none() {
            // It has nothing of it in its work directory.
            agent.previous = agent.given.take().or(agent.previous);
        }
        let frameworks = &agent.frameworks;
        agent.tasks.retain(|(framework, _), task| {
            is_terminal(task.state) || frameworks.get(framework).is_some_and(|info| info.checkpoint())
        });
        if let (true, Some(key), true) = (was_there, key, self.master.leads) {
            self.agent_disconnected(key);
        }
    }

    /// The agent's process starts, with what is in its work directory.
    pub fn start_agent(&mut self, agent: AgentRef) {
        let process = &mut self.agents[agent.index()];
        if process.runs {
            return;
        }
        process.runs = true;
        process.incarnation += 1;
        self.seek_master(agent);
    }

    /// The host loses its power: the agent's process and all tasks end. They fail when the agent starts again.
    pub fn power_off(&mut self, agent: AgentRef) {
        self.stop_agent(agent);
        let process = agent.index();
        let tasks: Vec<TaskKey> = self.agents[process].tasks.keys().cloned().collect();
        for key in tasks {
            if self.agents[process].tasks.get(&key).is_some_and(|task| !is_terminal(task.state)) {
                let said = Said {
                    from_agent: true,
                    reason: Some(Reason::ExecutorTerminated),
                    message: Some("Abnormal executor termination: unknown container".to_owned()),
                };
                self.say(process, &key, TaskState::TaskFailed, said);
            }
        }
    }

    /// The host is built anew: its work directory and its tasks are gone, and when it starts it gets a new agent ID.
    pub fn rebuild_agent(&mut self, agent: AgentRef) {
        self.stop_agent(agent);
        let process = &mut self.agents[agent.index()];
        process.previous = process.key.take().or(process.previous);
        process.given = None;
        process.tasks.clear();
        process.frameworks.clear();
        process.total = Arc::clone(&process.spec.resources);
        process.partitioned = false;
    }

    /// The agent's process ends, and will start at another address, with its work directory and its tasks.
    pub fn move_agent(&mut self, agent: AgentRef, hostname: &str) {
        self.stop_agent(agent);
        self.agents[agent.index()].spec.hostname = hostname.into();
    }

    /// No packet passes between the agent and the master any more.
    pub fn partition_agent(&mut self, agent: AgentRef) {
        let process = &mut self.agents[agent.index()];
        if std::mem::replace(&mut process.partitioned, true) {
            return;
        }
        if let (Some(key), true) = (process.key, process.registered) {
            self.expect_pings(key);
        }
    }

    /// Packets pass again.
    pub fn heal_agent(&mut self, agent: AgentRef) {
        let process = agent.index();
        if !std::mem::replace(&mut self.agents[process].partitioned, false) {
            return;
        }
        for held in std::mem::take(&mut self.agents[process].held) {
            self.after(self.settings.latency, held);
        }
        let known = self.agents[process].key.filter(|key| self.master.registered.contains_key(key));
        match known {
            Some(key) if self.agents[process].registered => {
                self.pings_answered(key);
                self.resume(process, None);
            }
            _ => {
                self.agents[process].registered = false;
                self.seek_master(agent);
            }
        }
    }

    /// A task ends by itself, whatever its script says; false when it does not run there.
    pub fn end_task(&mut self, agent: AgentRef, task: &str, end: &End) -> bool {
        let running = self.running(agent, task);
        if let Some(key) = &running {
            self.ends(agent.index(), key, end);
        }
        running.is_some()
    }

    /// A task's check exits with `code` from now on; false when it does not run there.
    pub fn set_check(&mut self, agent: AgentRef, task: &str, code: i32) -> bool {
        let running = self.running(agent, task);
        if let Some(key) = &running {
            self.check_exits(agent.index(), key, code);
        }
        running.is_some()
    }

    /// A task's health check passes or fails from now on; false when it does not run there. That it fails does not kill
    /// the task: [`Self::end_task`] does.
    pub fn set_health(&mut self, agent: AgentRef, task: &str, healthy: bool) -> bool {
        let running = self.running(agent, task);
        if let Some(key) = &running {
            self.health_is(agent.index(), key, healthy);
        }
        running.is_some()
    }

    fn running(&self, agent: AgentRef, task: &str) -> Option<TaskKey> {
        let tasks = self.agents.get(agent.index())?.tasks.iter();
        let mut of_name = tasks.filter(|((_, name), there)| &**name == task && !is_terminal(there.state));
        of_name.next().map(|(key, _)| key.clone())
    }

    /// The tasks that run on an agent's host, whatever the master knows of them: their IDs and states.
    pub fn tasks_on(&self, agent: AgentRef) -> impl Iterator<Item = (&str, TaskState)> {
        let tasks = self.agents.get(agent.index()).into_iter().flat_map(|agent| &agent.tasks);
        tasks.filter(|(_, task)| !is_terminal(task.state)).map(|((_, name), task)| (&**name, task.state))
    }

    /// Whether an agent's process runs.
    pub fn is_running(&self, agent: AgentRef) -> bool {
        self.agents.get(agent.index()).is_some_and(|agent| agent.runs)
    }

    /// The number of agents that were added.
    pub fn agents(&self) -> usize {
        self.agents.len()
    }

    /// The configuration of an agent.
    pub fn spec(&self, agent: AgentRef) -> &AgentSpec {
        &self.agents[agent.index()].spec
    }

    /// The agent ID that an agent's process has, when it has registered.
    pub fn agent_id(&self, agent: AgentRef) -> Option<&str> {
        self.agents.get(agent.index())?.key.map(|key| &**self.identities.id(key))
    }
}
