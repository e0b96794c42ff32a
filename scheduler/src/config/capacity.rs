//! How large a cluster a configuration serves, and what of it can be told before there is one.

use std::net::Ipv4Addr;

use super::reader::Reader;
use super::{Encapsulation, Etcd, Network, Target};
use crate::core::Capacity;

/// In a full mesh each of so many agents has a BGP session with each other.
const MOST_IN_A_MESH: usize = 100;

impl Target {
    /// Up to how many agents it serves, where it gives them addresses.
    pub fn capacities(&self) -> Vec<Capacity> {
        let Some(node) = &self.node else { return Vec::new() };
        let Network { pool, block_size, encapsulation, route_reflectors, .. } = self.network;
        // A block size is never shorter than the pool's prefix.
        let blocks = 1_usize.checked_shl(u32::from(block_size.saturating_sub(pool.prefix_len())));
        let of_pool = Capacity {
            option: "network.pool-cidr",
            number: blocks.unwrap_or(usize::MAX),
            because: format!(
                "{pool} holds one block of /{block_size} for each: give a larger pool, or a larger network.block-size"
            ),
        };
        let bird = node.backend.unwrap_or(default_backend(encapsulation)) == "bird";
        let of_mesh = (bird && !route_reflectors).then(|| Capacity {
            option: "network.route-reflectors",
            number: MOST_IN_A_MESH,
            because: "BIRD connects each agent with each other: configure route reflectors in Calico and set \
                      network.route-reflectors to true, or take network.encapsulation = vxlan without node.backend"
                .to_owned(),
        });
        std::iter::once(of_pool).chain(of_mesh).collect()
    }
}

/// As the installer chooses it.
fn default_backend(encapsulation: Encapsulation) -> &'static str {
    match encapsulation {
        Encapsulation::Vxlan => "vxlan",
        Encapsulation::Ipip | Encapsulation::None => "bird",
    }
}

/// Addresses that the hosts need are not the pool's.
pub(super) fn check(reader: &mut Reader, network: &Network, etcd: &Etcd) {
    for endpoint in etcd.endpoints.iter().chain(&etcd.peer_urls) {
        let authority = endpoint.rsplit_once("//").map_or(endpoint.as_str(), |(_, authority)| authority);
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        if host.parse::<Ipv4Addr>().is_ok_and(|ip| network.pool.contains(&ip)) {
            let problem = format!("holds the address of etcd ({endpoint}): the pool must be nobody else's");
            reader.fault("network.pool-cidr", problem);
            return;
        }
    }
}
