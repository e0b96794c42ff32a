//! The operator API: the list of agents.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use mesos_v1::master::{Call, Response, call, response};
use prost::Message as _;
use tokio::time::timeout;

use super::access::{Access, AccessError};
use super::client::LONGEST_RECORD;
use crate::config::Server;
use crate::core::{Agent, AgentId, AgentKey, Standing, Timestamp};

/// What to do about a 403. Mesos 1.11 has no ACL for it (`view_roles` only hides what agents have reserved).
const FORBIDDEN: &str = ". Mesos' own ACLs never refuse GET_AGENTS: what stands before the masters, or an authorizer module of \
                         theirs, must permit POST /api/v1 to it";
const ANSWER: Duration = Duration::from_secs(30);

/// Why the list of agents cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The master was not reached.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The master refused.
    #[error("the master answered {0} to GET_AGENTS{1}")]
    Refused(StatusCode, String),
    /// The master's answer does not come to its end.
    #[error("the answer to GET_AGENTS was not there within {ANSWER:?}")]
    Slow,
    /// The master answered something else.
    #[error("the answer to GET_AGENTS is not one: {0}")]
    Answer(String),
}

/// Reads the list of agents of the master at `server`.
pub async fn agents(access: &Access, server: &Server) -> Result<Vec<Agent>, OperatorError> {
    let call = Call { r#type: Some(call::Type::GetAgents.into()), ..Default::default() };
    let sent = access.post(server, None, "/api/v1", HeaderMap::new(), call.encode_to_vec(), ANSWER);
    let (_, answer) = sent.await?;
    if answer.status != StatusCode::OK {
        let mut advice = access.advice(answer.status);
        if answer.status == StatusCode::FORBIDDEN {
            advice.push_str(FORBIDDEN);
        }
        return Err(OperatorError::Refused(answer.status, advice));
    }
    let body = timeout(ANSWER, answer.bytes(LONGEST_RECORD)).await.map_err(|_| OperatorError::Slow)?;
    let body = body.map_err(AccessError::from)?;
    let answer = Response::decode(body).map_err(|error| OperatorError::Answer(error.to_string()))?;
    let agents = answer.get_agents.ok_or_else(|| OperatorError::Answer("it names no agents".to_owned()))?;
    Ok(listed(agents))
}

/// The agents of the answer. A master that has just been elected knows all that were registered with the one before, from
/// its registry, and lists those apart that have not registered with it yet: their resources and attributes, no more.
/// After `--agent_reregister_timeout` (10 min) they are unreachable, and listed no longer.
pub fn listed(answer: response::GetAgents) -> Vec<Agent> {
    let registered = answer.agents.into_iter().filter_map(agent);
    let recovered = answer.recovered_agents.into_iter().filter_map(|info| {
        let agent = agent(response::get_agents::Agent { agent_info: info, ..Default::default() })?;
        Some(Agent { standing: Standing::Recovering, ..agent })
    });
    registered.chain(recovered).collect()
}

/// An agent of the answer; none when the master does not say who it is.
fn agent(agent: response::get_agents::Agent) -> Option<Agent> {
    let info = agent.agent_info;
    let key = AgentKey(format!("{}:{}", info.hostname, info.port()));
    let id = AgentId(info.id.map(|id| id.value).filter(|id| !id.is_empty())?);
    let attributes = info.attributes.into_iter().filter_map(|attribute| {
        let text = attribute.text.map(|text| text.value);
        let value = text.or_else(|| attribute.scalar.map(|scalar| scalar.value.to_string()))?;
        Some(format!("{}:{value}", attribute.name))
    });
    let attributes = attributes.collect();
    // What drains is deactivated too, and what is deactivated is not active.
    let standing = if agent.drain_info.is_some() {
        let since = agent.estimated_drain_start_time.and_then(|at| u64::try_from(at.nanoseconds).ok());
        Standing::Draining { since: since.map(|nanoseconds| Timestamp(nanoseconds / 1_000_000)) }
    } else if agent.deactivated.unwrap_or_default() {
        Standing::Deactivated
    } else if agent.active {
        Standing::Active
    } else {
        Standing::Disconnected
    };
    Some(Agent { key, id, version: agent.version, standing, attributes })
}

#[cfg(test)]
mod tests {
    use mesos_v1::{AgentInfo, DrainInfo, TimeInfo};

    use super::*;

    #[test]
    fn agents_that_have_not_registered_with_a_new_master_are_listed_as_recovering() {
        let info = |id: &str| AgentInfo { hostname: "h".into(), id: Some(id.into()), ..Default::default() };
        let there =
            response::get_agents::Agent { agent_info: info("S1"), active: true, ..Default::default() };
        let answer =
            response::GetAgents { agents: vec![there], recovered_agents: vec![info("S2"), info("")] };
        let standings: Vec<_> = listed(answer).into_iter().map(|agent| (agent.id, agent.standing)).collect();
        assert_eq!(
            standings,
            [("S1".into(), Standing::Active), ("S2".into(), Standing::Recovering)],
            "one without an ID is nobody"
        );
    }

    #[test]
    fn an_agent_stands_as_the_master_says() {
        let listed = |agent: response::get_agents::Agent| {
            let agent_info = AgentInfo { hostname: "h".into(), id: Some("S1".into()), ..Default::default() };
            super::agent(response::get_agents::Agent { agent_info, ..agent }).unwrap().standing
        };
        let active = response::get_agents::Agent { active: true, ..Default::default() };
        assert_eq!(listed(active.clone()), Standing::Active);
        let away = response::get_agents::Agent { active: false, ..active.clone() };
        assert_eq!(listed(away), Standing::Disconnected);
        let deactivated =
            response::get_agents::Agent { active: false, deactivated: Some(true), ..active.clone() };
        assert_eq!(listed(deactivated.clone()), Standing::Deactivated);
        let draining = response::get_agents::Agent { drain_info: Some(DrainInfo::default()), ..deactivated };
        assert_eq!(listed(draining.clone()), Standing::Draining { since: None });
        let at = TimeInfo { nanoseconds: 1_700_000_000_000_000_000 };
        let draining = response::get_agents::Agent { estimated_drain_start_time: Some(at), ..draining };
        assert_eq!(listed(draining), Standing::Draining { since: Some(Timestamp(1_700_000_000_000)) });
    }
}
