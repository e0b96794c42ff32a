//! Whether all is as it should be when nothing goes wrong any more.

use calico_scheduler::core::{Scope, Status, TaskType, TaskView, View};
use mesos_v1::TaskState;

use super::Simulation;
use crate::checks::{hosts, is_step};

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
        let expected = self.stopped(&view);
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

    /// What the plan must be for what waits for an operator.
    fn stopped(&self, view: &View) -> Status {
        let there = view.agents.iter().filter(|agent| agent.presence == "active");
        let on_agents =
            there.flat_map(|agent| agent.tasks.iter().filter_map(|task| self.stops(&agent.agent_id.0, task)));
        let of_cluster = TaskType::ALL.into_iter().filter(|t| t.scope() == Scope::Cluster);
        let of_cluster = of_cluster.filter_map(|task_type| self.cluster_stops(view, task_type));
        let stops: Vec<Status> = on_agents.chain(of_cluster).collect();
        let worst = [Status::Error, Status::Waiting].into_iter().find(|status| stops.contains(status));
        worst.unwrap_or(Status::Complete)
    }

    /// How a task of the cluster waits for an operator, if it does.
    fn cluster_stops(&self, view: &View, task_type: TaskType) -> Option<Status> {
        let phase = view.deploy.phases.iter().find(|phase| phase.name == task_type.name())?;
        self.held("", task_type, phase.status)
    }

    /// How a task of an agent waits for an operator, if it does.
    fn stops(&self, agent: &str, task: &TaskView) -> Option<Status> {
        // By a clock that has jumped, an agent was not healthy in time.
        let given_up = task.status == Status::Error && task.reason.contains("rollout.agent-timeout");
        let given_up = (given_up && self.checks.clocks_jumped).then_some(Status::Error);
        given_up.or_else(|| self.held(agent, task.task_type, task.status))
    }

    /// How something waits for an operator that may, and is shown to, or must.
    fn held(&self, agent: &str, task_type: TaskType, shown: Status) -> Option<Status> {
        let (code, must) = self.checks.held(agent, task_type)?;
        // Installs on agents may be allowed a restart.
        let waits = code == 79 && task_type.scope() == Scope::Agent;
        let status = if waits { Status::Waiting } else { Status::Error };
        (shown == status || must && !self.checks.restored).then_some(status)
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
            for task_type in TaskType::ALL.into_iter().filter(|t| is_step(*t)) {
                if task_type == TaskType::CalicoNode
                    && self.cluster_stops(view, TaskType::ClusterInit).is_some()
                {
                    break;
                }
                let task = shown.tasks.iter().find(|task| task.task_type == task_type);
                if task.is_some_and(|task| task.skipped.is_some()) {
                    continue;
                }
                if let Some(task) = task.filter(|task| self.stops(id, task).is_some()) {
                    let code = self.checks.held(id, task_type).map(|(code, _)| code);
                    let said = code.map(|code| format!("exited with status {code} ("));
                    if !task.reason.contains(&said.unwrap_or_default())
                        || !shown.reason.contains(&task.reason)
                    {
                        return Some(format!("{key} waits for an operator, and says '{}'", shown.reason));
                    }
                    // What comes after it is not there.
                    break;
                }
                let task_id = task.and_then(|task| task.task_id.as_ref());
                let there = if let Some(task_id) = task_id {
                    hosts(&self.world).any(|(host, task, state)| {
                        self.world.agent_id(host) == Some(id)
                            && task == &*task_id.0
                            && state == TaskState::TaskRunning
                    })
                } else {
                    let install = matches!(task_type, TaskType::Cni | TaskType::DockerClusterStore);
                    // What was taken over after that has no known target, and is not looked at.
                    let is_known = task_type == TaskType::Cni && !self.checks.restored;
                    let wiped = is_known && self.mood.wiped.lock().unwrap().contains(id);
                    install && !wiped && self.checks.has_reached(id, task_type)
                };
                if !there {
                    return Some(format!("{key} has no {task_type}, and {task_id:?} is shown"));
                }
            }
        }
        None
    }
}
