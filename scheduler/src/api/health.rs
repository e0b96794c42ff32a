//! `GET /v1/health`: everything that this scheduler needs to do its work, and how it is.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::{ALIVE, Role};
use crate::core::{FindingView, Status, View};
use crate::driver::{Handle, Inventory};
use crate::mesos;
use crate::state::{Condition, Report};

/// For how long the loop is waited for: who asks for health does not wait long.
const VIEW: Duration = Duration::from_secs(2);
/// For how long storing something may take before it is worth a word.
const SLOW: Duration = Duration::from_secs(10);

/// All of it. Times are in seconds.
#[derive(Debug, Serialize)]
pub(super) struct Health {
    healthy: bool,
    /// Why it is not.
    reasons: Vec<String>,
    leadership: Leadership,
    store: Store,
    /// The following are of one that leads.
    #[serde(rename = "loop", skip_serializing_if = "Option::is_none")]
    round: Option<Loop>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription: Option<Subscription>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inventory: Option<Listed>,
    /// How many agents there are of each status; those that are no part of the plan by their presence.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    agents: BTreeMap<String, usize>,
    /// What of the cluster the configuration does not serve.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    preflight: Vec<FindingView>,
}

#[derive(Debug, Serialize)]
struct Leadership {
    leads: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<String>,
}

#[derive(Debug, Serialize)]
struct Store {
    /// Since when it does not do what it is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    away_for: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// For how long something has been waiting to be stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    storing_for: Option<f64>,
    /// How long ago something was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_ago: Option<f64>,
    /// How long that took.
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_in: Option<f64>,
    /// It was found to hold less than it did before.
    #[serde(skip_serializing_if = "Option::is_none")]
    restored: Option<Restored>,
}

#[derive(Debug, Serialize)]
struct Restored {
    ago: f64,
    what: String,
}

#[derive(Debug, Serialize)]
struct Loop {
    idle_for: f64,
}

#[derive(Debug, Serialize)]
struct Subscription {
    master: Option<String>,
    /// Since when it is so.
    #[serde(rename = "for")]
    lasts: f64,
    /// Why the last attempt failed, or the last subscription ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Listed {
    /// How long ago the master's list of agents was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_ago: Option<f64>,
    /// Why it could not be read again.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) async fn health(
    State(role): State<watch::Receiver<Role>>,
    State(report): State<Report>,
) -> (StatusCode, Json<Health>) {
    let role = role.borrow().clone();
    let mut reasons = Vec::new();
    let waits_for = match &role {
        Role::Standby(why) => {
            reasons.push(format!("standby: {why}"));
            Some(why.clone())
        }
        Role::Leading { .. } => None,
    };
    let condition = report.condition();
    let store = store(&condition, &mut reasons);
    let leadership = Leadership { leads: waits_for.is_none(), waits_for };
    let mut health = Health {
        healthy: false,
        reasons: Vec::new(),
        leadership,
        store,
        round: None,
        subscription: None,
        inventory: None,
        agents: BTreeMap::new(),
        preflight: Vec::new(),
    };
    if let Role::Leading { handle, subscription } = role {
        health.round = Some(round(&handle, &mut reasons));
        health.subscription = Some(self::subscription(&subscription.borrow(), &mut reasons));
        health.inventory = Some(listed(&handle.inventory(), &mut reasons));
        // While something is to be stored the loop does not answer: that is said above.
        if !waits(&condition) {
            match timeout(VIEW, handle.view()).await {
                Ok(Some(view)) => {
                    health.agents = agents(&view);
                    health.preflight = view.preflight;
                    let faults = health.preflight.iter().filter(|finding| finding.severity == "fault");
                    reasons.extend(faults.map(|finding| finding.text.clone()));
                }
                _ if waits(&report.condition()) => {}
                _ => reasons.push("the scheduler's loop does not answer".to_owned()),
            }
        }
    }
    health.healthy = reasons.is_empty();
    health.reasons = reasons;
    let status = if health.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health))
}

/// Whether the loop waits for the store: for an answer, or to ask again.
fn waits(condition: &Condition) -> bool {
    condition.storing.is_some() || condition.failing.is_some()
}

fn store(condition: &Condition, reasons: &mut Vec<String>) -> Store {
    let away = condition.failing.as_ref().or(condition.away.as_ref());
    let storing = condition.storing.map(|since| since.elapsed());
    if let Some((since, why)) = away {
        let seconds = since.elapsed().as_secs();
        reasons.push(format!(
            "the store is away for {seconds} s, nothing is launched or ended: {why}. Tasks go on running, and what is \
             stored is kept"
        ));
    } else if let Some(waits) = storing.filter(|waits| *waits > SLOW) {
        reasons.push(format!(
            "the store (service.state) is slow: what was decided {} s ago is not stored yet, and nothing is launched or \
             ended before it is",
            waits.as_secs()
        ));
    }
    Store {
        away_for: away.map(|(since, _)| seconds(since.elapsed())),
        why: away.map(|(_, why)| why.clone()),
        storing_for: storing.map(seconds),
        stored_ago: condition.stored.map(ago),
        stored_in: condition.stored.map(|_| seconds(condition.took)),
        restored: condition
            .restored
            .as_ref()
            .map(|(at, what)| Restored { ago: ago(*at), what: what.clone() }),
    }
}

fn round(handle: &Handle, reasons: &mut Vec<String>) -> Loop {
    let idle = handle.idle();
    if idle >= ALIVE {
        reasons.push(format!("the scheduler's loop has not gone round for {} s", idle.as_secs()));
    }
    Loop { idle_for: seconds(idle) }
}

fn subscription(condition: &mesos::Condition, reasons: &mut Vec<String>) -> Subscription {
    let lasts = SystemTime::now().duration_since(condition.since).unwrap_or_default();
    if condition.master.is_none() {
        let why = condition.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        reasons.push(format!("no subscription with a master for {} s{why}", lasts.as_secs()));
    }
    Subscription {
        master: condition.master.as_ref().map(ToString::to_string),
        lasts: seconds(lasts),
        error: condition.error.clone(),
    }
}

fn listed(inventory: &Inventory, reasons: &mut Vec<String>) -> Listed {
    match (inventory.read, &inventory.error) {
        (Some(_), Some(error)) => reasons.push(format!(
            "the master's list of agents cannot be read again, so agents that join get nothing, and tasks go on running: \
             {error}"
        )),
        (None, Some(error)) => reasons.push(format!(
            "the master's list of agents cannot be read, so nothing is launched, and tasks go on running: {error}"
        )),
        (None, None) => reasons.push("the master's list of agents was not read yet".to_owned()),
        _ => {}
    }
    Listed { read_ago: inventory.read.map(ago), error: inventory.error.clone() }
}

fn agents(view: &View) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for agent in &view.agents {
        let name = if agent.presence == "active" { name(agent.status) } else { agent.presence.to_owned() };
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// As everywhere else in the API.
fn name(status: Status) -> String {
    match serde_json::to_value(status) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{status:?}"),
    }
}

fn ago(at: Instant) -> f64 {
    seconds(at.elapsed())
}

/// To the millisecond.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
