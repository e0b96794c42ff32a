//! Who is offered what, as the hierarchical allocator of Mesos decides it, without quotas and weights.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesos_v1::framework_info::capability::Type as Capability;
use mesos_v1::{DomainInfo, Filters, FrameworkInfo};

use crate::resources::{Resources, thousandths};
use crate::settings::AgentSpec;
use crate::state::{AgentKey, Filter, Framework, Offer, Share, seconds};
use crate::world::{Timer, World};

/// Offers are made of at least this much of one of the two (`--min_allocatable_resources`).
const LEAST: [(&str, i64); 2] = [("cpus", 10), ("mem", 32_000)];
/// The longest filter.
const LONGEST_FILTER: Duration = Duration::from_hours(365 * 24);

impl World {
    /// The next allocation looks at this agent.
    pub(crate) fn allocate_later(&mut self, agent: AgentKey) {
        if !self.master.allocator.all_dirty {
            self.master.allocator.dirty.insert(agent);
        }
        self.allocation_follows();
    }

    /// The next periodic allocation happens.
    pub(crate) fn allocation_follows(&mut self) {
        if self.master.allocator.due.is_some() {
            return;
        }
        let interval = self.settings.allocation_interval.as_nanos().max(1);
        let since = self.now.saturating_sub(self.master.elected).as_nanos();
        let next = (since / interval + 1) * interval;
        let at = self.master.elected + Duration::from_nanos(u64::try_from(next).unwrap_or(u64::MAX));
        self.master.allocator.due = Some(at);
        self.at(at, Timer::Allocate);
    }

    /// An allocation of all agents, at once.
    pub(crate) fn allocate_everywhere(&mut self) {
        self.master.allocator.all_dirty = true;
        self.allocate_now();
    }

    /// An allocation at once, of the agents that wait for one.
    pub(crate) fn allocate_now(&mut self) {
        if self.master.allocator.due != Some(self.now) {
            self.master.allocator.due = Some(self.now);
            self.at(self.now, Timer::Allocate);
        }
    }

    pub(crate) fn allocate(&mut self) {
        if !self.master.leads || self.master.allocator.due != Some(self.now) {
            return;
        }
        let allocator = &mut self.master.allocator;
        allocator.due = None;
        let dirty = std::mem::take(&mut allocator.dirty);
        let mut agents: Vec<AgentKey> = if std::mem::take(&mut allocator.all_dirty) {
            self.master.registered.keys().copied().collect()
        } else {
            dirty.into_iter().filter(|agent| self.master.registered.contains_key(agent)).collect()
        };
        self.random.shuffle(&mut agents);
        let mut made: BTreeMap<Arc<str>, Vec<u64>> = BTreeMap::new();
        for agent in &agents {
            if self.master.registered.get(agent).is_some_and(|slot| slot.active && !slot.available.is_empty())
            {
                self.allocate_agent(*agent, &mut made);
            }
        }
        for (framework, offers) in made {
            self.send_offers(&framework, &offers);
        }
        if !self.registry.maintenance.is_empty() {
            self.send_inverse_offers(&agents);
        }
    }

    fn allocate_agent(&mut self, agent: AgentKey, made: &mut BTreeMap<Arc<str>, Vec<u64>>) {
        for (role, frameworks) in self.sorted() {
            for framework in frameworks {
                let Some(offered) = self.offerable(agent, &role, &framework) else { continue };
                let Some(slot) = self.master.registered.get_mut(&agent) else { return };
                slot.available.subtract(&offered);
                let number = self.master.next_offer;
                self.master.next_offer += 1;
                slot.offers.insert(number);
                self.track(&role, &framework, &offered);
                self.framework(&framework).offers.insert(number);
                let (framework, role) = (Arc::clone(&framework), Arc::clone(&role));
                made.entry(Arc::clone(&framework)).or_default().push(number);
                self.master.offers.insert(number, Offer { framework, agent, role, resources: offered });
            }
        }
    }

    /// The roles with their frameworks: those with the smallest dominant share first, and of equal ones those that were
    /// served more rarely.
    fn sorted(&self) -> Vec<(Arc<str>, Vec<Arc<str>>)> {
        let allocator = &self.master.allocator;
        let rank = |share: Option<&Share>| {
            share.map_or((0.0, 0), |share| (share.allocated.dominant_share(&allocator.total), share.count))
        };
        let order = |a: (f64, u64), b: (f64, u64)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        let mut roles: BTreeMap<&Arc<str>, Vec<_>> = BTreeMap::new();
        for framework in self.master.frameworks.values().filter(|framework| framework.is_connected()) {
            for role in framework.roles.difference(&framework.suppressed) {
                let share = allocator.clients.get(&(Arc::clone(role), Arc::clone(&framework.id)));
                roles.entry(role).or_default().push((rank(share), &framework.id));
            }
        }
        let mut sorted: Vec<_> = roles
            .into_iter()
            .map(|(role, mut frameworks)| {
                frameworks.sort_by(|a, b| order(a.0, b.0).then(a.1.cmp(b.1)));
                let frameworks: Vec<_> = frameworks.into_iter().map(|(_, id)| Arc::clone(id)).collect();
                (rank(allocator.roles.get(role)), Arc::clone(role), frameworks)
            })
            .collect();
        sorted.sort_by(|a, b| order(a.0, b.0).then(a.1.cmp(&b.1)));
        sorted.into_iter().map(|(_, role, frameworks)| (role, frameworks)).collect()
    }

