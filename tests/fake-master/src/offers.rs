//! Offers and inverse offers: made, rescinded, declined; SUPPRESS and REVIVE.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesos_v1::resource::AllocationInfo;
use mesos_v1::scheduler::{Event, call, event};
use mesos_v1::{Address, Filters, OfferId, Unavailability, Url};

use crate::allocator::filter_time;
use crate::settings::AgentRef;
use crate::state::{AgentKey, InverseOffer, Link};
use crate::world::{Timer, World};

impl World {
    /// The stream of a framework that is subscribed.
    pub(crate) fn stream_of(&self, framework: &str) -> Option<Arc<str>> {
        match self.master.frameworks.get(framework).map(|framework| &framework.link) {
            Some(Link::Connected(stream)) => Some(Arc::clone(stream)),
            _ => None,
        }
    }

    /// Sends an event to a framework, when it is subscribed.
    pub(crate) fn emit_to(&mut self, framework: &str, event: Event) {
        if let Some(stream) = self.stream_of(framework) {
            self.emit(&stream, event);
        }
    }

    fn offer_id(&self, number: u64) -> OfferId {
        format!("{}-O{number}", self.master.id).into()
    }

    /// The number of an offer of this master.
    pub(crate) fn offer_number(&self, id: &OfferId) -> Option<u64> {
        id.value.strip_prefix(&self.master.id)?.strip_prefix("-O")?.parse().ok()
    }

    fn url(&self, agent: AgentKey) -> Url {
        let spec = &self.agents[self.identities.process(agent)].spec;
        let hostname = spec.hostname.to_string();
        Url {
            scheme: "http".to_owned(),
            address: Address { hostname: Some(hostname.clone()), ip: Some(hostname), port: spec.port.into() },
            path: Some("/slave(1)".to_owned()),
            ..Default::default()
        }
    }

