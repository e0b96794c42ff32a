//! Offers: launch what comes next, or decline at once.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Core;
use super::disruption::is_disruptive;
use super::frame::{Decision, Effect, Frame, Launch};
use super::ids::{AgentKey, OfferId, Scope, TaskId, TaskType, Timestamp};
use super::index::Limit;
use super::input::Offer;
use super::listing::Presence;
use super::progress::Next;
use super::resources::{Needs, Resource, take};
use super::spec::Spec;
use super::state::{Phase, Slot, TaskRecord, under_way_since};

/// An offer is too small for a launch; what is missing is noted.
struct NoRoom;

/// Who makes an offer.
enum Offered {
    /// An agent on which nothing is to be done.
    Idle,
    /// An agent that waits for something.
    Agent {
        key: AgentKey,
        next: Next,
        /// Of what there may be so many at a time only, when that is such.
        limit: Option<Limit>,
    },
    /// One that is left alone, because another has its address.
    Duplicate,
}

impl Core {
    pub(super) fn offers(&mut self, now: Timestamp, offers: Vec<Offer>, frame: &mut Frame) {
        // Declines of one length go into one call.
        let mut declined: BTreeMap<Duration, Vec<OfferId>> = BTreeMap::new();
        let mut refresh = false;
        let doubts = self.doubts(now);
        for offer in offers {
            self.maintenance.offered(&offer.agent, offer.unavailability);
            self.maintenance_changed();
            let refuse = match self.offered(&offer.agent) {
                None => {
                    // Only the inventory says what an agent is.
                    refresh = true;
                    Some(self.settings.turn_filter)
                }
                Some(_) if doubts => {
                    let refuse = self.settings.turn_filter;
                    self.offer_came(&offer.agent, now.after(refuse));
                    Some(refuse)
                }
                Some(Offered::Idle) => {
                    let refuse = self.settings.idle_filter;
                    self.send_away(&offer.agent);
                    (!self.unreserve(&offer, refuse, frame)).then_some(refuse)
                }
                Some(Offered::Agent { key, next, limit }) => {
                    let refuse = self.consider(now, &key, (next, limit), &offer, frame);
                    self.offer_came(&offer.agent, now.after(refuse.unwrap_or_default()));
                    refuse.filter(|refuse| !self.unreserve(&offer, *refuse, frame))
                }
                Some(Offered::Duplicate) => {
                    self.send_away(&offer.agent);
                    Some(self.settings.idle_filter)
                }
            };
            if let Some(refuse) = refuse {
                declined.entry(refuse).or_default().push(offer.id);
            }
        }
        for (refuse, offers) in declined {
            frame.effects.push(Effect::Decline { offers, refuse });
        }
        if refresh {
            frame.effects.push(Effect::RefreshInventory);
        }
    }

    /// Whose offer it is; none when only a new inventory can say it.
    fn offered(&self, agent: &str) -> Option<Offered> {
        let inventory = self.inventory.as_ref()?;
        if inventory.duplicates.contains_key(agent) {
            return Some(Offered::Duplicate);
        }
        let registered = self.index.agents.get(agent).filter(|registered| !registered.aside)?;
        debug_assert_eq!(
            self.state.agents.get(&registered.key).map(|record| self.next_on(record)).as_ref(),
            Some(&registered.next),
            "{agent} was not reconsidered"
        );
        Some(match &registered.next {
            // The master has learned since that it is there.
            Next::Held(_) if self.presence(&registered.key).is_none_or(Presence::makes_no_offers) => {
                return None;
            }
            Next::Held(_) => Offered::Idle,
            Next::Complete if !self.demand.wants_any() => Offered::Idle,
            next => {
                Offered::Agent { key: registered.key.clone(), next: next.clone(), limit: registered.limit }
            }
        })
    }

    /// Takes one offer, or says for how long it is declined. `next` is what comes next on its agent, and what limits it.
    fn consider(
        &mut self,
        now: Timestamp,
        key: &AgentKey,
        (next, limit): (Next, Option<Limit>),
        offer: &Offer,
        frame: &mut Frame,
    ) -> Option<Duration> {
        // Where there is no room for the one there may be for the other.
        let in_cluster = if self.demand.wants_any() { self.next_in_cluster_on(key) } else { Next::Complete };
        let mut refuse = match (&next, &in_cluster) {
            (Next::Wait(_) | Next::End(_), Next::Launch(_, not_before)) => self.until(now, *not_before),
            (Next::Wait(_) | Next::End(_), _) => self.until_it_moves(now, &offer.agent),
            (Next::Launch(_, not_before), _) | (_, Next::Launch(_, not_before)) => {
                self.until(now, *not_before)
            }
            _ => {
                self.send_away(&offer.agent);
                return Some(self.settings.idle_filter);
            }
        };
        if self.maintenance.holds(now, &offer.agent, self.settings.maintenance_lead) {
            // Its offers say when that is over, or taken back.
            self.maintenance.waits(&offer.agent, true);
            return Some(self.held_filter().max(refuse));
        }
        self.maintenance.waits(&offer.agent, false);
        let meanwhile = self.instead(key, limit);
        for (next, limit) in [(in_cluster, None), (next, limit), (meanwhile, Some(Limit::Recoveries))] {
            if let Next::Launch(task_type, not_before) = next
                && self.wait(now, not_before).is_zero()
            {
                if limit.is_some_and(|limit| self.is_full(limit, key)) {
                    refuse = self.held_filter();
                    continue;
                }
                match self.launch(now, key, task_type, offer, frame) {
                    Ok(()) => return None,
                    // What is freed there is more than what was refused, and comes at once.
                    Err(NoRoom) => refuse = self.settings.turn_filter * 5,
                }
            }
        }
        Some(refuse)
    }

