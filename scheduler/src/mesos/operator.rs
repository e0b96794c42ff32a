//! The operator API: the list of agents.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use mesos_v1::master::{Call, Response, call, response};
use prost::Message as _;
use tokio::time::timeout;

use super::access::{Access, AccessError};
use crate::config::Server;
use crate::core::{Agent, AgentId, AgentKey};

const ANSWER: Duration = Duration::from_secs(30);
/// Fifty thousand agents with their attributes and resources.
const LONGEST: usize = 256 * 1024 * 1024;

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
        return Err(OperatorError::Refused(answer.status, access.advice(answer.status)));
    }
    let body = timeout(ANSWER, answer.bytes(LONGEST)).await.map_err(|_| OperatorError::Slow)?;
    let body = body.map_err(AccessError::from)?;
    let answer = Response::decode(body).map_err(|error| OperatorError::Answer(error.to_string()))?;
    let agents = answer.get_agents.ok_or_else(|| OperatorError::Answer("it names no agents".to_owned()))?;
    Ok(agents.agents.into_iter().filter_map(agent).collect())
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
    let active = agent.active && !agent.deactivated.unwrap_or_default() && agent.drain_info.is_none();
    Some(Agent { key, id, version: agent.version, active, attributes })
}
