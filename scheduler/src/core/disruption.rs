//! Disruption: launches that may restart Docker or the Mesos agent, and how many agents have one at a time.
//!
//! An install is launched without that permission first. Where it finds that it needs a restart it changes nothing and
//! says so; where the operator allows that, it is launched again, with the permission, and its agent holds one of the
//! slots of `rollout.max-concurrent-restarts` from then on: stored before the launch, and until the step is done and
//! all that was ready there before is ready again, for a while. An agent that is not so within `rollout.agent-timeout`,
//! because it was lost, say, is given up: its slot is free, and it waits for an operator.

use std::sync::Arc;

use super::Core;
use super::dated::Dated;
use super::frame::{Decision, Frame};
use super::ids::{AgentKey, Scope, TaskType, Timestamp};
use super::index::Limit;
use super::listing::Presence;
use super::progress::Next;
use super::rollout::Order;
use super::spec::Spec;
use super::state::{AgentRecord, Disruption, Phase, Slot, StateChange, TaskRecord};

/// Agents that hold a slot, or were given up, and are healthy; and since when. Seen anew after a restart of ours.
#[derive(Debug, Default)]
pub(super) struct Settling(Dated<AgentKey>);

impl Settling {
    /// What they were before is not known to have lasted.
    pub fn renew(&mut self, now: Timestamp) {
        self.0.renew(now);
    }
}

/// Whether the next launch of a task type may restart what it must.
pub(super) fn is_disruptive(spec: &Spec, record: Option<&TaskRecord>) -> bool {
    let Some(record) = record else { return false };
    let wants = match record.phase {
        Phase::NeedsRestart { .. } => true,
        // It failed with the permission, and keeps it.
        Phase::Backoff { .. } => record.disruptive,
        _ => false,
    };
    // Another configuration may not need the restart.
    wants
        && spec.restart.is_some_and(|restart| restart.allowed)
        && record.target.as_ref() == Some(&spec.target)
}

impl Core {
    /// How many agents may be disrupted at the same time, and how many are.
    pub(super) fn restarts(&self) -> (usize, usize) {
        (self.settings.max_restarts.of(self.extent().agents), self.index.disruptions.len())
    }

    /// Of what there may be so many at a time only, when `next` is such on `agent`.
    pub(super) fn limit_of(&self, agent: &AgentRecord, next: &Next) -> Option<Limit> {
        let Next::Launch(task_type, _) = next else { return None };
        let record = agent.tasks.get(task_type);
        let spec = self.spec_on(agent, *task_type);
        let has_slot = |disruption: &Disruption| disruption.task_type == *task_type;
        if spec.is_some_and(|spec| is_disruptive(spec, record)) {
            return (!agent.disrupted().is_some_and(has_slot)).then_some(Limit::Restarts);
        }
        Self::recovers(agent, *task_type).then_some(Limit::Recoveries)
    }

    /// Whether nothing that is bound by this limit may begin on an agent now.
    pub(super) fn is_full(&self, limit: Limit, key: &AgentKey) -> bool {
        match limit {
            Limit::Recoveries => self.recoveries_are_full(),
            Limit::Restarts => {
                let (most, under_way) = self.restarts();
                let elsewhere = self.state.agents.get(key).is_some_and(|agent| agent.disrupted().is_some());
                under_way >= most
                    || self.held_since().is_some()
                    || elsewhere
                    || self.is_outside_of_windows(key)
            }
        }
    }

    /// Whether nothing may be restarted on an agent, for no window is open. Where a rollout has begun, it is finished.
    fn is_outside_of_windows(&self, key: &AgentKey) -> bool {
        let has_begun = || self.state.agents.get(key).is_some_and(|agent| agent.holds().is_some());
        self.rolling.is_shut && !has_begun()
    }

    /// Why a launch that may restart something must wait, if it must.
    pub(super) fn waits_for_slot(&self, agent: &AgentRecord, task_type: TaskType) -> Option<String> {
        let next = Next::Launch(task_type, None);
        if self.limit_of(agent, &next) != Some(Limit::Restarts) || !self.is_full(Limit::Restarts, &agent.key)
        {
            return None;
        }
        let restart = self.wanted_of(task_type)?.restart?;
        let why = if let Some(disruption) = agent.disrupted() {
            format!("the agent is not healthy yet after {}", disruption.task_type)
        } else if self.held_since().is_some() {
            format!("mass failure, {}", self.extent())
        } else if self.is_outside_of_windows(&agent.key) {
            "no window of rollout.windows is open".to_owned()
        } else {
            let (most, under_way) = self.restarts();
            let holders: Vec<&str> = self.index.disruptions.keys().take(3).map(|key| &*key.0).collect();
            let more = if under_way > holders.len() { ", …" } else { "" };
            format!(
                "rollout.max-concurrent-restarts; {under_way} of {most} at a time are under way ({}{more})",
                holders.join(", ")
            )
        };
        Some(format!("{task_type} waits to restart {}: {why}", restart.what))
    }

