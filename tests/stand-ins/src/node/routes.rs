//! The kernel's routes to the hosts' blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::environment::Backend;
use crate::cidr::Cidr;
use crate::ipam::Block;
use crate::resources::{IpPoolSpec, Mode};

/// Marks our routes in the kernel; Felix uses the same number.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(80);

/// What a block's route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// To the host that owns the block.
    Via(Ipv4Addr),
    /// Nowhere: an own address that no container has.
    Blackhole,
}

/// What the datastore holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// All pools.
    pub pools: Vec<IpPoolSpec>,
    /// Hosts and their addresses.
    pub nodes: BTreeMap<String, Ipv4Addr>,
    /// All blocks.
    pub blocks: Vec<Block>,
}

/// The routes that `node` should have, and remarks on blocks that it has none for.
pub fn wanted(snapshot: &Snapshot, node: &str, backend: Backend) -> (BTreeMap<Cidr, Hop>, Vec<String>) {
    let mut routes = BTreeMap::new();
    let mut remarks = Vec::new();
    for block in &snapshot.blocks {
        let cidr = block.cidr();
        if block.node() == node {
            routes.insert(cidr, Hop::Blackhole);
            continue;
        }
        let pool = snapshot.pools.iter().find(|pool| pool.cidr.contains(cidr.network()));
        match (pool, snapshot.nodes.get(block.node())) {
            (None, _) => remarks.push(format!("block {cidr} is in no pool")),
            (_, None) => {
                remarks.push(format!("block {cidr} is of node {:?}, which is not registered", block.node()));
            }
            (Some(pool), Some(_)) if !carries(backend, pool) => remarks.push(format!(
                "block {cidr}: backend {backend} does not route a pool with vxlanMode {:?}",
                pool.vxlan_mode
            )),
            (Some(_), Some(&address)) => {
                routes.insert(cidr, Hop::Via(address));
            }
        }
    }
    (routes, remarks)
}

/// Felix routes VXLAN pools, BIRD all others; without a backend nobody does.
fn carries(backend: Backend, pool: &IpPoolSpec) -> bool {
    match backend {
        Backend::Bird => pool.vxlan_mode == Mode::Never,
        Backend::Vxlan => pool.vxlan_mode != Mode::Never,
        Backend::None => false,
    }
}

/// The host's routing table, over netlink.
#[derive(Clone)]
pub struct RoutingTable {
    handle: Handle,
}

impl RoutingTable {
    /// Opens a netlink socket; wants a Tokio runtime.
    pub fn open() -> std::io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The host's IPv4 addresses with the length of their networks.
    pub async fn addresses(&self) -> Result<Vec<(Ipv4Addr, u8)>, rtnetlink::Error> {
        let mut answers = self.handle.address().get().execute();
        let mut addresses = Vec::new();
        while let Some(message) = answers.try_next().await? {
            let length = message.header.prefix_len;
            addresses.extend(message.attributes.iter().filter_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(address)) => Some((*address, length)),
                _ => None,
            }));
        }
        Ok(addresses)
    }

    /// Makes our routes in the kernel those of `wanted` and returns what it changed; others' are left alone.
    ///
    /// Goes on after a failure, which is among the faults: one host that cannot be reached must not cut off others.
    pub async fn apply(
        &self,
        wanted: &BTreeMap<Cidr, Hop>,
    ) -> Result<(Vec<String>, Vec<String>), rtnetlink::Error> {
        let (mut changes, mut faults) = (Vec::new(), Vec::new());
        let present = self.own_routes().await?;
        let mut right = BTreeSet::new();
        for (cidr, hop, message) in present {
            if hop.is_some() && wanted.get(&cidr) == hop.as_ref() {
                right.insert(cidr);
                continue;
            }
            match self.handle.route().del(message).execute().await {
                Ok(()) => changes.push(format!("deleted the route to {cidr}")),
                Err(error) => faults.push(format!("cannot delete the route to {cidr}: {error}")),
            }
        }
        for (&cidr, &hop) in wanted.iter().filter(|(cidr, _)| !right.contains(cidr)) {
            match self.handle.route().add(message(cidr, hop)).replace().execute().await {
                Ok(()) => changes.push(format!("added the route to {cidr}: {hop:?}")),
                Err(error) => faults.push(format!("cannot add the route to {cidr} ({hop:?}): {error}")),
            }
        }
        Ok((changes, faults))
    }

    async fn own_routes(&self) -> Result<Vec<(Cidr, Option<Hop>, RouteMessage)>, rtnetlink::Error> {
        let filter = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let mut answers = self.handle.route().get(filter).execute();
        let mut routes = Vec::new();
        while let Some(message) = answers.try_next().await? {
            if message.header.protocol == PROTOCOL && message.header.table == RouteHeader::RT_TABLE_MAIN {
                routes.push((destination(&message), hop(&message), message));
            }
        }
        Ok(routes)
    }
}

