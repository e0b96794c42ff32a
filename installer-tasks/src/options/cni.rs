//! `cni`.

use std::path::PathBuf;

use clap::Args;

use super::{FindAgentOptions, StateOptions, StepOptions};
use crate::values::{Artifact, Cidr, CniLogLevel, NetworkName};

/// `cni apply` and `cni check`.
#[derive(Debug, Clone, Args)]
pub struct CniOptions {
    /// The network's name.
    #[arg(long, env = "CALICO_NETWORK_NAME")]
    pub network_name: NetworkName,
    /// The MTU of containers' interfaces [default: the plugin's].
    #[arg(long, env = "CALICO_NETWORK_MTU", value_parser = clap::value_parser!(u16).range(576..))]
    pub network_mtu: Option<u16>,
    /// This host's name in Calico [default: the lower-case host name].
    #[arg(long, env = "CALICO_NODE_NAME")]
    pub node_name: Option<String>,
    /// The pools that containers' addresses are from, comma-separated [default: all].
    #[arg(long, env = "CALICO_CNI_IPV4_POOLS", value_name = "CIDR", value_delimiter = ',')]
    pub cni_ipv4_pools: Vec<Cidr>,
    /// What the plugins log [default: as they do by themselves].
    #[arg(long, env = "CALICO_CNI_LOG_LEVEL", value_enum)]
    pub cni_log_level: Option<CniLogLevel>,
    /// Connect containers also where calico-node has not written this host's name to /var/lib/calico/nodename.
    #[arg(long, env = "CALICO_CNI_NODENAME_FILE_OPTIONAL")]
    pub cni_nodename_file_optional: bool,
    /// Map ports of the host to containers, by mesos-cni-port-mapper.
    #[arg(long, env = "CALICO_CNI_PORT_MAPPER")]
    pub cni_port_mapper: bool,
    /// Shorten label values of more than 63 characters, which Calico refuses, as DC/OS does.
    #[arg(long, env = "CALICO_CNI_LABEL_WRAPPER")]
    pub cni_label_wrapper: bool,
    /// Where plugins are put [default: the first writable entry of the agent's search list].
    #[arg(long, env = "CALICO_CNI_PLUGINS_DIR")]
    pub cni_plugins_dir: Option<PathBuf>,
    /// Where network configurations are put [default: where the agent reads them].
    #[arg(long, env = "CALICO_CNI_CONFIG_DIR")]
    pub cni_config_dir: Option<PathBuf>,
    /// The plugin `calico`: PATH#sha256=HEX.
    #[arg(long, env = "CALICO_ARTIFACTS_CNI")]
    pub artifacts_cni: Artifact,
    /// The plugin `calico-ipam`: PATH#sha256=HEX.
    #[arg(long, env = "CALICO_ARTIFACTS_CNI_IPAM")]
    pub artifacts_cni_ipam: Artifact,
    /// What every step takes.
    #[command(flatten)]
    pub step: StepOptions,
}

/// `cni undo`.
#[derive(Debug, Clone, Args)]
pub struct CniUndoOptions {
    /// The network's name.
    #[arg(long, env = "CALICO_NETWORK_NAME")]
    pub network_name: NetworkName,
    /// Go ahead although containers use the network or files were changed since.
    #[arg(long)]
    pub force: bool,
    /// Which agent.
    #[command(flatten)]
    pub agent: FindAgentOptions,
    /// Where the record is.
    #[command(flatten)]
    pub state: StateOptions,
}
