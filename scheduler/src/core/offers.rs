//! Offers: launch what comes next, or decline at once.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Core;
use super::frame::{Decision, Effect, Frame, Launch};
use super::ids::{AgentKey, OfferId, TaskId, TaskType, Timestamp};
use super::input::Offer;
use super::progress::Next;
use super::resources::take;
use super::state::{Phase, Slot, TaskRecord};

impl Core {
    pub(super) fn offers(&mut self, now: Timestamp, offers: Vec<Offer>, frame: &mut Frame) {
        // Declines of one length go into one call.
        let mut declined: BTreeMap<Duration, Vec<OfferId>> = BTreeMap::new();
        let mut refresh = false;
        for offer in offers {
            let id = offer.id.clone();
            let refuse = match self.index.agents.get(&offer.agent).cloned() {
                Some(key) if self.inventory.is_some() => self.consider(now, &key, offer, frame),
                _ => {
                    // Only the inventory says what an agent is.
                    refresh = true;
                    Some(self.settings.turn_filter)
                }
            };
            if let Some(refuse) = refuse {
                declined.entry(refuse).or_default().push(id);
            }
        }
        for (refuse, offers) in declined {
            frame.effects.push(Effect::Decline { offers, refuse });
        }
        if refresh {
            frame.effects.push(Effect::RefreshInventory);
        }
    }

    /// Takes one offer, or says for how long it is declined.
    fn consider(
        &mut self,
        now: Timestamp,
        key: &AgentKey,
        offer: Offer,
        frame: &mut Frame,
    ) -> Option<Duration> {
        let next = self.next_on(key);
        let here = !matches!(next, Next::Held(_)) && !offer.unavailable;
        if here
            && let Next::Launch(task_type, not_before) = self.next_in_cluster()
            && not_before.is_none_or(|at| at <= now)
        {
            return self.launch(now, key, task_type, offer, frame);
        }
        match next {
            _ if offer.unavailable => Some(Duration::from_mins(1).min(self.settings.idle_filter)),
            Next::Launch(_, Some(not_before)) if not_before > now => {
                Some(not_before.since(now).clamp(self.settings.turn_filter, self.settings.idle_filter))
            }
            Next::Launch(task_type, _) => self.launch(now, key, task_type, offer, frame),
            Next::Wait(_) => Some(self.settings.turn_filter),
            Next::Held(_) | Next::Complete => {
                self.demand.filter(key);
                Some(self.settings.idle_filter)
            }
        }
    }

    fn launch(
        &mut self,
        now: Timestamp,
        key: &AgentKey,
        task_type: TaskType,
        offer: Offer,
        frame: &mut Frame,
    ) -> Option<Duration> {
        let spec = self.settings.specs.get(&task_type)?;
        let resources = match take(&offer.resources, spec.needs) {
            Ok(resources) => resources,
            Err(shortage) => {
                self.shortages.insert(key.clone(), shortage);
                // What is freed there is more than what was refused, and comes at once.
                return Some(self.settings.turn_filter * 5);
            }
        };
        self.shortages.remove(key);
        let target = spec.target.clone();
        let slot = Slot::of(task_type, key);
        let task = TaskId::new(task_type, key, now);
        let before = self.state.task(&slot);
        let record = TaskRecord {
            phase: Phase::Launched { task: task.clone(), agent: offer.agent.clone(), at: now },
            target: Some(target.clone()),
            failures: before.map_or(0, |record| record.failures),
            failure: before.and_then(|record| record.failure.clone()),
        };
        self.put(frame, &slot, record);
        self.reconciliation.launched(now.after(self.settings.launch_timeout), task.clone());
        frame.decisions.push(Decision::Launched { slot, task: task.clone(), target });
        frame.effects.push(Effect::Launch(Launch {
            offer: offer.id,
            agent: offer.agent,
            task_type,
            task,
            resources,
        }));
        None
    }
}
