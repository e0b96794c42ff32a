//! How places end: with the new target, or with a failure; and what follows from failures.

use std::collections::BTreeMap;
use std::time::Duration;

use calico_scheduler::core::{
    AgentId, AgentKey, AgentRecord, ClusterRecord, OnFailure, Phase, RolloutRecord, Run, Scope, Stage,
    TaskRecord, TaskType, Timestamp,
};
use mesos_v1::TaskState;

use super::{LAG, Rollouts, has_failed};
use crate::checks::is_step;

/// So many launches in a row that never ran are one failure.
const DROPS: usize = 4;

/// Why a rollout has failed, when that is a task type of the cluster.
fn of_cluster(why: &str) -> Option<&str> {
    let first = ["what was ordered on ", "it cannot be rolled back, "];
    let cause = first.iter().fold(why, |why, first| {
        why.split_once("; ").filter(|_| why.starts_with(first)).map_or(why, |(_, rest)| rest)
    });
    let mut types = TaskType::ALL.into_iter().filter(|task_type| task_type.scope() == Scope::Cluster);
    types.any(|task_type| cause.starts_with(task_type.name())).then_some(cause)
}

impl Rollouts {
    /// An agent's place is free, and it has not failed.
    pub(super) fn ends(&self, now: Duration, agent: &AgentRecord, old: Option<&AgentRecord>) {
        let settings = self.settings();
        let key = &agent.key;
        let sure = Timestamp((now + LAG).saturating_sub(settings.stability).as_millis().try_into().unwrap());
        let since = |record: &TaskRecord| match &record.phase {
            Phase::Done { at } => Some(*at),
            Phase::Active { run: Run::Ready, since, .. } => Some(*since),
            _ => None,
        };
        for (task_type, record) in agent.tasks.iter().filter(|(t, _)| **t != TaskType::Prefetch) {
            let Some(target) = self.wanted(agent, *task_type) else {
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
            // What has happened to it since may be stored at the same time.
            let before = old.and_then(|old| old.tasks.get(task_type));
            let since = since(record).or_else(|| since(before?));
            assert!(since.is_some(), "{key} is done, and {task_type} is {:?}", record.phase);
            assert!(
                self.clocks_jumped || since.is_some_and(|since| since <= sure),
                "{key} is done, and has had {task_type} since {since:?} only, not since {sure:?}"
            );
            // What only looks is no step.
            let looks = matches!(record.phase, Phase::Checking { .. });
            if let Some((task, _)) = record.phase.live().filter(|_| !looks) {
                let reached = self.launches.get(task).and_then(|launch| launch.reached);
                let stable = reached.is_some_and(|at| at + settings.stability <= now + LAG);
                assert!(
                    stable || self.clocks_jumped,
                    "{key} is done, and the master has said that {task} is ready at {reached:?}"
                );
            }
        }
        let missing = settings.specs.keys().find(|task_type| {
            is_step(**task_type)
                && self.wanted(agent, **task_type).is_some()
                && !agent.tasks.contains_key(task_type)
        });
        assert_eq!(missing, None, "{key} is done, and something is missing there");
    }

    /// An agent has failed: that is what its reason says.
    pub(super) fn fails(&self, now: Duration, agent: &AgentRecord, old: &AgentRecord) {
        let why = agent.place.as_ref().and_then(|place| place.failure.as_deref()).unwrap_or_default();
        self.fails_for(now, why, old);
    }

    fn fails_for(&self, now: Duration, why: &str, old: &AgentRecord) {
        let key = &old.key;
        let settings = self.settings();
        if why.contains("rollout.agent-timeout") {
            let step = old.holds().map(|place| place.step_since);
            let restart = old.disruption.as_ref().map(|disruption| disruption.since);
            let since = step.into_iter().chain(restart).min();
            let due = since.map(|since| Duration::from_millis(since.after(settings.agent_timeout).0));
            let is_due = due.is_some_and(|due| due <= now + LAG);
            assert!(is_due || self.clocks_jumped, "{key} has failed at {now:?}, due at {due:?}: {why}");
            return;
        }
        self.is_given_up(why, Some(old));
    }

    /// A step of an agent, or of the cluster, is not tried any more: it has failed as its reason says.
    fn is_given_up(&self, why: &str, agent: Option<&AgentRecord>) {
        let key = agent.map_or("the cluster", |agent| &*agent.key.0);
        let type_of = |task_type: &TaskType| why.starts_with(task_type.name());
        let task_type = TaskType::ALL.into_iter().find(type_of).unwrap_or_else(|| panic!("{key}: {why}"));
        let is_its = |id: &AgentId| agent.is_none_or(|agent| agent.id == *id);
        let theirs = self
            .failed
            .iter()
            .filter(|(id, (failed_on, ..))| is_its(failed_on) && id.task_type() == Some(task_type));
        let ends: Vec<_> = theirs.map(|(_, (_, state, code))| (*state, *code)).collect();
        if why.contains("rollout.max-attempts") {
            let dropped = ends.iter().filter(|(state, _)| *state == TaskState::TaskDropped).count();
            let failed = ends.len() - dropped + dropped / DROPS;
            let most = self.settings().rollout.max_attempts;
            let enough = failed >= usize::try_from(most).unwrap();
            assert!(enough, "{key} has failed with {failed} attempts of {most}: {why}");
        } else {
            let held = ends.iter().any(|(_, code)| matches!(code, Some(77 | 78)));
            assert!(held, "{key} has failed, and nothing says why: {why}");
        }
    }

    /// An agent that has its place still has not failed, by what has just been stored of it.
    pub(super) fn goes_on(&self, now: Duration, agent: &AgentRecord, old: &AgentRecord) {
        // Before it knows which agents there are it judges none.
        if !self.is_informed(now) {
            return;
        }
        let most = self.settings().rollout.max_attempts;
        for (task_type, record) in agent.tasks.iter() {
            let target = self.cluster.rollout.targets.get(task_type);
            let changed = old.tasks.get(task_type) != Some(record);
            let is_current = target.is_some() && target == record.target.as_ref();
            let left_out = *task_type != TaskType::Prefetch && self.wanted(agent, *task_type).is_none();
            if !changed || !is_current || left_out && !self.is_undone(*task_type) {
                continue;
            }
            let failed = match record.phase {
                Phase::Held { .. } => true,
                Phase::Backoff { .. } => record.failures >= most,
                _ => false,
            };
            assert!(!failed, "{} goes on, and {task_type} has failed for good: {record:?}", agent.key);
        }
    }

    /// What has failed for the cluster is not tried for ever while an agent has its place.
    fn cluster_goes_on(&self, now: Duration, before: &ClusterRecord) {
        let holds = self.agents.values().any(|agent| agent.holds().is_some());
        if !holds || !self.is_informed(now) {
            return;
        }
        let init = TaskType::ClusterInit;
        let Some(record) = self.cluster.tasks.get(&init) else { return };
        let target = self.cluster.rollout.targets.get(&init);
        let is_current = record.target.is_some() && target == record.target.as_ref();
        let tries = matches!(record.phase, Phase::Backoff { .. })
            && record.failures >= self.settings().rollout.max_attempts;
        let changed = before.tasks.get(&init) != Some(record);
        // What has vanished is put back, however often.
        assert!(!changed || !is_current || !tries || record.is_down(), "{init} goes on: {record:?}");
    }

    /// With the agents that have `failed` it halts, or goes back, when it should, and not otherwise.
    pub(super) fn halts(
        &self,
        now: Duration,
        failed: &[&AgentRecord],
        canaries: &[AgentKey],
        (before_agents, cluster_before): (&BTreeMap<AgentKey, AgentRecord>, &ClusterRecord),
    ) {
        self.cluster_goes_on(now, cluster_before);
        let (before, rollout) = (&cluster_before.rollout, &self.cluster.rollout);
        let most = self.settings().rollout.max_failures;
        let number = self.agents.values().filter(|agent| has_failed(agent, before.number)).count();
        let canary = failed.iter().any(|agent| canaries.contains(&agent.key));
        // What has failed may be gone by the same moment.
        let is_there = |old: &AgentRecord| self.agents.get(&old.key).is_some_and(|now| now.id == old.id);
        let vanished = before_agents.values().any(|old| old.holds().is_some() && !is_there(old));
        // A canary is one until the others follow.
        let is_stage = |rollout: &RolloutRecord| canary && rollout.stage == Stage::Canary;
        if before.number != rollout.number {
            if before.given_up.is_none() {
                self.goes_back(now, before_agents, before);
            }
            return;
        }
        let has_to = !failed.is_empty() && (number >= most || is_stage(rollout));
        let halts = rollout.halted.as_deref().filter(|_| before.halted.is_none());
        let for_cluster = halts.and_then(of_cluster);
        if let Some(why) = for_cluster {
            self.is_given_up(why, None);
        }
        let may = !failed.is_empty() && (has_to || is_stage(before))
            || self.died_later(before)
            || for_cluster.is_some();
        if has_to && before.halted.is_none() {
            assert!(
                rollout.halted.is_some(),
                "{number} agents have failed, {most} may, a canary: {canary}; and it has not halted"
            );
            let goes_back = self.settings().rollout.on_failure == OnFailure::Rollback;
            let could = rollout.given_up.is_none() && rollout.before.is_some();
            assert!(!goes_back || !could, "it has halted, and could go back: {:?}", rollout.halted);
        } else if before.halted.is_none() && !may && !vanished {
            assert_eq!(rollout.halted, None, "{number} agents have failed, {most} may, and it has halted");
        }
        if before.halted.is_some() && rollout.halted.is_none() {
            assert!(self.told_to_go_on, "it goes on after it has halted, and nobody has said so");
        }
    }

    /// It goes back with enough agents that have failed: where these have what they go back to, nothing else tells of them.
    fn goes_back(
        &self,
        now: Duration,
        before_agents: &BTreeMap<AgentKey, AgentRecord>,
        before: &RolloutRecord,
    ) {
        let Some(given_up) = &self.cluster.rollout.given_up else { return };
        if given_up.why.contains("has failed after it was done") {
            assert!(self.died_later(before), "nobody has died since: {}", given_up.why);
            return;
        }
        if let Some(why) = of_cluster(&given_up.why) {
            return self.is_given_up(why, None);
        }
        let earlier = before.before.as_ref().map(|earlier| &earlier.targets);
        assert_eq!(earlier, Some(&self.cluster.rollout.targets), "it goes back to what was not there before");
        let lost = |old: &&AgentRecord| {
            let since = |agent: &AgentRecord| agent.holds().map(|place| place.since);
            since(old).is_some() && since(old) != self.agents.get(&old.key).and_then(since)
        };
        let lost: Vec<&AgentRecord> = before_agents.values().filter(lost).collect();
        // 'the canary a:5051 has failed: why', or 'the last one is a:5051: why'.
        let why = |old: &&AgentRecord| {
            let (_, rest) = given_up.why.split_once(&format!(" {}", old.key))?;
            rest.strip_prefix(" has failed").unwrap_or(rest).strip_prefix(": ")
        };
        let told = lost.iter().find_map(|old| Some((old, why(old)?)));
        let (named, why) = told.unwrap_or_else(|| panic!("nobody has failed: {}", given_up.why));
        self.fails_for(now, why, named);
        let most = self.settings().rollout.max_failures;
        let failed = before_agents.values().filter(|agent| has_failed(agent, before.number)).count();
        let canary = before.stage == Stage::Canary && before.canaries.contains(&named.key);
        let number = failed + lost.len();
        assert!(canary || number >= most, "{number} agents have failed, {most} may; and it goes back");
    }

    /// Whether a canary that was done has something that cannot live, while the others wait for that.
    fn died_later(&self, before: &RolloutRecord) -> bool {
        let most = self.settings().rollout.max_attempts;
        let is_dead = |record: &TaskRecord| match record.phase {
            Phase::Held { .. } => true,
            Phase::Backoff { .. } => record.failures >= most,
            _ => false,
        };
        let mut canaries = before.canaries.iter().filter_map(|key| self.agents.get(key));
        let dead = |agent: &AgentRecord| {
            agent.tasks.values().any(is_dead)
                || agent.disruption.as_ref().is_some_and(|disruption| disruption.failure.is_some())
        };
        matches!(before.stage, Stage::Soak { .. }) && canaries.any(dead)
    }
}
