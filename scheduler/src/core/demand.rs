//! When offers are wanted: SUPPRESS when there is nothing to launch, REVIVE when there is and offers stay away. And
//! whose: where work waits on few agents of many, only theirs, for a REVIVE brings those of all others, too.

use std::collections::BTreeSet;
use std::time::Duration;

use rustc_hash::FxHashSet;

use super::Core;
use super::frame::{Effect, Frame};
use super::ids::{AgentId, AgentKey, Timestamp};
use super::progress::Next;
use super::state::{AgentRecord, under_way_since};

/// For so long offers are let in for what they may have reserved: every agent with such has been offered by then.
const GIVE_BACK: Duration = Duration::from_secs(10);

/// What is known about who waits for offers.
#[derive(Debug, Default)]
pub(super) struct Demand {
    flow: Flow,
    /// Agents on which something is to be launched, now or after a backoff.
    launchable: FxHashSet<AgentKey>,
    /// Agents on which something is on its way: what follows it will want an offer.
    waiting: FxHashSet<AgentKey>,
    /// Agents on which a task type of the cluster is waited for, and what they were sorted by.
    behind: FxHashSet<AgentKey>,
    cluster_stood: (Vec<bool>, bool),
    /// The same for the task types that run once.
    cluster: Turn,
    /// Registrations whose offers we sent away for long, since the last REVIVE.
    filtered: FxHashSet<AgentId>,
    revives: u64,
    /// Whether something is to be launched on a filtered agent.
    revive: bool,
    /// Since when nothing is to be launched, though something is on its way.
    quiet_since: Option<Timestamp>,
    last_revive: Option<Timestamp>,
    /// Until when offers are let in for what may be reserved and is not needed; and whether they are to be asked for.
    giving_back: Option<Timestamp>,
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
        // SUBSCRIBE suppresses all roles, as far as the master knows how to: revive when there is work, and suppress
        // when there is none.
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

    /// Whether the master may send offers at all.
    pub fn is_subscribed(&self) -> bool {
        self.flow != Flow::Disconnected
    }

    fn forget(&mut self, key: &AgentKey) {
        for agents in [&mut self.launchable, &mut self.waiting, &mut self.behind] {
            agents.remove(key);
        }
    }

    /// Sorts an agent by what comes `next` on it, and whether that waits for a task type of the cluster.
    fn sort(&mut self, key: &AgentKey, id: &AgentId, next: &Next, behind: bool) {
        let is_launchable = matches!(next, Next::Launch(..) | Next::Look(_));
        for (agents, belongs) in [
            (&mut self.launchable, is_launchable),
            (&mut self.waiting, matches!(next, Next::Wait(_) | Next::End(_))),
            (&mut self.behind, behind),
        ] {
            if !belongs {
                agents.remove(key);
            } else if !agents.contains(key) {
                agents.insert(key.clone());
            }
        }
        // Any agent that is open will do for a task of the cluster.
        let wanted = is_launchable || self.wants_any() && !matches!(next, Next::Held(_));
        self.revive |= wanted && (self.filtered.contains(id) || self.leaves_out(key));
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

    /// Whether any agent will do for what is to be launched next.
    pub fn wants_any(&self) -> bool {
        self.cluster == Turn::Launchable
    }

    /// Something may be reserved that is not needed: only offers show it.
    pub fn give_back(&mut self, now: Timestamp) {
        self.giving_back = Some(now.after(GIVE_BACK));
        self.revive = true;
    }

    fn work(&self) -> bool {
        self.cluster == Turn::Launchable || !self.launchable.is_empty()
    }

    /// Whether nothing is to be launched, nor will be soon, at which `quiet` guesses.
    fn idle(&mut self, now: Timestamp, quiet: Duration) -> bool {
        if self.work() {
            self.quiet_since = None;
            return false;
        }
        let since = *self.quiet_since.get_or_insert(now);
        let nothing_comes = self.cluster == Turn::Idle && self.waiting.is_empty();
        nothing_comes || now.since(since) >= quiet
    }
}

impl Core {
    /// This agent's offers stay away for long.
    pub(super) fn send_away(&mut self, agent: &str) {
        let revives = self.demand.revives;
        let known = self.index.agents.get(agent);
        if known.is_some_and(|known| known.sent_away == Some(revives)) {
            return;
        }
        let id = known.map_or_else(|| agent.into(), |known| known.record.id.clone());
        self.demand.filtered.insert(id);
        if let Some(known) = self.index.agents.get_mut(agent) {
            known.sent_away = Some(revives);
        }
    }

