//! Whether etcd is there.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;

use super::http::{self, HttpError};
use crate::exit::{Exit, Failure, Result};
use crate::values::Endpoint;

/// How long a member may take to answer.
const MEMBER_LIMIT: Duration = Duration::from_secs(3);

/// Why an etcd, or a proxy to it, does not serve.
#[derive(Debug, thiserror::Error)]
pub enum NotServing {
    /// There was no answer.
    #[error(transparent)]
    NoAnswer(#[from] HttpError),
    /// It says so itself.
    #[error("etcd at {endpoint} is not healthy: it answers {status} {said}")]
    Unhealthy {
        /// Which.
        endpoint: Endpoint,
        /// The HTTP status.
        status: u16,
        /// What it said.
        said: String,
    },
    /// It has no v2 API.
    #[error("etcd at {0} does not serve the v2 API: run it with --enable-v2 (up to 3.5)")]
    NoV2(Endpoint),
}

/// Whether etcd is served at `endpoint`: a linearizable read of the cluster (`/health`).
pub async fn serves(endpoint: &Endpoint, tls: Option<&TlsConnector>) -> Result<(), NotServing> {
    let answer = http::get_over(endpoint, "/health", MEMBER_LIMIT, tls).await?;
    if answer.status == 200 { Ok(()) } else { Err(unhealthy(endpoint, &answer)) }
}

/// Whether etcd's v2 API is served at `endpoint`: a read of the root, as the quorum has it.
pub async fn serves_v2(endpoint: &Endpoint, tls: Option<&TlsConnector>) -> Result<(), NotServing> {
    let answer = http::get_over(endpoint, "/v2/keys/?quorum=true", MEMBER_LIMIT, tls).await?;
    match answer.status {
        // With authentication the root may be closed: clients have a user.
        200 | 401 | 403 => Ok(()),
        404 => Err(NotServing::NoV2(endpoint.clone())),
        _ => Err(unhealthy(endpoint, &answer)),
    }
}

/// A key of Calico's, in the v3 API and in the v2 API.
const CALICO_KEY: &str = "/calico";

/// What etcd says to a client without a user that reads Calico's keys, where it does not permit that. `None`: it does, or
/// cannot be asked in this way (before etcd 3.4).
pub async fn refusal(endpoint: &Endpoint, tls: Option<&TlsConnector>, v2: bool) -> Option<String> {
    let answer = if v2 {
        http::get_over(endpoint, &format!("/v2/keys{CALICO_KEY}"), MEMBER_LIMIT, tls).await
    } else {
        let body = json!({ "key": STANDARD.encode(CALICO_KEY), "limit": 1 }).to_string().into_bytes();
        http::post_over(endpoint, "/v3/kv/range", body, MEMBER_LIMIT, tls).await
    };
    let answer = answer.ok().filter(|answer| ![200, 404].contains(&answer.status))?;
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let said = ["error", "message"].iter().find_map(|field| document[field].as_str());
    Some(said.map_or_else(|| format!("it answers {}", answer.status), ToOwned::to_owned))
}

fn unhealthy(endpoint: &Endpoint, answer: &http::Answer) -> NotServing {
    let said = String::from_utf8_lossy(&answer.body).trim().to_owned();
    NotServing::Unhealthy { endpoint: endpoint.clone(), status: answer.status, said }
}

/// One member that answers is enough.
pub async fn check_members(endpoints: &[Endpoint], tls: Option<&TlsConnector>) -> Result<()> {
    let mut reasons = Vec::new();
    for endpoint in endpoints {
        match serves(endpoint, tls).await {
            Ok(()) => return Ok(()),
            Err(reason) => {
                reasons
                    .push(Failure::new(Exit::Unavailable, endpoint.to_string()).because(reason).one_line());
            }
        }
    }
    Err(Failure::new(Exit::Unavailable, format!("the datastore is not reached: {}", reasons.join("; "))))
}
