//! Addresses for containers: blocks per host, taken from the pools by compare-and-swap transactions.
//!
//! A transaction writes the block, its affinity and the container's handle together, each only when it is
//! as it was read; so two hosts, or two containers on one, never get the same address. Unlike Calico's, a host
//! never borrows from another host's block: it is refused when no block is left.

mod block;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use block::{Block, BlockError};

use crate::cidr::Cidr;
use crate::datastore::{DatastoreError, Entry, Expect, Store, Write};
use crate::resources::{self, IpPoolSpec, Resource};

/// Attempts before giving up; each lost one means that another client made progress.
const MAX_ATTEMPTS: usize = 1_000;

/// Why there is no address.
#[derive(Debug, Error)]
pub enum IpamError {
    /// The datastore failed.
    #[error(transparent)]
    Datastore(#[from] DatastoreError),
    /// There is no pool at all, or all are disabled.
    #[error("there is no enabled IP pool in the datastore; create one with calicoctl first")]
    NoPool,
    /// The configuration names pools that do not exist.
    #[error("no enabled IP pool in the datastore is one of {0:?} (ipam.ipv4_pools)")]
    NoSuchPool(Vec<Cidr>),
    /// All blocks belong to other hosts, or to this one and are full.
    #[error("no free block is left in the IP pools {pools:?} for host {node}, and its own blocks are full")]
    Exhausted {
        /// The host.
        node: String,
        /// The pools that were tried.
        pools: Vec<String>,
    },
    /// The container has an address.
    #[error("{handle} has the address {address} already; it must be released first")]
    AlreadyAssigned {
        /// The container's handle.
        handle: String,
        /// Its address.
        address: String,
    },
    /// The address that was asked for is another's, or in a block of another host.
    #[error("{address} cannot be given: {reason}")]
    NotFree {
        /// The address.
        address: Ipv4Addr,
        /// Who has it.
        reason: String,
    },
    /// Too many lost transactions.
    #[error("gave up after {MAX_ATTEMPTS} transactions that others were faster than")]
    Contended,
}

/// The blocks of a container, by how many addresses it has in each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Handle {
    #[serde(rename = "handleID")]
    id: String,
    block: BTreeMap<Cidr, usize>,
    deleted: bool,
}

/// What an address is wanted for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The host's name.
    pub node: &'a str,
    /// Unique for the container and its network.
    pub handle: &'a str,
    /// The pools to take it from; all when empty.
    pub pools: &'a [Cidr],
    /// This one and no other.
    pub address: Option<Ipv4Addr>,
}

/// Gives a container an address of its host's block, and the host a new block when all of its own are full.
pub async fn assign<S: Store>(store: &S, request: Request<'_>) -> Result<Ipv4Addr, IpamError> {
    for _ in 0..MAX_ATTEMPTS {
        let (address, writes) = plan(store, request).await?;
        if store.commit(writes).await? {
            return Ok(address);
        }
    }
    Err(IpamError::Contended)
}

/// Frees all addresses of `handle` and returns them; none when it has none.
pub async fn release<S: Store>(store: &S, handle: &str) -> Result<Vec<Ipv4Addr>, IpamError> {
    for _ in 0..MAX_ATTEMPTS {
        let key = resources::handle_key(handle);
        let Some(entry) = store.get(&key).await? else { return Ok(Vec::new()) };
        let mut released = Vec::new();
        let mut writes = vec![Write::delete(key, Expect::Revision(entry.revision))];
        for cidr in entry.json::<Handle>()?.block.into_keys() {
            // A block that somebody deleted holds nothing any more.
            let Some(entry) = store.get(&resources::block_key(cidr)).await? else { continue };
            let mut block = parse(&entry)?;
            released.extend(block.release(handle));
            writes.push(Write::json(entry.key, Expect::Revision(entry.revision), &block)?);
        }
        if store.commit(writes).await? {
            return Ok(released);
        }
    }
    Err(IpamError::Contended)
}

