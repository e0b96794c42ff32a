//! Places in a rollout: who gets one, and what becomes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::super::Core;
use super::super::dated::Dated;
use super::super::frame::{Decision, Effect, Frame};
use super::super::ids::{AgentKey, TargetHash, TaskType, Timestamp};
use super::super::index::Limit;
use super::super::input::Agent;
use super::super::listing::Presence;
use super::super::progress::Next;
use super::super::spec::Spec;
use super::super::state::{AgentRecord, Phase, Slot, StateChange, TaskRecord};
use super::commands::retry;
use super::news::RolloutNews;
use super::record::{Order, Place, Plan, Stage};
use super::settings::RolloutStrategy;
use super::target::is_ordered;

/// What is derived of the rollout, change by change.
#[derive(Debug, Default)]
pub(in super::super) struct Rolling {
    /// What targets stand for.
    pub known: FxHashMap<TargetHash, Spec>,
    /// Why the operator's configuration is not followed.
    pub refused: Vec<String>,
    /// Whether the target is another than the stored one: a rollout begins when the agents are known.
    pub begins: bool,
    /// Whether agents may begin.
    pub is_open: bool,
    /// Agents that wait for a place, by their domain, in the order in which they get it.
    waiting: BTreeMap<Option<Arc<str>>, BTreeSet<(Rank, AgentKey)>>,
    /// Where each of them is in there.
    ranked: FxHashMap<AgentKey, (Option<Arc<str>>, Rank)>,
    /// The agents' domains, where only so many of one may be under way.
    domains: FxHashMap<AgentKey, Arc<str>>,
    /// Places that are held, and since when their step is under way.
    held: Dated<AgentKey>,
    /// How many are held in a domain.
    held_in: BTreeMap<String, usize>,
    /// Agents that have failed in this rollout.
    failed: BTreeSet<AgentKey>,
    /// Agents with a place, or whose first install is complete, that have changed in this frame.
    touched: BTreeSet<AgentKey>,
    /// Agents that hold a place and have nothing to do any more, and since when.
    settling: Dated<AgentKey>,
}

/// When an agent's turn comes: the lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The operator has asked for it.
    Ordered,
    /// It has failed before: nothing is to be lost there.
    Failed,
    Usual,
    /// Our own scheduler runs there.
    Own,
}

impl Rolling {
    /// How many places are held.
    pub fn under_way(&self) -> usize {
        self.held.len()
    }

    /// The agents that have failed in this rollout.
    pub fn failed(&self) -> &BTreeSet<AgentKey> {
        &self.failed
    }

    /// How many agents wait for a place.
    pub fn waiting(&self) -> usize {
        self.ranked.len()
    }

    /// Takes the agents' domains from a list of them.
    pub fn learn_domains(&mut self, agents: &[Agent], attribute: Option<&str>) {
        let mut names: BTreeSet<Arc<str>> = BTreeSet::new();
        self.domains.clear();
        for agent in agents {
            let domain = match attribute {
                Some(name) => {
                    agent.attributes.iter().find_map(|a| a.split_once(':').filter(|(n, _)| *n == name))
                }
                None => agent.domain.as_deref().map(|domain| ("", domain)),
            };
            let Some((_, domain)) = domain else { continue };
            let shared = names.get(domain).cloned().unwrap_or_else(|| {
                let domain: Arc<str> = domain.into();
                names.insert(Arc::clone(&domain));
                domain
            });
            self.domains.insert(agent.key.clone(), shared);
        }
    }

    fn leave(&mut self, key: &AgentKey) {
        if let Some((domain, rank)) = self.ranked.remove(key)
            && let Some(group) = self.waiting.get_mut(&domain)
        {
            group.remove(&(rank, key.clone()));
            if group.is_empty() {
                self.waiting.remove(&domain);
            }
        }
    }

    fn enter(&mut self, key: &AgentKey, rank: Rank) {
        let domain = self.domains.get(key).cloned();
        if self.ranked.get(key).is_some_and(|at| *at == (domain.clone(), rank)) {
            return;
        }
        self.leave(key);
        self.waiting.entry(domain.clone()).or_default().insert((rank, key.clone()));
        self.ranked.insert(key.clone(), (domain, rank));
    }

