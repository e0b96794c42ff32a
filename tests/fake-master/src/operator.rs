//! The operator API (`POST /api/v1`), as far as this project uses it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesos_v1::agent_info::{self, capability::Type as Capability};
use mesos_v1::master::{Call, Response, call, response};
use mesos_v1::{AgentId, AgentInfo, DrainConfig, DrainInfo, DrainState, DurationInfo, VersionInfo};

use crate::resources::Resources;
use crate::settings::AgentSpec;
use crate::state::{AgentKey, Link, Slot};
use crate::tasks::time_info;
use crate::world::World;

/// An answer that is no response: its HTTP status code and body. 200 means: done.
type Plain = (u16, String);

impl World {
    /// Carries out an operator's call: a response (200), or another status code with a body.
    pub fn operator(&mut self, call: &Call) -> Result<Response, Plain> {
        use call::Type;
        if !self.master.leads {
            return Err((503, "No leader elected".to_owned()));
        }
        let kind = response::Type::Unknown;
        let response = Response { r#type: Some(kind.into()), ..Default::default() };
        let of = |kind: response::Type| Response { r#type: Some(kind.into()), ..response.clone() };
        Ok(match call.r#type() {
            Type::GetHealth => Response {
                get_health: Some(response::GetHealth { healthy: true }),
                ..of(response::Type::GetHealth)
            },
            Type::GetVersion => Response {
                get_version: Some(response::GetVersion {
                    version_info: VersionInfo { version: "1.11.0".to_owned(), ..Default::default() },
                }),
                ..of(response::Type::GetVersion)
            },
            Type::GetMaster => Response {
                get_master: Some(response::GetMaster {
                    master_info: Some(self.master_info()),
                    start_time: Some(self.master.elected.as_secs_f64()),
                    elected_time: Some(self.master.elected.as_secs_f64()),
                }),
                ..of(response::Type::GetMaster)
            },
            Type::GetAgents => {
                Response { get_agents: Some(self.get_agents()), ..of(response::Type::GetAgents) }
            }
            Type::GetFrameworks => {
                Response { get_frameworks: Some(self.get_frameworks()), ..of(response::Type::GetFrameworks) }
            }
            Type::Teardown => {
                let id = call.teardown.as_ref().map(|teardown| teardown.framework_id.value.as_str());
                let known = id.and_then(|id| self.master.frameworks.get_key_value(id));
                let Some(id) = known.map(|(id, _)| Arc::clone(id)) else {
                    return Err((400, "No framework found with specified ID".to_owned()));
                };
                self.remove_framework(&id);
                return Err((200, String::new()));
            }
            Type::MarkAgentGone => {
                let id = call.mark_agent_gone.as_ref().map(|gone| &gone.agent_id);
                let unknown = |_| (404, format!("Agent '{}' not found", id.map_or("", |id| &id.value)));
                let known = id.and_then(|id| self.identities.find(&id.value));
                if known.is_none_or(|key| !self.registry.gone.contains_key(&key)) {
                    let key = self.operated(id).map_err(unknown)?;
                    self.mark_gone(key);
                }
                return Err((200, String::new()));
            }
            Type::DrainAgent => {
                let drain = call.drain_agent.as_ref();
                let key = self.operated(drain.map(|drain| &drain.agent_id))?;
                let grace = drain.and_then(|drain| drain.max_grace_period).map(|grace| DurationInfo {
                    nanoseconds: grace.seconds.saturating_mul(1_000_000_000) + i64::from(grace.nanos),
                });
                let mark_gone = drain.is_some_and(call::DrainAgent::mark_gone);
                self.drain(key, DrainConfig { max_grace_period: grace, mark_gone: Some(mark_gone) });
                return Err((200, String::new()));
            }
            Type::DeactivateAgent => {
                let key = self.operated(call.deactivate_agent.as_ref().map(|call| &call.agent_id))?;
                self.registry.deactivated.insert(key);
                self.deactivate_slot(key);
                return Err((200, String::new()));
            }
            Type::ReactivateAgent => {
                let unknown = |_| (400, "Agent is not deactivated".to_owned());
                let id = call.reactivate_agent.as_ref().map(|call| &call.agent_id);
                let key = self.operated(id).map_err(unknown)?;
                self.reactivate(key);
                return Err((200, String::new()));
            }
            Type::GetTasks => return Err((501, "the fake master lists no tasks".to_owned())),
            Type::Unknown => return Err((501, String::new())),
        })
    }

    fn operated(&self, id: Option<&AgentId>) -> Result<AgentKey, Plain> {
        let key = id.and_then(|id| self.identities.find(&id.value));
        let known = |key: &AgentKey| {
            self.master.registered.contains_key(key)
                || self.master.recovered.contains(key)
                || self.registry.unreachable.contains_key(key)
        };
        key.filter(known).ok_or_else(|| (400, "Unknown agent".to_owned()))
    }

    /// `GET_AGENTS`: the agents that are registered.
    pub fn get_agents(&self) -> response::GetAgents {
        let agents = self.master.registered.iter().map(|(key, slot)| self.agent(*key, slot));
        let recovered = self.master.recovered.iter().map(|key| {
            let spec = &self.agents[self.identities.process(*key)].spec;
            self.agent_info(*key, spec, &spec.resources)
        });
        response::GetAgents { agents: agents.collect(), recovered_agents: recovered.collect() }
    }

    fn agent(&self, key: AgentKey, slot: &Slot) -> response::get_agents::Agent {
        let spec = &self.agents[self.identities.process(key)].spec;
        let draining = self.registry.draining.get(&key);
        // Those of a role are added up.
        let mut allocated: BTreeMap<&str, Resources> = BTreeMap::new();
        for (framework, name) in &slot.tasks {
            let task = self.master.frameworks.get(framework).and_then(|framework| framework.tasks.get(name));
            if let Some(task) = task.filter(|task| !task.recovered) {
                allocated.entry(&task.role).or_default().add(&task.resources);
            }
        }
        let mut offered: BTreeMap<&str, Resources> = BTreeMap::new();
        for offer in slot.offers.iter().filter_map(|number| self.master.offers.get(number)) {
            offered.entry(&offer.role).or_default().add(&offer.resources);
        }
        let messages = |all: BTreeMap<&str, Resources>| {
            all.iter().flat_map(|(role, resources)| resources.messages_for_operators(Some(role))).collect()
        };
        response::get_agents::Agent {
            agent_info: self.agent_info(key, spec, &slot.total),
            active: slot.active,
            version: spec.version.to_string(),
            pid: Some(format!("slave(1)@{}:{}", spec.hostname, spec.port)),
            registered_time: Some(time_info(slot.registered)),
            reregistered_time: slot.reregistered.map(time_info),
            total_resources: slot.total.messages_for_operators(None),
            allocated_resources: messages(allocated),
            offered_resources: messages(offered),
            capabilities: capabilities(spec),
            deactivated: Some(self.registry.deactivated.contains(&key)),
            drain_info: draining.map(|draining| DrainInfo {
                state: if draining.drained { DrainState::Drained } else { DrainState::Draining }.into(),
                config: draining.config,
            }),
            estimated_drain_start_time: draining.map(|draining| time_info(draining.since)),
        }
    }

    fn agent_info(&self, key: AgentKey, spec: &AgentSpec, total: &Resources) -> AgentInfo {
        AgentInfo {
            hostname: spec.hostname.to_string(),
            resources: total.messages_for_operators(None),
            attributes: spec.attributes.to_vec(),
            id: Some((&**self.identities.id(key)).into()),
            port: Some(spec.port.into()),
            domain: spec.domain.as_deref().cloned(),
        }
    }

    fn get_frameworks(&self) -> response::GetFrameworks {
        let frameworks =
            self.master.frameworks.values().map(|framework| response::get_frameworks::Framework {
                framework_info: (*framework.info).clone(),
                active: framework.is_connected(),
                connected: framework.is_connected(),
                registered_time: Some(time_info(framework.registered)),
                reregistered_time: framework.reregistered.map(time_info),
                recovered: framework.link == Link::Recovered,
                offer_constraints: Some(framework.constraints.message.clone()),
                ..Default::default()
            });
        let completed = self.master.completed.values().map(|info| response::get_frameworks::Framework {
            framework_info: (**info).clone(),
            ..Default::default()
        });
        response::GetFrameworks {
            frameworks: frameworks.collect(),
            completed_frameworks: completed.collect(),
        }
    }

    /// The tasks of a framework as the master knows them: their IDs, the agents' IDs, and the states.
    pub fn master_tasks(&self, framework: &str) -> Vec<(&str, &str, mesos_v1::TaskState)> {
        let tasks = self.master.frameworks.get(framework).into_iter().flat_map(|framework| &framework.tasks);
        tasks.map(|(name, task)| (&**name, &**self.identities.id(task.agent), task.state)).collect()
    }

    /// How long ago the leading master was elected.
    pub fn led_for(&self) -> Duration {
        self.now.saturating_sub(self.master.elected)
    }
}

fn capabilities(spec: &AgentSpec) -> Vec<agent_info::Capability> {
    let all = [
        Capability::MultiRole,
        Capability::HierarchicalRole,
        Capability::ReservationRefinement,
        Capability::ResourceProvider,
        Capability::ResizeVolume,
        Capability::AgentOperationFeedback,
        Capability::AgentDraining,
        Capability::TaskResourceLimits,
    ];
    let has = if spec.is_multi_role() { &all[..] } else { &[] };
    has.iter().map(|kind| agent_info::Capability { r#type: Some((*kind).into()) }).collect()
}
