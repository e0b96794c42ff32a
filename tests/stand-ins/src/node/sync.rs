//! Follows the datastore: registers the node, lists everything, watches, and lists again after any change.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::environment::Settings;
use super::health::Health;
use super::routes::{RoutingTable, Snapshot, wanted};
use crate::datastore::{DatastoreError, Entry, Etcd, Expect, Store, Write};
use crate::ipam;
use crate::resources::{self, IpPoolSpec, NodeBgp, NodeSpec, Resource};

/// How long one attempt to connect may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// How often etcd is probed: a watch alone does not notice that it is away.
const PROBE: Duration = Duration::from_secs(1);
/// How often the routes are compared with the kernel's even when nothing changed.
const RESYNC: Duration = Duration::from_secs(10);
/// Changes come in groups; they are awaited this long before the next listing.
const SETTLE: Duration = Duration::from_millis(50);

/// Keeps the routes as the datastore wants them, for ever; routes stay while it is away.
pub async fn follow(settings: &Settings, table: &RoutingTable, health: &Health) {
    loop {
        if let Err(error) = session(settings, table, health).await {
            if health.report(Err(error.to_string())) {
                tracing::warn!("not ready: {error}");
            } else {
                tracing::debug!("still not ready: {error}");
            }
            sleep(PROBE).await;
        }
    }
}

/// Waits until etcd answers and writes the node's address.
pub async fn register(settings: &Settings, health: &Health) {
    loop {
        match try_register(settings).await {
            Ok(None) => break,
            Ok(Some(other)) => {
                tracing::warn!(
                    "node {:?} was registered with {other}; overwritten with {}/{}. \
                     Is another host running under the same name?",
                    settings.node,
                    settings.ip,
                    settings.length
                );
                break;
            }
            Err(error) => {
                tracing::warn!("waiting for the datastore: {error}");
                health.report(Err(error.to_string()));
                sleep(PROBE).await;
            }
        }
    }
    tracing::info!("registered node {:?} with {}/{}", settings.node, settings.ip, settings.length);
}

/// The other address that the node was registered with before, if so.
async fn try_register(settings: &Settings) -> Result<Option<String>, DatastoreError> {
    let etcd = Etcd::connect(&settings.datastore, CONNECT_LIMIT).await?;
    let ipv4_address = format!("{}/{}", settings.ip, settings.length);
    let key = format!("{}{}", resources::NODES, settings.node);
    let before = match etcd.get(&key).await? {
        Some(entry) => Some(entry.json::<Resource<NodeSpec>>()?.spec.bgp.ipv4_address),
        None => None,
    };
    let spec = NodeSpec { bgp: NodeBgp { ipv4_address: ipv4_address.clone() } };
    let node = Resource::new("Node", &settings.node, spec);
    etcd.commit(vec![Write::json(key, Expect::Any, &node)?]).await?;
    Ok(before.filter(|address| *address != ipv4_address))
}

