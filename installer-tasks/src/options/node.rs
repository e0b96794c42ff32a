//! `node` and `node-ip`.

use clap::{ArgAction, Args};

use super::{
    AgentOptions, DockerOptions, DockerUnitOptions, EtcdOptions, FindAgentOptions, LineOptions,
    RegistryOptions, StateOptions,
};
use crate::values::{Backend, Cpus, Memory, number};

/// `node run`.
#[derive(Debug, Clone, Args)]
pub struct NodeOptions {
    /// The image of calico/node.
    #[arg(long, env = "CALICO_NODE_IMAGE")]
    pub node_image: String,
    /// Which Calico, of which the image is.
    #[command(flatten)]
    pub line: LineOptions,
    /// Whether Docker's network plugin runs, which is a part of calico/node v2.6.
    #[arg(
        long,
        env = "CALICO_NODE_LIBNETWORK",
        action = ArgAction::Set,
        num_args = 0..=1,
        default_missing_value = "true",
        default_value = "false"
    )]
    pub node_libnetwork: bool,
    /// Calico's networking backend [default: the one that the encapsulation needs].
    #[arg(long, env = "CALICO_NODE_BACKEND", value_enum)]
    pub node_backend: Option<Backend>,
    /// This host's name in Calico [default: the lower-case host name].
    #[arg(long, env = "CALICO_NODE_NAME")]
    pub node_name: Option<String>,
    /// CPU time of the container, in CPUs.
    #[arg(long, env = "CALICO_NODE_CPUS")]
    pub node_cpus: Cpus,
    /// Memory of the container, in MiB.
    #[arg(long, env = "CALICO_NODE_MEM", value_name = "MIB")]
    pub node_mem: Memory,
    /// Where images come from.
    #[command(flatten)]
    pub registry: RegistryOptions,
    /// Docker.
    #[command(flatten)]
    pub docker: DockerOptions,
    /// Which etcd.
    #[command(flatten)]
    pub etcd: EtcdOptions,
    /// Which agent.
    #[command(flatten)]
    pub agent: AgentOptions,
    /// Where it is recorded that directories were made.
    #[command(flatten)]
    pub state: StateOptions,
}

/// `node check` and `libnetwork check`: exactly one of the two.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false, args = ["live", "ready"])]
pub struct ServiceCheckOptions {
    /// Is it alive? No means that it may be killed.
    #[arg(long)]
    pub live: bool,
    /// Does it serve? No is no reason to kill it.
    #[arg(long)]
    pub ready: bool,
    /// How long it is asked again until the answer is yes, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = number::<u64>(0..=86_400))]
    pub within: u64,
    /// Docker.
    #[command(flatten)]
    pub docker: DockerOptions,
}

/// `node undo` and `libnetwork undo`.
#[derive(Debug, Clone, Args)]
pub struct ServiceUndoOptions {
    /// Go ahead although containers use the network.
    #[arg(long)]
    pub force: bool,
    /// Docker.
    #[command(flatten)]
    pub unit: DockerUnitOptions,
    /// Where the record is.
    #[command(flatten)]
    pub state: StateOptions,
}

/// `node-ip`.
#[derive(Debug, Clone, Args)]
pub struct NodeIpOptions {
    /// Which agent, and the address if it is known.
    #[command(flatten)]
    pub agent: FindAgentOptions,
}