    /// Counts the place of an agent's record, or that it has none.
    fn count(&mut self, old: Option<&AgentRecord>, new: Option<&AgentRecord>, number: u64) {
        let place = |record: Option<&AgentRecord>| record.and_then(AgentRecord::holds).cloned();
        let domain = |place: &Option<Place>| place.as_ref().and_then(|place| place.domain.clone());
        let (before, after) = (place(old), place(new));
        if let Some(count) = domain(&before).and_then(|domain| self.held_in.get_mut(&domain)) {
            *count = count.saturating_sub(1);
        }
        if let Some(domain) = domain(&after) {
            *self.held_in.entry(domain).or_default() += 1;
        }
        let Some(key) = new.or(old).map(|record| &record.key) else { return };
        match (&before, &after) {
            (None, None) => {}
            (_, Some(place)) => {
                let since = place.step.map_or(place.since, |(_, since)| since);
                if before.as_ref().and_then(|p| p.step) != place.step || self.held.get(key).is_none() {
                    self.held.insert(key.clone(), since);
                }
            }
            (Some(_), None) => {
                self.held.remove(key);
                self.settling.remove(key);
            }
        }
        if new.is_some_and(|record| has_failed(record, number)) {
            self.failed.insert(key.clone());
        } else {
            self.failed.remove(key);
        }
    }
}

/// Whether an agent has failed in this rollout.
pub(in super::super) fn has_failed(agent: &AgentRecord, number: u64) -> bool {
    agent.place.as_ref().is_some_and(|place| place.failure.is_some() && place.number == number)
}

impl Core {
    /// Counts what is stored, once.
    pub(in super::super) fn count_places(&mut self) {
        let number = self.number();
        for record in self.state.agents.values() {
            self.rolling.count(None, Some(record), number);
        }
    }

    /// Counts them anew: another rollout begins.
    pub(in super::super) fn recount_places(&mut self) {
        let rolling = &mut self.rolling;
        (rolling.held, rolling.held_in, rolling.failed) = Default::default();
        self.count_places();
    }

    /// An agent's record has changed.
    pub(in super::super) fn count_place(&mut self, old: Option<&AgentRecord>, new: Option<&AgentRecord>) {
        let number = self.number();
        if old.is_some_and(|old| old.place.is_some()) || new.is_some_and(|new| new.place.is_some()) {
            self.rolling.count(old, new, number);
        }
    }

    /// Sorts an agent by whether it waits for a place, given what comes next on it.
    pub(in super::super) fn queue(&mut self, agent: &AgentRecord, next: &Next) {
        let is_active = self.presence(&agent.key) == Some(&Presence::Active);
        let complete = agent.settled == 0 && *next == Next::Complete && is_active && !agent.aside;
        let settled = agent.settled > 0 && agent.holds().is_none() && !agent.aside;
        let behind = settled && self.is_behind(agent);
        // A rollout that changes nothing on an agent is over there.
        let concerned = settled && !behind && agent.settled < self.number();
        if agent.holds().is_some() || complete || concerned {
            self.rolling.touched.insert(agent.key.clone());
        }
        if behind && is_active && !has_failed(agent, self.number()) {
            let again = is_ordered(agent);
            let own = self.settings.rollout.own_host.as_deref() == Some(agent.key.host());
            let rank = match () {
                () if again => Rank::Ordered,
                () if agent.place.is_some() => Rank::Failed,
                () if own => Rank::Own,
                () => Rank::Usual,
            };
            self.rolling.enter(&agent.key, rank);
        } else {
            self.rolling.leave(&agent.key);
        }
    }

    /// An agent is known no longer.
    pub(in super::super) fn unqueue(&mut self, key: &AgentKey) {
        self.rolling.leave(key);
        self.rolling.touched.remove(key);
    }

