//! `libnetwork` and `docker-network`.

use clap::Args;

use super::{DockerOptions, EtcdOptions, LineOptions, RegistryOptions, StateOptions};
use crate::values::{Cidr, Cpus, Memory, NetworkName, number};

/// `libnetwork run`.
#[derive(Debug, Clone, Args)]
pub struct LibnetworkOptions {
    /// The image of Calico's plugin for Docker's networks.
    #[arg(long, env = "CALICO_LIBNETWORK_IMAGE")]
    pub libnetwork_image: String,
    /// Which Calico runs on this host: v2.6 has the plugin inside.
    #[command(flatten)]
    pub line: LineOptions,
    /// CPU time of the container, in CPUs.
    #[arg(long, env = "CALICO_LIBNETWORK_CPUS")]
    pub libnetwork_cpus: Cpus,
    /// Memory of the container, in MiB.
    #[arg(long, env = "CALICO_LIBNETWORK_MEM", value_name = "MIB")]
    pub libnetwork_mem: Memory,
    /// This host's name in Calico, which must be calico-node's [default: the lower-case host name].
    #[arg(long, env = "CALICO_NODE_NAME")]
    pub node_name: Option<String>,
    /// The MTU of containers' interfaces [default: the plugin's].
    #[arg(long, env = "CALICO_NETWORK_MTU", value_parser = number::<u16>(576..=65_535))]
    pub network_mtu: Option<u16>,
    /// Which etcd.
    #[command(flatten)]
    pub etcd: EtcdOptions,
    /// Where it is recorded that directories were made.
    #[command(flatten)]
    pub state: StateOptions,
    /// Where images come from.
    #[command(flatten)]
    pub registry: RegistryOptions,
    /// Docker.
    #[command(flatten)]
    pub docker: DockerOptions,
}

/// `docker-network apply` and `check`.
#[derive(Debug, Clone, Args)]
pub struct DockerNetworkOptions {
    /// The network's name, and that of its profile.
    #[arg(long, env = "CALICO_NETWORK_NAME")]
    pub network_name: NetworkName,
    /// The CIDR of the pool that its addresses are of.
    #[arg(long, env = "CALICO_NETWORK_POOL_CIDR")]
    pub network_pool_cidr: Cidr,
    /// Docker.
    #[command(flatten)]
    pub docker: DockerOptions,
}

/// `docker-network undo`.
#[derive(Debug, Clone, Args)]
pub struct DockerNetworkUndoOptions {
    /// The network's name.
    #[arg(long, env = "CALICO_NETWORK_NAME")]
    pub network_name: NetworkName,
    /// Docker.
    #[command(flatten)]
    pub docker: DockerOptions,
}