    pub(crate) fn send_offers(&mut self, framework: &Arc<str>, numbers: &[u64]) {
        let offers = numbers.iter().filter_map(|number| {
            let offer = self.master.offers.get(number)?;
            let process = self.identities.process(offer.agent);
            let spec = &self.agents[process].spec;
            Some(mesos_v1::Offer {
                id: self.offer_id(*number),
                framework_id: (&**framework).into(),
                agent_id: (&**self.identities.id(offer.agent)).into(),
                hostname: spec.hostname.to_string(),
                resources: offer.resources.messages(Some(&offer.role)),
                attributes: spec.attributes.to_vec(),
                url: Some(self.url(offer.agent)),
                unavailability: self.registry.maintenance.get(&process).copied(),
                allocation_info: Some(AllocationInfo { role: Some(offer.role.to_string()) }),
                domain: spec.domain.as_deref().cloned(),
                ..Default::default()
            })
        });
        let offers = event::Offers { offers: offers.collect() };
        let event =
            Event { r#type: Some(event::Type::Offers.into()), offers: Some(offers), ..Default::default() };
        self.emit_to(framework, event);
    }

    /// Takes an offer back, and says so.
    pub(crate) fn rescind(&mut self, number: u64) {
        let Some(framework) = self.master.offers.get(&number).map(|offer| Arc::clone(&offer.framework))
        else {
            return;
        };
        let rescind = event::Rescind { offer_id: self.offer_id(number) };
        self.discard(number, None);
        let event =
            Event { r#type: Some(event::Type::Rescind.into()), rescind: Some(rescind), ..Default::default() };
        self.emit_to(&framework, event);
    }

    /// Ends an offer; its resources are free again, with a filter or without.
    pub(crate) fn discard(&mut self, number: u64, filters: Option<&Filters>) {
        let Some(offer) = self.master.offers.remove(&number) else { return };
        if let Some(framework) = self.master.frameworks.get_mut(&offer.framework) {
            framework.offers.remove(&number);
        }
        if let Some(slot) = self.master.registered.get_mut(&offer.agent) {
            slot.offers.remove(&number);
        }
        self.recover(&offer.framework, offer.agent, &offer.role, &offer.resources, filters);
    }

    pub(crate) fn decline(&mut self, framework: &Arc<str>, decline: &call::Decline) {
        let filters = decline.filters.unwrap_or_default();
        for id in &decline.offer_ids {
            let Some(number) = self.offer_number(id) else { continue };
            if self.master.offers.get(&number).is_some_and(|offer| offer.framework == *framework) {
                self.discard(number, Some(&filters));
            }
        }
    }

    /// The named roles, or all; none when one of them is not the framework's.
    fn named_roles(&mut self, framework: &Arc<str>, named: &[String]) -> Option<BTreeSet<Arc<str>>> {
        let own = self.framework(framework).roles.clone();
        if named.is_empty() {
            return Some(own);
        }
        named.iter().map(|role| own.get(role.as_str()).cloned()).collect()
    }

    pub(crate) fn suppress(&mut self, id: &Arc<str>, named: &[String]) {
        if let Some(roles) = self.named_roles(id, named) {
            self.framework(id).suppressed.extend(roles);
        }
    }

    pub(crate) fn revive(&mut self, id: &Arc<str>, named: &[String]) {
        let Some(roles) = self.named_roles(id, named) else { return };
        let framework = self.framework(id);
        framework.inverse_filters.clear();
        framework.filters.retain(|(role, _), _| !roles.contains(role));
        framework.suppressed.retain(|role| !roles.contains(role));
        self.allocate_everywhere();
    }

    /// Inverse offers to those that have something on agents that go down.
    pub(crate) fn send_inverse_offers(&mut self, agents: &[AgentKey]) {
        let mut made: BTreeMap<Arc<str>, Vec<mesos_v1::InverseOffer>> = BTreeMap::new();
        for agent in agents {
            let process = self.identities.process(*agent);
            let Some(unavailability) = self.registry.maintenance.get(&process).copied() else { continue };
            let Some(slot) = self.master.registered.get(agent).filter(|slot| slot.active) else { continue };
            let offered = slot.offers.iter().filter_map(|number| self.master.offers.get(number));
            let mut holders: BTreeSet<Arc<str>> = offered.map(|offer| Arc::clone(&offer.framework)).collect();
            for (framework, name) in &slot.tasks {
                let task = self.master.frameworks.get(framework).and_then(|known| known.tasks.get(name));
                if task.is_some_and(|task| !task.recovered) {
                    holders.insert(Arc::clone(framework));
                }
            }
            let wants = |id: &Arc<str>| {
                !slot.asked.contains(id)
                    && self.master.frameworks.get(id).is_some_and(|framework| {
                        framework.is_connected() && !framework.inverse_filters.contains_key(agent)
                    })
            };
            holders.retain(wants);
            for framework in holders {
                let number = self.master.next_offer;
                self.master.next_offer += 1;
                let offer = mesos_v1::InverseOffer {
                    id: self.offer_id(number),
                    url: Some(self.url(*agent)),
                    framework_id: (&*framework).into(),
                    agent_id: Some((&**self.identities.id(*agent)).into()),
                    unavailability,
                    resources: Vec::new(),
                };
                if let Some(slot) = self.master.registered.get_mut(agent) {
                    slot.asked.insert(Arc::clone(&framework));
                    slot.inverse_offers.insert(number);
                }
                self.framework(&framework).inverse_offers.insert(number);
                let inverse = InverseOffer { framework: Arc::clone(&framework), agent: *agent };
                self.master.inverse_offers.insert(number, inverse);
                made.entry(framework).or_default().push(offer);
            }
        }
        for (framework, inverse_offers) in made {
            let event = Event {
                r#type: Some(event::Type::InverseOffers.into()),
                inverse_offers: Some(event::InverseOffers { inverse_offers }),
                ..Default::default()
            };
            self.emit_to(&framework, event);
        }
    }

    /// Ends an inverse offer without a word. The framework may get another one.
    pub(crate) fn remove_inverse_offer(&mut self, number: u64) -> Option<InverseOffer> {
        let offer = self.master.inverse_offers.remove(&number)?;
        if let Some(framework) = self.master.frameworks.get_mut(&offer.framework) {
            framework.inverse_offers.remove(&number);
        }
        if let Some(slot) = self.master.registered.get_mut(&offer.agent) {
            slot.inverse_offers.remove(&number);
            slot.asked.remove(&offer.framework);
        }
        Some(offer)
    }

    pub(crate) fn rescind_inverse_offer(&mut self, number: u64) {
        let rescind = event::RescindInverseOffer { inverse_offer_id: self.offer_id(number) };
        if let Some(offer) = self.remove_inverse_offer(number) {
            let event = Event {
                r#type: Some(event::Type::RescindInverseOffer.into()),
                rescind_inverse_offer: Some(rescind),
                ..Default::default()
            };
            self.emit_to(&offer.framework, event);
        }
    }

    /// ACCEPT and DECLINE of inverse offers differ in what operators read of them.
    pub(crate) fn answer_inverse_offers(
        &mut self,
        id: &Arc<str>,
        ids: &[OfferId],
        filters: Option<&Filters>,
    ) {
        let wait = filter_time(&filters.copied().unwrap_or_default());
        for offer in ids {
            let Some(number) = self.offer_number(offer) else { continue };
            if self.master.inverse_offers.get(&number).is_none_or(|offer| offer.framework != *id) {
                continue;
            }
            let Some(offer) = self.remove_inverse_offer(number) else { continue };
            self.allocate_later(offer.agent);
            if let Some(wait) = wait {
                self.master.allocator.next_filter += 1;
                let filter = self.master.allocator.next_filter;
                self.framework(id).inverse_filters.entry(offer.agent).or_default().push(filter);
                let framework = Arc::clone(id);
                self.after(wait, Timer::InverseFilterEnds { framework, agent: offer.agent, number: filter });
            }
        }
    }

    pub(crate) fn inverse_filter_ends(&mut self, framework: &Arc<str>, agent: AgentKey, number: u64) {
        let Some(framework) = self.master.frameworks.get_mut(framework) else { return };
        if let Some(filters) = framework.inverse_filters.get_mut(&agent) {
            filters.retain(|filter| *filter != number);
            if filters.is_empty() {
                framework.inverse_filters.remove(&agent);
            }
            self.allocate_later(agent);
        }
    }

    /// The schedule of maintenance says that this agent's machine goes down, or no longer.
    pub fn set_unavailability(&mut self, agent: AgentRef, unavailability: Option<Unavailability>) {
        match unavailability {
            Some(unavailability) => self.registry.maintenance.insert(agent.index(), unavailability),
            None => self.registry.maintenance.remove(&agent.index()),
        };
        let Some(key) = self.agents[agent.index()].key else { return };
        let Some(slot) = self.master.registered.get_mut(&key) else { return };
        let (offers, inverse) = (slot.offers.clone(), slot.inverse_offers.clone());
        for number in offers {
            self.rescind(number);
        }
        for number in inverse {
            self.rescind_inverse_offer(number);
        }
        for framework in self.master.frameworks.values_mut() {
            framework.inverse_filters.remove(&key);
        }
        self.allocate_later(key);
        self.allocate_now();
    }
}