    /// Ends a frame: what has changed on agents with a place, who gets one, and how far the rollout is.
    pub(in super::super) fn settle_rollout(&mut self, now: Timestamp, frame: &mut Frame) {
        if self.inventory.is_none() {
            return;
        }
        while let Some(key) = self.rolling.touched.pop_first() {
            self.look_at(now, &key, frame);
        }
        self.expire_places(now, frame);
        while let Some(key) = self.rolling.settling.pop_until(now.before(self.settings.stability)) {
            self.arrive(now, &key, frame);
        }
        self.advance(now, frame);
        let is_open = self.closed_for(now).is_none();
        if is_open != self.rolling.is_open {
            self.rolling.is_open = is_open;
            self.reconsider_cluster();
        }
        self.give_places(now, frame);
        // What has just begun may begin with an end.
        while let Some(key) = self.rolling.touched.pop_first() {
            self.look_at(now, &key, frame);
        }
    }

    /// Stores `edit` of an agent's record.
    fn edit(&mut self, key: &AgentKey, frame: &mut Frame, edit: impl FnOnce(&mut AgentRecord)) {
        let Some(record) = self.state.agents.get(key) else { return };
        let mut record = AgentRecord::clone(record);
        edit(&mut record);
        let change = if record.aside && record.is_over() {
            StateChange::Forget { key: key.clone() }
        } else {
            StateChange::Agent(Arc::new(record))
        };
        self.change(frame, change);
    }

    /// Looks at an agent that has changed: what is to be ended, what has failed, and whether all is done.
    fn look_at(&mut self, now: Timestamp, key: &AgentKey, frame: &mut Frame) {
        let Some(agent) = self.state.agents.get(key).cloned() else { return };
        let number = self.number();
        let Some(place) = agent.holds() else {
            let complete = agent.settled == 0 && self.next_on(&agent) == Next::Complete;
            let concerned = agent.settled > 0 && agent.settled < number && !self.is_behind(&agent);
            if number > 0 && !agent.aside && (complete || concerned) {
                // What was begun with an earlier target comes to this one in its turn.
                let mixed = complete && self.is_mixed(&agent);
                let settled = if mixed { (number - 1).max(1) } else { number };
                self.edit(key, frame, |agent| (agent.settled, agent.place) = (settled, None));
                self.rolling.touched.remove(key);
            }
            return;
        };
        // What is taken back is no longer there.
        let gone: Vec<TaskType> = self.taken_back(&agent).collect();
        if !gone.is_empty() {
            self.edit(key, frame, |agent| gone.iter().for_each(|t| drop(agent.tasks.remove(t))));
            return;
        }
        if let Some(why) = self.why_failed(&agent) {
            return self.fail(now, key, &why, frame);
        }
        let next = self.next_on(&agent);
        if let Next::End(task_type) = next {
            return self.end(now, key, task_type, frame);
        }
        let step = self.open_in_rollout(&agent).map(|(task_type, _)| task_type);
        if place.step.map(|(task_type, _)| task_type) != step {
            self.edit(key, frame, |agent| {
                if let Some(place) = &mut agent.place {
                    place.step = step.map(|step| (step, now));
                }
            });
            self.rolling.touched.remove(key);
        }
        if self.has_arrived(&agent) {
            if self.rolling.settling.get(key).is_none() {
                self.rolling.settling.insert(key.clone(), now);
            }
        } else {
            self.rolling.settling.remove(key);
        }
    }

    /// The task types whose step on the host has been taken back, or whose task was ended, because they are not wanted.
    fn taken_back<'a>(&'a self, agent: &'a AgentRecord) -> impl Iterator<Item = TaskType> + 'a {
        let unwanted = agent.tasks.iter().filter(|(task_type, record)| {
            let undo = self.settings.rollout.undo.get(task_type);
            let is_done =
                |undo: &Spec| record.target.as_ref() == Some(&undo.target) && record.phase.at_goal();
            **task_type != TaskType::Prefetch
                && !self.settings.specs.contains_key(task_type)
                && undo.is_some_and(is_done)
        });
        unwanted.map(|(task_type, _)| *task_type)
    }

