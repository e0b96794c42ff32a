//! Reading from etcd's v2 API, in which Docker keeps its cluster store.

use std::time::Duration;

use serde::Deserialize;
use tokio_rustls::TlsConnector;

use super::http;
use crate::exit::{Exit, Failure, Result};
use crate::values::Endpoint;

/// How long a member may take to answer.
const MEMBER_LIMIT: Duration = Duration::from_secs(3);
/// etcd's word for a key that is not there.
const KEY_NOT_FOUND: u32 = 100;

/// A key that is there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Node {
    /// When it was written, counted in changes of all of etcd.
    #[serde(rename = "modifiedIndex", default)]
    pub modified: u64,
    /// For how many more seconds it is there; `None` when for ever.
    #[serde(default)]
    pub ttl: Option<i64>,
}

#[derive(Deserialize)]
struct Found {
    node: Node,
}

#[derive(Deserialize)]
struct Absent {
    #[serde(rename = "errorCode")]
    code: u32,
    #[serde(default)]
    message: String,
}

/// An etcd that is read from.
#[derive(Clone)]
pub struct EtcdV2 {
    /// Its members: one that answers is enough.
    pub members: Vec<Endpoint>,
    /// How TLS is spoken with them, where it is.
    pub tls: Option<TlsConnector>,
}

impl EtcdV2 {
    /// A key, if it is there, as the quorum has it.
    pub async fn get(&self, key: &str) -> Result<Option<Node>> {
        let mut reasons = Vec::new();
        for member in &self.members {
            let path = format!("/v2/keys/{key}?quorum=true");
            match http::get_over(member, &path, MEMBER_LIMIT, self.tls.as_ref()).await {
                Ok(answer) => match read(answer.status, &answer.body) {
                    Ok(found) => return Ok(found),
                    Err(Said::NoV2) => {
                        return Err(Failure::unsuitable(format!(
                            "{member} does not serve etcd's v2 API, in which Docker keeps its cluster store: run etcd \
                             with --enable-v2 (up to 3.5), or give another --docker-cluster-store"
                        )));
                    }
                    Err(Said::Other(said)) => reasons.push(format!("{member}: {said}")),
                },
                Err(error) => reasons
                    .push(Failure::new(Exit::Unavailable, member.to_string()).because(error).one_line()),
            }
        }
        Err(Failure::new(
            Exit::Unavailable,
            format!("the cluster store is not reached: {}", reasons.join("; ")),
        ))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Said {
    NoV2,
    Other(String),
}

fn read(status: u16, body: &[u8]) -> Result<Option<Node>, Said> {
    if status == 200 {
        let found: Found = serde_json::from_slice(body)
            .map_err(|error| Said::Other(format!("answers something else than a key: {error}")))?;
        return Ok(Some(found.node));
    }
    match serde_json::from_slice(body) {
        Ok(Absent { code: KEY_NOT_FOUND, .. }) => Ok(None),
        Ok(Absent { message, .. }) => Err(Said::Other(format!("answers {status} ({message})"))),
        // Without the v2 API the path is not there, and that is plain text.
        Err(_) if status == 404 => Err(Said::NoV2),
        Err(_) => Err(Said::Other(format!("answers {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_etcd_are_read() {
        let there = br#"{"action":"get","node":{"key":"/docker/nodes/a:1","value":"a:1",
            "expiration":"2026-11-25T17:34:17Z","ttl":15,"modifiedIndex":7,"createdIndex":7}}"#;
        assert_eq!(read(200, there), Ok(Some(Node { modified: 7, ttl: Some(15) })));
        let absent = br#"{"errorCode":100,"message":"Key not found","cause":"/docker","index":4}"#;
        assert_eq!(read(404, absent), Ok(None));
        assert_eq!(read(404, b"404 page not found\n"), Err(Said::NoV2));
        let unauthorised = br#"{"errorCode":110,"message":"The request requires user authentication"}"#;
        assert!(matches!(read(401, unauthorised), Err(Said::Other(said)) if said.contains("authentication")));
        assert!(matches!(read(503, b""), Err(Said::Other(_))));
    }
}
