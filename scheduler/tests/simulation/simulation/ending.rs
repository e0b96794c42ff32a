//! Whether all is as it should be when nothing goes wrong any more.

use calico_scheduler::core::{Status, TaskType, View};
use mesos_v1::TaskState;

use super::Simulation;
use crate::checks::hosts;

impl Simulation {
    /// What is not as it should be, if anything is.
    pub(super) fn missing(&mut self) -> Option<String> {
        let mut view = None;
        for scheduler in &mut self.schedulers {
            if let (Some(process), None) = (&mut scheduler.process, scheduler.frozen) {
                view = view.or(process.view());
            }
        }
        let Some(view) = view else { return Some("no scheduler leads".to_owned()) };
        let held = self.waits_for_operator(&view);
        let expected = if held { Status::Error } else { Status::Complete };
        if view.deploy.status != expected {
            let status = view.deploy.status;
            let agents = view.agents.iter().filter(|agent| agent.status != Status::Complete);
            let reasons: Vec<String> = agents
                .map(|agent| format!("{} ({}): {}", agent.agent, agent.presence, agent.reason))
                .collect();
            return Some(format!("the plan is {status:?}, not {expected:?}: {}", reasons.join("; ")));
        }
        let wanted = || (!self.checks.suppressed).then(|| "offers are wanted".to_owned());
        self.untrue(&view).or_else(wanted)
    }

    /// Whether the plan shows that something waits for an operator, or should.
    fn waits_for_operator(&self, view: &View) -> bool {
        let there = view.agents.iter().filter(|agent| agent.presence == "active");
        let mut held = there.flat_map(|agent| {
            let id = &agent.agent_id.0;
            let shown = agent.tasks.iter().map(|task| (task.task_type, task.status == Status::Error));
            shown.map(move |(task_type, shown)| self.is_held(id, task_type, shown))
        });
        let cluster = self.is_cluster_held(view);
        held.any(|held| held) || cluster
    }

    /// Whether cluster-init waits for an operator.
    fn is_cluster_held(&self, view: &View) -> bool {
        let phase = view.deploy.phases.iter().find(|phase| phase.name == TaskType::ClusterInit.name());
        let shown = phase.is_some_and(|phase| phase.status == Status::Error);
        self.is_held("", TaskType::ClusterInit, shown)
    }

    /// Whether something waits for an operator that may, and is shown to, or must.
    fn is_held(&self, agent: &str, task_type: TaskType, shown: bool) -> bool {
        match self.checks.held(agent, task_type) {
            Some((_, must)) => shown || must && !self.checks.restored,
            None => false,
        }
    }

    /// What the view says that is not so, if anything is.
    fn untrue(&self, view: &View) -> Option<String> {
        for agent in self.world.get_agents().agents {
            let name = &agent.agent_info.hostname;
            let id = agent.agent_info.id.as_ref().map(|id| id.value.as_str()).unwrap_or_default();
            let excluded = self.checks.excluded.contains(name);
            if excluded || !agent.active {
                continue;
            }
            let key = format!("{name}:{}", agent.agent_info.port());
            let Some(shown) = view.agents.iter().find(|shown| *shown.agent.0 == *key) else {
                return Some(format!("{key} is not shown"));
            };
            if *shown.agent_id.0 != *id || shown.presence != "active" {
                return Some(format!("{key} is shown as {}, {}", shown.agent_id, shown.presence));
            }
            for task_type in [TaskType::EtcdProxy, TaskType::Cni, TaskType::CalicoNode] {
                if task_type == TaskType::CalicoNode && self.is_cluster_held(view) {
                    break;
                }
                let task = shown.tasks.iter().find(|task| task.task_type == task_type);
                let shown_held = task.is_some_and(|task| task.status == Status::Error);
                if self.is_held(id, task_type, shown_held) {
                    let code = self.checks.held(id, task_type).map_or(0, |(code, _)| code);
                    let why = task.map(|task| task.reason.clone()).unwrap_or_default();
                    if !why.contains(&format!("exited with status {code} (")) || !shown.reason.contains(&why)
                    {
                        return Some(format!("{key} waits for an operator, and says '{}'", shown.reason));
                    }
                    // What comes after it is not there.
                    break;
                }
                let task_id = task.and_then(|task| task.task_id.as_ref());
                let there = match task_id {
                    Some(task_id) => hosts(&self.world).any(|(host, task, state)| {
                        self.world.agent_id(host) == Some(id)
                            && task == &*task_id.0
                            && state == TaskState::TaskRunning
                    }),
                    None => task_type == TaskType::Cni && self.checks.has_reached(id, task_type),
                };
                if !there {
                    return Some(format!("{key} has no {task_type}, and {task_id:?} is shown"));
                }
            }
        }
        None
    }
}
