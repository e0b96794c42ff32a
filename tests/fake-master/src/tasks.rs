//! Tasks as the master sees them: updates, acknowledgements, KILL and RECONCILE.

use std::sync::Arc;

use mesos_v1::scheduler::call::reconcile;
use mesos_v1::scheduler::{Event, call, event};
use mesos_v1::task_status::{Reason, Source};
use mesos_v1::{
    AgentId, ContainerStatus, NetworkInfo, TaskId, TaskState, TaskStatus, TimeInfo, network_info::IpAddress,
};

use crate::settings::Time;
use crate::state::{AgentKey, Task, TaskKey, is_terminal};
use crate::world::{ToAgent, World};

/// An update that the master makes itself: it has no UUID, and is not sent again.
pub struct FromMaster<'a> {
    pub agent: Option<&'a AgentId>,
    pub task: &'a TaskId,
    pub state: TaskState,
    pub reason: Reason,
    pub message: &'a str,
    /// Since when the agent has been unreachable.
    pub unreachable: Option<Time>,
}

pub fn time_info(time: Time) -> TimeInfo {
    TimeInfo { nanoseconds: i64::try_from(time.as_nanos()).unwrap_or(i64::MAX) }
}

impl World {
    fn emit_status(&mut self, framework: &str, status: TaskStatus) {
        let event = Event {
            r#type: Some(event::Type::Update.into()),
            update: Some(event::Update { status }),
            ..Default::default()
        };
        self.emit_to(framework, event);
    }

    pub(crate) fn update_from_master(&mut self, framework: &str, update: &FromMaster<'_>) {
        let status = self.status_from_master(update);
        self.emit_status(framework, status);
    }

    fn status_from_master(&self, update: &FromMaster<'_>) -> TaskStatus {
        TaskStatus {
            task_id: update.task.clone(),
            state: Some(update.state.into()),
            message: Some(update.message.to_owned()),
            agent_id: update.agent.cloned(),
            timestamp: Some(self.now.as_secs_f64()),
            source: Some(Source::Master.into()),
            reason: Some(update.reason.into()),
            unreachable_time: update.unreachable.map(time_info),
            ..Default::default()
        }
    }

    /// What containers are said to have: the address of their agent.
    pub(crate) fn container_status(&self, agent: AgentKey, task: &str) -> ContainerStatus {
        let hostname = self.agents[self.identities.process(agent)].spec.hostname.to_string();
        let address = IpAddress { ip_address: Some(hostname), ..Default::default() };
        let network = NetworkInfo { ip_addresses: vec![address], ..Default::default() };
        let container_id = Some(format!("container-of-{task}").into());
        ContainerStatus { network_infos: vec![network], container_id, ..Default::default() }
    }

    /// The latest that the master knows of a task.
    pub(crate) fn emit_known(
        &mut self,
        framework: &Arc<str>,
        name: &Arc<str>,
        reason: Reason,
        message: &str,
    ) {
        let Some(task) = self.master.frameworks.get(framework).and_then(|f| f.tasks.get(name)).cloned()
        else {
            return;
        };
        let agent: AgentId = (&**self.identities.id(task.agent)).into();
        let status = self.status_from_master(&FromMaster {
            agent: Some(&agent),
            task: &(&**name).into(),
            state: task.forwarded.map_or(task.state, |(state, _)| state),
            reason,
            message,
            unreachable: None,
        });
        let container_status = task.contained.then(|| self.container_status(task.agent, name));
        let status =
            TaskStatus { healthy: task.healthy, check_status: task.check, container_status, ..status };
        self.emit_status(framework, status);
    }

    /// An update of an agent. `latest` is the state that the task has there by now.
    pub(crate) fn status_update(
        &mut self,
        agent: AgentKey,
        (framework, name): &TaskKey,
        status: TaskStatus,
        latest: TaskState,
    ) {
        if !self.master.registered.contains_key(&agent) {
            return;
        }
        let connected = self.stream_of(framework).is_some();
        let task =
            self.master.frameworks.get_mut(framework).and_then(|framework| framework.tasks.get_mut(name));
        let mut freed = None;
        if let Some(task) = task.filter(|task| task.agent == agent) {
            if connected
                && let Some(Ok(uuid)) = status.uuid.as_ref().map(|uuid| <[u8; 16]>::try_from(&uuid[..]))
            {
                task.forwarded = Some((status.state(), uuid));
            }
            if !is_terminal(task.state) {
                task.state = latest;
            }
            task.healthy = status.healthy.or(task.healthy);
            task.check = status.check_status.or(task.check.take());
            task.contained |= status.container_status.is_some();
            if is_terminal(task.state) && !std::mem::replace(&mut task.recovered, true) {
                freed = Some((Arc::clone(&task.role), task.resources.clone()));
            }
        }
        self.emit_status(framework, status);
        if let Some((role, resources)) = freed {
            self.recover(framework, agent, &role, &resources, None);
        }
    }

