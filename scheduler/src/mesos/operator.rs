//! The operator API: the list of agents.

mod list;

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use mesos_v1::TimeInfo;
use mesos_v1::master::{AgentHead, Call, call};
use prost::Message as _;
use tokio::time::timeout;

use list::AgentList;

use super::access::{Access, AccessError};
use crate::config::Server;
use crate::core::{Agent, AgentId, AgentKey, Standing, Timestamp};

/// What to do about a 403. Mesos 1.11 has no ACL for it (`view_roles` only hides what agents have reserved).
const FORBIDDEN: &str = ". Mesos' own ACLs never refuse GET_AGENTS: what stands before the masters, or an authorizer module of \
                         theirs, must permit POST /api/v1 to it";
const ANSWER: Duration = Duration::from_secs(30);
/// No agent registers twice within this.
const ONE_REGISTRATION: Duration = Duration::from_secs(1);

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
    let (_, mut answer) = sent.await?;
    if answer.status != StatusCode::OK {
        let mut advice = access.advice(answer.status);
        if answer.status == StatusCode::FORBIDDEN {
            advice.push_str(FORBIDDEN);
        }
        return Err(OperatorError::Refused(answer.status, advice));
    }
    let mut list = AgentList::default();
    let read = async {
        while let Some(piece) = answer.chunk().await.map_err(AccessError::from)? {
            list.take(&piece)?;
        }
        list.end()
    };
    timeout(ANSWER, read).await.map_err(|_| OperatorError::Slow)?
}

/// The agents of the body of an answer to `GET_AGENTS`. A master that has just been elected knows all that were registered
/// with the one before, from its registry, and lists those apart that have not registered with it yet: their resources and
/// attributes, no more. After `--agent_reregister_timeout` (10 min) they are unreachable, and listed no longer.
pub fn listed(answer: &[u8]) -> Result<Vec<Agent>, OperatorError> {
    let mut list = AgentList::default();
    list.take(answer)?;
    list.end()
}

/// An agent of the answer; none when the master does not say who it is.
fn agent(agent: AgentHead) -> Option<Agent> {
    let info = agent.agent_info;
    let key = AgentKey::from(format!("{}:{}", info.hostname, info.port()));
    let id = AgentId::from(info.id.map(|id| id.value).filter(|id| !id.is_empty())?);
    let attributes = info.attributes.into_iter().filter_map(|attribute| {
        let text = attribute.text.map(|text| text.value);
        let value = text.or_else(|| attribute.scalar.map(|scalar| scalar.value.to_string()))?;
        Some(format!("{}:{value}", attribute.name))
    });
    let attributes = attributes.collect();
    let domain = info.domain.and_then(|domain| domain.fault_domain);
    let domain = domain.map(|domain| format!("{}/{}", domain.region.name, domain.zone.name));
    // What drains is deactivated too, and what is deactivated is not active.
    let standing = if agent.drain_info.is_some() {
        Standing::Draining { since: agent.estimated_drain_start_time.and_then(moment) }
    } else if agent.deactivated.unwrap_or_default() {
        Standing::Deactivated
    } else if agent.active {
        Standing::Active
    } else {
        Standing::Disconnected
    };
    let registered_again = registered_again(agent.registered_time, agent.reregistered_time);
    Some(Agent { key, id, version: agent.version, standing, attributes, domain, registered_again })
}

/// When an agent registered again with this master. The first time counts as its registration: with a master that was
/// elected since, and with one that took it for unreachable, both moments are the same but for what passes in between.
fn registered_again(first: Option<TimeInfo>, last: Option<TimeInfo>) -> Option<Timestamp> {
    let (first, last) = (moment(first?)?, moment(last?)?);
    (last > first.after(ONE_REGISTRATION)).then_some(last)
}

fn moment(time: TimeInfo) -> Option<Timestamp> {
    u64::try_from(time.nanoseconds).ok().map(|nanoseconds| Timestamp(nanoseconds / 1_000_000))
}

#[cfg(test)]
mod tests {
    use mesos_v1::master::{Response, response};
    use mesos_v1::{AgentInfo, Attribute, DrainInfo, Resource, value};

    use super::*;

    /// What is read of an answer with this one agent.
    fn read(agent: response::get_agents::Agent) -> Agent {
        let get_agents = response::GetAgents { agents: vec![agent], ..Default::default() };
        let answer = Response {
            r#type: Some(response::Type::GetAgents.into()),
            get_agents: Some(get_agents),
            ..Default::default()
        };
        listed(&answer.encode_to_vec()).unwrap().remove(0)
    }