    fn has_arrived(&self, agent: &AgentRecord) -> bool {
        self.presence(&agent.key) == Some(&Presence::Active)
            && agent.disruption.is_none()
            && self.open_in_rollout(agent).is_none()
            && self.down_on(agent).next().is_none()
    }

    /// Ends a service, so that another of its type can take its place.
    pub(in super::super) fn end(
        &mut self,
        now: Timestamp,
        key: &AgentKey,
        task_type: TaskType,
        frame: &mut Frame,
    ) {
        let record = self.state.agents.get(key).and_then(|agent| agent.tasks.get(&task_type));
        let Some((task, id)) = record.and_then(|record| record.phase.live()) else { return };
        let (task, id) = (task.clone(), id.clone());
        self.edit(key, frame, |agent| {
            if let Some(place) = &mut agent.place {
                place.ending = Some(task_type);
                place.step = Some((task_type, now));
            }
        });
        self.rolling.touched.remove(key);
        self.reconciliation.kill(now, task.clone(), id.clone());
        let reason = format!("{task_type} is ended for rollout {}", self.number());
        frame.decisions.push(Decision::Killed { task: task.clone(), reason });
        frame.effects.push(Effect::Kill { task, agent: id });
    }

    /// After a subscription: what is being ended is to end, whoever began that.
    pub(in super::super) fn end_again(&mut self, now: Timestamp) {
        let keys: Vec<AgentKey> = self.rolling.held.keys().cloned().collect();
        for key in keys {
            let Some(agent) = self.state.agents.get(&key) else { continue };
            let ending = agent.holds().and_then(|place| place.ending);
            let live = ending.and_then(|t| agent.tasks.get(&t)).and_then(|record| record.phase.live());
            if let Some((task, id)) = live {
                let (task, id) = (task.clone(), id.clone());
                // The next tick tells the master.
                self.reconciliation.kill(now.before(Duration::from_mins(1)), task, id);
            }
        }
    }

    /// Whether this task is ended for its successor.
    pub(in super::super) fn is_ending(&self, slot: &Slot) -> bool {
        let place = self.record_of(slot).and_then(AgentRecord::holds);
        place.is_some_and(|place| place.ending == Some(slot.task_type()))
    }

    /// A service that was to end has ended, without its `record`'s having failed.
    pub(in super::super) fn has_ended(
        &mut self,
        now: Timestamp,
        slot: &Slot,
        before: &TaskRecord,
        frame: &mut Frame,
    ) {
        let task_type = slot.task_type();
        let Slot::Agent(key, _) = slot else { return };
        let wanted = self.settings.specs.contains_key(&task_type)
            || self.settings.rollout.undo.contains_key(&task_type);
        let phase = Phase::Backoff { until: now };
        let record = TaskRecord { reached: before.reached, ..TaskRecord::new(phase, before.target.clone()) };
        self.edit(key, frame, |agent| {
            if let Some(place) = &mut agent.place {
                place.ending = None;
                place.gap = wanted.then_some((task_type, now));
            }
            if wanted {
                agent.tasks.insert(task_type, record);
            } else {
                agent.tasks.remove(&task_type);
            }
        });
    }

    /// A service is ready whose predecessor was ended: how long there was none.
    pub(in super::super) fn close_gap(&mut self, now: Timestamp, slot: &Slot, frame: &mut Frame) {
        let Slot::Agent(key, task_type) = slot else { return };
        let place = self.state.agents.get(key).and_then(|agent| agent.holds());
        let Some((_, since)) = place.and_then(|place| place.gap).filter(|(t, _)| t == task_type) else {
            return;
        };
        self.edit(key, frame, |agent| {
            if let Some(place) = &mut agent.place {
                place.gap = None;
            }
        });
        let (agent, task_type, gap) = (key.clone(), *task_type, now.since(since));
        frame.tell(RolloutNews::Replaced { agent, task_type, gap });
    }

