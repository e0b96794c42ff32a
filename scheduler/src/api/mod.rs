//! The HTTP API.

mod commands;
mod health;

use std::time::Duration;

use axum::extract::{FromRef, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::core::{Plan, Status, View};
use crate::driver::Handle;
use crate::lead::Stage;
use crate::mesos::{Client, Condition};
use crate::state::{Entry, Report};

/// The loop goes round at least once a second.
const ALIVE: Duration = Duration::from_secs(30);
/// The loop answers between two inputs.
const ANSWER: Duration = Duration::from_secs(10);

/// What this scheduler does.
#[derive(Debug, Clone)]
pub enum Role {
    /// It waits to lead; for what.
    Standby(String),
    /// It leads.
    Leading {
        /// Its loop.
        handle: Handle,
        /// How its subscription stands.
        subscription: watch::Receiver<Condition>,
    },
}

impl From<Stage<'_, Client>> for Role {
    fn from(stage: Stage<'_, Client>) -> Self {
        match stage {
            Stage::Standby(why) => Self::Standby(why.to_owned()),
            Stage::Leading(handle, client) => Self::Leading { handle, subscription: client.condition() },
        }
    }
}

/// What the API shows.
#[derive(Clone)]
struct Shown {
    role: watch::Receiver<Role>,
    report: Report,
}

impl FromRef<Shown> for watch::Receiver<Role> {
    fn from_ref(shown: &Shown) -> Self {
        shown.role.clone()
    }
}

impl FromRef<Shown> for Report {
    fn from_ref(shown: &Shown) -> Self {
        shown.report.clone()
    }
}

type Present = State<watch::Receiver<Role>>;

/// All paths, over what this scheduler does at the moment, and how its store is.
pub fn router(role: watch::Receiver<Role>, report: Report) -> Router {
    Router::new()
        .route("/v1/health", get(health::health))
        .route("/v1/health/live", get(live))
        .route("/v1/history", get(history))
        .route("/v1/plans", get(plans))
        .route("/v1/plans/{plan}", get(plan))
        .route("/v1/plans/{plan}/{verb}", post(commands::command))
        .route("/v1/rollout", get(rollout))
        .route("/v1/agents", get(agents))
        .route("/v1/agents/{agent}", get(agent))
        .route("/v1/recovery", get(recovery))
        .route("/v1/state/frameworkId", get(framework_id))
        .with_state(Shown { role, report })
}

/// An answer that is an error, with its reason.
type Failure = (StatusCode, Json<serde_json::Value>);

fn failure(status: StatusCode, reason: impl Into<String>) -> Failure {
    (status, Json(json!({ "error": reason.into() })))
}

/// The loop, while this scheduler leads.
fn leading(role: &watch::Receiver<Role>) -> Result<Handle, Failure> {
    match &*role.borrow() {
        Role::Leading { handle, .. } => Ok(handle.clone()),
        Role::Standby(why) => Err(failure(StatusCode::SERVICE_UNAVAILABLE, format!("standby: {why}"))),
    }
}

async fn view(State(role): Present) -> Result<View, Failure> {
    let handle = leading(&role)?;
    let busy = || failure(StatusCode::SERVICE_UNAVAILABLE, "the scheduler's loop does not answer");
    timeout(ANSWER, handle.view()).await.ok().flatten().ok_or_else(busy)
}

/// Whether the process and its loop are alive: a master or a store that is away is no reason to be killed,
/// nor is that another scheduler leads.
async fn live(State(role): Present) -> Result<&'static str, Failure> {
    let idle = match &*role.borrow() {
        Role::Leading { handle, .. } => handle.idle(),
        Role::Standby(_) => return Ok("alive, standby\n"),
    };
    if idle < ALIVE {
        return Ok("alive\n");
    }
    let reason = format!("the scheduler's loop has not gone round for {} s", idle.as_secs());
    Err(failure(StatusCode::SERVICE_UNAVAILABLE, reason))
}

#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
}

/// What was decided last.
async fn history(State(report): State<Report>, Query(Since { since }): Query<Since>) -> Json<Vec<Entry>> {
    Json(report.history(since))
}

async fn plans() -> Json<[&'static str; 3]> {
    Json(Plan::ALL.map(Plan::name))
}

/// A plan in the DC/OS SDK's form, with its status codes: 200 complete, 202 under way, 417 with errors.
async fn plan(role: Present, Path(name): Path<String>) -> Result<Response, Failure> {
    let Some(named) = Plan::ALL.into_iter().find(|plan| plan.name() == name) else {
        let plans = Plan::ALL.map(Plan::name).join(", ");
        let why = format!("there is no plan '{name}'; there are: {plans}");
        return Err(failure(StatusCode::NOT_FOUND, why));
    };
    let view = view(role).await?;
    let plan = match named {
        Plan::Deploy => view.deploy,
        Plan::Update => view.update,
        Plan::Recovery => view.repair,
    };
    let status = match plan.status {
        Status::Complete => StatusCode::OK,
        _ if plan.errors.is_empty() => StatusCode::ACCEPTED,
        _ => StatusCode::EXPECTATION_FAILED,
    };
    Ok((status, Json(plan)).into_response())
}

async fn recovery(role: Present) -> Result<Response, Failure> {
    Ok(Json(view(role).await?.recovery).into_response())
}

async fn rollout(role: Present) -> Result<Response, Failure> {
    Ok(Json(view(role).await?.rollout).into_response())
}

async fn agents(role: Present) -> Result<Response, Failure> {
    Ok(Json(view(role).await?.agents).into_response())
}

async fn agent(role: Present, Path(name): Path<String>) -> Result<Response, Failure> {
    let agents = view(role).await?.agents;
    match agents.into_iter().find(|agent| *agent.agent.0 == *name) {
        Some(agent) => Ok(Json(agent).into_response()),
        None => Err(failure(StatusCode::NOT_FOUND, format!("no agent '{name}' is known; name it host:port"))),
    }
}

/// As the DC/OS SDK has it: a list of one, 404 before the first registration.
async fn framework_id(role: Present) -> Result<Response, Failure> {
    match view(role).await?.framework_id {
        Some(id) => Ok(Json([id.0]).into_response()),
        None => Err(failure(StatusCode::NOT_FOUND, "the framework is not registered yet")),
    }
}
