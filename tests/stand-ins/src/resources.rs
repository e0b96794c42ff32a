//! Calico's resources (`projectcalico.org/v3`) as they are kept in etcd, and their keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cidr::Cidr;

/// The only API version.
pub const API_VERSION: &str = "projectcalico.org/v3";
/// All blocks of IPv4 addresses.
pub const BLOCKS: &str = "/calico/ipam/v2/assignment/ipv4/block/";
/// All pools.
pub const POOLS: &str = "/calico/resources/v3/projectcalico.org/ippools/";
/// All profiles.
pub const PROFILES: &str = "/calico/resources/v3/projectcalico.org/profiles/";
/// All nodes.
pub const NODES: &str = "/calico/resources/v3/projectcalico.org/nodes/";
const ENDPOINTS: &str = "/calico/resources/v3/projectcalico.org/workloadendpoints/default/";

/// The key of a block.
pub fn block_key(block: Cidr) -> String {
    format!("{BLOCKS}{}", block.key_form())
}

/// The key that says that `node` owns `block`.
pub fn affinity_key(node: &str, block: Cidr) -> String {
    format!("/calico/ipam/v2/host/{node}/ipv4/block/{}", block.key_form())
}

/// The key of an IPAM handle.
pub fn handle_key(handle: &str) -> String {
    format!("/calico/ipam/v2/handle/{handle}")
}

/// The key of a workload endpoint.
pub fn endpoint_key(name: &str) -> String {
    format!("{ENDPOINTS}{name}")
}

/// A workload endpoint's name: its parts with doubled dashes, joined by single ones.
pub fn endpoint_name(node: &str, orchestrator: &str, workload: &str, endpoint: &str) -> String {
    [node, orchestrator, workload, endpoint].map(|part| part.replace('-', "--")).join("-")
}

/// A resource: `spec` depends on `kind`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Resource<S> {
    /// `IPPool`, `Profile`, `Node`, `WorkloadEndpoint`.
    pub kind: String,
    /// Always [`API_VERSION`].
    pub api_version: String,
    /// Name and origin.
    pub metadata: Metadata,
    /// What it is for.
    pub spec: S,
}

impl<S> Resource<S> {
    /// A resource with a name only.
    pub fn new(kind: &str, name: &str, spec: S) -> Self {
        let metadata = Metadata { name: name.to_owned(), ..Metadata::default() };
        Self { kind: kind.to_owned(), api_version: API_VERSION.to_owned(), metadata, spec }
    }
}

/// A resource's name and origin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Metadata {
    /// Unique within the kind.
    pub name: String,
    /// Of workload endpoints only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Of workload endpoints only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The revision of etcd that was read; a write with another one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Kept as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Kept as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
}

/// When an encapsulation is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// For all traffic between hosts.
    Always,
    /// Between hosts of different subnets.
    CrossSubnet,
    /// Not at all.
    #[default]
    Never,
}

/// A range of addresses for workloads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IpPoolSpec {
    /// The range.
    pub cidr: Cidr,
    /// VXLAN between hosts.
    #[serde(default)]
    pub vxlan_mode: Mode,
    /// IP in IP between hosts.
    #[serde(default)]
    pub ipip_mode: Mode,
    /// Whether traffic that leaves all pools is masqueraded; the stand-ins only keep it.
    #[serde(default)]
    pub nat_outgoing: bool,
    /// Whether no new address is given from it.
    #[serde(default)]
    pub disabled: bool,
    /// Prefix length of a host's block, in bits.
    #[serde(default = "default_block_size")]
    pub block_size: u8,
    /// Which nodes it is for; only `all()`.
    #[serde(default = "all_nodes")]
    pub node_selector: String,
}

fn default_block_size() -> u8 {
    26
}

fn all_nodes() -> String {
    "all()".to_owned()
}

/// Rules for the workloads that name it; the stand-ins check and keep them, but filter nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ProfileSpec {
    /// Towards the workload.
    #[serde(default)]
    pub ingress: Vec<Rule>,
    /// From the workload.
    #[serde(default)]
    pub egress: Vec<Rule>,
    /// Labels of every workload that names it.
    #[serde(default)]
    pub labels_to_apply: serde_json::Map<String, Value>,
}

/// One rule; its conditions are kept as given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rule {
    /// What happens to a matching packet.
    pub action: Action,
    /// Protocol by name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Value>,
    /// Where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Value>,
    /// Where it goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Value>,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Let it through.
    Allow,
    /// Drop it.
    Deny,
    /// Log it and go on.
    Log,
    /// Skip to the next tier.
    Pass,
}

/// A host of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Its address.
    pub bgp: NodeBgp,
}

/// A node's address as calico-node registers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeBgp {
    /// `address/length of its network`.
    pub ipv4_address: String,
}

/// A container's interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EndpointSpec {
    /// `cni` or `libnetwork`.
    pub orchestrator: String,
    /// The host.
    pub node: String,
    /// The container's ID, of CNI.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container_id: String,
    /// Always `libnetwork`, of libnetwork.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workload: String,
    /// The interface in the container; of libnetwork, Docker's ID of the endpoint.
    pub endpoint: String,
    /// The interface on the host.
    pub interface_name: String,
    /// Its networks, each an address with `/32`.
    pub ip_networks: Vec<Cidr>,
    /// The profiles whose rules hold.
    pub profiles: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_names_are_unambiguous() {
        assert_eq!(endpoint_name("host-1", "cni", "a-b", "eth0"), "host--1-cni-a--b-eth0");
        assert_ne!(endpoint_name("a-cni", "cni", "b", "eth0"), endpoint_name("a", "cni", "cni-b", "eth0"));
    }

    #[test]
    fn a_pool_has_calicos_defaults_and_no_unknown_fields() {
        let pool: IpPoolSpec = serde_json::from_str(r#"{"cidr":"10.1.0.0/16"}"#).unwrap();
        assert_eq!((pool.block_size, pool.ipip_mode, pool.vxlan_mode), (26, Mode::Never, Mode::Never));
        assert!(serde_json::from_str::<IpPoolSpec>(r#"{"cidr":"10.1.0.0/16","ipip":"Never"}"#).is_err());
        assert!(serde_json::from_str::<IpPoolSpec>(r#"{"cidr":"10.1.0.0/16","ipipMode":"always"}"#).is_err());
    }
}
