//! What operators command: `POST /v1/plans/{plan}/{verb}?phase=&step=`, as the DC/OS SDK has it.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::{ANSWER, Failure, Present, failure, leading};
use crate::core::{AgentKey, Command, CommandError, Plan, TaskType, Verb};

/// The DC/OS SDK's names of verbs that have another one here.
const SDK_NAMES: [(&str, Verb); 2] = [("interrupt", Verb::Pause), ("forceComplete", Verb::ForceComplete)];

/// Of what in the plan.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    phase: Option<String>,
    step: Option<String>,
}

pub(super) async fn command(
    State(role): Present,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path((plan, verb)): Path<(String, String)>,
    Query(selection): Query<Selection>,
) -> Result<Response, Failure> {
    // There is no authentication in this version.
    if !peer.ip().to_canonical().is_loopback() {
        let why = format!(
            "commands are taken on a loopback address of this host only, and this came from {}",
            peer.ip()
        );
        return Err(failure(StatusCode::FORBIDDEN, why));
    }
    let command = parse(&plan, &verb, &selection)?;
    let handle = leading(&role)?;
    let unanswered = || {
        let why = "the scheduler's loop does not answer: the command may or may not be carried out, see /v1/history";
        failure(StatusCode::SERVICE_UNAVAILABLE, why)
    };
    match timeout(ANSWER, handle.command(command)).await.ok().flatten().ok_or_else(unanswered)? {
        Ok(done) => Ok(Json(json!({ "message": done })).into_response()),
        Err(why) => {
            let status = match why {
                CommandError::UnknownAgent(_) => StatusCode::NOT_FOUND,
                CommandError::Misused(_) => StatusCode::BAD_REQUEST,
                CommandError::Refused(_) => StatusCode::CONFLICT,
            };
            Err(failure(status, why.to_string()))
        }
    }
}

fn parse(plan: &str, verb: &str, selection: &Selection) -> Result<Command, Failure> {
    let plan = Plan::ALL.into_iter().find(|known| known.name() == plan).ok_or_else(|| {
        let plans = Plan::ALL.map(Plan::name).join(", ");
        failure(StatusCode::NOT_FOUND, format!("there is no plan '{plan}'; there are: {plans}"))
    })?;
    let verbs = Verb::ALL.into_iter().chain(SDK_NAMES);
    let (_, verb) = verbs.clone().find(|(name, _)| *name == verb).ok_or_else(|| {
        let verbs: Vec<&str> = verbs.map(|(name, _)| name).collect();
        failure(
            StatusCode::NOT_FOUND,
            format!("there is no command '{verb}'; there are: {}", verbs.join(", ")),
        )
    })?;
    let task_type = |name: &str| TaskType::ALL.into_iter().find(|task_type| task_type.name() == name);
    let mut phase = match &selection.phase {
        Some(name) => Some(task_type(name).ok_or_else(|| {
            let phases = TaskType::ALL.map(TaskType::name).join(", ");
            failure(StatusCode::BAD_REQUEST, format!("there is no phase '{name}'; there are: {phases}"))
        })?),
        None => None,
    };
    // A step is named by its ID, or by its agent alone.
    let agent = selection.step.as_deref().map(|step| match step.split_once('.') {
        Some((name, agent)) if task_type(name).is_some() => {
            phase = phase.or(task_type(name));
            agent
        }
        _ => step,
    });
    Ok(Command { plan, verb, phase, agent: agent.map(AgentKey::from) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(plan: &str, verb: &str, phase: Option<&str>, step: Option<&str>) -> Result<Command, String> {
        let selection = Selection { phase: phase.map(str::to_owned), step: step.map(str::to_owned) };
        parse(plan, verb, &selection).map_err(|(_, Json(answer))| answer["error"].to_string())
    }

    #[test]
    fn a_step_is_named_by_its_id_or_by_its_agent() {
        let of = |phase, agent: &str| {
            Ok(Command { plan: Plan::Update, verb: Verb::Retry, phase, agent: Some(agent.into()) })
        };
        let node = Some(TaskType::CalicoNode);
        assert_eq!(
            parsed("update", "retry", None, Some("calico-node.10.0.0.1:5051")),
            of(node, "10.0.0.1:5051")
        );
        assert_eq!(parsed("update", "retry", None, Some("10.0.0.1:5051")), of(None, "10.0.0.1:5051"));
        assert_eq!(parsed("update", "retry", Some("calico-node"), Some("a.b:5051")), of(node, "a.b:5051"));
    }

    #[test]
    fn what_there_is_not_is_answered_with_what_there_is() {
        assert!(parsed("updat", "retry", None, None).unwrap_err().contains("deploy, update, recovery"));
        assert!(parsed("update", "retri", None, None).unwrap_err().contains("retry"));
        assert!(parsed("update", "retry", Some("node"), None).unwrap_err().contains("calico-node"));
        assert_eq!(parsed("deploy", "interrupt", None, None).unwrap().verb, Verb::Pause);
    }
}
