//! The leading master, as `ZooKeeper` knows it: each candidate has a node `json.info_NNNNNNNNNN` with its `MasterInfo`
//! in JSON, and the one with the lowest number leads (`src/master/detector/zookeeper.cpp` of Mesos).

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};
use zookeeper_client::{Client, Error as ZooKeeperError, EventType};

use super::client::{Condition, backoff};
use super::trouble::no_master;
use crate::config::{Server, ZooKeeper};

const PREFIX: &str = "json.info_";
const SESSION: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(15);
/// Watches tell what changes. Should one be lost, we look all the same.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// A master that leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The number of its node: a master that was restarted has another.
    pub number: u64,
    /// Where it is.
    pub server: Server,
}

/// Follows the leader for as long as someone listens. While `ZooKeeper` is away, the last one stands.
/// `condition` is told why none is known.
pub(super) async fn follow(
    zookeeper: ZooKeeper,
    leader: watch::Sender<Option<Candidate>>,
    condition: watch::Sender<Condition>,
) {
    let mut failures = 0;
    let mut watcher = Watcher { zookeeper, leader, condition, told: None };
    while !watcher.leader.is_closed() {
        let Err(error) = watcher.session(&mut failures).await;
        // Once for an outage: that it goes on is no news.
        let ensemble = &watcher.zookeeper.ensemble;
        watcher.explain(&format!("ZooKeeper at {ensemble} is away: {error}"));
        if failures == 0 {
            warn!(ensemble, "ZooKeeper is away, the leading master that is known stays: {error}");
        } else {
            debug!(ensemble, "ZooKeeper is still away: {error}");
        }
        failures += 1;
        sleep(backoff(failures)).await;
    }
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    ZooKeeper(#[from] ZooKeeperError),
    #[error("there is no answer within {ANSWER:?}")]
    Timeout,
    #[error("the session has ended")]
    Ended,
}

struct Watcher {
    zookeeper: ZooKeeper,
    leader: watch::Sender<Option<Candidate>>,
    condition: watch::Sender<Condition>,
    /// What was logged last about there being no leader.
    told: Option<String>,
}

enum Never {}

impl Watcher {
    /// One session, until it ends. `failures` is nothing again once it works.
    async fn session(&mut self, failures: &mut u32) -> Result<Never, SessionError> {
        let mut connector = Client::connector().with_session_timeout(SESSION);
        if let Some(digest) = &self.zookeeper.digest {
            connector = connector.with_auth("digest", digest.expose().as_bytes());
        }
        let client = connector.connect(&self.zookeeper.ensemble).await?;
        loop {
            let path = self.zookeeper.path.clone();
            let (children, watcher) = match answer(client.list_and_watch_children(&path)).await {
                Ok(found) => found,
                Err(SessionError::ZooKeeper(ZooKeeperError::NoNode)) => {
                    // The masters make it when they first start.
                    let (stat, watcher) = answer(client.check_and_watch_stat(&path)).await?;
                    if stat.is_some() {
                        continue;
                    }
                    (Vec::new(), watcher)
                }
                Err(error) => return Err(error),
            };
            if std::mem::take(failures) > 0 {
                info!(ensemble = self.zookeeper.ensemble, "ZooKeeper is back");
            }
            match leading(&children) {
                None => self.without_leader(format!("no master leads at {path}")),
                Some((number, name)) => match answer(client.get_data(&format!("{path}/{name}"))).await {
                    Ok((content, _)) => self.found(number, name, &content),
                    // It went between the two questions; the watch tells.
                    Err(SessionError::ZooKeeper(ZooKeeperError::NoNode)) => {}
                    Err(error) => return Err(error),
                },
            }
            if let Ok(event) = timeout(LOOK_AGAIN, watcher.changed()).await
                && event.event_type == EventType::Session
                && event.session_state.is_terminated()
            {
                return Err(SessionError::Ended);
            }
        }
    }

    fn found(&mut self, number: u64, name: &str, content: &[u8]) {
        match authority(content) {
            Ok(authority) => {
                self.told = None;
                let server = Server { tls: self.zookeeper.tls, authority };
                let candidate = Candidate { number, server };
                self.leader.send_if_modified(|leader| {
                    let changed = leader.as_ref() != Some(&candidate);
                    if changed {
                        info!(master = %candidate.server, node = name, "ZooKeeper names the leading master");
                        *leader = Some(candidate);
                    }
                    changed
                });
            }
            Err(error) => self.without_leader(format!("{}/{name}: {error}", self.zookeeper.path)),
        }
    }

    /// Says why no master is known; when one is, that is no news.
    fn explain(&self, why: &str) {
        if self.leader.borrow().is_none() {
            self.condition.send_if_modified(|condition| {
                let without = condition.master.is_none();
                if without {
                    condition.error = Some(no_master(why));
                }
                without
            });
        }
    }

    fn without_leader(&mut self, why: String) {
        self.leader.send_if_modified(|leader| leader.take().is_some());
        self.explain(&why);
        if self.told.as_ref() != Some(&why) {
            warn!("waiting for a leading master: {why}");
            self.told = Some(why);
        }
    }
}

async fn answer<T>(question: impl Future<Output = Result<T, ZooKeeperError>>) -> Result<T, SessionError> {
    timeout(ANSWER, question).await.map_err(|_| SessionError::Timeout)?.map_err(SessionError::from)
}

/// The node of the leader and its number, if there is one.
fn leading(children: &[String]) -> Option<(u64, &str)> {
    let number = |name: &str| {
        let digits = name.strip_prefix(PREFIX)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    children.iter().filter_map(|name| Some((number(name)?, name.as_str()))).min()
}

/// Why a node names no master.
#[derive(Debug, thiserror::Error)]
enum NodeError {
    #[error("its content is no MasterInfo in JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it names neither an address nor an ip")]
    NoAddress,
    #[error("'{0}' is no host")]
    Host(String),
    #[error("its port is 0")]
    NoPort,
}

/// `host:port` of the master whose node has this content.
fn authority(content: &[u8]) -> Result<String, NodeError> {
    #[derive(Deserialize)]
    struct MasterInfo {
        /// An IPv4 address in network byte order, as a number of the machine: little-endian.
        ip: Option<u32>,
        port: Option<u16>,
        address: Option<Address>,
    }
    #[derive(Deserialize)]
    struct Address {
        ip: Option<String>,
        hostname: Option<String>,
        port: u16,
    }
    let info: MasterInfo = serde_json::from_slice(content)?;
    let (host, port) = if let Some(Address { ip, hostname, port }) = info.address {
        let host = [ip, hostname].into_iter().flatten().find(|host| !host.is_empty());
        (host.ok_or(NodeError::NoAddress)?, port)
    } else {
        let ip = info.ip.ok_or(NodeError::NoAddress)?;
        // Mesos' own default, in `MasterInfo`.
        (Ipv4Addr::from(ip.to_le_bytes()).to_string(), info.port.unwrap_or(5050))
    };
    if port == 0 {
        return Err(NodeError::NoPort);
    }
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
    let authority = format!("{host}:{port}");
    match authority.parse::<http::uri::Authority>() {
        Ok(parsed) if parsed.port_u16() == Some(port) && !authority.contains('@') => Ok(authority),
        _ => Err(NodeError::Host(host)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lowest_number_leads() {
        let children = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mixed = children(&[
            "json.info_0000000012",
            "info_0000000001",
            "json.info_0000000009",
            "log_replicas",
            "json.info_",
            "json.info_-1",
            "json.info_99999999999999999999999",
        ]);
        assert_eq!(leading(&mixed), Some((9, "json.info_0000000009")));
        assert_eq!(leading(&children(&["log_replicas"])), None);
    }

    #[test]
    fn masters_are_where_their_nodes_say() {
        let whole = br#"{"address":{"hostname":"m1","ip":"10.87.0.2","port":5050},"capabilities":[{"type":
            "AGENT_UPDATE"}],"hostname":"m1","id":"x","ip":16777343,"pid":"master@10.87.0.2:5050","port":5050}"#;
        assert_eq!(authority(whole).unwrap(), "10.87.0.2:5050");
        assert_eq!(authority(br#"{"address":{"hostname":"m1","port":1}}"#).unwrap(), "m1:1");
        assert_eq!(authority(br#"{"address":{"ip":"fd00::1","port":1}}"#).unwrap(), "[fd00::1]:1");
        assert_eq!(authority(br#"{"ip":16777343,"port":5051}"#).unwrap(), "127.0.0.1:5051");
        assert_eq!(authority(br#"{"ip":16777343}"#).unwrap(), "127.0.0.1:5050");
    }

    #[test]
    fn a_node_that_names_no_master_says_why() {
        for (content, why) in [
            ("", "JSON"),
            ("{}", "neither an address nor an ip"),
            (r#"{"address":{"port":5050}}"#, "neither an address nor an ip"),
            (r#"{"address":{"ip":"a b","port":5050}}"#, "'a b' is no host"),
            (r#"{"address":{"ip":"u@h","port":5050}}"#, "'u@h' is no host"),
            (r#"{"ip":16777343,"port":0}"#, "port is 0"),
            (r#"{"ip":16777343,"port":70000}"#, "70000"),
        ] {
            let error = authority(content.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{content}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_content_panics(content: Vec<u8>) {
            let _ = authority(&content);
        }

        /// A node's content with bits flipped, parts doubled or cut, brackets without end, numbers without bounds.
        #[test]
        fn damaged_content_is_named(
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0..6_u8, any::<u8>()), 1..5),
        ) {
            let mut content = br#"{"address":{"hostname":"m1","ip":"10.87.0.2","port":5050},"ip":16777343,"port":5050}"#.to_vec();
            for (at, what, byte) in edits {
                let at = at.index(content.len().max(1)).min(content.len());
                let end = content.len().min(at + usize::from(byte));
                match what {
                    0 => content.truncate(at),
                    1 => drop(content.drain(at..end)),
                    2 => drop(content.splice(at..at, content[at..end].to_vec())),
                    3 => drop(content.splice(at..at, b"[".repeat(usize::from(byte) * 10))),
                    4 => drop(content.splice(at..at, b"9".repeat(usize::from(byte)))),
                    _ => if let Some(there) = content.get_mut(at) { *there ^= byte },
                }
            }
            match authority(&content) {
                Ok(authority) => prop_assert!(authority.parse::<http::uri::Authority>().is_ok_and(|a| a.port().is_some())),
                Err(error) => {
                    let error = error.to_string();
                    let named = ["no MasterInfo in JSON: ", "neither an address nor an ip", " is no host", "its port is 0"];
                    prop_assert!(named.iter().any(|part| error.contains(part)), "{error}");
                }
            }
        }

        #[test]
        fn what_is_read_is_host_and_port(ip: u32, host in "\\PC*", port: u16) {
            let json = serde_json::json!({"address": {"hostname": host, "port": port}}).to_string();
            if let Ok(authority) = authority(json.as_bytes()) {
                let ending = format!(":{port}");
                prop_assert!(authority.ends_with(&ending));
                prop_assert!(authority.parse::<http::uri::Authority>().is_ok());
            }
            let json = serde_json::json!({"ip": ip, "port": port.max(1)}).to_string();
            let [a, b, c, d] = ip.to_ne_bytes();
            if cfg!(target_endian = "little") {
                prop_assert_eq!(authority(json.as_bytes()).unwrap(), format!("{a}.{b}.{c}.{d}:{}", port.max(1)));
            }
        }

        #[test]
        fn the_leader_is_a_child_with_the_lowest_number(names in prop::collection::vec("(json\\.info_)?[0-9a-z]{0,12}", 0..20)) {
            let numbers = || names.iter().filter_map(|name| name.strip_prefix(PREFIX)?.parse::<u64>().ok());
            prop_assert_eq!(leading(&names).map(|(number, _)| number), numbers().min());
            prop_assert!(leading(&names).is_none_or(|(_, name)| names.iter().any(|child| child == name)));
        }
    }
}
