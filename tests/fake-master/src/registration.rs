//! Agents as the master sees them: registered, disconnected, unreachable, removed, drained.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesos_v1::scheduler::{Event, event};
use mesos_v1::task_status::Reason;
use mesos_v1::{AgentId, DrainConfig, TaskId, TaskState};

use crate::settings::{AgentRef, Time};
use crate::state::{AgentKey, Draining, Link, Slot, Task, TaskKey, is_terminal};
use crate::tasks::FromMaster;
use crate::world::{Timer, ToAgent, World};

impl World {
    /// An agent's request to register, or to register again with its ID and its tasks.
    pub(crate) fn register(&mut self, process: usize) {
        let Some(key) = self.agents[process].key else { return self.register_new(process) };
        if self.registry.gone.contains_key(&key) {
            self.tell(key, ToAgent::Shutdown);
            return;
        }
        if self.master.registered.contains_key(&key) {
            self.reregister_known(key);
        } else {
            self.readmit(key);
        }
        if self.registry.draining.contains_key(&key) {
            self.tell(key, ToAgent::Drain);
            self.check_drained(key);
        }
    }

    fn register_new(&mut self, process: usize) {
        // It asks again, for the answer was lost.
        let given = self.agents[process].given.filter(|given| self.master.registered.contains_key(given));
        if let Some(given) = given {
            self.tell(given, ToAgent::Registered(given));
            return;
        }
        // One at the same address is dead: it had another ID.
        let old = self.agents[process].previous.filter(|old| self.master.registered.contains_key(old));
        if let Some(old) = old {
            self.remove_agent(old, "a new agent registered at the same address");
        }
        let id = format!("{}-S{}", self.master.id, self.master.next_agent);
        self.master.next_agent += 1;
        let key = self.identities.add(&id, process);
        self.agents[process].given = Some(key);
        self.registry.admitted.insert(key);
        self.add_slot(key, None);
        self.tell(key, ToAgent::Registered(key));
    }

    fn add_slot(&mut self, key: AgentKey, reregistered: Option<Time>) {
        let total = Arc::clone(&self.agents[self.identities.process(key)].total);
        self.master.allocator.total.add(&total);
        let active = !self.registry.deactivated.contains(&key);
        let slot = Slot {
            connected: true,
            active,
            available: (*total).clone(),
            total,
            tasks: BTreeSet::new(),
            offers: BTreeSet::new(),
            inverse_offers: BTreeSet::new(),
            killed: BTreeSet::new(),
            asked: BTreeSet::new(),
            registered: self.now,
            reregistered,
            absence: 0,
        };
        self.master.registered.insert(key, slot);
        self.master.removed.remove(&key);
        self.allocate_later(key);
        self.allocate_now();
    }

    /// The agent was only disconnected, or asks twice: what both know of its tasks is compared.
    fn reregister_known(&mut self, key: AgentKey) {
        let process = self.identities.process(key);
        let now = self.now;
        let active = !self.registry.deactivated.contains(&key);
        let Some(slot) = self.master.registered.get_mut(&key) else { return };
        slot.reregistered = Some(now);
        // It answers pings again, whatever was the matter.
        slot.absence += 1;
        if !slot.connected {
            slot.connected = true;
            slot.active = active;
        }
        let (tasks, killed) = (slot.tasks.clone(), slot.killed.clone());
        let there = &self.agents[process].tasks;
        let mut unknown = Vec::new();
        for task in tasks {
            let Some(framework) = self.master.frameworks.get(&task.0) else { continue };
            let terminal = framework.tasks.get(&task.1).is_none_or(|known| is_terminal(known.state));
            if !there.contains_key(&task) && !terminal {
                unknown.push((task, framework.aware(TaskState::TaskDropped)));
            }
        }
        let again: Vec<TaskKey> = killed.into_iter().filter(|task| there.contains_key(task)).collect();
        self.tell(key, ToAgent::Reregistered(unknown));
        for task in again {
            self.tell(key, ToAgent::Kill(task));
        }
        self.shut_down_completed(key);
        self.allocate_later(key);
    }

