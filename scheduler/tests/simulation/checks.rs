//! What must hold, as the hosts, the master and the store see it: the core is not asked.

use std::collections::{BTreeMap, BTreeSet};

use calico_scheduler::core::{
    AgentId, AgentRecord, ClusterRecord, Phase, Scope, TaskId, TaskRecord, TaskType,
};
use fake_master::{AgentRef, World};
use mesos_v1::scheduler::{Call, Event, call, event};
use mesos_v1::{TaskInfo, TaskState, TaskStatus};

use crate::etcd::Etcd;

const BELOW: &str = "/calico-dcos/calico/";

#[derive(Debug)]
struct Launched {
    task_type: TaskType,
    agent: AgentId,
    /// The master has said of it that it is unreachable or gone: another agent may do the cluster's work.
    given_up: bool,
}

/// What happened, as far as what may happen depends on it.
#[derive(Debug, Default)]
pub struct Checks {
    launched: BTreeMap<TaskId, Launched>,
    /// What has reached its goal, as the master's updates say.
    reached: BTreeSet<(AgentId, TaskType)>,
    /// Updates that want an acknowledgement.
    updates: BTreeMap<(TaskId, Vec<u8>), TaskState>,
    /// Whether the last word on offers was that none are wanted.
    pub suppressed: bool,
    /// etcd was restored from a snapshot: it may hold less than we knew.
    pub restored: bool,
    /// Agents that must get nothing.
    pub excluded: BTreeSet<String>,
}

/// Who leads, as etcd has it.
pub fn leader(etcd: &Etcd) -> Option<String> {
    let (_, value) = etcd.below("/calico-dcos/calico/leader").next()?;
    let value: serde_json::Value = serde_json::from_slice(value).unwrap();
    Some(value["holder"].as_str().unwrap().to_owned())
}

