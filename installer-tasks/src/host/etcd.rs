//! Whether etcd is there.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::http;
use crate::exit::{Exit, Failure, Result};
use crate::values::{Endpoint, Scheme};

/// How long a member may take to answer.
const MEMBER_LIMIT: Duration = Duration::from_secs(3);

/// One member that answers is enough.
pub async fn check_members(endpoints: &[Endpoint]) -> Result<()> {
    let mut reasons = Vec::new();
    for endpoint in endpoints {
        match check_member(endpoint).await {
            Ok(()) => return Ok(()),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(Failure::new(Exit::Unavailable, format!("the datastore is not reached: {}", reasons.join("; "))))
}

async fn check_member(endpoint: &Endpoint) -> Result<(), String> {
    if endpoint.scheme == Scheme::Https {
        let connect = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
        return match timeout(MEMBER_LIMIT, connect).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("{endpoint}: {error}")),
            Err(_) => Err(format!("{endpoint}: no connection within {} s", MEMBER_LIMIT.as_secs())),
        };
    }
    match http::get(endpoint, "/health", MEMBER_LIMIT).await {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(format!("{endpoint}/health answers {}", answer.status)),
        Err(error) => Err(Failure::new(Exit::Unavailable, endpoint.to_string()).because(error).one_line()),
    }
}
