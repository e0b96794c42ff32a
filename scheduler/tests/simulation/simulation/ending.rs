//! Whether all is as it should be when nothing goes wrong any more.

use calico_scheduler::core::{Scope, Status, TaskType, View};
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
        if view.deploy.status != Status::Complete {
            let status = view.deploy.status;
            let agents = view.agents.iter().filter(|agent| agent.status != Status::Complete);
            let reasons: Vec<String> = agents
                .map(|agent| format!("{} ({}): {}", agent.agent, agent.presence, agent.reason))
                .collect();
            return Some(format!("the plan is {status:?}: {}", reasons.join("; ")));
        }
        let wanted = || (!self.checks.suppressed).then(|| "offers are wanted".to_owned());
        self.untrue(&view).or_else(wanted)
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
            let Some(shown) = view.agents.iter().find(|shown| shown.agent.0 == key) else {
                return Some(format!("{key} is not shown"));
            };
            if shown.agent_id.0 != id || shown.presence != "active" {
                return Some(format!("{key} is shown as {}, {}", shown.agent_id, shown.presence));
            }
            for task_type in TaskType::ALL.into_iter().filter(|t| t.scope() == Scope::Agent) {
                let task = shown.tasks.iter().find(|task| task.task_type == task_type);
                if task.is_some_and(|task| task.skipped.is_some()) {
                    continue;
                }
                let task_id = task.and_then(|task| task.task_id.as_ref());
                let there = match task_id {
                    Some(task_id) => hosts(&self.world).any(|(host, task, state)| {
                        self.world.agent_id(host) == Some(id)
                            && task == task_id.0
                            && state == TaskState::TaskRunning
                    }),
                    None => {
                        let install = matches!(task_type, TaskType::Cni | TaskType::DockerClusterStore);
                        install && self.checks.has_reached(id, task_type)
                    }
                };
                if !there {
                    return Some(format!("{key} has no {task_type}, and {task_id:?} is shown"));
                }
            }
        }
        None
    }
}