    /// Why an agent with a place has failed, if it has.
    fn why_failed(&self, agent: &AgentRecord) -> Option<String> {
        if let Some(why) = agent.disruption.as_ref().and_then(|disruption| disruption.failure.clone()) {
            return Some(why);
        }
        let attempts = self.settings.rollout.max_attempts;
        agent.tasks.iter().find_map(|(task_type, record)| {
            let spec = self.spec_on(agent, *task_type)?;
            if record.target.as_ref() != Some(&spec.target) || Self::is_left_out(agent, *task_type, spec) {
                return None;
            }
            let reason = record.failure.as_deref().unwrap_or("no reason was given");
            match record.phase {
                Phase::Held { .. } => Some(format!("{task_type}: {reason}")),
                Phase::Backoff { .. } if record.failures >= attempts => Some(format!(
                    "{task_type} failed {} times in a row (rollout.max-attempts): {reason}",
                    record.failures
                )),
                _ => None,
            }
        })
    }

    /// An agent has failed: its place is free, it waits for an operator or another target. What runs there goes on.
    fn fail(&mut self, now: Timestamp, key: &AgentKey, why: &str, frame: &mut Frame) {
        let number = self.number();
        let Some(agent) = self.state.agents.get(key).cloned() else { return };
        // It may not have been told yet, and would not be replaced.
        if let Some(task_type) = agent.holds().and_then(|place| place.ending)
            && let Some((task, _)) = agent.tasks.get(&task_type).and_then(|record| record.phase.live())
        {
            self.reconciliation.spare(&task.clone());
        }
        let given_up: Vec<TaskType> = agent
            .tasks
            .iter()
            .filter(|(task_type, record)| {
                let spec = self.spec_on(&agent, **task_type);
                matches!(record.phase, Phase::Backoff { .. })
                    && spec.is_some_and(|spec| record.target.as_ref() == Some(&spec.target))
            })
            .map(|(task_type, _)| *task_type)
            .collect();
        let failed = self.rolling.failed.len() + usize::from(!self.rolling.failed.contains(key));
        self.edit(key, frame, |agent| {
            if let Some(place) = &mut agent.place {
                (place.number, place.ending, place.gap, place.step) = (number, None, None, None);
                place.failure = Some(why.to_owned());
            }
            for task_type in given_up {
                if let Some(record) = agent.tasks.get_mut(&task_type) {
                    record.phase = Phase::Held { since: now };
                }
            }
        });
        frame.tell(RolloutNews::AgentFailed { agent: key.clone(), why: why.to_owned() });
        let rollout = &self.state.cluster.rollout;
        let (is_canary, most) = (rollout.canaries.contains(key), self.settings.rollout.max_failures);
        if (is_canary || failed >= most) && rollout.halted.is_none() {
            let reason = if is_canary {
                format!("the canary {key} has failed: {why}")
            } else {
                format!(
                    "{failed} agents have failed (rollout.max-failures = {most}), the last one is {key}: {why}"
                )
            };
            frame.tell(RolloutNews::Halted { why: reason.clone() });
            self.edit_rollout(frame, |rollout| rollout.halted = Some(reason));
        }
    }

    /// Places whose step takes too long. Not counted is the time in which it waits for its turn, or for an operator.
    fn expire_places(&mut self, now: Timestamp, frame: &mut Frame) {
        self.rolling.held.not_after(now);
        if self.doubts(now) {
            return;
        }
        let due = self.rolling.held.until(now.before(self.settings.agent_timeout));
        let due: Vec<AgentKey> = due.cloned().collect();
        for key in due {
            let Some(agent) = self.state.agents.get(&key).cloned() else { continue };
            if self.presence(&key) == Some(&Presence::Recovering)
                || self.rolling.settling.get(&key).is_some()
                || self.waits_its_turn(&agent)
            {
                self.rolling.held.insert(key, now);
                continue;
            }
            let why = self.why_late(&agent);
            self.fail(now, &key, &why, frame);
        }
    }