/// The addresses of `handle`.
pub async fn addresses<S: Store>(store: &S, handle: &str) -> Result<Vec<Ipv4Addr>, DatastoreError> {
    let Some(entry) = store.get(&resources::handle_key(handle)).await? else { return Ok(Vec::new()) };
    let mut addresses = Vec::new();
    for cidr in entry.json::<Handle>()?.block.into_keys() {
        if let Some(entry) = store.get(&resources::block_key(cidr)).await? {
            addresses.extend(parse(&entry)?.addresses(handle));
        }
    }
    Ok(addresses)
}

/// Who has `address`: the host of its block, and the handle that it was given to.
pub async fn owner<S: Store>(
    store: &S,
    address: Ipv4Addr,
) -> Result<Option<(String, String)>, DatastoreError> {
    for entry in store.list(resources::BLOCKS).await? {
        let block = parse(&entry)?;
        if let Some(handle) = block.owner(address) {
            return Ok(Some((block.node().to_owned(), handle.to_owned())));
        }
    }
    Ok(None)
}

/// A block from its entry, checked.
pub fn parse(entry: &Entry) -> Result<Block, DatastoreError> {
    let block: Block = entry.json()?;
    block.check().map_err(|error| entry.malformed(&error))
}

/// One attempt: the address, and the transaction that makes it the container's.
async fn plan<S: Store>(store: &S, request: Request<'_>) -> Result<(Ipv4Addr, Vec<Write>), IpamError> {
    let Request { node, handle, pools, address: asked } = request;
    let assigned = addresses(store, handle).await?;
    if let Some(address) = assigned.first() {
        return Err(IpamError::AlreadyAssigned { handle: handle.to_owned(), address: address.to_string() });
    }
    let handle_key = resources::handle_key(handle);
    let handle_entry = store.get(&handle_key).await?;

    let pools = usable_pools(store, pools).await?;
    let mut blocks = Vec::new();
    for entry in store.list(resources::BLOCKS).await? {
        blocks.push((parse(&entry)?, entry.revision));
    }
    let secondary = BTreeMap::from([("node".to_owned(), node.to_owned())]);
    let (address, block, expect) = if let Some(address) = asked {
        let (mut block, expect) = around(address, node, &pools, blocks)?;
        if let Some(owner) = block.owner(address) {
            return Err(IpamError::NotFree { address, reason: format!("{owner} has it") });
        }
        (block.assign_exactly(address, handle, secondary), block, expect)
    } else {
        let (mut block, expect) = choose(node, &pools, blocks).ok_or_else(|| IpamError::Exhausted {
            node: node.to_owned(),
            pools: pools.iter().map(|pool| pool.cidr.to_string()).collect(),
        })?;
        (block.assign(handle, secondary), block, expect)
    };
    let address = address.ok_or(IpamError::Contended)?;
    let mut writes = Vec::new();
    if expect == Expect::Absent {
        let value = Some(r#"{"state":"confirmed","deleted":false}"#.to_owned());
        writes.push(Write { key: resources::affinity_key(node, block.cidr()), expect: Expect::Any, value });
    }
    writes.push(Write::json(resources::block_key(block.cidr()), expect, &block)?);
    let value = Handle { id: handle.to_owned(), block: BTreeMap::from([(block.cidr(), 1)]), deleted: false };
    writes.push(Write::json(handle_key, Expect::unchanged(handle_entry.as_ref()), &value)?);
    Ok((address, writes))
}

async fn usable_pools<S: Store>(store: &S, wanted: &[Cidr]) -> Result<Vec<IpPoolSpec>, IpamError> {
    let mut pools = Vec::new();
    for entry in store.list(resources::POOLS).await? {
        let pool = entry.json::<Resource<IpPoolSpec>>()?.spec;
        if !pool.disabled {
            pools.push(pool);
        }
    }
    if pools.is_empty() {
        return Err(IpamError::NoPool);
    }
    if !wanted.is_empty() {
        let wanted: BTreeSet<Cidr> = wanted.iter().copied().collect();
        pools.retain(|pool| wanted.contains(&pool.cidr));
        if pools.is_empty() {
            return Err(IpamError::NoSuchPool(wanted.into_iter().collect()));
        }
    }
    Ok(pools)
}

/// The block of `node` that holds `address`, which may be a new one.
fn around(
    address: Ipv4Addr,
    node: &str,
    pools: &[IpPoolSpec],
    blocks: Vec<(Block, i64)>,
) -> Result<(Block, Expect), IpamError> {
    let refused = |reason: String| IpamError::NotFree { address, reason };
    let Some(pool) = pools.iter().find(|pool| pool.cidr.contains(address)) else {
        return Err(refused("it is in none of the pools".to_owned()));
    };
    match blocks.into_iter().find(|(block, _)| block.cidr().contains(address)) {
        Some((block, _)) if block.node() != node => {
            Err(refused(format!("it is in the block {} of host {}", block.cidr(), block.node())))
        }
        Some((block, revision)) => Ok((block, Expect::Revision(revision))),
        None => Ok((Block::new(Cidr::containing(address, pool.block_size), node), Expect::Absent)),
    }
}

/// An own block with room, else the first network of the pools that no block touches.
fn choose(node: &str, pools: &[IpPoolSpec], blocks: Vec<(Block, i64)>) -> Option<(Block, Expect)> {
    let taken: BTreeSet<Cidr> = blocks.iter().map(|(block, _)| block.cidr()).collect();
    let own = blocks.into_iter().find(|(block, _)| {
        block.node() == node
            && block.free() > 0
            && pools.iter().any(|pool| pool.cidr.contains(block.cidr().network()))
    });
    if let Some((block, revision)) = own {
        return Some((block, Expect::Revision(revision)));
    }
    pools
        .iter()
        .flat_map(|pool| pool.cidr.subnets(pool.block_size))
        .find(|candidate| !taken.iter().any(|block| block.overlaps(*candidate)))
        .map(|cidr| (Block::new(cidr, node), Expect::Absent))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::memory::Memory;

    async fn pool(store: &Memory, cidr: &str, block_size: u8, disabled: bool) {
        let spec = serde_json::json!({"cidr": cidr, "blockSize": block_size, "disabled": disabled});
        let spec: IpPoolSpec = serde_json::from_value(spec).unwrap();
        let key = format!("{}{}", resources::POOLS, cidr.replace('/', "-"));
        let write = Write::json(key, Expect::Absent, &Resource::new("IPPool", "pool", spec)).unwrap();
        assert!(store.commit(vec![write]).await.unwrap());
    }

    fn request<'a>(node: &'a str, handle: &'a str) -> Request<'a> {
        Request { node, handle, pools: &[], address: None }
    }

    async fn block_owners(store: &Memory) -> Vec<(String, String)> {
        let blocks = store.list(resources::BLOCKS).await.unwrap();
        blocks
            .iter()
            .map(|entry| parse(entry).unwrap())
            .map(|block| (block.cidr().to_string(), block.node().to_owned()))
            .collect()
    }

    #[tokio::test]
    async fn refuses_without_a_pool() {
        let store = Memory::default();
        assert!(matches!(assign(&store, request("a", "c1")).await, Err(IpamError::NoPool)));
        pool(&store, "10.1.0.0/24", 26, true).await;
        assert!(matches!(assign(&store, request("a", "c1")).await, Err(IpamError::NoPool)));
        pool(&store, "10.2.0.0/24", 26, false).await;
        let pools = ["10.3.0.0/24".parse().unwrap()];
        let other = Request { pools: &pools, ..request("a", "c1") };
        assert!(matches!(assign(&store, other).await, Err(IpamError::NoSuchPool(_))));
        assert_eq!(assign(&store, request("a", "c1")).await.unwrap(), Ipv4Addr::new(10, 2, 0, 0));
    }

    #[tokio::test]
    async fn each_host_has_a_block_of_its_own() {
        let store = Memory::default();
        pool(&store, "10.1.0.0/24", 26, false).await;
        assign(&store, request("a", "c1")).await.unwrap();
        assign(&store, request("b", "c2")).await.unwrap();
        assign(&store, request("a", "c3")).await.unwrap();
        let owned = |cidr: &str, node: &str| (cidr.to_owned(), node.to_owned());
        assert_eq!(block_owners(&store).await, [owned("10.1.0.0/26", "a"), owned("10.1.0.64/26", "b")]);
        assert!(store.get("/calico/ipam/v2/host/b/ipv4/block/10.1.0.64-26").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn takes_a_second_block_and_is_refused_when_none_is_left() {
        let store = Memory::default();
        pool(&store, "10.1.0.0/27", 28, false).await;
        for n in 0..17 {
            assign(&store, request("a", &format!("c{n}"))).await.unwrap();
        }
        assert_eq!(block_owners(&store).await.len(), 2);
        let error = assign(&store, request("b", "d1")).await.unwrap_err();
        assert!(matches!(error, IpamError::Exhausted { .. }), "{error}");
        assert!(error.to_string().contains("10.1.0.0/27"), "{error}");
    }

    #[tokio::test]
    async fn a_container_gets_one_address_until_it_is_released() {
        let store = Memory::default();
        pool(&store, "10.1.0.0/24", 26, false).await;
        let address = assign(&store, request("a", "c1")).await.unwrap();
        let again = assign(&store, request("a", "c1")).await;
        assert!(matches!(again, Err(IpamError::AlreadyAssigned { .. })));
        assert_eq!(addresses(&store, "c1").await.unwrap(), [address]);
        assert_eq!(release(&store, "c1").await.unwrap(), [address]);
        assert!(release(&store, "c1").await.unwrap().is_empty());
        assert!(addresses(&store, "c1").await.unwrap().is_empty());
        assert!(assign(&store, request("a", "c1")).await.is_ok());
    }

    #[tokio::test]
    async fn an_address_that_is_asked_for_is_given_where_it_is_free_and_of_the_host() {
        let store = Memory::default();
        pool(&store, "10.1.0.0/24", 26, false).await;
        let ask = |node, handle, last| {
            let address = Some(Ipv4Addr::new(10, 1, 0, last));
            assign(&store, Request { address, ..request(node, handle) })
        };
        assert_eq!(ask("a", "c1", 70).await.unwrap(), Ipv4Addr::new(10, 1, 0, 70));
        let taken = Ipv4Addr::new(10, 1, 0, 70);
        assert_eq!(owner(&store, taken).await.unwrap(), Some(("a".to_owned(), "c1".to_owned())));
        for (node, last, word) in [("a", 70, "c1 has it"), ("b", 71, "of host a")] {
            let error = ask(node, "c2", last).await.unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let outside = Some(Ipv4Addr::new(10, 2, 0, 1));
        let error = assign(&store, Request { address: outside, ..request("a", "c2") }).await.unwrap_err();
        assert!(error.to_string().contains("none of the pools"), "{error}");
    }

    #[tokio::test]
    async fn a_block_that_makes_no_sense_is_named() {
        let store = Memory::default();
        pool(&store, "10.1.0.0/24", 26, false).await;
        let key = resources::block_key("10.1.0.0/26".parse().unwrap());
        let write = Write { key: key.clone(), expect: Expect::Absent, value: Some("{}".to_owned()) };
        store.commit(vec![write]).await.unwrap();
        let error = assign(&store, request("a", "c1")).await.unwrap_err().to_string();
        assert!(error.contains(&key), "{error}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn concurrent_containers_never_share_an_address() {
        let store = Arc::new(Memory::default());
        pool(&store, "10.1.0.0/22", 28, false).await;
        let mut tasks = Vec::new();
        for node in 0..4 {
            for container in 0..24 {
                let store = Arc::clone(&store);
                tasks.push(tokio::spawn(async move {
                    let (node, handle) = (format!("host-{node}"), format!("calico.{node}-{container}"));
                    let first = assign(&*store, request(&node, &handle)).await.unwrap();
                    if container % 3 == 0 {
                        assert_eq!(release(&*store, &handle).await.unwrap(), [first]);
                        return assign(&*store, request(&node, &handle)).await.unwrap();
                    }
                    first
                }));
            }
        }
        let mut seen = BTreeSet::new();
        for task in tasks {
            assert!(seen.insert(task.await.unwrap()), "an address was given twice");
        }
        assert!(store.conflicts() > 0, "nothing ran at the same time");
        for entry in store.list(resources::BLOCKS).await.unwrap() {
            parse(&entry).unwrap();
        }
    }
}
