//! When offers are wanted: SUPPRESS when there is nothing to launch, REVIVE when there is and offers stay away. And
//! whose: where work waits on few agents of many, only theirs, for a REVIVE brings those of all others, too.

use std::collections::{BTreeSet, HashSet};

use super::Core;
use super::frame::{Effect, Frame};
use super::ids::{AgentId, AgentKey, Timestamp};
use super::progress::Next;

/// What is known about who waits for offers.
#[derive(Debug, Default)]
pub(super) struct Demand {
    flow: Flow,
    /// Agents on which something is to be launched, now or after a backoff.
    launchable: BTreeSet<AgentKey>,
    /// Agents on which something is on its way: what follows it will want an offer.
    waiting: BTreeSet<AgentKey>,
    /// Agents on which a task type of the cluster is waited for, and what they were sorted by.
    behind: BTreeSet<AgentKey>,
    cluster_stood: (Vec<bool>, bool),
    /// The same for the task types that run once.
    cluster: Turn,
    /// Registrations whose offers we sent away for long.
    filtered: HashSet<AgentId>,
    /// Whether something is to be launched on a filtered agent.
    revive: bool,
    last_revive: Option<Timestamp>,
    /// Whether the master takes constraints.
    constrainable: bool,
    /// The hosts whose offers are wanted; none when those of all are.
    constrained: Option<BTreeSet<String>>,
}

/// Whether the master sends us offers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Flow {
    #[default]
    Disconnected,
    On,
    Suppressed,
}

/// Whose turn it is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Launchable,
    Waiting,
    #[default]
    Idle,
}

impl Demand {
    pub fn subscribed(&mut self) {
        // A subscription that takes over may find old filters in place: revive when there is work.
        self.flow = Flow::On;
        self.revive = true;
        // SUBSCRIBE has none, and so takes back those of before.
        self.constrained = None;
    }

    pub fn takes_constraints(&mut self) {
        self.constrainable = true;
    }

    pub fn disconnected(&mut self) {
        self.flow = Flow::Disconnected;
        self.constrainable = false;
    }

    /// This agent's offers stay away for long.
    pub fn filter(&mut self, agent: AgentId) {
        self.filtered.insert(agent);
    }

    /// Whether the master may send offers at all.
    pub fn is_subscribed(&self) -> bool {
        self.flow != Flow::Disconnected
    }

    /// Whether this agent is not among those whose offers come.
    fn leaves_out(&self, agent: &AgentKey) -> bool {
        self.constrained.as_ref().is_some_and(|hosts| !hosts.contains(agent.host()))
    }

    /// The hosts whose offers are wanted, of `agents` that there are; none when those of all are.
    fn hosts(&self, agents: usize, most: usize) -> Option<BTreeSet<String>> {
        // What waits now will want an offer soon: its host is in the list from the beginning.
        let wanted = self.launchable.len() + self.waiting.len();
        // Any agent will do for a task of the cluster.
        let few = wanted <= most && wanted * 2 <= agents && self.cluster != Turn::Launchable;
        let keys = self.launchable.iter().chain(&self.waiting);
        (self.constrainable && few).then(|| keys.map(|key| key.host().to_owned()).collect())
    }

    fn work(&self) -> bool {
        self.cluster == Turn::Launchable || !self.launchable.is_empty()
    }

    fn idle(&self) -> bool {
        !self.work() && self.cluster == Turn::Idle && self.waiting.is_empty()
    }
}

impl Core {
    /// Sorts one agent by what comes next on it.
    pub(super) fn reconsider(&mut self, key: &AgentKey) {
        let next = self.next_on(key);
        self.note(key, &next);
        let behind = self.is_behind(key);
        let demand = &mut self.demand;
        if behind {
            demand.behind.insert(key.clone());
        } else {
            demand.behind.remove(key);
        }
        demand.launchable.remove(key);
        demand.waiting.remove(key);
        let Some(agent) = self.state.agents.get(key) else { return };
        match next {
            Next::Launch(..) => {
                demand.launchable.insert(key.clone());
                demand.revive |= demand.filtered.contains(&agent.id) || demand.leaves_out(key);
            }
            Next::Wait(_) => {
                demand.waiting.insert(key.clone());
            }
            Next::Held(_) | Next::Complete => {}
        }
    }

    /// Sorts all agents: the first list of them has come.
    pub(super) fn reconsider_all(&mut self) {
        self.reconsider_cluster();
        let keys: Vec<AgentKey> = self.state.agents.keys().cloned().collect();
        for key in keys {
            self.reconsider(&key);
        }
    }

    /// Sorts the task types that run once. Agents are sorted again only when they wait for what has changed.
    pub(super) fn reconsider_cluster(&mut self) {
        self.demand.cluster = match self.next_in_cluster() {
            Next::Launch(..) => Turn::Launchable,
            Next::Wait(_) => Turn::Waiting,
            Next::Held(_) | Next::Complete => Turn::Idle,
        };
        // Any agent will do, also one on which nothing else is to be done.
        let sent_away = !self.demand.filtered.is_empty() || self.demand.constrained.is_some();
        self.demand.revive |= self.demand.cluster == Turn::Launchable && sent_away;
        let stands = self.cluster_stands();
        if self.demand.cluster_stood != stands {
            self.demand.cluster_stood = stands;
            for key in std::mem::take(&mut self.demand.behind) {
                self.reconsider(&key);
            }
        }
    }

    /// Ends a frame: says whether we want offers, when that has changed.
    pub(super) fn settle_demand(&mut self, now: Timestamp, frame: &mut Frame) {
        let ready = self.inventory.is_some();
        let (interval, most) = (self.settings.revive_interval, self.settings.most_constrained);
        let agents = self.state.agents.len();
        let demand = &mut self.demand;
        if demand.flow == Flow::Disconnected || !ready {
            return;
        }
        if demand.work() {
            let due = demand.last_revive.is_none_or(|last| now >= last.after(interval));
            if (demand.flow == Flow::Suppressed || demand.revive) && due {
                demand.flow = Flow::On;
                demand.revive = false;
                demand.filtered.clear();
                demand.last_revive = Some(now);
                let hosts = demand.hosts(agents, most);
                if hosts != demand.constrained {
                    demand.constrained.clone_from(&hosts);
                    frame.effects.push(Effect::Constrain(hosts));
                }
                frame.effects.push(Effect::Revive);
            }
        } else if demand.idle() && demand.flow == Flow::On {
            demand.flow = Flow::Suppressed;
            demand.revive = false;
            frame.effects.push(Effect::Suppress);
        }
    }
}
