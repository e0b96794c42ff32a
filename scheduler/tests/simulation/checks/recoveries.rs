//! How many services are launched again at the same time, counted from what the master says and is told.

use std::collections::{BTreeMap, BTreeSet};

use calico_scheduler::core::{AgentId, Settings, Share, TaskId, TaskType, Timestamp};
use mesos_v1::TaskStatus;

use super::{is_alive, is_ready};

type Service = (AgentId, TaskType);

/// See above.
#[derive(Debug)]
pub struct Recoveries {
    most: Share,
    mass_failure: Share,
    timeout: std::time::Duration,
    /// Services that the scheduler must know to have been ready: it has acknowledged it.
    ready_before: BTreeSet<Service>,
    /// Those of them that it must know not to be.
    down: BTreeSet<Service>,
    /// Services that were said to be ready.
    was_ready: BTreeSet<Service>,
    under_way: BTreeMap<TaskId, AgentId>,
    /// So many services became ready that had been before.
    succeeded: u32,
    /// The most that were under way at the same time.
    pub peak: usize,
}

impl Recoveries {
    pub fn new(settings: &Settings) -> Self {
        Self {
            most: settings.max_recoveries,
            mass_failure: settings.mass_failure,
            timeout: settings.recovery_timeout,
            ready_before: BTreeSet::new(),
            down: BTreeSet::new(),
            was_ready: BTreeSet::new(),
            under_way: BTreeMap::new(),
            succeeded: 0,
            peak: 0,
        }
    }

    /// A launch, at `now`. `counted` are the agents that are there and were always there; on those with `slots`
    /// something may have been restarted or replaced by us, and what is down is no failure; those that `gave_up` in a
    /// rollout are no part of a mass failure.
    pub fn launch(
        &mut self,
        id: &TaskId,
        agent: &AgentId,
        now: Timestamp,
        (counted, slots, gave_up): (&BTreeSet<AgentId>, &BTreeSet<AgentId>, &BTreeSet<AgentId>),
        hosts: usize,
    ) {
        let service = (agent.clone(), id.task_type().unwrap());
        if !self.ready_before.contains(&service) || !counted.contains(agent) || slots.contains(agent) {
            return;
        }
        let timeout = self.timeout;
        self.under_way.retain(|id, agent| {
            counted.contains(agent) && id.made_at().is_some_and(|made| made.after(timeout) > now)
        });
        self.under_way.insert(id.clone(), agent.clone());
        let number = self.under_way.len();
        self.peak = self.peak.max(number);
        let most = self.most.of(hosts);
        assert!(number <= most, "{:?} are recovered at the same time, {most} may be", self.under_way);
        let is_counted = |agent: &&AgentId| {
            counted.contains(*agent) && !slots.contains(*agent) && !gave_up.contains(*agent)
        };
        let down: BTreeSet<&AgentId> = self.down.iter().map(|(agent, _)| agent).filter(is_counted).collect();
        if down.len() > self.mass_failure.of(hosts) {
            // One at first, and twice as many with each that succeeds.
            let most = 1_usize << self.succeeded.min(16);
            let (down, succeeded) = (down.len(), self.succeeded);
            assert!(
                number <= most,
                "{:?} are recovered at the same time in a mass failure: {down} of {hosts} agents are down, \
                 {succeeded} recoveries have succeeded",
                self.under_way
            );
        }
    }

    /// Nothing is stored of a service any more.
    pub fn forget(&mut self, agent: &AgentId, task_type: TaskType) {
        self.retain(|(other, of)| (other, *of) != (agent, task_type));
    }

    /// Others are not wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(&(AgentId, TaskType)) -> bool) {
        self.down.retain(&mut wanted);
        self.ready_before.retain(&mut wanted);
    }

    /// The master says something of a service.
    pub fn status(&mut self, id: &TaskId, agent: &AgentId, status: &TaskStatus) {
        let task_type = id.task_type().unwrap();
        let ready = is_ready(task_type, status);
        if ready || !is_alive(status.state()) {
            self.under_way.remove(id);
        }
        if ready && !self.was_ready.insert((agent.clone(), task_type)) {
            self.succeeded += 1;
        }
    }

    /// The scheduler acknowledges what the master said of the last launch of a service.
    pub fn acknowledged(&mut self, id: &TaskId, agent: &AgentId, status: &TaskStatus) {
        let service = (agent.clone(), id.task_type().unwrap());
        if is_ready(service.1, status) {
            self.down.remove(&service);
            self.ready_before.insert(service);
        } else if self.ready_before.contains(&service) {
            self.down.insert(service);
        }
    }
}
