//! What must hold in rollouts: who has a place, as it is stored, and what is done with it, as the master is told.

mod begins;
mod ends;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use calico_scheduler::core::{
    AgentId, AgentKey, AgentRecord, ClusterRecord, Order, Phase, Scope, Settings, TargetHash, TaskId,
    TaskRecord, TaskType,
};
use mesos_v1::{TaskState, TaskStatus};

use crate::stored::Pair;

use super::{exit_status, is_alive, is_service, is_step};
pub use begins::Hours;

/// A call is sent so long after it was decided, at most: it waits for those before it.
const QUEUED: Duration = Duration::from_mins(2);
/// A process may be ahead of the world, and what it stores is on its way for a while.
const LAG: Duration = Duration::from_millis(100);

/// So long after a command its effect may come.
const COMMANDED: Duration = Duration::from_mins(1);
/// What was stored a moment ago may be decided otherwise by now.
const STORED: Duration = Duration::from_secs(5);

/// So long a list of agents is on its way, and what follows from it is stored, at most.
const LISTED: Duration = Duration::from_secs(20);

/// One process of one scheduler.
pub type Process = (usize, u32);
/// Which configuration of those that there are.
pub type Configured = usize;
/// The rack of each host.
pub type Racks = BTreeMap<String, String>;

/// See above.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is something that may have happened, apart from the others"
)]
pub struct Rollouts {
    configurations: Vec<Configuration>,
    /// The configuration of the scheduler that acts, and its process.
    acts: Configured,
    process: Process,
    values: BTreeMap<String, Vec<u8>>,
    agents: BTreeMap<AgentKey, AgentRecord>,
    cluster: ClusterRecord,
    launches: BTreeMap<TaskId, Launch>,
    /// How launches have failed, as the master said first, with exit statuses: also those that were never sent.
    failed: BTreeMap<TaskId, (AgentId, TaskState, Option<i32>)>,
    /// Which process was told which agents there are, and when, since it subscribed.
    informed: Option<(Process, Duration)>,
    /// The last launch of each type on each agent.
    latest: BTreeMap<(AgentId, TaskType), TaskId>,
    /// What was stored last as being launched in an agent's place: that may never have been sent, and is tried again.
    meant: BTreeMap<(AgentId, TaskType), TargetHash>,
    /// What was found running, so that nobody knows with what it was launched.
    unknown: BTreeSet<(AgentId, TaskType)>,
    /// What was stored as being ended, and when last.
    ending: BTreeMap<(AgentId, TaskType), Duration>,
    /// The agents that have begun in this rollout by their turn.
    begun: BTreeSet<AgentKey>,
    /// Since when all of them have their place no more.
    free_since: Duration,
    /// Others than canaries have begun.
    is_rest: bool,
    /// An operator has told this rollout to go on.
    pub told_to_go_on: bool,
    /// A scheduler's clock has jumped.
    pub clocks_jumped: bool,
    /// Something has gone wrong with agents: who could begin is not known to the moment.
    pub restless: bool,
    /// Agents on which something was ended, or launched with another target, in the place that they have.
    under_way: BTreeSet<AgentId>,
    /// So many may be, since nobody had a place.
    allowed: usize,
    /// Until when backoffs are over because of an agent's turn, its service's end, or an operator.
    freed: BTreeMap<(AgentId, TaskType), Duration>,
    /// What operators have left out, and since when that is stored.
    skipped: BTreeMap<(AgentId, TaskType), Duration>,
    /// When an agent was last seen to have a place.
    placed: BTreeMap<AgentId, Duration>,
    /// The most agents that were under way at the same time.
    pub peak: usize,
}

/// What operators want, as far as it is judged here.
#[derive(Debug)]
pub struct Configuration {
    pub settings: Settings,
    pub hours: Hours,
}

/// What nobody knows any more.
#[derive(Debug, Default)]
pub struct Gone {
    pub slots: Vec<(AgentId, TaskType)>,
    /// With all that was known of them.
    pub agents: Vec<AgentId>,
}

#[derive(Debug)]
struct Launch {
    agent: AgentId,
    task_type: TaskType,
    target: TargetHash,
    /// When the master first said that it is ready, or done.
    reached: Option<Duration>,
    /// In which rollout.
    number: u64,
}

impl Rollouts {
    pub fn new(configurations: Vec<Configuration>) -> Self {
        Self { configurations, ..Self::default() }
    }

    /// What is done next is done by a scheduler with this configuration.
    pub fn acts(&mut self, configured: Configured, process: Process) {
        (self.acts, self.process) = (configured, process);
    }

