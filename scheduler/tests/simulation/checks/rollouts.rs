//! What must hold in rollouts: who has a place, as it is stored, and what is done with it, as the master is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use calico_scheduler::core::{
    AgentId, AgentKey, AgentRecord, ClusterRecord, Order, Phase, Plan, RolloutStrategy, Run, Scope, Settings,
    TargetHash, TaskId, TaskRecord, TaskType, Timestamp,
};

use super::{is_service, is_step};

/// A call is sent so long after it was decided, at most: it waits for those before it.
const QUEUED: Duration = Duration::from_mins(2);
/// A process may be ahead of the world, and what it stores is on its way for a while.
const LAG: Duration = Duration::from_millis(100);

/// Which configuration of those that there are.
pub type Configured = usize;
/// The rack of each host.
pub type Racks = BTreeMap<String, String>;

/// See above.
#[derive(Debug, Default)]
pub struct Rollouts {
    configurations: Vec<Settings>,
    /// The configuration of the scheduler that acts.
    acts: Configured,
    values: BTreeMap<String, Vec<u8>>,
    agents: BTreeMap<AgentKey, AgentRecord>,
    cluster: ClusterRecord,
    launches: BTreeMap<TaskId, Launch>,
    /// The last launch of each type on each agent.
    latest: BTreeMap<(AgentId, TaskType), TaskId>,
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
    /// The most agents that were under way at the same time.
    pub peak: usize,
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
    pub fn new(configurations: Vec<Settings>) -> Self {
        Self { configurations, ..Self::default() }
    }

    /// What is done next is done by a scheduler with this configuration.
    pub fn acts(&mut self, configured: Configured) {
        self.acts = configured;
    }

    fn settings(&self) -> &Settings {
        &self.configurations[self.acts]
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

    /// Something was stored: these are all keys below ours.
    pub fn stored<'a>(
        &mut self,
        now: Duration,
        below: impl Iterator<Item = (&'a str, &'a [u8])>,
        racks: impl FnOnce() -> Racks,
    ) {
        let (mut changed, mut there) = (Vec::new(), BTreeSet::new());
        for (key, value) in below.filter(|(key, _)| key.contains("/agents/") || key.ends_with("/cluster")) {
            there.insert(key.to_owned());
            if self.values.get(key).is_none_or(|before| before != value) {
                self.values.insert(key.to_owned(), value.to_vec());
                changed.push((key.to_owned(), value));
            }
        }
        let gone: Vec<String> = self.values.keys().filter(|key| !there.contains(*key)).cloned().collect();
        if changed.is_empty() && gone.is_empty() {
            return;
        }
        let (agents, cluster) = (self.agents.clone(), self.cluster.clone());
        for (key, value) in changed {
            if key.ends_with("/cluster") {
                self.cluster = serde_json::from_slice(value).unwrap();
            } else {
                let agent: AgentRecord = serde_json::from_slice(value).unwrap();
                self.agents.insert(agent.key.clone(), agent);
            }
        }
        for key in gone {
            self.values.remove(&key);
            self.agents.retain(|agent, _| !key.ends_with(&format!("/agents/{agent}")));
        }
        self.changed(now, &agents, &cluster, &racks());
    }

    fn changed(
        &mut self,
        now: Duration,
        before: &BTreeMap<AgentKey, AgentRecord>,
        cluster_before: &ClusterRecord,
        racks: &Racks,
    ) {
        if cluster_before.rollout.number != self.cluster.rollout.number {
            (self.begun, self.free_since) = (BTreeSet::new(), now);
            (self.told_to_go_on, self.is_rest) = (false, false);
        }
        let mut failed = Vec::new();
        let agents: Vec<AgentRecord> = self.agents.values().cloned().collect();
        for agent in &agents {
            // It may have lost its address to another.
            let old = before.values().find(|old| old.id == agent.id);
            if let Some(task_type) = agent.holds().and_then(|place| place.ending) {
                self.ending.insert((agent.id.clone(), task_type), now);
            }
            let held = old.is_some_and(|old| old.holds().is_some());
            match (held, agent.holds().is_some()) {
                (false, true) => self.begins(now, agent, old, (cluster_before, racks)),
                (true, false) if agent.place.is_some() => failed.push(agent),
                (true, false) => self.ends(now, agent),
                _ => {}
            }
        }
        let canaries = &self.cluster.rollout.canaries;
        let is_busy = |key: &AgentKey| self.agents.get(key).is_some_and(|agent| agent.holds().is_some());
        if self.begun.iter().any(is_busy) {
            self.free_since = now;
        }
        self.halts(&failed, canaries, (before, cluster_before));
    }

