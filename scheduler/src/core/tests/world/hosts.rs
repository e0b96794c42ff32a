//! What happens on the hosts, and what they tell.

use super::super::script::state as bare;
use super::*;

/// How a task goes on.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    /// It is up, not ready.
    Start,
    /// A service's check passes.
    Ready,
    /// A service's check no longer passes.
    NotReady,
    /// Its command ends.
    Exit(i32),
}

impl World {
    pub(super) fn alive(&self) -> Vec<TaskId> {
        self.tasks.iter().filter(|(_, task)| task.alive).map(|(id, _)| id.clone()).collect()
    }

    pub fn act(&mut self, n: usize, act: Act) {
        let alive = self.alive();
        if !alive.is_empty() {
            let id = alive[n % alive.len()].clone();
            self.act_on(&id, act);
        }
    }

    pub(super) fn act_on(&mut self, id: &TaskId, act: Act) {
        let task = self.tasks.get_mut(id).unwrap();
        let slot = (task.agent.clone(), task.task_type);
        let act = match act {
            // The installer's word for it.
            Act::Exit(0)
                if task.only_looks
                    && task.task_type.scope() == Scope::Agent
                    && !self.whole.contains(&slot) =>
            {
                Act::Exit(1)
            }
            act => act,
        };
        let service = matches!(self.settings.specs[&task.task_type].goal, Goal::Running { .. });
        let check = if service { CheckResult::Pending } else { CheckResult::None };
        let healthy = service.then_some(true);
        let running = Update { healthy, check, ..bare(TaskState::Running) };
        let mut reached = false;
        let update = match act {
            Act::Start if task.now.is_none() => running,
            Act::Ready if service && task.now.is_some() => {
                reached = true;
                Update { check: CheckResult::Exited(0), ..running }
            }
            Act::NotReady if service && task.now.is_some() => {
                Update { check: CheckResult::Exited(1), ..running }
            }
            Act::Exit(0) if task.now.is_some() => {
                reached = !service && !task.only_looks;
                bare(TaskState::Finished)
            }
            Act::Exit(status) if status != 0 => {
                match status {
                    79 => drop(self.needs_restart.insert(slot)),
                    80 if task.only_looks => {}
                    80 => drop(self.skipped.insert(slot)),
                    _ => {}
                }
                let message = format!("Command exited with status {status}");
                Update { message, ..bare(TaskState::Failed) }
            }
            _ => return,
        };
        if reached {
            self.recovering.remove(id);
            self.reached.insert((task.agent.clone(), task.task_type));
            self.whole.insert((task.agent.clone(), task.task_type));
        }
        self.report(id, update);
    }

    pub(super) fn report(&mut self, id: &TaskId, update: Update) {
        let uuid = self.fresh().to_be_bytes().to_vec();
        let task = self.tasks.get_mut(id).unwrap();
        let agent = Some(task.agent.clone());
        let update = Update { task: id.clone(), agent, uuid: Some(uuid), ..update };
        if task.now.as_ref().is_some_and(|now| same(now, &update)) {
            return;
        }
        let alive = !matches!(update.state, TaskState::Finished | TaskState::Failed | TaskState::Drained);
        task.alive = alive;
        if !alive {
            self.recovering.remove(id);
        }
        task.now = Some(update.clone());
        task.queue.push_back(update.clone());
        let first = task.queue.len() == 1;
        let agent = task.agent.clone();
        if first && self.reachable(&agent) {
            self.send_update(update);
        }
    }

    /// An install's files vanish from a host.
    pub fn wipe(&mut self, n: usize, task_type: TaskType) {
        let host = &self.hosts[n % self.hosts.len()];
        self.whole.remove(&(host.id.clone(), task_type));
    }

    pub fn partition(&mut self, n: usize) {
        let n = n % self.hosts.len();
        if !self.hosts[n].partitioned {
            self.hosts[n].partitioned = true;
            let id = self.hosts[n].id.clone();
            self.offers.retain(|_, agent| *agent != id);
            self.tell_of(&id, TaskState::Unreachable);
        }
    }

    pub fn heal(&mut self, n: usize) {
        let n = n % self.hosts.len();
        self.hosts[n].partitioned = false;
        self.redeliver();
    }

    /// An operator changes how an agent stands. Where it drains, its tasks are ended.
    pub fn stand(&mut self, n: usize, standing: Standing) {
        let n = n % self.hosts.len();
        self.hosts[n].standing = standing;
        if standing == Standing::Active {
            return;
        }
        let agent = self.hosts[n].id.clone();
        self.offers.retain(|_, offered| *offered != agent);
        if matches!(standing, Standing::Draining { .. }) {
            self.known_ready.retain(|(ready, _)| *ready != agent);
            let here = self.alive().into_iter().filter(|id| self.tasks[id].agent == agent);
            for id in here.collect::<Vec<_>>() {
                self.report(&id, bare(TaskState::Drained));
            }
        }
    }

    /// A new registration at the same address: nothing of the old is left.
    pub fn rebuild(&mut self, n: usize) {
        let n = n % self.hosts.len();
        let old = self.hosts[n].id.clone();
        self.tell_of(&old, TaskState::Gone);
        for (id, task) in self.tasks.iter_mut().filter(|(_, task)| task.agent == old) {
            self.recovering.remove(id);
            task.alive = false;
            task.queue.clear();
        }
        self.offers.retain(|_, agent| *agent != old);
        self.hosts[n].id = self.fresh_id();
        self.hosts[n].partitioned = false;
    }

    /// The same registration at another address, which may be another's, and that although the scheduler is not told
    /// or one of them is partitioned.
    pub fn relocate(&mut self, n: usize, other: usize) {
        let (n, other) = (n % self.hosts.len(), other % self.hosts.len());
        if n == other {
            self.hosts[n].key = self.fresh_key();
        } else {
            let key = self.hosts[n].key.clone();
            self.hosts[n].key = std::mem::replace(&mut self.hosts[other].key, key);
        }
    }

    /// The master tells what became of all tasks of a registration.
    pub(super) fn tell_of(&mut self, id: &AgentId, state: TaskState) {
        let mut told = Vec::new();
        for (task_id, task) in self.tasks.iter_mut().filter(|(_, task)| task.agent == *id && task.alive) {
            task.was_unreachable = true;
            told.push(Update { task: task_id.clone(), agent: Some(id.clone()), ..bare(state) });
        }
        for update in told {
            self.send_update(update);
        }
        if self.subscribed {
            self.send(Input::Event(Event::Failure(Some(id.clone()))));
        }
    }
}

/// Whether an update says what the one before said.
fn same(a: &Update, b: &Update) -> bool {
    (a.state, a.check, a.healthy) == (b.state, b.check, b.healthy)
}
