//! Who gets a place, and when.

use std::time::Duration;

use calico_scheduler::core::{
    AgentKey, AgentRecord, ClusterRecord, Order, Phase, Plan, RolloutStrategy, Stage, TaskType, Timestamp,
};

use super::{LAG, Racks, Rollouts};

/// What is decided is stored so soon, or never: a commit is tried again until its tenure ends.
const STORED: Duration = Duration::from_secs(30);

/// When agents may begin, in minutes of a day, UTC: always, when there is none.
#[derive(Debug, Clone, Default)]
pub struct Hours(pub Vec<(u64, u64)>);

impl Hours {
    fn is_open(&self, at: Timestamp) -> bool {
        let minute = at.0 / 60_000 % (24 * 60);
        self.0.is_empty() || self.0.iter().any(|(from, to)| (*from..*to).contains(&minute))
    }
}

impl Rollouts {
    /// How many agents may be under way at the same time.
    pub(super) fn most(&self) -> usize {
        let settings = &self.settings().rollout;
        match settings.strategy {
            RolloutStrategy::Serial => 1,
            RolloutStrategy::Canary | RolloutStrategy::Parallel => settings.max_agents.of(self.agents.len()),
        }
    }

    /// An agent has got its place.
    pub(super) fn begins(
        &mut self,
        now: Duration,
        agent: &AgentRecord,
        old: Option<&AgentRecord>,
        (cluster_before, racks): (&ClusterRecord, &Racks),
    ) {
        let key = &agent.key;
        let most = self.most();
        let holding: Vec<&AgentRecord> = self.agents.values().filter(|a| a.holds().is_some()).collect();
        let keys: Vec<&AgentKey> = holding.iter().map(|agent| &agent.key).collect();
        assert!(holding.len() <= most, "{key} begins: {keys:?} are under way, {most} may be");
        if let Some(most) = self.settings().rollout.max_per_domain {
            let domain = |agent: &AgentRecord| racks.get(agent.key.host()).cloned();
            let alike = holding.iter().filter(|other| domain(other) == domain(agent)).count();
            assert!(alike <= most, "{key} begins: {alike} of {:?} are under way", domain(agent));
        }
        self.peak = self.peak.max(holding.len());
        self.allowed = self.allowed.max(most);
        // One of before, or of the same moment, that ends in the same transaction is not seen.
        assert!(agent.settled > 0, "{key} begins, and its first install was never complete");
        // Its backoffs are over.
        for task_type in TaskType::ALL {
            let until = self.freed.entry((agent.id.clone(), task_type)).or_default();
            *until = now.max(*until);
        }
        let is_ordered = |agent: &AgentRecord| {
            agent.orders.iter().any(|orders| orders.values().any(|order| *order == Order::Again))
        };
        if is_ordered(agent) || old.is_some_and(is_ordered) {
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
        self.in_window(now, agent);
        self.own_is_last(agent);
        self.canaries_first(now, key);
    }

    fn in_window(&self, now: Duration, agent: &AgentRecord) {
        if self.clocks_jumped {
            return;
        }
        let Some(place) = agent.holds() else { return };
        let hours = &self.configurations[self.acts].hours;
        let (key, since) = (&agent.key, place.since);
        assert!(hours.is_open(since), "{key} begins at {since}, outside of all windows");
        let stored = Duration::from_millis(since.0);
        assert!(
            stored <= now + LAG && (now <= stored + STORED || self.restless),
            "{key} has its place since {since}, and that is stored at {now:?}"
        );
    }

    /// The host of our own scheduler waits for all that could begin: as far as nothing makes it unsure what could.
    fn own_is_last(&self, agent: &AgentRecord) {
        let own = self.settings().rollout.own_host.as_deref();
        if self.restless || own != Some(agent.key.host()) {
            return;
        }
        let other = self.agents.values().find(|other| {
            let there = !other.aside && other.absent_since.is_none() && other.key.host() != agent.key.host();
            let waits = other.settled > 0 && other.settled < self.cluster.rollout.number;
            there && waits && other.place.is_none() && self.is_behind(other)
        });
        let other = other.map(|other| &other.key);
        assert_eq!(other, None, "{}, where our own scheduler runs, begins, and another one waits", agent.key);
    }

    /// Whether something on an agent has another target than it is to have.
    fn is_behind(&self, agent: &AgentRecord) -> bool {
        agent.tasks.iter().any(|(task_type, record)| {
            let skipped = matches!(record.phase, Phase::Skipped { .. });
            let wanted = self.wanted(agent, *task_type);
            !skipped && record.target.is_some() && wanted.is_some() && wanted != record.target.as_ref()
        })
    }

    fn canaries_first(&mut self, now: Duration, key: &AgentKey) {
        // One whose host was rebuilt, or is known no longer, is none.
        if self.cluster.rollout.stage == Stage::Canary {
            self.begun.retain(|key| self.agents.get(key).is_some_and(|agent| agent.settled > 0));
        }
        let settings = &self.settings().rollout;
        if settings.strategy != RolloutStrategy::Canary {
            return;
        }
        let is_busy = |key: &AgentKey| self.agents.get(key).is_some_and(|a| a.holds().is_some());
        let soaked = self.told_to_go_on
            || self.clocks_jumped
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
