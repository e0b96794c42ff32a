//! `cni`.

use std::path::PathBuf;

use clap::Args;

use super::{FindAgentOptions, RestartOptions, StateOptions, StepOptions};
use crate::host::platform::PlatformChoice;
use crate::values::{Artifact, Cidr, CniLogLevel, NetworkName, number};

/// How the Mesos agent of this host is run.
#[derive(Debug, Clone, Args)]
pub struct AgentUnitOptions {
    /// How it is set up.
    #[arg(
        long = "mesos-platform",
        visible_alias = "platform",
        env = "CALICO_MESOS_PLATFORM",
        value_enum,
        default_value = "auto"
    )]
    pub platform: PlatformChoice,
    /// Its unit [default: the one of the platform's that is active].
    #[arg(long = "mesos-unit", env = "CALICO_MESOS_UNIT", value_name = "NAME.service")]
    pub unit: Option<String>,
    /// How long it may take to register again after a restart, beyond the time that it gives its executors, in seconds.
    #[arg(
        long = "mesos-patience",
        env = "CALICO_MESOS_PATIENCE",
        value_name = "SECONDS",
        default_value = "60",
        value_parser = number::<u64>(1..=3600)
    )]
    pub patience: u64,
}

/// `cni apply` and `cni check`.
#[derive(Debug, Clone, Args)]
pub struct CniOptions {
    /// The network's name.
    #[arg(long, env = "CALICO_NETWORK_NAME")]
    pub network_name: NetworkName,
    /// The MTU of containers' interfaces [default: the plugin's].
    #[arg(long, env = "CALICO_NETWORK_MTU", value_parser = number::<u16>(576..=65_535))]
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
    /// How the agent is run.
    #[command(flatten)]
    pub unit: AgentUnitOptions,
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
    /// Changes nothing where the agent would keep flags that were set for CNI until its next start, and may not be
    /// restarted (exit 79).
    #[arg(long)]
    pub complete: bool,
    /// What may be restarted; without it, an agent keeps such flags until its next start.
    #[command(flatten)]
    pub restarts: RestartOptions,
    /// Which agent.
    #[command(flatten)]
    pub agent: FindAgentOptions,
    /// How it is run.
    #[command(flatten)]
    pub unit: AgentUnitOptions,
    /// Where the record is.
    #[command(flatten)]
    pub state: StateOptions,
}
