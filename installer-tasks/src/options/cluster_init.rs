//! `cluster-init`.

use clap::{ArgAction, Args};

use super::UpstreamOptions;
use crate::values::{Artifact, Cidr, Encapsulation, NetworkName, NodeProfile};

/// `cluster-init apply` and `cluster-init check`.
#[derive(Debug, Clone, Args)]
pub struct ClusterInitOptions {
    /// The network's name: the profile's, and the pool's name begins with it.
    #[arg(long, env = "CALICO_NETWORK_NAME")]
    pub network_name: NetworkName,
    /// The addresses of the pool.
    #[arg(long, env = "CALICO_NETWORK_POOL_CIDR")]
    pub network_pool_cidr: Cidr,
    /// The prefix length of the block that each host gets.
    #[arg(long, env = "CALICO_NETWORK_BLOCK_SIZE", value_parser = clap::value_parser!(u8).range(20..=32), default_value = "26")]
    pub network_block_size: u8,
    /// Which line of Calico's versions it is for, and calicoctl is of.
    #[arg(long, env = "CALICO_NODE_PROFILE", value_enum, default_value = "v3")]
    pub node_profile: NodeProfile,
    /// How packets travel between hosts [default: vxlan; with --node-profile v2.6: ipip].
    #[arg(long, env = "CALICO_NETWORK_ENCAPSULATION", value_enum)]
    pub network_encapsulation: Option<Encapsulation>,
    /// Whether packets that leave the pool get their host's address.
    #[arg(
        long,
        env = "CALICO_NETWORK_NAT_OUTGOING",
        action = ArgAction::Set,
        num_args = 0..=1,
        default_missing_value = "true",
        default_value = "true"
    )]
    pub network_nat_outgoing: bool,
    /// Which etcd: no proxy is used.
    #[command(flatten)]
    pub etcd: UpstreamOptions,
    /// The program `calicoctl`: PATH#sha256=HEX.
    #[arg(long, env = "CALICO_ARTIFACTS_CALICOCTL")]
    pub artifacts_calicoctl: Artifact,
}