    fn settings(&self) -> &Settings {
        &self.configurations[self.acts].settings
    }

    /// What is stored of the rollout.
    pub fn cluster(&self) -> &ClusterRecord {
        &self.cluster
    }

    /// What is stored of agents.
    pub fn agents(&self) -> impl Iterator<Item = &AgentRecord> {
        self.agents.values()
    }

    /// Whether this agent has failed in the rollout.
    pub fn has_failed(&self, agent: &AgentRecord) -> bool {
        has_failed(agent, self.cluster.rollout.number)
    }

    fn agent(&self, id: &AgentId) -> Option<&AgentRecord> {
        self.agents.values().find(|agent| agent.id == *id && !agent.aside)
    }

    /// Something was stored: these are all keys below ours. What is no longer known of it.
    pub fn stored<'a>(
        &mut self,
        now: Duration,
        below: impl Iterator<Item = Pair<'a>>,
        racks: impl FnOnce() -> Racks,
    ) -> Gone {
        let (mut changed, mut there) = (Vec::new(), BTreeSet::new());
        for (key, value) in below.filter(|(key, _)| key.contains("/agents/") || key.ends_with("/cluster")) {
            if self.values.get(&*key).is_none_or(|before| *before != *value) {
                self.values.insert(key.to_string(), value.to_vec());
                changed.push((key.to_string(), value));
            }
            there.insert(key.into_owned());
        }
        let gone: Vec<String> = self.values.keys().filter(|key| !there.contains(*key)).cloned().collect();
        if changed.is_empty() && gone.is_empty() {
            return Gone::default();
        }
        let (agents, cluster) = (self.agents.clone(), self.cluster.clone());
        for (key, value) in changed {
            if key.ends_with("/cluster") {
                self.cluster = serde_json::from_slice(&value).unwrap();
            } else {
                let agent: AgentRecord = serde_json::from_slice(&value).unwrap();
                self.agents.insert(agent.key.clone(), agent);
            }
        }
        for key in gone {
            self.values.remove(&key);
            self.agents.retain(|agent, _| !key.ends_with(&format!("/agents/{agent}")));
        }
        self.changed(now, &agents, &cluster, &racks());
        let has = |id: &AgentId, task_type: &TaskType| {
            self.agents.values().any(|agent| agent.id == *id && agent.tasks.contains_key(task_type))
        };
        let slots = agents.values().flat_map(|agent| agent.tasks.keys().map(|t| (agent.id.clone(), *t)));
        let slots = slots.filter(|(id, task_type)| !has(id, task_type)).collect();
        let is_gone = |old: &&AgentRecord| !self.agents.values().any(|agent| agent.id == old.id);
        let agents: Vec<_> = agents.values().filter(is_gone).collect();
        // Another may have come to its address.
        let is_away = |agent: &&&AgentRecord| {
            agent.absent_since.is_some() || agent.aside || self.agents.contains_key(&agent.key)
        };
        let here = agents.iter().find(|agent| !is_away(agent));
        assert_eq!(here, None, "an agent is forgotten, and it is not away");
        Gone { slots, agents: agents.into_iter().map(|agent| agent.id.clone()).collect() }
    }

    fn changed(
        &mut self,
        now: Duration,
        before: &BTreeMap<AgentKey, AgentRecord>,
        cluster_before: &ClusterRecord,
        racks: &Racks,
    ) {
        let (guarded, then) = (&self.cluster.rollout.guarded, &cluster_before.rollout.guarded);
        assert!(then.is_empty() || guarded == then, "a change that is not safe is followed: {guarded:?}");
        if cluster_before.rollout.number != self.cluster.rollout.number {
            (self.begun, self.free_since) = (BTreeSet::new(), now);
            // What goes back has no canaries.
            (self.told_to_go_on, self.is_rest) = (false, self.cluster.rollout.given_up.is_some());
        }
        let mut failed = Vec::new();
        let agents: Vec<AgentRecord> = self.agents.values().cloned().collect();
        for agent in &agents {
            // It may have lost its address to another.
            let old = before.values().find(|old| old.id == agent.id);
            if let Some(task_type) = agent.holds().and_then(|place| place.ending) {
                self.ending.insert((agent.id.clone(), task_type), now);
            }
            let unknown = agent.tasks.iter().filter(|(_, record)| record.target.is_none());
            self.unknown.extend(unknown.map(|(task_type, _)| (agent.id.clone(), *task_type)));
            if agent.holds().is_some() {
                let launched =
                    agent.tasks.iter().filter(|(_, it)| matches!(it.phase, Phase::Launched { .. }));
                let launched = launched.filter_map(|(task_type, it)| Some((*task_type, it.target.clone()?)));
                self.meant.extend(launched.map(|(task_type, it)| ((agent.id.clone(), task_type), it)));
            }
            let since = |agent: &AgentRecord| agent.holds().map(|place| place.since);
            let holds = since(agent).is_some();
            let before = old.and_then(since);
            // What goes back may begin again where it has failed.
            let held = before.is_some() && (!holds || before == since(agent));
            match (held, holds) {
                (false, true) => self.begins(now, agent, old, (cluster_before, racks)),
                (true, false) if agent.place.is_some() => {
                    self.fails(now, agent, old.unwrap_or(agent));
                    failed.push(agent);
                }
                (true, false) => self.ends(now, agent, old),
                (true, true) => self.goes_on(now, agent, old.unwrap_or(agent)),
                (false, false) => {}
            }
            for task_type in TaskType::ALL {
                let slot = (agent.id.clone(), task_type);
                if agent.order(task_type) == Some(&Order::Skip) {
                    self.skipped.entry(slot).or_insert(now);
                } else {
                    self.skipped.remove(&slot);
                }
            }
            if held || holds {
                self.placed.insert(agent.id.clone(), now);
            }
        }
        let holds = |id: &AgentId| agents.iter().any(|agent| agent.id == *id && agent.holds().is_some());
        self.under_way.retain(holds);
        if agents.iter().all(|agent| agent.holds().is_none()) {
            self.allowed = 0;
        }
        let canaries = &self.cluster.rollout.canaries;
        let is_busy = |key: &AgentKey| self.agents.get(key).is_some_and(|agent| agent.holds().is_some());
        if self.begun.iter().any(is_busy) {
            self.free_since = now;
        }
        self.halts(now, &failed, canaries, (before, cluster_before));
    }

    /// What a task type is to be launched with on an agent, as far as it is not left out there.
    fn wanted(&self, agent: &AgentRecord, task_type: TaskType) -> Option<&TargetHash> {
        let target = self.cluster.rollout.targets.get(&task_type)?;
        match agent.order(task_type) {
            Some(Order::Skip) => None,
            Some(Order::Complete { target: complete }) if complete == target => None,
            _ => Some(target).filter(|_| !self.is_undone(task_type) && !self.lacks(agent, task_type)),
        }
    }

    /// Docker's plugin is of no use where Docker has no store.
    fn lacks(&self, agent: &AgentRecord, task_type: TaskType) -> bool {
        // What is followed may be another configuration than that of the scheduler.
        let mut specs = self.configurations.iter().filter_map(|it| it.settings.specs.get(&task_type));
        let required = specs.next().into_iter().flat_map(|spec| &spec.requires);
        required.into_iter().any(|required| {
            agent.tasks.get(required).is_some_and(|record| matches!(record.phase, Phase::Skipped { .. }))
        })
    }

    fn is_undone(&self, task_type: TaskType) -> bool {
        self.cluster.rollout.undone.contains(&task_type)
    }

    /// Whether a launch is of an agent's first install.
    pub fn is_first(&self, agent: &AgentId, task_type: TaskType) -> bool {
        task_type.scope() == Scope::Agent && self.agent(agent).is_none_or(|agent| agent.settled == 0)
    }

    /// Whether operators have a step left out on an agent.
    pub fn is_left_out(&self, agent: &AgentId, task_type: TaskType) -> bool {
        let order = self.agent(agent).and_then(|agent| agent.order(task_type));
        order.is_some_and(|order| *order != Order::Again)
    }

    /// Whether a task type comes to agents with their first install.
    pub fn is_wanted(&self, task_type: TaskType) -> bool {
        let targets = &self.cluster.rollout.targets;
        targets.contains_key(&task_type) && !self.is_undone(task_type)
    }

    /// A launch.
    pub fn launch(&mut self, id: &TaskId, agent: &AgentId, target: &TargetHash, now: Duration) {
        let task_type = id.task_type().unwrap();
        let slot = (agent.clone(), task_type);
        let skipped = self.skipped.get(&slot).filter(|since| **since + QUEUED < now);
        assert_eq!(skipped, None, "{id} is launched, and an operator has that left out");
        let launch = Launch {
            agent: agent.clone(),
            task_type,
            target: target.clone(),
            reached: None,
            number: self.cluster.rollout.number,
        };
        let before = self.latest.insert(slot.clone(), id.clone());
        let before = before.and_then(|task| self.launches.get(&task)).map(|launch| launch.target.clone());
        self.launches.insert(id.clone(), launch);
        let Some(record) = self.agent(agent).filter(|_| task_type.scope() == Scope::Agent) else { return };
        let is_known = before.as_ref() == Some(target) || self.meant.get(&slot) == Some(target);
        let current = self.cluster.rollout.targets.get(&task_type);
        if record.settled == 0 || record.holds().is_some() {
            // It comes back as it was, and its agent has its place by the end of the same frame, which may be stored late.
            let began = record.holds().map(|place| place.since);
            let as_it_was = is_known && began.zip(id.made_at()).is_some_and(|(began, made)| began >= made);
            assert!(
                current == Some(target) || task_type == TaskType::Prefetch || as_it_was,
                "{id} is launched on {agent} with {target}, and {current:?} is wanted"
            );
            if record.settled > 0 && (task_type == TaskType::Prefetch || before.as_ref() != Some(target)) {
                self.is_under_way(agent);
            }
            return;
        }
        // What its host could not have at first comes alone when it can.
        let is_first = before.is_none() && record.settled >= self.cluster.rollout.number;
        // Where a clock has jumped, the time of its place may be over by the frame in which it is launched.
        let had_place = self.placed.get(agent).is_some_and(|at| *at + LAG > now);
        assert!(
            is_first || is_known || (had_place || self.unknown.contains(&slot)) && current == Some(target),
            "{id} is launched on {agent} with another target than was there, {before:?}, and it has no place"
        );
    }

    /// A look is at what was launched there last.
    pub fn looks(&self, id: &TaskId, agent: &AgentId, target: &TargetHash) {
        let latest = self.latest.get(&(agent.clone(), id.task_type().unwrap()));
        let there = latest.and_then(|task| self.launches.get(task)).map(|launch| &launch.target);
        let of_agent = id.task_type().is_some_and(|task_type| task_type.scope() == Scope::Agent);
        assert!(
            !of_agent || there == Some(target),
            "{id} looks on {agent} for {target}, and {there:?} is there"
        );
        let place = self.agent(agent).and_then(|agent| agent.holds());
        // The cluster's are looked at anywhere: a place may be given just then.
        assert!(!of_agent || place.is_none(), "{id} looks on {agent}, which has a place: {place:?}");
    }

    /// Something is done on an agent in its place: on so many, as the master is told, and no more.
    fn is_under_way(&mut self, agent: &AgentId) {
        self.under_way.insert(agent.clone());
        let (under_way, most) = (&self.under_way, self.allowed.max(self.most()));
        assert!(under_way.len() <= most, "{under_way:?} are under way, {most} may be");
    }

    /// A service is killed.
    pub fn killed(&mut self, id: &TaskId, now: Duration) {
        let agent = self.launches.get(id).map(|launch| launch.agent.clone());
        let place = agent.filter(|agent| self.agent(agent).is_some_and(|agent| agent.holds().is_some()));
        if let Some(agent) = place {
            let task_type = id.task_type().unwrap();
            self.freed.insert((agent.clone(), task_type), now + COMMANDED);
            self.is_under_way(&agent);
        }
    }

    /// Operators have commanded something about an agent, or about all: what waits there may go on.
    pub fn commanded(&mut self, agent: Option<&AgentKey>, now: Duration) {
        let concerned = self.agents.values().filter(|record| agent.is_none_or(|key| *key == record.key));
        for record in concerned {
            let slots = TaskType::ALL.into_iter().map(|task_type| (record.id.clone(), task_type));
            self.freed.extend(slots.map(|slot| (slot, now + COMMANDED)));
        }
    }

    /// Until when the backoffs of a service were over.
    pub fn freed(&self, agent: &AgentId, task_type: TaskType) -> Option<Duration> {
        self.freed.get(&(agent.clone(), task_type)).copied()
    }

    /// A process subscribes, and knows nothing of agents; or it is told of them.
    pub fn informed(&mut self, process: Process, at: Option<Duration>) {
        let before = self.informed.filter(|(other, _)| *other == process);
        self.informed = at.map(|at| before.unwrap_or((process, at)));
    }

    /// Whether the process that acts knows which agents there are, for a while.
    fn is_informed(&self, now: Duration) -> bool {
        self.informed.is_some_and(|(process, at)| process == self.process && now >= at + LISTED)
    }

    /// Agents that have failed with their place.
    pub fn gave_up(&self) -> impl Iterator<Item = &AgentId> {
        let failed = self.agents.values().filter(|agent| agent.place.is_some() && agent.holds().is_none());
        failed.map(|agent| &agent.id)
    }

    /// Agents that have a place, or had one a moment ago: what is launched there is no recovery.
    pub fn placed(&self, now: Duration) -> impl Iterator<Item = &AgentId> {
        let holds = self.agents.values().filter(|agent| agent.holds().is_some()).map(|agent| &agent.id);
        holds.chain(self.placed.iter().filter(move |(_, at)| **at + STORED > now).map(|(id, _)| id))
    }

    /// Whether an agent is to have a service, as far as is stored.
    pub fn gets(&self, agent: &AgentId, task_type: TaskType) -> bool {
        self.agent(agent).is_some_and(|agent| self.wanted(agent, task_type).is_some())
    }

    /// Whether the target of a launch is another than that of the one before.
    pub fn changes(&self, agent: &AgentId, task_type: TaskType, target: &TargetHash) -> bool {
        let before = self.latest.get(&(agent.clone(), task_type)).and_then(|task| self.launches.get(task));
        before.is_none_or(|before| before.target != *target)
    }

    /// Whether one that lives may be killed: for its agent's place, when what comes after it is there.
    pub fn may_kill(&self, id: &TaskId, now: Duration) -> bool {
        let Some(launch) = self.launches.get(id) else { return false };
        let slot = (launch.agent.clone(), launch.task_type);
        let decided = self.ending.get(&slot).is_some_and(|at| *at + QUEUED >= now);
        let rollout = &self.cluster.rollout;
        let is_wanted = self.is_wanted(launch.task_type);
        let target = rollout.targets.get(&TaskType::Prefetch);
        let fetched = self.launches.values().any(|fetch| {
            fetch.agent == launch.agent
                && fetch.task_type == TaskType::Prefetch
                && (Some(&fetch.target) == target || fetch.number == rollout.number)
                && fetch.reached.is_some()
        });
        decided && (fetched || !is_wanted)
    }

    /// The master says that a task is ready, or done.
    pub fn reached(&mut self, id: &TaskId, at: Duration) {
        if let Some(launch) = self.launches.get_mut(id) {
            launch.reached.get_or_insert(at);
        }
    }

    /// The master says of a task how it stands.
    pub fn status(&mut self, id: &TaskId, status: &TaskStatus) {
        let state = status.state();
        // What must be done once is done elsewhere when its agent is lost.
        let is_over = !is_alive(state)
            || state == TaskState::TaskUnreachable
                && id.task_type().is_some_and(|task_type| task_type.scope() == Scope::Cluster);
        if let Some(agent) = status.agent_id.as_ref().filter(|_| is_over) {
            let end = (AgentId::from(agent.value.clone()), state, exit_status(status));
            self.failed.entry(id.clone()).or_insert(end);
        }
    }

    /// What is not on an agent as the last target wants it, if anything is not.
    pub fn unfinished(&self, agent: &AgentRecord, wanted: &Settings) -> Option<String> {
        let number = self.cluster.rollout.number;
        if agent.settled < number {
            return Some(format!("{}: settled {} of {number}", agent.key, agent.settled));
        }
        for task_type in wanted.specs.keys().filter(|task_type| is_step(**task_type)) {
            let Some(target) = self.wanted(agent, *task_type) else { continue };
            let record = agent.tasks.get(task_type);
            if record.is_some_and(|record| matches!(record.phase, Phase::Skipped { .. })) {
                continue;
            }
            // What its host could not have at first comes alone when it can, and may fail for ever there.
            if record.is_some_and(|record| !record.reached && record.failures > 0) {
                continue;
            }
            let good = |record: &TaskRecord| record.target.as_ref() == Some(target) && record.phase.at_goal();
            if !record.is_some_and(good) {
                return Some(format!("{}: {task_type} is {record:?}, not {target}", agent.key));
            }
        }
        let unwanted = agent.tasks.iter().find(|(task_type, record)| {
            let is_live = record.phase.live().is_some();
            is_live
                && is_service(**task_type)
                && !wanted.specs.contains_key(task_type)
                && agent.order(**task_type).is_none()
        });
        unwanted.map(|(task_type, _)| format!("{}: {task_type} is still there", agent.key))
    }
}

fn has_failed(agent: &AgentRecord, number: u64) -> bool {
    agent.place.as_ref().is_some_and(|place| place.failure.is_some() && place.number == number)
}
