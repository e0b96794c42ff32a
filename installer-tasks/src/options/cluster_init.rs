//! `cluster-init`.

use clap::{ArgAction, Args};

use super::{LineOptions, UpstreamOptions};
use crate::values::{Artifact, Cidr, NetworkName, number};

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
    #[arg(long, env = "CALICO_NETWORK_BLOCK_SIZE", value_parser = number::<u8>(20..=32), default_value = "26")]
    pub network_block_size: u8,
    /// Which Calico, of which calicoctl is, too.
    #[command(flatten)]
    pub line: LineOptions,
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