    /// The master forgets a task; its resources are free when they were not.
    pub(crate) fn remove_task(&mut self, key: &TaskKey) -> Option<Task> {
        let (framework, name) = key;
        let task = self.master.frameworks.get_mut(framework)?.tasks.remove(name)?;
        if let Some(slot) = self.master.registered.get_mut(&task.agent) {
            slot.tasks.remove(key);
            slot.killed.remove(key);
        }
        if !task.recovered {
            self.recover(framework, task.agent, &task.role, &task.resources, None);
        }
        Some(task)
    }

    pub(crate) fn acknowledge(&mut self, framework: &Arc<str>, acknowledge: &call::Acknowledge) {
        let Some(agent) = self.connected_agent(&acknowledge.agent_id) else { return };
        let Ok(uuid) = <[u8; 16]>::try_from(&acknowledge.uuid[..]) else { return };
        let key: TaskKey = (Arc::clone(framework), acknowledge.task_id.value.as_str().into());
        let task = self.framework(framework).tasks.get(&key.1).filter(|task| task.agent == agent);
        if let Some(task) = task {
            match task.forwarded {
                // Of another master's time: the agent sends the update again.
                None => return,
                Some((state, expected)) if is_terminal(state) && expected == uuid => {
                    self.remove_task(&key);
                }
                Some(_) => {}
            }
        }
        self.tell(agent, ToAgent::Acknowledge(key, uuid));
        self.check_drained(agent);
    }

    /// An agent that is registered and connected.
    fn connected_agent(&self, id: &AgentId) -> Option<AgentKey> {
        let agent = self.identities.find(&id.value)?;
        self.master.registered.get(&agent).filter(|slot| slot.connected).map(|_| agent)
    }

    pub(crate) fn kill(&mut self, framework: &Arc<str>, kill: &call::Kill) {
        let name = &*kill.task_id.value;
        let Some((name, task)) = self.framework(framework).tasks.get_key_value(name) else {
            let task = reconcile::Task { task_id: kill.task_id.clone(), agent_id: kill.agent_id.clone() };
            return self.reconcile(framework, &[task]);
        };
        let (key, agent): (TaskKey, _) = ((Arc::clone(framework), Arc::clone(name)), task.agent);
        if kill.agent_id.as_ref().is_some_and(|id| id.value != **self.identities.id(agent)) {
            return;
        }
        let Some(slot) = self.master.registered.get_mut(&agent) else { return };
        slot.killed.insert(key.clone());
        if slot.connected {
            self.tell(agent, ToAgent::Kill(key));
        }
    }

    pub(crate) fn reconcile(&mut self, framework: &Arc<str>, tasks: &[reconcile::Task]) {
        let latest = "Reconciliation: Latest task state";
        if tasks.is_empty() {
            let names: Vec<_> = self.framework(framework).tasks.keys().cloned().collect();
            for name in names {
                self.emit_known(framework, &name, Reason::Reconciliation, latest);
            }
            return;
        }
        for task in tasks {
            if let Some((name, _)) = self.framework(framework).tasks.get_key_value(&*task.task_id.value) {
                let name = Arc::clone(name);
                self.emit_known(framework, &name, Reason::Reconciliation, latest);
                continue;
            }
            let agent = task.agent_id.as_ref().map(|id| self.identities.find(&id.value));
            let recovered = match agent {
                None => !self.master.recovered.is_empty(),
                Some(agent) => agent.is_some_and(|agent| self.master.recovered.contains(&agent)),
            };
            if recovered {
                // The agent has yet to say.
                continue;
            }
            let agent = agent.flatten();
            let unreachable = agent.and_then(|agent| self.registry.unreachable.get(&agent).copied());
            let (state, message) = match agent {
                Some(agent) if self.master.registered.contains_key(&agent) => {
                    (TaskState::TaskGone, "Reconciliation: Task is unknown to the agent")
                }
                Some(_) if unreachable.is_some() => {
                    (TaskState::TaskUnreachable, "Reconciliation: Task is unreachable")
                }
                Some(agent) if self.registry.gone.contains_key(&agent) => {
                    (TaskState::TaskGoneByOperator, "Reconciliation: Task is gone")
                }
                _ => (TaskState::TaskUnknown, "Reconciliation: Task is unknown"),
            };
            let state = self.framework(framework).aware(state);
            self.update_from_master(
                framework,
                &FromMaster {
                    agent: task.agent_id.as_ref(),
                    task: &task.task_id,
                    state,
                    reason: Reason::Reconciliation,
                    message,
                    unreachable,
                },
            );
        }
    }
}