    /// An agent has got its place.
    fn begins(
        &mut self,
        now: Duration,
        agent: &AgentRecord,
        old: Option<&AgentRecord>,
        (cluster_before, racks): (&ClusterRecord, &Racks),
    ) {
        let key = &agent.key;
        let settings = &self.settings().rollout;
        let most = match settings.strategy {
            RolloutStrategy::Serial => 1,
            RolloutStrategy::Canary | RolloutStrategy::Parallel => settings.max_agents.of(self.agents.len()),
        };
        let holding: Vec<&AgentRecord> = self.agents.values().filter(|a| a.holds().is_some()).collect();
        let keys: Vec<&AgentKey> = holding.iter().map(|agent| &agent.key).collect();
        assert!(holding.len() <= most, "{key} begins: {keys:?} are under way, {most} may be");
        if let Some(most) = settings.max_per_domain {
            let domain = |agent: &AgentRecord| racks.get(agent.key.host()).cloned();
            let alike = holding.iter().filter(|other| domain(other) == domain(agent)).count();
            assert!(alike <= most, "{key} begins: {alike} of {:?} are under way", domain(agent));
        }
        // One of before, or of the same moment, that ends in the same transaction is not seen.
        assert!(agent.settled > 0, "{key} begins, and its first install was never complete");
        let is_ordered = |agent: &AgentRecord| {
            agent.orders.iter().any(|orders| orders.values().any(|order| *order == Order::Again))
        };
        let ordered = is_ordered(agent) || old.is_some_and(is_ordered);
        self.peak = self.peak.max(holding.len());
        if ordered {
            return;
        }
        // Several decisions may be stored together.
        let closed = |cluster: &ClusterRecord| {
            let rollout = &cluster.rollout;
            rollout.halted.is_some() || rollout.stopped || rollout.paused.contains(&Plan::Update)
        };
        assert!(
            !closed(&self.cluster) || !closed(cluster_before),
            "{key} begins, and the rollout is {:?}",
            self.cluster.rollout
        );
        let settings = &self.settings().rollout;
        if settings.strategy == RolloutStrategy::Canary {
            let is_busy = |key: &AgentKey| self.agents.get(key).is_some_and(|a| a.holds().is_some());
            let soaked = self.told_to_go_on
                || self.free_since + settings.canary_soak <= now + LAG && !self.begun.iter().any(is_busy);
            let is_canary = !self.is_rest && self.begun.len() < settings.canary_count;
            let begun = &self.begun;
            assert!(
                is_canary || self.is_rest || soaked,
                "{key} begins after {begun:?}, before the canaries are done and the soak is over"
            );
            self.is_rest |= !is_canary;
            self.begun.insert(key.clone());
        }
    }