fn contains(value: &[u8], text: &str) -> bool {
    value.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The stored record that says that this task is alive.
fn stored(etcd: &Etcd, task: &TaskId) -> Option<TaskRecord> {
    etcd.below(BELOW).filter(|(_, value)| contains(value, &task.0)).find_map(|(key, value)| {
        let tasks = if key.ends_with("/cluster") {
            serde_json::from_slice::<ClusterRecord>(value).unwrap().tasks
        } else if key.contains("/agents/") {
            serde_json::from_slice::<AgentRecord>(value).unwrap().tasks
        } else {
            return None;
        };
        tasks
            .into_iter()
            .map(|(_, record)| record)
            .find(|record| record.phase.live().is_some_and(|(live, _)| live == task))
    })
}

impl Checks {
    /// A scheduler sends a call.
    pub fn call(&mut self, by: &str, call: &Call, etcd: &Etcd, world: &World) {
        match call.r#type() {
            call::Type::Accept => {
                let operations = call.accept.iter().flat_map(|accept| &accept.operations);
                for task in operations.filter_map(|o| o.launch.as_ref()).flat_map(|launch| &launch.task_infos)
                {
                    self.launch(by, task, etcd, world);
                }
            }
            call::Type::Acknowledge => {
                let acknowledge = call.acknowledge.as_ref().unwrap();
                let task = TaskId(acknowledge.task_id.value.clone());
                let state = self.updates.get(&(task.clone(), acknowledge.uuid.to_vec()));
                let state = *state.unwrap_or_else(|| panic!("{task}: what was never said is acknowledged"));
                let record = stored(etcd, &task);
                match record.map(|record| record.phase) {
                    Some(phase) if is_terminal(state) && !self.restored => {
                        panic!("the end of {task} ({state:?}) is acknowledged and not stored: {phase:?}")
                    }
                    Some(Phase::Launched { .. }) if !self.restored => {
                        panic!("{state:?} of {task} is acknowledged and not stored")
                    }
                    _ => {}
                }
            }
            call::Type::Kill => self.kill(&TaskId(call.kill.as_ref().unwrap().task_id.value.clone()), world),
            call::Type::Suppress => self.suppressed = true,
            call::Type::Revive | call::Type::Subscribe => self.suppressed = false,
            _ => {}
        }
    }

    fn launch(&mut self, by: &str, task: &TaskInfo, etcd: &Etcd, world: &World) {
        let (id, agent) = (TaskId(task.task_id.value.clone()), AgentId(task.agent_id.value.clone()));
        let task_type = id.task_type().unwrap();
        if !self.restored {
            let leads = leader(etcd);
            assert_eq!(leads.as_deref(), Some(by), "{id} is launched by one that does not lead");
            let phase = stored(etcd, &id).map(|record| record.phase);
            assert!(
                matches!(&phase, Some(Phase::Launched { agent: stored, .. }) if *stored == agent),
                "{id} is launched and not stored: {phase:?}"
            );
        }
        let host =
            (0..world.agents()).map(AgentRef::nth).find(|host| world.agent_id(*host) == Some(&agent.0));
        if let Some(host) = host {
            let name = &world.spec(host).hostname;
            assert!(!self.excluded.contains(&**name), "{id} is launched on {name}, which is excluded");
        }
        self.order(&agent, task_type);
        self.slots(&id, task, etcd);
        let launched = Launched { task_type, agent, given_up: false };
        assert!(self.launched.insert(id.clone(), launched).is_none(), "{id} is launched twice");
    }

    /// What may restart something has a slot, and there is no other.
    fn slots(&self, id: &TaskId, task: &TaskInfo, etcd: &Etcd) {
        let may_restart =
            task.command.as_ref().is_some_and(|c| c.arguments.iter().any(|a| a == "--allow-restart"));
        let agents = etcd.below(BELOW).filter(|(key, _)| key.contains("/agents/"));
        let agents = agents.map(|(_, value)| serde_json::from_slice::<AgentRecord>(value).unwrap());
        let slots: Vec<_> =
            agents.filter(|agent| agent.disrupted().is_some()).map(|agent| agent.id).collect();
        if may_restart && !self.restored {
            assert_eq!(slots, [AgentId(task.agent_id.value.clone())], "{id} may restart something");
        }
    }

    /// What comes before has reached its goal.
    fn order(&self, agent: &AgentId, task_type: TaskType) {
        let before = TaskType::ALL.into_iter().filter(|earlier| match task_type.scope() {
            Scope::Agent => earlier.scope() == Scope::Agent && *earlier < task_type,
            Scope::Cluster => task_type == TaskType::DockerNetwork && *earlier == TaskType::Libnetwork,
        });
        for earlier in before {
            let there = self.reached.contains(&(agent.clone(), earlier));
            assert!(there, "{task_type} is launched on {agent} before {earlier} was there");
        }
        let initialised = self.reached.iter().any(|(_, reached)| *reached == TaskType::ClusterInit);
        assert!(task_type != TaskType::CalicoNode || initialised, "calico-node before cluster-init");
    }

    fn kill(&self, id: &TaskId, world: &World) {
        let alive = hosts(world).any(|(_, task, _)| task == id.0);
        let Some(ours) = self.launched.get(id) else { panic!("{id} is killed, and none of ours") };
        let given_up = ours.task_type.scope() == Scope::Cluster && ours.given_up;
        assert!(!alive || given_up || self.restored, "{id} is alive, ours, and killed");
    }

    /// The master says something.
    pub fn event(&mut self, event: &Event) {
        let update = event.update.as_ref().filter(|_| event.r#type() == event::Type::Update);
        if let Some(update) = update {
            self.status(&update.status);
        }
    }

    fn status(&mut self, status: &TaskStatus) {
        let (task, state) = (TaskId(status.task_id.value.clone()), status.state());
        if let Some(uuid) = &status.uuid {
            self.updates.insert((task.clone(), uuid.to_vec()), state);
        }
        let Some(launched) = self.launched.get_mut(&task) else { return };
        if is_terminal(state) || matches!(state, TaskState::TaskUnreachable | TaskState::TaskLost) {
            launched.given_up = true;
        }
        let check = status.check_status.as_ref().and_then(|check| check.command.as_ref()?.exit_code);
        let services = [TaskType::EtcdProxy, TaskType::CalicoNode, TaskType::Libnetwork];
        let service = services.contains(&launched.task_type);
        let reached = match state {
            TaskState::TaskRunning => service && check == Some(0),
            TaskState::TaskFinished => !service,
            // What the host cannot have is passed over.
            TaskState::TaskFailed => status.message().ends_with("status 80"),
            _ => false,
        };
        if reached {
            self.reached.insert((launched.agent.clone(), launched.task_type));
        }
    }

    /// No two tasks of a type live in one place.
    pub fn alone(&self, world: &World) {
        let mut seen = BTreeSet::new();
        for (host, task, _) in hosts(world) {
            let id = TaskId(task.to_owned());
            let Some(task_type) = id.task_type() else { continue };
            let place = match task_type.scope() {
                Scope::Agent => Some(host),
                Scope::Cluster => None,
            };
            let excused = place.is_none() && self.launched.get(&id).is_none_or(|launched| launched.given_up);
            assert!(
                excused || seen.insert((place, task_type)) || self.restored,
                "{id} runs beside another {task_type}"
            );
        }
    }

    /// Whether this has reached its goal on that agent at some time.
    pub fn has_reached(&self, agent: &str, task_type: TaskType) -> bool {
        self.reached.contains(&(AgentId(agent.to_owned()), task_type))
    }
}

fn is_terminal(state: TaskState) -> bool {
    use TaskState::{
        TaskDropped, TaskError, TaskFailed, TaskFinished, TaskGone, TaskGoneByOperator, TaskKilled,
        TaskUnknown,
    };
    matches!(
        state,
        TaskFinished
            | TaskFailed
            | TaskKilled
            | TaskError
            | TaskDropped
            | TaskGone
            | TaskGoneByOperator
            | TaskUnknown
    )
}

/// Everything that runs: where, what, and its state.
pub fn hosts(world: &World) -> impl Iterator<Item = (AgentRef, &str, TaskState)> {
    let hosts = (0..world.agents()).map(AgentRef::nth);
    hosts.flat_map(|host| world.tasks_on(host).map(move |(task, state)| (host, task, state)))
}