    fn waits_its_turn(&self, agent: &AgentRecord) -> bool {
        if self.presence(&agent.key) != Some(&Presence::Active) {
            return false;
        }
        match self.next_on(agent) {
            // Nothing has failed: what is needed is the operator's permission.
            Next::Held(_) => true,
            next => {
                self.limit_of(agent, &next) == Some(Limit::Restarts)
                    && self.is_full(Limit::Restarts, &agent.key)
            }
        }
    }

    fn why_late(&self, agent: &AgentRecord) -> String {
        let timeout = humantime::format_duration(self.settings.agent_timeout);
        let what = if self.presence(&agent.key) == Some(&Presence::Active) {
            match self.next_on(agent) {
                Next::Launch(task_type, _) => self.why_not_yet(agent, task_type, false),
                Next::Wait(why) | Next::Held(why) => why,
                Next::End(task_type) => format!("{task_type} is to be ended"),
                Next::Complete => "a service is not ready".to_owned(),
            }
        } else {
            "the agent is away or takes no tasks".to_owned()
        };
        format!("a step took longer than rollout.agent-timeout ({timeout}): {what}")
    }

    /// An agent has the new target, and was healthy with it for long enough.
    fn arrive(&mut self, now: Timestamp, key: &AgentKey, frame: &mut Frame) {
        let Some(agent) = self.state.agents.get(key).cloned() else { return };
        let Some(place) = agent.holds() else { return };
        if !self.has_arrived(&agent) {
            return;
        }
        let took = now.since(place.since);
        // Another target may have become the operator's meanwhile: it came to that.
        let number = self.number();
        self.edit(key, frame, |agent| {
            agent.place = None;
            agent.settled = number;
            // What is ordered and was not done cannot be: it is left out on this agent.
            agent.orders = agent.orders.take().and_then(|mut orders| {
                orders.retain(|_, order| *order != Order::Again);
                (!orders.is_empty()).then_some(orders)
            });
        });
        self.rolling.touched.remove(key);
        frame.tell(RolloutNews::AgentUpdated { agent: key.clone(), took });
    }

    /// The rollout goes from the canaries to a pause, and from there to all others.
    fn advance(&mut self, now: Timestamp, frame: &mut Frame) {
        let rollout = &self.state.cluster.rollout;
        if rollout.number == 0 || self.settings.rollout.strategy != RolloutStrategy::Canary {
            return;
        }
        match rollout.stage {
            Stage::Canary => {
                // One that has failed is done when the operator lets the others go on.
                let holds = |key: &AgentKey| self.state.agents.get(key).is_some_and(|a| a.holds().is_some());
                let done = |key: &AgentKey| !holds(key) && !self.rolling.ranked.contains_key(key);
                let all_begun = rollout.canaries.len() >= self.settings.rollout.canary_count
                    || !rollout.canaries.is_empty() && self.rolling.waiting() == 0;
                if all_begun && rollout.halted.is_none() && rollout.canaries.iter().all(done) {
                    self.edit_rollout(frame, |rollout| rollout.stage = Stage::Soak { since: now });
                    let wait = self.settings.rollout.canary_soak;
                    frame.tell(RolloutNews::CanariesDone { wait });
                }
            }
            Stage::Soak { since } => {
                // What lies in the future was stored before a clock was set back.
                if since > now || now.since(since) >= self.settings.rollout.canary_soak {
                    self.edit_rollout(frame, |rollout| rollout.stage = Stage::Rest);
                }
            }
            Stage::Rest => {}
        }
    }

    /// Why no agent may begin now, if none may.
    pub(in super::super) fn closed_for(&self, now: Timestamp) -> Option<String> {
        let rollout = &self.state.cluster.rollout;
        if let Some(why) = &rollout.halted {
            return Some(format!("halted: {why}"));
        }
        if rollout.stopped {
            return Some("stopped by an operator".to_owned());
        }
        if rollout.paused.contains(&Plan::Update) {
            return Some("paused by an operator".to_owned());
        }
        if !self.settings.rollout.windows.is_open(now) {
            let opens = self.settings.rollout.windows.opens(now);
            let opens = opens.map_or("never again".to_owned(), |opens| format!("again at {opens}"));
            return Some(format!("no window of rollout.windows is open, {opens}"));
        }
        if self.held_since().is_some() {
            return Some(format!("mass failure, {}", self.extent()));
        }
        None
    }