    /// The part of an offer that `needs` takes.
    fn take(
        &mut self,
        now: Timestamp,
        task_type: TaskType,
        needs: Needs,
        offer: &Offer,
    ) -> Result<Vec<Resource>, NoRoom> {
        let claim = (self.settings.reservations.service.as_str(), task_type);
        take(&offer.resources.read(), needs, claim).map_err(|shortage| {
            self.too_small(&offer.agent, now, task_type, shortage);
            NoRoom
        })
    }

    /// What a task type is launched with in this place.
    fn spec_for(&self, key: &AgentKey, task_type: TaskType) -> Option<&Spec> {
        match task_type.scope() {
            Scope::Cluster => self.settings.specs.get(&task_type),
            Scope::Agent => self.spec_on(self.state.agents.get(key)?, task_type),
        }
    }

    /// How long an agent is left alone that waits for something else than an offer: for as long as it has waited already.
    /// When it waits no longer, an update says so, and brings its offers back if they stay away for long.
    fn until_it_moves(&mut self, now: Timestamp, agent: &str) -> Duration {
        let waits_since = self.index.agents.get(agent).and_then(|registered| registered.waits_since);
        // What waits for the cluster's task has none itself.
        let waits_since = waits_since.or_else(|| under_way_since(&self.state.cluster.tasks));
        let waited = waits_since.map_or(Duration::ZERO, |since| now.since(since));
        let refuse = waited.clamp(self.settings.turn_filter, self.settings.longest_wait_filter);
        if refuse > self.settings.revive_interval {
            self.send_away(agent);
        }
        refuse
    }

    /// What is launched on an agent that waits for its turn to restart something.
    fn instead(&self, key: &AgentKey, limit: Option<Limit>) -> Next {
        if limit != Some(Limit::Restarts) || !self.is_full(Limit::Restarts, key) {
            return Next::Complete;
        }
        let agent = self.state.agents.get(key);
        agent.and_then(|agent| self.meanwhile(agent)).unwrap_or(Next::Complete)
    }

    fn until(&self, now: Timestamp, not_before: Option<Timestamp>) -> Duration {
        self.wait(now, not_before).min(self.settings.idle_filter).max(self.settings.turn_filter)
    }

    /// How long a launch must wait that may not be made before then.
    fn wait(&self, now: Timestamp, not_before: Option<Timestamp>) -> Duration {
        let wait = not_before.map_or(Duration::ZERO, |at| at.since(now));
        // No backoff is longer: what lies further ahead was stored before a clock was set back.
        if wait > self.settings.backoff_max { Duration::ZERO } else { wait }
    }

    fn launch(
        &mut self,
        now: Timestamp,
        key: &AgentKey,
        task_type: TaskType,
        offer: &Offer,
        frame: &mut Frame,
    ) -> Result<(), NoRoom> {
        let slot = Slot::of(task_type, key);
        let (needs, target, may_restart) = match self.spec_for(key, task_type) {
            Some(spec) => (spec.needs, spec.target.clone(), is_disruptive(spec, self.state.task(&slot))),
            None => return Err(NoRoom),
        };
        let before = self.state.task(&slot).filter(|record| record.phase.live().is_some());
        if let Some(more) = before.map(|record| self.more_than(needs, task_type, record)) {
            // Its predecessor goes when there is room for what it needs beyond.
            self.take(now, task_type, more, offer)?;
            self.end(now, key, task_type, frame);
            return Err(NoRoom);
        }
        let mut resources = self.take(now, task_type, needs, offer)?;
        if self.awaits_our_role(now, key, task_type, &resources) {
            return Err(NoRoom);
        }
        // Kept by its own name, not by the offer's.
        let (agent, _) = self.index.agents.get_key_value(&*offer.agent).ok_or(NoRoom)?;
        let agent = agent.clone();
        let task = TaskId::new(task_type, key, now);
        let place = self.record_of(&slot);
        let before = place.map_or_else(|| self.state.task(&slot), |agent| agent.tasks.get(&task_type));
        let reached = before.is_some_and(|record| record.reached);
        // What another configuration did does not count against this one.
        let recovers = place.is_some_and(|agent| Self::recovers(agent, task_type));
        let before = before.filter(|record| record.target.as_ref() == Some(&target));
        let record = TaskRecord {
            reached,
            recovery: recovers.then_some(now),
            disruptive: may_restart,
            phase: Phase::Launched { task: task.clone(), agent: agent.clone(), at: now },
            target: Some(target.clone()),
            failures: before.map_or(0, |record| record.failures),
            failure: before.and_then(|record| record.failure.clone()),
        };
        self.begin(now, frame, &slot, record);
        let reserve = self.reserve(now, task_type, &task, &mut resources);
        self.reconciliation.expected(now.after(self.settings.launch_timeout), task.clone());
        frame.decisions.push(Decision::Launched { slot, task: task.clone(), target: target.clone() });
        frame.effects.push(Effect::Launch(Launch {
            offer: offer.id.clone(),
            agent,
            task_type,
            target,
            task,
            may_restart,
            resources,
            reserve,
        }));
        Ok(())
    }
}