    /// The agent was unreachable, or this master is new: what it says of its tasks is all that is known.
    fn readmit(&mut self, key: AgentKey) {
        let recovered = self.master.recovered.remove(&key);
        let unreachable = self.registry.unreachable.remove(&key).is_some();
        self.registry.admitted.insert(key);
        self.add_slot(key, Some(self.now));
        let process = self.identities.process(key);
        let infos: Vec<_> = self.agents[process].frameworks.values().cloned().collect();
        for info in infos {
            let Some(id) = info.id.as_ref().map(|id| Arc::<str>::from(id.value.as_str())) else { continue };
            if !self.master.frameworks.contains_key(&id) && !self.master.completed.contains_key(&id) {
                self.add_framework(&id, info, Link::Recovered);
            }
        }
        self.adopt_of(key);
        // Those that were unreachable, and that the agent no longer has, are forgotten.
        for framework in self.master.frameworks.values_mut() {
            framework.unreachable.retain(|_, agent| *agent != key);
        }
        if !recovered {
            let message =
                if unreachable { "Unreachable agent re-reregistered" } else { "Unknown agent reregistered" };
            let tasks = self.master.registered.get(&key).map(|slot| slot.tasks.clone()).unwrap_or_default();
            for (framework, name) in tasks {
                self.emit_known(&framework, &name, Reason::AgentReregistered, message);
            }
        }
        self.tell(key, ToAgent::Reregistered(Vec::new()));
        self.shut_down_completed(key);
    }

    /// The tasks of an agent that has just registered, of frameworks that are there.
    fn adopt_of(&mut self, key: AgentKey) {
        let process = self.identities.process(key);
        let names: Vec<TaskKey> = self.agents[process].tasks.keys().cloned().collect();
        for name in names {
            self.adopt(key, &name);
        }
    }

    /// The tasks of a framework that has just been added, on all agents.
    pub(crate) fn adopt_tasks(&mut self, framework: &Arc<str>) {
        let agents: Vec<AgentKey> = self.master.registered.keys().copied().collect();
        for key in agents {
            let tasks = &self.agents[self.identities.process(key)].tasks;
            let from = (Arc::clone(framework), Arc::from(""));
            let names = tasks.range(from..).map(|(name, _)| name.clone());
            let names: Vec<TaskKey> = names.take_while(|name| name.0 == *framework).collect();
            for name in names {
                self.adopt(key, &name);
            }
        }
    }

    fn adopt(&mut self, key: AgentKey, name: &TaskKey) {
        let process = self.identities.process(key);
        let Some(there) = self.agents[process].tasks.get(name) else { return };
        let terminal = is_terminal(there.state);
        let task = Task {
            agent: key,
            role: Arc::clone(&there.role),
            resources: there.resources.clone(),
            state: there.state,
            forwarded: there.pending.front().map(|update| (update.state, update.uuid)),
            healthy: there.healthy,
            check: there.check,
            contained: there.state != TaskState::TaskStaging,
            recovered: terminal,
        };
        let (role, resources) = (Arc::clone(&task.role), task.resources.clone());
        let Some(framework) = self.master.frameworks.get_mut(&name.0) else { return };
        if framework.tasks.contains_key(&name.1) {
            return;
        }
        framework.tasks.insert(Arc::clone(&name.1), task);
        if let Some(slot) = self.master.registered.get_mut(&key) {
            slot.tasks.insert(name.clone());
            if !terminal {
                slot.available.subtract(&resources);
            }
        }
        if !terminal {
            self.track(&role, &name.0, &resources);
        }
    }

    fn shut_down_completed(&mut self, key: AgentKey) {
        let process = self.identities.process(key);
        let completed = |id: &&Arc<str>| self.master.completed.contains_key(*id);
        let completed: Vec<_> = self.agents[process].frameworks.keys().filter(completed).cloned().collect();
        for framework in completed {
            self.tell(key, ToAgent::ShutdownFramework(framework));
        }
    }

    /// The connection to the agent's process broke.
    pub(crate) fn agent_disconnected(&mut self, key: AgentKey) {
        let Some(slot) = self.master.registered.get_mut(&key).filter(|slot| slot.connected) else { return };
        slot.connected = false;
        self.deactivate_slot(key);
        self.expect_pings(key);
    }

