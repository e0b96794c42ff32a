//! What operators command: `POST /v1/plans/{plan}/{verb}?phase=&step=`, as the DC/OS SDK has it.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::{ANSWER, Failure, Present, failure, leading};
use crate::core::{AgentKey, Command, CommandError, Plan, Scope, TaskType, Verb};

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
    query: Result<Query<Selection>, QueryRejection>,
) -> Result<Response, Failure> {
    // There is no authentication in this version.
    if !peer.ip().to_canonical().is_loopback() {
        let why = format!(
            "commands are taken on a loopback address of this host only, and this came from {}",
            peer.ip()
        );
        return Err(failure(StatusCode::FORBIDDEN, why));
    }
    let command = parse(&plan, &verb, &selected(query)?)?;
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

/// What the query selects. What it has besides is a mistake, and answered as all are.
fn selected(query: Result<Query<Selection>, QueryRejection>) -> Result<Selection, Failure> {
    query.map(|Query(selection)| selection).map_err(|why| failure(why.status(), why.body_text()))
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
    let phase = match &selection.phase {
        Some(name) => Some(task_type(name).ok_or_else(|| {
            let phases = TaskType::ALL.map(TaskType::name).join(", ");
            failure(StatusCode::BAD_REQUEST, format!("there is no phase '{name}'; there are: {phases}"))
        })?),
        None => None,
    };
    // A step is named by its ID, or by its agent alone.
    let step = selection.step.as_deref().unwrap_or_default();
    let (of, name) = match step.split_once('.') {
        Some((of, name)) if task_type(of).is_some() => (task_type(of), Some(name)),
        _ => (None, selection.step.as_deref()),
    };
    if let (Some(phase), Some(of)) = (phase, of)
        && phase != of
    {
        let why = format!("the step '{step}' is of the phase {of}, not of {phase}: leave out the phase");
        return Err(failure(StatusCode::BAD_REQUEST, why));
    }
    // The step of a task type of the cluster has its name, and no agent.
    let of_cluster = of.filter(|of| of.scope() == Scope::Cluster).map(TaskType::name);
    let agent = name.filter(|name| Some(*name) != of_cluster).map(AgentKey::from);
    Ok(Command { plan, verb, phase: phase.or(of), agent })
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

    #[test]
    fn a_step_of_the_cluster_is_named_as_plans_show_it() {
        let of = Command {
            plan: Plan::Deploy,
            verb: Verb::Retry,
            phase: Some(TaskType::ClusterInit),
            agent: None,
        };
        let named = |phase| parsed("deploy", "retry", phase, Some("cluster-init.cluster-init"));
        assert_eq!((named(None), named(Some("cluster-init"))), (Ok(of.clone()), Ok(of)));
    }

    #[test]
    fn a_step_of_another_phase_is_refused() {
        let refused = parsed("update", "restart", Some("calico-node"), Some("cni.a:5051")).unwrap_err();
        assert!(refused.contains("'cni.a:5051' is of the phase cni, not of calico-node"), "{refused}");
    }

    #[test]
    fn an_unknown_query_is_answered_as_all_mistakes_are() {
        let uri = "http://localhost/v1/plans/update/skip?fase=cni".parse().unwrap();
        let query = Query::<Selection>::try_from_uri(&uri);
        let (status, Json(answer)) = selected(query).unwrap_err();
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let why = answer["error"].as_str().unwrap();
        assert!(why.contains("`fase`") && why.contains("`phase` or `step`"), "{why}");
    }
}