    fn offerable(&self, agent: AgentKey, role: &Arc<str>, framework: &Arc<str>) -> Option<Resources> {
        let framework = self.master.frameworks.get(framework)?;
        let slot = self.master.registered.get(&agent)?;
        let spec = &self.agents[self.identities.process(agent)].spec;
        if framework.constraints.exclude(role, spec) {
            return None;
        }
        let offered = slot.available.allocatable_to(role);
        if !is_enough(&offered, role, &framework.info) || !receives(framework, spec, &slot.total, self) {
            return None;
        }
        let filters = framework.filters.get(&(Arc::clone(role), agent));
        let filtered = filters.is_some_and(|all| all.iter().any(|filter| filter.refused.contains(&offered)));
        (!filtered).then_some(offered)
    }

    /// Counts an allocation.
    pub(crate) fn track(&mut self, role: &Arc<str>, framework: &Arc<str>, resources: &Resources) {
        let allocator = &mut self.master.allocator;
        let share = allocator.roles.entry(Arc::clone(role)).or_default();
        share.allocated.add(resources);
        share.count += 1;
        let share = allocator.clients.entry((Arc::clone(role), Arc::clone(framework))).or_default();
        share.allocated.add(resources);
        share.count += 1;
    }

    /// Gives resources back to their agent. What is refused is not offered to the role again until the filter ends,
    /// unless more is free by then.
    pub(crate) fn recover(
        &mut self,
        framework: &Arc<str>,
        agent: AgentKey,
        role: &Arc<str>,
        resources: &Resources,
        filters: Option<&Filters>,
    ) {
        if resources.is_empty() {
            return;
        }
        let allocator = &mut self.master.allocator;
        if let Some(share) = allocator.roles.get_mut(role) {
            share.allocated.subtract(resources);
        }
        if let Some(share) = allocator.clients.get_mut(&(Arc::clone(role), Arc::clone(framework))) {
            share.allocated.subtract(resources);
        }
        let Some(slot) = self.master.registered.get_mut(&agent) else { return };
        slot.available.add(resources);
        if let Some(wait) = filters.and_then(filter_time)
            && self.master.frameworks.contains_key(framework)
        {
            self.master.allocator.next_filter += 1;
            let number = self.master.allocator.next_filter;
            let key = (Arc::clone(role), agent);
            let filter = Filter { number, refused: resources.clone() };
            self.framework(framework).filters.entry(key).or_default().push(filter);
            let (framework, role) = (Arc::clone(framework), Arc::clone(role));
            let wait = wait.max(self.settings.allocation_interval);
            self.after(wait, Timer::FilterEnds { framework, role, agent, number });
        }
        self.allocate_later(agent);
    }

    pub(crate) fn filter_ends(&mut self, framework: &Arc<str>, role: Arc<str>, agent: AgentKey, number: u64) {
        let Some(framework) = self.master.frameworks.get_mut(framework) else { return };
        let key = (role, agent);
        let Some(filters) = framework.filters.get_mut(&key) else { return };
        let before = filters.len();
        filters.retain(|filter| filter.number != number);
        if filters.len() == before {
            return;
        }
        if filters.is_empty() {
            framework.filters.remove(&key);
        }
        self.allocate_later(agent);
    }
}

/// How long a filter lasts; none when there is none.
pub(crate) fn filter_time(filters: &Filters) -> Option<Duration> {
    let refuse = filters.refuse_seconds();
    // Mesos takes the default for what it cannot use.
    let time = if refuse < 0.0 || refuse.is_nan() {
        seconds(Filters::default().refuse_seconds())
    } else {
        Duration::try_from_secs_f64(refuse).unwrap_or(LONGEST_FILTER).min(LONGEST_FILTER)
    };
    (!time.is_zero()).then_some(time)
}

fn is_enough(offered: &Resources, role: &str, info: &FrameworkInfo) -> bool {
    if offered.is_empty() {
        return false;
    }
    let own = info.offer_filters.get(role).and_then(|filters| filters.min_allocatable_resources.as_ref());
    match own {
        None => LEAST.iter().any(|(name, least)| offered.scalar(name) >= *least),
        Some(own) if own.quantities.is_empty() => true,
        Some(own) => own.quantities.iter().any(|all| {
            all.quantities.iter().all(|(name, least)| offered.scalar(name) >= thousandths(least.value))
        }),
    }
}

/// Whether the framework may be offered such an agent at all.
fn receives(framework: &Framework, spec: &AgentSpec, total: &Resources, world: &World) -> bool {
    let region = |domain: &DomainInfo| domain.fault_domain.as_ref().map(|domain| domain.region.name.clone());
    let there = spec.domain.as_deref().and_then(region);
    let here = world.settings.domain.as_ref().and_then(region);
    (!framework.has(Capability::MultiRole) || spec.is_multi_role())
        && (framework.has(Capability::GpuResources) || total.scalar("gpus") == 0)
        && (framework.has(Capability::RegionAware) || there.is_none() || there == here)
}