    /// The agent answers no more pings from now on.
    pub(crate) fn expect_pings(&mut self, key: AgentKey) {
        let Some(slot) = self.master.registered.get_mut(&key) else { return };
        slot.absence += 1;
        let absence = slot.absence;
        // The last ping that was answered is up to one interval ago; the next one is the first that is not.
        let interval = self.settings.ping_interval;
        let next = self.random.between(Time::ZERO, interval);
        let wait = next + interval * self.settings.ping_timeouts;
        self.after(wait, Timer::Pings { epoch: self.master.epoch, agent: key, absence });
    }

    /// The agent answers again.
    pub(crate) fn pings_answered(&mut self, key: AgentKey) {
        if let Some(slot) = self.master.registered.get_mut(&key) {
            slot.absence += 1;
        }
    }

    pub(crate) fn deactivate_slot(&mut self, key: AgentKey) {
        let Some(slot) = self.master.registered.get_mut(&key) else { return };
        slot.active = false;
        let (offers, inverse) = (slot.offers.clone(), slot.inverse_offers.clone());
        for number in offers {
            self.rescind(number);
        }
        for number in inverse {
            self.rescind_inverse_offer(number);
        }
    }

    pub(crate) fn pings_timed_out(&mut self, epoch: u32, agent: AgentKey, absence: u64) {
        let current = self.master.epoch == epoch && self.master.leads;
        if !current || self.master.registered.get(&agent).is_none_or(|slot| slot.absence != absence) {
            return;
        }
        self.registry.admitted.remove(&agent);
        self.registry.unreachable.insert(agent, self.now);
        self.lose_agent(agent, TaskState::TaskUnreachable, "health check timed out");
    }

    /// Those that did not come back after the master's failover.
    pub(crate) fn reregister_timeout(&mut self, epoch: u32) {
        if self.master.epoch != epoch || !self.master.leads {
            return;
        }
        for agent in std::mem::take(&mut self.master.recovered) {
            self.registry.admitted.remove(&agent);
            self.registry.unreachable.insert(agent, self.now);
            self.emit_agent_lost(agent);
        }
    }

    fn remove_agent(&mut self, key: AgentKey, cause: &str) {
        self.registry.admitted.remove(&key);
        self.registry.draining.remove(&key);
        self.registry.deactivated.remove(&key);
        let hostname = &self.agents[self.identities.process(key)].spec.hostname;
        let message = format!("Agent {hostname} removed: {cause}");
        self.lose_agent(key, TaskState::TaskLost, &message);
    }

    /// The agent is no longer registered: its tasks get `state`, and every framework hears of it.
    fn lose_agent(&mut self, key: AgentKey, state: TaskState, message: &str) {
        let Some(slot) = self.master.registered.get_mut(&key) else { return };
        // Nothing of it is offered again.
        slot.active = false;
        let (tasks, offers, inverse) = (slot.tasks.clone(), slot.offers.clone(), slot.inverse_offers.clone());
        let total = Arc::clone(&slot.total);
        let id: AgentId = (&**self.identities.id(key)).into();
        let unreachable = self.registry.unreachable.get(&key).copied();
        for task in tasks {
            let Some(framework) = self.master.frameworks.get(&task.0) else { continue };
            let state = framework.aware(state);
            let reason = if state == TaskState::TaskGoneByOperator {
                Reason::AgentRemovedByOperator
            } else {
                Reason::AgentRemoved
            };
            let was = self.remove_task(&task);
            if unreachable.is_some() && was.is_some_and(|was| !is_terminal(was.state)) {
                self.framework(&task.0).unreachable.insert(Arc::clone(&task.1), key);
            }
            let task_id: TaskId = (&*task.1).into();
            let (agent, task_id) = (Some(&id), &task_id);
            let update = FromMaster { agent, task: task_id, state, reason, message, unreachable };
            self.update_from_master(&task.0, &update);
        }
        for number in offers {
            self.rescind(number);
        }
        for number in inverse {
            self.rescind_inverse_offer(number);
        }
        self.master.registered.remove(&key);
        self.master.removed.insert(key);
        self.master.allocator.dirty.remove(&key);
        self.master.allocator.total.subtract(&total);
        for framework in self.master.frameworks.values_mut() {
            framework.filters.retain(|(_, agent), _| *agent != key);
            framework.inverse_filters.remove(&key);
        }
        self.emit_agent_lost(key);
    }