    /// How many agents may be under way at the same time, and how many more may begin.
    pub(in super::super) fn room(&self) -> (usize, usize) {
        let settings = &self.settings.rollout;
        let rollout = &self.state.cluster.rollout;
        let most = match settings.strategy {
            RolloutStrategy::Serial => 1,
            RolloutStrategy::Canary | RolloutStrategy::Parallel => {
                settings.max_agents.of(self.extent().agents)
            }
        };
        let room = most.saturating_sub(self.rolling.under_way());
        let room = match (settings.strategy, rollout.stage) {
            (RolloutStrategy::Canary, Stage::Canary) => {
                room.min(settings.canary_count.saturating_sub(rollout.canaries.len()))
            }
            (RolloutStrategy::Canary, Stage::Soak { .. }) => 0,
            _ => room,
        };
        (most, room)
    }

    fn give_places(&mut self, now: Timestamp, frame: &mut Frame) {
        if self.rolling.ranked.is_empty() || self.rolling.begins || self.doubts(now) {
            return;
        }
        let (most, mut room) = self.room();
        if !self.rolling.is_open || !self.cluster_is_current() {
            room = 0;
        }
        // What an operator has ordered waits for nothing but room.
        let mut ordered = most.saturating_sub(self.rolling.under_way());
        while ordered > 0
            && let Some((rank, key)) = self.first_waiting(now, room == 0)
        {
            room = room.saturating_sub(1);
            ordered -= 1;
            self.give_place(now, &key, rank, frame);
        }
    }

    /// The first agent in turn, of a domain where there is room; of those that an operator has ordered, when `only` these
    /// may begin.
    fn first_waiting(&self, now: Timestamp, only_ordered: bool) -> Option<(Rank, AgentKey)> {
        let has_room = |domain: &Option<Arc<str>>| match (domain, self.settings.rollout.max_per_domain) {
            (Some(domain), Some(most)) => self.rolling.held_in.get(&**domain).is_none_or(|held| *held < most),
            _ => true,
        };
        let may = |(rank, key): &&(Rank, AgentKey)| {
            let agent = self.state.agents.get(key);
            (!only_ordered || *rank == Rank::Ordered)
                && agent.is_some_and(|agent| {
                    !self.maintenance.holds(now, &agent.id, self.settings.maintenance_lead)
                })
        };
        let groups = self.rolling.waiting.iter().filter(|(domain, _)| has_room(domain));
        let first = groups.filter_map(|(_, group)| {
            let mut group = group.iter().take_while(|(rank, _)| !only_ordered || *rank == Rank::Ordered);
            group.find(may)
        });
        first.min().cloned()
    }

    fn give_place(&mut self, now: Timestamp, key: &AgentKey, rank: Rank, frame: &mut Frame) {
        // Also where it does not matter: it may under the next configuration, which finds the place held.
        let domain = self.rolling.domains.get(key).map(ToString::to_string);
        let number = self.number();
        self.edit(key, frame, |agent| {
            let place =
                Place { number, since: now, step: None, domain, ending: None, gap: None, failure: None };
            agent.place = Some(Box::new(place));
            // What failed before is tried with the new target, or because the operator says so.
            for (_, record) in agent.tasks.iter_mut() {
                retry(now, record);
            }
            agent.disruption = agent.disruption.take().filter(|disruption| disruption.failure.is_none());
        });
        frame.tell(RolloutNews::AgentBegins { agent: key.clone() });
        let canary = self.settings.rollout.strategy == RolloutStrategy::Canary
            && self.state.cluster.rollout.stage == Stage::Canary
            && rank != Rank::Ordered;
        if canary {
            let key = key.clone();
            self.edit_rollout(frame, |rollout| rollout.canaries.push(key));
        }
    }
}