    #[test]
    fn of_an_agent_its_address_id_version_and_attributes_are_read() {
        let resource = Resource { name: "cpus".into(), ..Default::default() };
        let rack = Attribute {
            name: "rack".into(),
            r#type: value::Type::Text.into(),
            text: Some(value::Text { value: "a7".into() }),
            ..Default::default()
        };
        let agent_info = AgentInfo {
            hostname: "h".into(),
            id: Some("S1".into()),
            port: Some(5052),
            resources: vec![resource.clone()],
            attributes: vec![rack],
            ..Default::default()
        };
        let agent = response::get_agents::Agent {
            agent_info,
            active: true,
            version: "1.11.0".into(),
            total_resources: vec![resource],
            ..Default::default()
        };
        let expected = Agent {
            key: "h:5052".into(),
            id: "S1".into(),
            version: "1.11.0".into(),
            standing: Standing::Active,
            attributes: vec!["rack:a7".into()],
            domain: None,
            registered_again: None,
        };
        assert_eq!(read(agent.clone()), expected);
        let port = AgentInfo { port: None, ..agent.agent_info.clone() };
        assert_eq!(read(response::get_agents::Agent { agent_info: port, ..agent }).key, "h:5051".into());
    }

    #[test]
    fn an_agents_domain_is_its_region_and_zone() {
        use mesos_v1::DomainInfo;
        // AgentInfo: hostname (1), ID (6) with its value (1), and domain (10): fault_domain (1) with region (1) and zone (2),
        // each with a name (1).
        let info = |domain: &str| format!("0a0168 3204 0a025331 {domain}").replace(' ', "");
        let fault_domain = "52 0c 0a 0a 0a03 0a0172 1203 0a017a";
        let read = |info: &str| {
            let info = hex::decode(info).unwrap();
            // Response: get_agents (10) with agents (1), which have an agent_info (1), and are active (2); recovered (2).
            let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
            let agent = [&[0x0a, length(&info)], &info[..], b"\x10\x01\x1a\x061.11.0"].concat();
            let both = [&[0x0a, length(&agent)], &agent[..], &[0x12, length(&info)], &info].concat();
            let listed = listed(&[&[0x52, length(&both)], &both[..]].concat()).unwrap();
            listed.into_iter().map(|agent| agent.domain).collect::<Vec<_>>()
        };
        let domain = Some("r/z".to_owned());
        assert_eq!(read(&info(fault_domain)), [domain.clone(), domain]);
        assert_eq!(read(&info("5200")), [None, None], "it has none of faults");
        assert_eq!(read(&info("")), [None, None]);
        let wire = AgentInfo::decode(&*hex::decode(info(fault_domain)).unwrap()).unwrap();
        assert!(matches!(wire.domain, Some(DomainInfo { fault_domain: Some(_) })), "the bytes are Mesos'");
    }

    #[test]
    fn an_agent_without_an_id_is_left_out_and_what_is_no_list_is_an_error() {
        let nobody = response::GetAgents {
            agents: vec![response::get_agents::Agent::default()],
            ..Default::default()
        };
        let answer = Response { get_agents: Some(nobody), ..Default::default() };
        assert_eq!(listed(&answer.encode_to_vec()).unwrap(), []);
        let error = listed(b"").unwrap_err().to_string();
        assert!(error.contains("names no agents"), "{error}");
        listed(b"\x52\x03\x0a\x01\xff").unwrap_err();
    }

    #[test]
    fn agents_that_have_not_registered_with_a_new_master_are_listed_as_recovering() {
        let info = |id: &str| AgentInfo { hostname: "h".into(), id: Some(id.into()), ..Default::default() };
        let there =
            response::get_agents::Agent { agent_info: info("S1"), active: true, ..Default::default() };
        let get_agents =
            response::GetAgents { agents: vec![there], recovered_agents: vec![info("S2"), info("")] };
        let answer = Response { get_agents: Some(get_agents), ..Default::default() };
        let listed = listed(&answer.encode_to_vec()).unwrap();
        let standings: Vec<_> = listed.into_iter().map(|agent| (agent.id, agent.standing)).collect();
        assert_eq!(
            standings,
            [("S1".into(), Standing::Active), ("S2".into(), Standing::Recovering)],
            "one without an ID is nobody"
        );
    }

    #[test]
    fn an_agent_has_registered_again_when_that_was_later_than_its_registration_with_this_master() {
        let at = |millis: i64| Some(TimeInfo { nanoseconds: millis * 1_000_000 });
        let read = |registered_time, reregistered_time| {
            let agent_info = AgentInfo { hostname: "h".into(), id: Some("S1".into()), ..Default::default() };
            let times =
                response::get_agents::Agent { registered_time, reregistered_time, ..Default::default() };
            read(response::get_agents::Agent { agent_info, ..times }).registered_again
        };
        assert_eq!(read(at(7000), None), None);
        assert_eq!(read(at(7000), at(7001)), None, "a master that was elected since");
        assert_eq!(read(at(7000), at(9000)), Some(Timestamp(9000)));
        assert_eq!(read(None, at(9000)), None);
    }

    #[test]
    fn an_agent_stands_as_the_master_says() {
        let listed = |agent: response::get_agents::Agent| {
            let agent_info = AgentInfo { hostname: "h".into(), id: Some("S1".into()), ..Default::default() };
            read(response::get_agents::Agent { agent_info, ..agent }).standing
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
