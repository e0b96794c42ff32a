//! Offers: launch what comes next, or decline at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Core;
use super::disruption::is_disruptive;
use super::drift::LookedAt;
use super::frame::{Decision, Effect, Frame, Launch};
use super::ids::{AgentId, AgentKey, OfferId, Scope, TaskId, TaskType, Timestamp};
use super::index::Limit;
use super::input::Offer;
use super::listing::Presence;
use super::progress::Next;
use super::resources::{Needs, Resource, take};
use super::spec::Spec;
use super::state::{AgentRecord, Phase, Slot, TaskRecord, under_way_since};

/// An offer is too small for a launch; what is missing is noted.
pub(super) struct NoRoom;

/// Who makes an offer.
enum Offered {
    /// An agent on which nothing is to be done.
    Idle,
    /// An agent that waits for something.
    Agent {
        record: Arc<AgentRecord>,
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
        let resting = self.resting(&offers);
        for (offer, rests) in offers.into_iter().zip(resting) {
            self.maintenance.offered(&offer.agent, offer.unavailability);
            self.maintenance_changed();
            let refuse = match if rests { Some(Offered::Idle) } else { self.offered(&offer.agent) } {
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
                    if !rests {
                        self.send_away(&offer.agent);
                        self.index.agents.rest(&offer.agent);
                    }
                    (!self.unreserve(&offer, refuse, frame)).then_some(refuse)
                }
                Some(Offered::Agent { record, next, limit }) => {
                    let refuse = self.consider(now, &record, (next, limit), &offer, frame);
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

    /// Of which of these offers no more need be known than that their agents rest: of most.
    fn resting(&self, offers: &[Offer]) -> Vec<bool> {
        // Any agent will do for a task of the cluster.
        if self.demand.wants_any() {
            return vec![false; offers.len()];
        }
        let resting = self.index.agents.rest_of(offers.iter().map(|offer| &*offer.agent));
        debug_assert!(
            offers.iter().zip(&resting).all(|(offer, rests)| {
                !rests || matches!(self.offered(&offer.agent), Some(Offered::Idle | Offered::Duplicate))
            }),
            "an agent that rests has changed"
        );
        resting
    }

    /// Whose offer it is; none when only a new inventory can say it.
    fn offered(&self, agent: &str) -> Option<Offered> {
        let inventory = self.inventory.as_ref()?;
        if inventory.duplicates.contains_key(agent) {
            return Some(Offered::Duplicate);
        }
        let registered = self.index.agents.get(agent).filter(|registered| !registered.record.aside)?;
        let record = &registered.record;
        debug_assert_eq!(self.state.agents.get(&record.key), Some(record), "{agent} is not as it is stored");
        debug_assert_eq!(self.next_on(record), registered.next, "{agent} was not reconsidered");
        Some(match &registered.next {
            // The master has learned since that it is there.
            Next::Held(_) if self.presence(&record.key).is_none_or(Presence::makes_no_offers) => {
                return None;
            }
            Next::Held(_) => Offered::Idle,
            Next::Complete if !self.demand.wants_any() => Offered::Idle,
            next => {
                Offered::Agent { record: Arc::clone(record), next: next.clone(), limit: registered.limit }
            }
        })
    }

    /// Takes one offer, or says for how long it is declined. `next` is what comes next on its agent, and what limits it.
    fn consider(
        &mut self,
        now: Timestamp,
        agent: &AgentRecord,
        (next, limit): (Next, Option<Limit>),
        offer: &Offer,
        frame: &mut Frame,
    ) -> Option<Duration> {
        let key = &agent.key;
        // Where there is no room for the one there may be for the other.
        let in_cluster = if self.demand.wants_any() { self.next_in_cluster_on(key) } else { Next::Complete };
        let mut refuse = match (&next, &in_cluster) {
            (Next::Wait(_) | Next::End(_), Next::Launch(_, not_before)) => self.until(now, *not_before),
            (Next::Wait(_) | Next::End(_), _) => self.until_it_moves(now, &offer.agent),
            (Next::Launch(_, not_before), _) | (_, Next::Launch(_, not_before)) => {
                self.until(now, *not_before)
            }
            (Next::Look(_), _) => self.settings.turn_filter,
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
        let meanwhile = self.instead(agent, limit);
        let looks = if let Next::Look(task_type) = next { Some(task_type) } else { None };
        for (next, limit) in [(in_cluster, None), (next, limit), (meanwhile, Some(Limit::Recoveries))] {
            if let Next::Launch(task_type, not_before) = next
                && self.wait(now, not_before).is_zero()
            {
                if limit.is_some_and(|limit| self.is_full(limit, key)) {
                    refuse = self.held_filter();
                    continue;
                }
                match self.launch(now, task_type, offer, frame) {
                    Ok(()) => return None,
                    // What is freed there is more than what was refused, and comes at once.
                    Err(NoRoom) => refuse = self.settings.turn_filter * 5,
                }
            }
        }
        match looks.map(|task_type| self.look(now, key, task_type, offer, frame)) {
            Some(Ok(())) => return None,
            Some(Err(NoRoom)) => refuse = self.settings.turn_filter * 5,
            None => {}
        }
        Some(refuse)
    }

    /// The part of an offer that `needs` takes.
    pub(super) fn take(
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
    pub(super) fn spec_for(&self, key: &AgentKey, task_type: TaskType) -> Option<&Spec> {
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
    fn instead(&self, agent: &AgentRecord, limit: Option<Limit>) -> Next {
        if limit != Some(Limit::Restarts) || !self.is_full(Limit::Restarts, &agent.key) {
            return Next::Complete;
        }
        self.meanwhile(agent).unwrap_or(Next::Complete)
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

    /// An agent's ID, kept by its own name and not by its offer's.
    pub(super) fn registered_name(&self, agent: &str) -> Option<AgentId> {
        self.index.agents.get(agent).map(|registered| registered.record.id.clone())
    }

    fn launch(
        &mut self,
        now: Timestamp,
        task_type: TaskType,
        offer: &Offer,
        frame: &mut Frame,
    ) -> Result<(), NoRoom> {
        let agent = Arc::clone(&self.index.agents.get(&offer.agent).ok_or(NoRoom)?.record);
        let (key, slot) = (&agent.key, Slot::of(task_type, &agent.key));
        // Where a task of the cluster runs does not matter to what it is.
        let place = (task_type.scope() == Scope::Agent).then_some(&*agent);
        let (spec, before) = match place {
            Some(agent) => (self.spec_on(agent, task_type), agent.tasks.get(&task_type)),
            None => (self.settings.specs.get(&task_type), self.state.cluster.tasks.get(&task_type)),
        };
        let Some(spec) = spec else { return Err(NoRoom) };
        let (needs, target, may_restart) = (spec.needs, spec.target.clone(), is_disruptive(spec, before));
        let live = before.filter(|record| record.phase.live().is_some());
        if let Some(more) = live.map(|record| self.more_than(needs, task_type, record)) {
            // Its predecessor goes when there is room for what it needs beyond, which nobody else can take then.
            let mut taken = self.take(now, task_type, more, offer)?;
            if self.awaits_our_role(now, key, task_type, &taken) {
                return Err(NoRoom);
            }
            let resources = self.reserve_ahead(now, key, task_type, &mut taken, frame);
            if resources.is_empty() {
                self.end(now, key, task_type, frame);
                return Err(NoRoom);
            }
            let (offer, refuse) = (offer.id.clone(), self.settings.turn_filter);
            frame.effects.push(Effect::Reserve { offer, resources, refuse });
            return Ok(());
        }
        let reached = before.is_some_and(|record| {
            // With another target it is done anew, once, and nothing is down before that.
            record.reached && (place.is_some() || record.target.as_ref() == Some(&target))
        });
        // What another configuration did does not count against this one.
        let before = before.filter(|record| record.target.as_ref() == Some(&target));
        let (failures, failure) =
            before.map_or((0, None), |record| (record.failures, record.failure.clone()));
        let mut resources = self.take(now, task_type, needs, offer)?;
        if self.awaits_our_role(now, key, task_type, &resources) {
            return Err(NoRoom);
        }
        let task = TaskId::new(task_type, key, now);
        let recovers = place.is_some_and(|agent| Self::recovers(agent, task_type));
        let record = TaskRecord {
            reached,
            recovery: recovers.then_some(now),
            disruptive: may_restart,
            phase: Phase::Launched { task: task.clone(), agent: agent.id.clone(), at: now },
            target: Some(target.clone()),
            failures,
            failure,
            looked_at: LookedAt::default(),
        };
        self.begin(now, frame, (&slot, place), record);
        self.untold.retain(|_, of| *of != slot);
        let reserve = self.reserve(now, task_type, &task, &mut resources);
        self.reconciliation.expected(now.after(self.settings.launch_timeout), task.clone());
        frame.decisions.push(Decision::Launched { slot, task: task.clone(), target: target.clone() });
        frame.effects.push(Effect::Launch(Launch {
            offer: offer.id.clone(),
            agent: agent.id.clone(),
            task_type,
            target,
            task,
            may_restart,
            only_looks: false,
            resources,
            reserve,
        }));
        Ok(())
    }
}