    /// An agent's place is free, and it has not failed.
    fn ends(&self, now: Duration, agent: &AgentRecord) {
        let settings = self.settings();
        let key = &agent.key;
        let sure = Timestamp((now + LAG).saturating_sub(settings.stability).as_millis().try_into().unwrap());
        let known = |task_type: TaskType| self.wanted(agent, task_type);
        for (task_type, record) in agent.tasks.iter().filter(|(t, _)| **t != TaskType::Prefetch) {
            let Some(target) = known(*task_type) else {
                let lives = record.phase.live().is_some();
                let skipped = agent.order(*task_type).is_some() || settings.specs.contains_key(task_type);
                assert!(!lives || skipped, "{key} is done, and {task_type}, which nobody wants, is there");
                continue;
            };
            if matches!(record.phase, Phase::Skipped { .. }) {
                continue;
            }
            let has = record.target.as_ref();
            assert_eq!(has, Some(target), "{key} is done, and {task_type} has another target");
            let since = match &record.phase {
                Phase::Done { at } => Some(*at),
                Phase::Active { run: Run::Ready, since, .. } => Some(*since),
                _ => None,
            };
            assert!(since.is_some(), "{key} is done, and {task_type} is {:?}", record.phase);
            assert!(
                since.is_some_and(|since| since <= sure),
                "{key} is done, and has had {task_type} since {since:?} only, not since {sure:?}"
            );
            if let Some((task, _)) = record.phase.live() {
                let reached = self.launches.get(task).and_then(|launch| launch.reached);
                let stable = reached.is_some_and(|at| at + settings.stability <= now + LAG);
                assert!(stable, "{key} is done, and the master has said that {task} is ready at {reached:?}");
            }
        }
        let missing = settings.specs.keys().find(|task_type| {
            is_step(**task_type) && known(**task_type).is_some() && !agent.tasks.contains_key(task_type)
        });
        assert_eq!(missing, None, "{key} is done, and something is missing there");
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
        let required = self.settings().specs.get(&task_type).into_iter().flat_map(|spec| &spec.requires);
        required.into_iter().any(|required| {
            agent.tasks.get(required).is_some_and(|record| matches!(record.phase, Phase::Skipped { .. }))
        })
    }

    fn is_undone(&self, task_type: TaskType) -> bool {
        self.cluster.rollout.undone.contains(&task_type)
    }

    /// It halts with the agents that have `failed` when it should, and not otherwise.
    fn halts(
        &self,
        failed: &[&AgentRecord],
        canaries: &[AgentKey],
        (before_agents, cluster_before): (&BTreeMap<AgentKey, AgentRecord>, &ClusterRecord),
    ) {
        let (before, rollout) = (&cluster_before.rollout, &self.cluster.rollout);
        if before.number != rollout.number {
            return;
        }
        let most = self.settings().rollout.max_failures;
        let number = self.agents.values().filter(|agent| self.has_failed(agent)).count();
        let canary = failed.iter().any(|agent| canaries.contains(&agent.key));
        // What has failed may be gone by the same moment.
        let is_there = |old: &AgentRecord| self.agents.get(&old.key).is_some_and(|now| now.id == old.id);
        let vanished = before_agents.values().any(|old| old.holds().is_some() && !is_there(old));
        let halts = !failed.is_empty() && (number >= most || canary);
        if halts && before.halted.is_none() {
            assert!(
                rollout.halted.is_some(),
                "{number} agents have failed, {most} may, a canary: {canary}; and it has not halted"
            );
        } else if before.halted.is_none() && !vanished {
            assert_eq!(rollout.halted, None, "{number} agents have failed, {most} may, and it has halted");
        }
        if before.halted.is_some() && rollout.halted.is_none() {
            assert!(self.told_to_go_on, "it goes on after it has halted, and nobody has said so");
        }
    }

    /// Whether a launch is of an agent's first install.
    pub fn is_first(&self, agent: &AgentId, task_type: TaskType) -> bool {
        task_type.scope() == Scope::Agent && self.agent(agent).is_none_or(|agent| agent.settled == 0)
    }

    /// Whether a task type comes to agents with their first install.
    pub fn is_wanted(&self, task_type: TaskType) -> bool {
        let targets = &self.cluster.rollout.targets;
        targets.contains_key(&task_type) && !self.is_undone(task_type)
    }

    /// A launch.
    pub fn launch(&mut self, id: &TaskId, agent: &AgentId, target: &TargetHash) {
        let task_type = id.task_type().unwrap();
        let slot = (agent.clone(), task_type);
        let launch = Launch {
            agent: agent.clone(),
            task_type,
            target: target.clone(),
            reached: None,
            number: self.cluster.rollout.number,
        };
        let before = self.latest.insert(slot, id.clone());
        let before = before.and_then(|task| self.launches.get(&task)).map(|launch| launch.target.clone());
        self.launches.insert(id.clone(), launch);
        let Some(record) = self.agent(agent).filter(|_| task_type.scope() == Scope::Agent) else { return };
        if record.settled == 0 || record.holds().is_some() {
            return;
        }
        // What its host could not have at first comes alone when it can.
        let is_first = before.is_none() && record.settled >= self.cluster.rollout.number;
        assert!(
            is_first || before.as_ref() == Some(target),
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
