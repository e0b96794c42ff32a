//! Who gets a place in a rollout, when, and how far the rollout is.

use std::sync::Arc;

use super::super::Core;
use super::super::frame::Frame;
use super::super::ids::{AgentKey, Timestamp};
use super::super::listing::Presence;
use super::super::state::AgentRecord;
use super::commands::retry;
use super::news::RolloutNews;
use super::record::{Place, Plan, Stage};
use super::rolling::Rank;
use super::settings::RolloutStrategy;

/// What stands against that any agent begins.
enum Closed<'a> {
    /// The rollout has halted; why.
    Halted(&'a str),
    Stopped,
    Paused,
    Window,
    MassFailure,
}

impl Core {
    /// Ends a frame: what has changed on agents with a place, who gets one, and how far the rollout is.
    pub(in super::super) fn settle_rollout(&mut self, now: Timestamp, frame: &mut Frame) {
        if self.inventory.is_none() {
            return;
        }
        while let Some(key) = self.rolling.touched.pop_first() {
            self.look_at(now, &key, frame);
        }
        self.expire_places(now, frame);
        self.judge_cluster(now, frame);
        while let Some(key) = self.rolling.settling.pop_until(now.before(self.settings.stability)) {
            self.arrive(now, &key, frame);
        }
        self.advance(now, frame);
        let is_shut = !self.settings.rollout.windows.is_open(now);
        if is_shut != self.rolling.is_shut {
            self.rolling.is_shut = is_shut;
            self.reconsider_all();
        }
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

    /// The rollout goes from the canaries to a pause, from there to all others, and comes to its end.
    fn advance(&mut self, now: Timestamp, frame: &mut Frame) {
        self.complete(frame);
        let rollout = &self.state.cluster.rollout;
        if rollout.number == 0 || self.settings.rollout.strategy != RolloutStrategy::Canary {
            return;
        }
        match rollout.stage {
            Stage::Canary
                if self.rolling.waiting() > 0 && rollout.canaries.iter().any(|key| self.is_new(key)) =>
            {
                // A canary's host was rebuilt, or is known no longer: another one goes first.
                let left = rollout.canaries.iter().filter(|key| !self.is_new(key)).cloned().collect();
                self.edit_rollout(frame, |rollout| rollout.canaries = left);
            }
            Stage::Canary => {
                // One that has failed is done when the operator lets the others go on.
                let holds = |key: &AgentKey| self.state.agents.get(key).is_some_and(|a| a.holds().is_some());
                let done = |key: &AgentKey| !holds(key) && !self.rolling.ranked.contains_key(key);
                let all_begun = rollout.canaries.len() >= self.settings.rollout.canary_count
                    || !rollout.canaries.is_empty() && !self.rolling.waits();
                if all_begun && rollout.halted.is_none() && rollout.canaries.iter().all(done) {
                    self.edit_rollout(frame, |rollout| rollout.stage = Stage::Soak { since: now });
                    let wait = self.settings.rollout.canary_soak;
                    frame.tell(RolloutNews::CanariesDone { wait });
                }
            }
            Stage::Soak { .. } if rollout.halted.is_some() => {}
            Stage::Soak { since } => {
                if let Some(why) = self.why_canary_failed() {
                    return self.end_in_failure(now, why, frame);
                }
                if self.is_canary_down() {
                    self.rolling.was_down = true;
                    return;
                }
                // All of it, with canaries that are well.
                if std::mem::take(&mut self.rolling.was_down) {
                    return self.edit_rollout(frame, |rollout| rollout.stage = Stage::Soak { since: now });
                }
                // What lies in the future was stored before a clock was set back.
                if since > now || now.since(since) >= self.settings.rollout.canary_soak {
                    self.edit_rollout(frame, |rollout| rollout.stage = Stage::Rest);
                }
            }
            Stage::Rest => {}
        }
    }

    /// The canaries that are done, while the others wait for what becomes of them.
    fn canaries(&self) -> impl Iterator<Item = &AgentRecord> {
        let rollout = &self.state.cluster.rollout;
        let canaries = rollout.canaries.iter().filter_map(|key| self.state.agents.get(key));
        canaries.map(|agent| &**agent).filter(|agent| agent.settled >= rollout.number)
    }

    /// Whether the agent of an address has not been brought to any target yet.
    fn is_new(&self, key: &AgentKey) -> bool {
        self.state.agents.get(key).is_none_or(|agent| agent.settled == 0)
    }

    /// Whether a canary is not well, or has its place again. One that has gone away is no failure, as any other.
    pub(in super::super) fn is_canary_down(&self) -> bool {
        let is_here = |agent: &AgentRecord| self.presence(&agent.key) == Some(&Presence::Active);
        self.canaries()
            .any(|agent| agent.holds().is_some() || is_here(agent) && self.down_on(agent).next().is_some())
    }

    /// How a canary that was done has failed since, if one has.
    fn why_canary_failed(&self) -> Option<String> {
        let mut failed = self.canaries().filter_map(|agent| Some((&agent.key, self.why_failed(agent)?)));
        failed.next().map(|(key, why)| format!("the canary {key} has failed after it was done: {why}"))
    }

    /// What stands against that any agent begins now, if anything does: asked in each frame.
    fn closed_for(&self, now: Timestamp) -> Option<Closed<'_>> {
        let rollout = &self.state.cluster.rollout;
        match () {
            () if rollout.halted.is_some() => rollout.halted.as_deref().map(Closed::Halted),
            () if rollout.stopped => Some(Closed::Stopped),
            () if rollout.paused.contains(&Plan::Update) => Some(Closed::Paused),
            () if !self.settings.rollout.windows.is_open(now) => Some(Closed::Window),
            () if self.held_since().is_some() => Some(Closed::MassFailure),
            () => None,
        }
    }