fn message(cidr: Cidr, hop: Hop) -> RouteMessage {
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(cidr.network(), cidr.length())
        .protocol(PROTOCOL);
    match hop {
        Hop::Via(address) => route.gateway(address).build(),
        Hop::Blackhole => route.kind(RouteType::BlackHole).build(),
    }
}

fn destination(message: &RouteMessage) -> Cidr {
    let network = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
        _ => None,
    });
    Cidr::containing(network.unwrap_or(Ipv4Addr::UNSPECIFIED), message.header.destination_prefix_length)
}

fn hop(message: &RouteMessage) -> Option<Hop> {
    if message.header.kind == RouteType::BlackHole {
        return Some(Hop::Blackhole);
    }
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(address)) => Some(Hop::Via(*address)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(vxlan_mode: Mode) -> Snapshot {
        let mut pool: IpPoolSpec = serde_json::from_str(r#"{"cidr":"10.1.0.0/16"}"#).unwrap();
        pool.vxlan_mode = vxlan_mode;
        let block = |cidr: &str, node: &str| Block::new(cidr.parse().unwrap(), node);
        Snapshot {
            pools: vec![pool],
            nodes: [("a", 1), ("b", 2)]
                .map(|(name, number)| (name.to_owned(), Ipv4Addr::new(10, 0, 0, number)))
                .into(),
            blocks: vec![
                block("10.1.0.0/26", "a"),
                block("10.1.0.64/26", "b"),
                block("10.1.0.128/26", "gone"),
                block("10.2.0.0/26", "b"),
            ],
        }
    }

    #[test]
    fn routes_to_other_hosts_and_holes_for_own_addresses() {
        let (routes, remarks) = wanted(&snapshot(Mode::Never), "a", Backend::Bird);
        let expected = [
            ("10.1.0.0/26".parse().unwrap(), Hop::Blackhole),
            ("10.1.0.64/26".parse().unwrap(), Hop::Via(Ipv4Addr::new(10, 0, 0, 2))),
        ];
        assert_eq!(routes, expected.into());
        assert_eq!(remarks.len(), 2, "{remarks:?}");
        assert!(remarks[0].contains("gone") && remarks[1].contains("no pool"), "{remarks:?}");
    }

    #[test]
    fn the_backend_must_fit_the_pool() {
        let vias = |mode, backend| {
            let (routes, _) = wanted(&snapshot(mode), "a", backend);
            routes.values().filter(|hop| matches!(hop, Hop::Via(_))).count()
        };
        assert_eq!(vias(Mode::Always, Backend::Vxlan), 1);
        assert_eq!(vias(Mode::Always, Backend::Bird), 0);
        assert_eq!(vias(Mode::Never, Backend::Vxlan), 0);
        assert_eq!(vias(Mode::Never, Backend::None), 0);
    }

    #[test]
    fn a_message_says_what_was_meant() {
        for hop_in in [Hop::Blackhole, Hop::Via(Ipv4Addr::new(10, 0, 0, 2))] {
            let cidr: Cidr = "10.1.0.64/26".parse().unwrap();
            let message = message(cidr, hop_in);
            assert_eq!((destination(&message), hop(&message)), (cidr, Some(hop_in)));
            assert_eq!(message.header.protocol, PROTOCOL);
        }
    }
}