    /// Stores a launch on this agent, or on any; and, in the same record, the slot that it takes.
    pub(super) fn begin(
        &mut self,
        now: Timestamp,
        frame: &mut Frame,
        (slot, agent): (&Slot, Option<&AgentRecord>),
        record: TaskRecord,
    ) {
        let Some(agent) = agent else { return self.put(frame, slot, record) };
        let task_type = slot.task_type();
        let disruptive = record.disruptive;
        let mut taken = false;
        self.edit_record(agent, frame, |agent| {
            agent.tasks.insert(task_type, record);
            // It is done again now.
            if agent.order(task_type) == Some(&Order::Again) {
                agent.orders = agent.orders.take().filter(|orders| orders.len() > 1);
                agent.orders.iter_mut().for_each(|orders| drop(orders.remove(&task_type)));
            }
            if disruptive && agent.disrupted().is_none() {
                agent.disruption = Some(Disruption { task_type, since: now, failure: None });
                taken = true;
            } else if agent
                .disruption
                .as_ref()
                .is_some_and(|d| d.failure.is_some() && d.task_type == task_type)
            {
                // The operator has acted: it begins anew.
                agent.disruption = None;
            }
        });
        if taken {
            frame.decisions.push(Decision::Disrupts { slot: slot.clone() });
        }
    }

    /// Whether the launch of this slot that has just ended had the permission to restart something, and what became of
    /// its slot: true while it is held.
    pub(super) fn had_permission(&self, slot: &Slot, before: &TaskRecord) -> Option<bool> {
        let disruption = self.record_of(slot)?.disruption.as_ref()?;
        let its = before.disruptive && disruption.task_type == slot.task_type();
        its.then_some(disruption.failure.is_none())
    }

    /// Looks whether an agent that was disrupted is healthy.
    pub(super) fn watch(&mut self, key: &AgentKey) {
        let record = self.state.agents.get(key).cloned();
        self.watch_record(key, record.as_deref());
    }

    /// The same, by the agent's record, where there is one.
    pub(super) fn watch_record(&mut self, key: &AgentKey, record: Option<&AgentRecord>) {
        let healthy = record.is_some_and(|agent| agent.disruption.is_some() && self.is_healthy(agent));
        if !healthy {
            self.settling.0.remove(key);
        } else if self.settling.0.get(key).is_none() {
            self.settling.0.insert(key.clone(), self.clock.now());
        }
    }

    fn is_healthy(&self, agent: &AgentRecord) -> bool {
        let (Some(disruption), Some(Presence::Active)) = (&agent.disruption, self.presence(&agent.key))
        else {
            return false;
        };
        self.unsettled(agent, disruption).is_none() && self.down_on(agent).next().is_none()
    }