    /// Why no agent may begin now, if none may, for people.
    pub(in super::super) fn why_closed(&self, now: Timestamp) -> Option<String> {
        Some(match self.closed_for(now)? {
            Closed::Halted(why) => format!("halted: {why}"),
            Closed::Stopped => "stopped by an operator".to_owned(),
            Closed::Paused => "paused by an operator".to_owned(),
            Closed::Window => {
                let opens = self.settings.rollout.windows.opens(now);
                let opens = opens.map_or("never again".to_owned(), |opens| format!("again at {opens}"));
                format!("no window of rollout.windows is open, {opens}")
            }
            Closed::MassFailure => format!("mass failure, {}", self.extent()),
        })
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
        // What an operator has ordered waits for room alone, and for a place in which something may be done.
        let mut ordered = most.saturating_sub(self.rolling.under_way());
        if self.state.cluster.rollout.paused.contains(&Plan::Update) {
            ordered = 0;
        }
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
        let lead = self.settings.maintenance_lead;
        let could = |agent: &AgentRecord| !self.maintenance.holds(now, &agent.id.0, lead);
        let may = |(_, key): &&(Rank, AgentKey)| {
            let agent = self.state.agents.get(key);
            agent.is_some_and(|agent| could(agent) && agent.looked_at_now().is_none())
        };
        let waiting = &self.rolling.waiting;
        let first = waiting.iter().filter(|(domain, _)| has_room(domain)).filter_map(|(_, group)| {
            let mut group = group.iter().take_while(|(rank, _)| !only_ordered || *rank == Rank::Ordered);
            group.find(may)
        });
        // Our own scheduler's agent waits for those, too, whose domain is full, or that are looked at just now.
        let is_other = |(rank, key): &(Rank, AgentKey)| {
            *rank != Rank::Own && self.state.agents.get(key).is_some_and(|agent| could(agent))
        };
        let others = || waiting.values().flatten().any(is_other);
        first.min().filter(|(rank, _)| *rank != Rank::Own || !others()).cloned()
    }

    fn give_place(&mut self, now: Timestamp, key: &AgentKey, rank: Rank, frame: &mut Frame) {
        // Also where it does not matter: it may under the next configuration, which finds the place held.
        let domain = self.rolling.domains.get(key).map(ToString::to_string);
        let number = self.number();
        self.edit(key, frame, |agent| {
            let place = Place {
                number,
                since: now,
                step: None,
                step_since: now,
                domain,
                ending: None,
                gap: None,
                failure: None,
            };
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