    /// Sorts one agent by what comes next on it.
    pub(super) fn reconsider(&mut self, key: &AgentKey) {
        if let Some(agent) = self.state.agents.get(key).cloned() {
            self.reconsider_record(&agent);
        } else {
            self.notices.forget(key);
            self.demand.forget(key);
        }
    }

    /// The same, by the agent's record.
    pub(super) fn reconsider_record(&mut self, agent: &AgentRecord) {
        let key = &agent.key;
        let (next, behind) = self.outlook(agent);
        let limit = self.limit_of(agent, &next);
        self.queue(agent, &next);
        self.note_look(agent, &next);
        self.demand.sort(key, &agent.id, &next, behind);
        let waits_since = under_way_since(&agent.tasks);
        if !matches!(next, Next::Launch(..)) {
            self.notices.forget(key);
        }
        let now = self.clock.now();
        if let Some(registered) = self.index.agents.get_mut(&agent.id.0).filter(|r| r.record.key == *key) {
            registered.expect_offer(&next, now);
            registered.next = next;
            registered.limit = limit;
            registered.waits_since = waits_since;
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
            Next::Wait(_) | Next::End(_) => Turn::Waiting,
            Next::Held(_) | Next::Complete | Next::Look(_) => Turn::Idle,
        };
        // Any agent will do, also one on which nothing else is to be done.
        let sent_away = !self.demand.filtered.is_empty() || self.demand.constrained.is_some();
        self.demand.revive |= self.demand.cluster == Turn::Launchable && sent_away;
        let stands = self.cluster_stands();
        if self.demand.cluster_stood != stands {
            let stood = std::mem::replace(&mut self.demand.cluster_stood, stands);
            // What is done no more is waited for by others than before: seldom, so that all may be looked through.
            if stood.0.iter().zip(&self.demand.cluster_stood.0).any(|(before, now)| *before && !now) {
                return self.reconsider_all();
            }
            for key in std::mem::take(&mut self.demand.behind) {
                self.reconsider(&key);
            }
        }
    }

    /// Ends a frame: says whether we want offers, when that has changed.
    pub(super) fn settle_demand(&mut self, now: Timestamp, frame: &mut Frame) {
        let ready = self.inventory.is_some() && !self.doubts(now);
        let (interval, most) = (self.settings.revive_interval, self.settings.most_constrained);
        let (agents, quiet) = (self.state.agents.len(), self.settings.quiet);
        let demand = &mut self.demand;
        if demand.flow == Flow::Disconnected || !ready {
            return;
        }
        let idle = demand.idle(now, quiet);
        let gives_back = demand.giving_back.is_some_and(|until| now < until);
        if demand.work() || gives_back && demand.revive {
            let due = demand.last_revive.is_none_or(|last| now >= last.after(interval));
            if (demand.flow == Flow::Suppressed || demand.revive) && due {
                demand.flow = Flow::On;
                demand.revive = false;
                demand.filtered.clear();
                self.index.agents.wake();
                demand.revives += 1;
                demand.last_revive = Some(now);
                let hosts = demand.hosts(agents, most).filter(|_| !gives_back);
                if hosts != demand.constrained {
                    demand.constrained.clone_from(&hosts);
                    frame.effects.push(Effect::Constrain(hosts));
                }
                frame.effects.push(Effect::Revive);
            }
        } else if idle && !gives_back && demand.flow == Flow::On {
            demand.flow = Flow::Suppressed;
            demand.revive = false;
            frame.effects.push(Effect::Suppress);
        }
    }
}