    /// How the step that disrupts an agent is not over, if it is not.
    fn unsettled(&self, agent: &AgentRecord, disruption: &Disruption) -> Option<&'static str> {
        let wanted = self.wanted_of(disruption.task_type).is_some();
        match &agent.tasks.get(&disruption.task_type)?.phase {
            Phase::Done { .. }
            | Phase::Checking { .. }
            | Phase::Skipped { .. }
            | Phase::NeedsRestart { .. } => None,
            Phase::Launched { .. } | Phase::Active { .. } => Some("has not ended"),
            Phase::Backoff { .. } | Phase::Held { .. } => wanted.then_some("has failed"),
        }
    }

    /// The services that were ready on an agent before, and are not now.
    pub(super) fn down_on<'a>(&'a self, agent: &'a AgentRecord) -> impl Iterator<Item = TaskType> + 'a {
        let wanted = |t: &TaskType| {
            let spec = self.spec_on(agent, *t).filter(|_| self.settings.specs.contains_key(t));
            spec.is_some_and(|spec| self.gets(agent, *t, spec))
        };
        agent.tasks.iter().filter(move |(t, record)| record.is_down() && wanted(t)).map(|(t, _)| *t)
    }

    /// Begins a frame: agents that were not healthy in time are given up. Judged only by what the master has told; of
    /// agents that have not registered with a new master yet it knows nothing.
    pub(super) fn expire_disruptions(&mut self, now: Timestamp, frame: &mut Frame) {
        // What lies in the future was stored before a clock was set back.
        self.index.disruptions.not_after(now);
        if self.index.disruptions.len() == 0 || self.inventory.is_none() || self.doubts(now) {
            return;
        }
        let Some(due_by) = self.too_late(now) else { return };
        let due = self.index.disruptions.until(due_by);
        let is_open = |key: &&AgentKey| {
            self.settling.0.get(key).is_none() && self.presence(key) != Some(&Presence::Recovering)
        };
        let due: Vec<AgentKey> = due.filter(is_open).cloned().collect();
        for key in due {
            self.give_up(now, &key, frame);
        }
    }

    /// What began then or before, and is not over, took longer than `rollout.agent-timeout`; none while nothing has. Without a
    /// master nobody can do anything, and what is done while nobody listens is heard of later.
    pub(super) fn too_late(&self, now: Timestamp) -> Option<Timestamp> {
        let due_by = now.before(self.settings.agent_timeout);
        self.attended_since().filter(|since| *since <= due_by).map(|_| due_by)
    }

    fn give_up(&mut self, now: Timestamp, key: &AgentKey, frame: &mut Frame) {
        let Some(record) = self.state.agents.get(key) else { return };
        let Some(disruption) = record.disrupted() else { return };
        let task_type = disruption.task_type;
        let why = self.why_unhealthy(record, disruption);
        self.edit(key, frame, |agent| {
            if let Some(disruption) = &mut agent.disruption {
                disruption.failure = Some(why.clone());
            }
            if let Some(task) = agent.tasks.get_mut(&task_type)
                && matches!(task.phase, Phase::Backoff { .. })
            {
                task.phase = Phase::Held { since: now };
            }
        });
        let slot = Slot::of(task_type, key);
        frame.decisions.push(Decision::DisruptionFailed { slot, reason: why });
    }

    fn why_unhealthy(&self, agent: &AgentRecord, disruption: &Disruption) -> String {
        let Disruption { task_type, since, .. } = disruption;
        let restart = self.wanted_of(*task_type).and_then(|spec| spec.restart);
        let what = restart.map_or("a restart", |restart| restart.what);
        let missing = if self.presence(&agent.key) == Some(&Presence::Active) {
            let step = self.unsettled(agent, disruption).map(|how| {
                let failure = agent.tasks.get(task_type).and_then(|record| record.failure.as_deref());
                format!("{task_type} {how}{}", failure.map(|why| format!(": {why}")).unwrap_or_default())
            });
            let down = self.down_on(agent).map(|t| format!("{t} is not ready"));
            step.into_iter().chain(down).collect::<Vec<_>>().join("; ")
        } else {
            "the agent is away or takes no tasks".to_owned()
        };
        let timeout = humantime::format_duration(self.settings.agent_timeout);
        format!(
            "{task_type} may restart {what} since {since}, and the agent was not healthy within rollout.agent-timeout \
             ({timeout}): {missing}"
        )
    }

    /// Ends a frame: what is healthy for long enough has no slot any more.
    pub(super) fn settle_disruptions(&mut self, now: Timestamp, frame: &mut Frame) {
        while let Some(key) = self.settling.0.pop_until(now.before(self.settings.stability)) {
            let Some(record) = self.state.agents.get(&key) else { continue };
            let Some(disruption) = &record.disruption else { continue };
            let slot = Slot::of(disruption.task_type, &key);
            let agent = AgentRecord { disruption: None, ..AgentRecord::clone(record) };
            self.change(frame, StateChange::Agent(Arc::new(agent)));
            frame.decisions.push(Decision::DisruptionEnded { slot });
        }
    }

    /// What may be launched on an agent whose next step waits for a restart: what was ready there before, and is not now.
    pub(super) fn meanwhile(&self, agent: &AgentRecord) -> Option<Next> {
        let specs = self.settings.specs.iter().filter(|(t, _)| t.scope() == Scope::Agent);
        let down = specs.filter(|(t, _)| agent.tasks.get(t).is_some_and(|record| record.reached));
        let mut nexts = down
            .filter(|(t, spec)| self.skipped(**t, spec, agent).is_none())
            .filter(|(t, spec)| !spec.lost && !Self::is_left_out(agent, **t, spec))
            .map(|(t, spec)| Self::next_in(*t, spec, agent.tasks.get(t)));
        nexts.find(|next| matches!(next, Next::Launch(..)))
    }
}