/// From one connection to its end.
async fn session(settings: &Settings, table: &RoutingTable, health: &Health) -> Result<(), DatastoreError> {
    let etcd = Etcd::connect(&settings.datastore, CONNECT_LIMIT).await?;
    let mut remarks_before = Vec::new();
    let mut probe = interval(PROBE);
    probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Taken before the listing, so that no change falls between it and the watch.
        let revision = etcd.revision().await?;
        let (routes, remarks) = wanted(&list(&etcd).await?, &settings.node, settings.backend);
        match table.apply(&routes).await {
            Ok((changes, faults)) => {
                for change in changes {
                    tracing::info!("{change}");
                }
                for fault in faults {
                    tracing::error!("{fault}");
                }
            }
            Err(error) => tracing::error!("cannot read the routing table: {error}"),
        }
        if remarks != remarks_before {
            for remark in &remarks {
                tracing::warn!("no route: {remark}");
            }
            remarks_before = remarks;
        }
        if health.report(Ok(())) {
            tracing::info!("ready: in sync at revision {revision}");
        }

        let mut watches = Vec::new();
        for prefix in [resources::POOLS, resources::NODES, resources::BLOCKS] {
            watches.push(etcd.watch(prefix, revision + 1).await?);
        }
        let [pools, nodes, blocks] = watches.as_mut_slice() else { continue };
        let resync = Instant::now() + RESYNC;
        while Instant::now() < resync {
            let message = tokio::select! {
                message = pools.message() => message,
                message = nodes.message() => message,
                message = blocks.message() => message,
                _ = probe.tick() => {
                    etcd.revision().await?;
                    health.report(Ok(()));
                    continue;
                }
            };
            match message {
                // The answer that the watch was made has no events.
                Ok(Some(message)) if message.events().is_empty() && !message.canceled() => {}
                Ok(Some(_)) => {
                    sleep(SETTLE).await;
                    break;
                }
                Ok(None) => break,
                Err(error) => {
                    let endpoints = "the watch".to_owned();
                    return Err(DatastoreError::Unreachable { endpoints, reason: error.to_string() });
                }
            }
        }
    }
}

async fn list<S: Store>(store: &S) -> Result<Snapshot, DatastoreError> {
    let mut snapshot = Snapshot::default();
    for entry in store.list(resources::POOLS).await? {
        keep(entry.json::<Resource<IpPoolSpec>>(), |pool| snapshot.pools.push(pool.spec));
    }
    let mut nodes: BTreeMap<String, Ipv4Addr> = BTreeMap::new();
    for entry in store.list(resources::NODES).await? {
        keep(node_address(&entry), |(name, address)| {
            nodes.insert(name, address);
        });
    }
    snapshot.nodes = nodes;
    for entry in store.list(resources::BLOCKS).await? {
        keep(ipam::parse(&entry), |block| snapshot.blocks.push(block));
    }
    Ok(snapshot)
}

/// One bad value must not keep the others from having their routes.
fn keep<T>(value: Result<T, DatastoreError>, take: impl FnOnce(T)) {
    match value {
        Ok(value) => take(value),
        Err(error) => tracing::error!("ignored: {error}"),
    }
}

fn node_address(entry: &Entry) -> Result<(String, Ipv4Addr), DatastoreError> {
    let node: Resource<NodeSpec> = entry.json()?;
    let text = &node.spec.bgp.ipv4_address;
    let address = text.split('/').next().and_then(|address| address.parse().ok());
    match address {
        Some(address) => Ok((node.metadata.name, address)),
        None => Err(entry.malformed(&format!("spec.bgp.ipv4Address is {text:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipam::Block;
    use crate::memory::Memory;

    #[tokio::test]
    async fn one_bad_value_does_not_hide_the_others() {
        let store = Memory::default();
        let put = |key: String, value: String| Write { key, expect: Expect::Any, value: Some(value) };
        let spec = NodeSpec { bgp: NodeBgp { ipv4_address: "10.0.0.1/24".to_owned() } };
        let node = serde_json::to_string(&Resource::new("Node", "a", spec)).unwrap();
        let cidr = "10.1.0.0/26".parse().unwrap();
        let block = serde_json::to_string(&Block::new(cidr, "a")).unwrap();
        store
            .commit(vec![
                put(format!("{}a", resources::NODES), node),
                put(format!("{}b", resources::NODES), "{}".to_owned()),
                put(resources::block_key(cidr), block),
                put(format!("{}x", resources::BLOCKS), "[]".to_owned()),
                put(format!("{}x", resources::POOLS), "[]".to_owned()),
            ])
            .await
            .unwrap();
        let snapshot = list(&store).await.unwrap();
        assert_eq!(snapshot.nodes, [("a".to_owned(), Ipv4Addr::new(10, 0, 0, 1))].into());
        assert_eq!(snapshot.blocks.len(), 1);
    }
}