    fn emit_agent_lost(&mut self, key: AgentKey) {
        let failure =
            event::Failure { agent_id: Some((&**self.identities.id(key)).into()), ..Default::default() };
        let event =
            Event { r#type: Some(event::Type::Failure.into()), failure: Some(failure), ..Default::default() };
        let frameworks: Vec<Arc<str>> = self.master.frameworks.keys().cloned().collect();
        for framework in frameworks {
            self.emit_to(&framework, event.clone());
        }
    }

    /// An operator says that the agent will never come back.
    pub(crate) fn mark_gone(&mut self, key: AgentKey) {
        self.registry.admitted.remove(&key);
        self.registry.unreachable.remove(&key);
        self.registry.draining.remove(&key);
        self.registry.deactivated.remove(&key);
        self.registry.gone.insert(key, self.now);
        let message = "Agent has been marked gone";
        if self.master.registered.contains_key(&key) {
            self.tell(key, ToAgent::Shutdown);
            self.lose_agent(key, TaskState::TaskGoneByOperator, message);
            return;
        }
        self.master.recovered.remove(&key);
        let id: AgentId = (&**self.identities.id(key)).into();
        let frameworks: Vec<Arc<str>> = self.master.frameworks.keys().cloned().collect();
        for framework in frameworks {
            let own = self.framework(&framework);
            let state = own.aware(TaskState::TaskGoneByOperator);
            let lost: Vec<_> = own.unreachable.extract_if(.., |_, agent| *agent == key).collect();
            for (task, _) in lost {
                let task: TaskId = (&*task).into();
                let reason = Reason::AgentRemovedByOperator;
                let (agent, task) = (Some(&id), &task);
                let update = FromMaster { agent, task, state, reason, message, unreachable: None };
                self.update_from_master(&framework, &update);
            }
        }
    }

    /// Drains: nothing is offered, and all tasks end.
    pub(crate) fn drain(&mut self, key: AgentKey, config: DrainConfig) {
        let draining = Draining { config, since: self.now, drained: false };
        self.registry.draining.insert(key, draining);
        self.registry.deactivated.insert(key);
        self.deactivate_slot(key);
        self.tell(key, ToAgent::Drain);
        self.check_drained(key);
    }

    pub(crate) fn check_drained(&mut self, key: AgentKey) {
        let empty = self.master.registered.get(&key).is_some_and(|slot| slot.tasks.is_empty());
        let Some(draining) = self.registry.draining.get_mut(&key).filter(|_| empty) else { return };
        if draining.config.mark_gone() {
            self.mark_gone(key);
        } else {
            draining.drained = true;
        }
    }

    /// Ends draining and deactivation.
    pub(crate) fn reactivate(&mut self, key: AgentKey) {
        self.registry.draining.remove(&key);
        self.registry.deactivated.remove(&key);
        if let Some(slot) = self.master.registered.get_mut(&key) {
            slot.active = slot.connected;
            self.allocate_later(key);
        }
    }

    /// The leading master dies. Its streams break, and nobody answers until [`Self::elect_master`].
    pub fn kill_master(&mut self) {
        self.master.leads = false;
        let streams: Vec<Arc<str>> =
            self.master.frameworks.keys().filter_map(|framework| self.stream_of(framework)).collect();
        for stream in &streams {
            self.close(stream);
        }
    }

    /// Another master leads: it knows the registry, and all else from those that register with it.
    pub fn elect_master(&mut self) {
        if self.master.leads {
            self.kill_master();
        }
        self.elect(self.master.epoch + 1);
        for process in 0..self.agents.len() {
            self.agents[process].registered = false;
            self.seek_master(AgentRef::nth(process));
        }
    }

    pub(crate) fn elect(&mut self, epoch: u32) {
        let mut master = crate::state::Master {
            id: self.random.uuid_text(),
            epoch,
            leads: true,
            elected: self.now,
            recovered: self.registry.admitted.clone(),
            ..Default::default()
        };
        master.next_offer = 0;
        self.master = master;
        if !self.master.recovered.is_empty() {
            self.after(self.settings.reregister_timeout, Timer::ReregisterTimeout { epoch });
        }
    }
}
