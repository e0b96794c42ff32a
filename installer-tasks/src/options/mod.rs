//! The options of the steps: names, environment variables and defaults are those of the scheduler's options.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::Args;

use crate::exit::{Failure, Result};
use crate::host::{Host, net};
use crate::steps::model::Restarts;
use crate::values::{Encapsulation, Endpoint, NodeProfile, PinnedFile, ipv4, number};

mod cluster_init;
mod cni;
mod docker_store;
mod etcd;
mod etcd_proxy;
mod host;
mod libnetwork;
mod net_modules;
mod node;
mod prefetch;

pub use cluster_init::ClusterInitOptions;
pub use cni::{AgentUnitOptions, CniOptions, CniUndoOptions};
pub use docker_store::{DockerStoreOptions, DockerStoreUndoOptions, DockerUnitOptions, MaxAgentsOptions};
pub use etcd::{
    EtcdApi, EtcdClient, EtcdOptions, EtcdPlace, EtcdTls, EtcdTlsFile, EtcdTlsOptions, UpstreamOptions,
};
pub use etcd_proxy::EtcdProxyOptions;
pub use host::{PreflightOptions, StatusOptions, UndoAllOptions};
pub use libnetwork::{DockerNetworkOptions, DockerNetworkUndoOptions, LibnetworkOptions};
pub use net_modules::{NetModulesOptions, NetModulesUndoOptions};
pub use node::{NodeIpOptions, NodeOptions, ServiceCheckOptions, ServiceUndoOptions};
pub use prefetch::PrefetchOptions;

/// Endpoints as a comma-separated list.
pub fn join(endpoints: &[Endpoint]) -> String {
    endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The Mesos agent of this host.
#[derive(Debug, Clone, Args)]
pub struct AgentOptions {
    /// The agent's URL [default: port 5051 on this host's address].
    #[arg(long = "mesos-agent", env = "CALICO_MESOS_AGENT", value_name = "URL")]
    pub mesos_agent: Option<Endpoint>,
    /// This host's address [default: what DC/OS' `detect_ip` says, or that from which etcd is reached].
    #[arg(long = "node-ip", env = "CALICO_NODE_IP", value_parser = ipv4)]
    pub node_ip: Option<Ipv4Addr>,
}

impl AgentOptions {
    /// The agent's URL, found through `etcd` where it is not given.
    pub async fn url(&self, host: &Host, etcd: &[Endpoint]) -> Result<Endpoint> {
        net::agent_url(host, self.mesos_agent.as_ref(), self.node_ip, etcd).await
    }
}

/// The Mesos agent of this host, where etcd only serves to find this host's address.
#[derive(Debug, Clone, Args)]
pub struct FindAgentOptions {
    /// The etcd members, comma-separated: this host's address is the one from which the first is reached.
    #[arg(long, env = "CALICO_ETCD_ENDPOINTS", value_delimiter = ',')]
    pub etcd_endpoints: Vec<Endpoint>,
    /// Which agent.
    #[command(flatten)]
    pub agent: AgentOptions,
}

impl FindAgentOptions {
    /// The agent's URL.
    pub async fn url(&self, host: &Host) -> Result<Endpoint> {
        self.agent.url(host, &self.etcd_endpoints).await
    }
}

/// What every step takes that changes files of the host.
#[derive(Debug, Clone, Args)]
pub struct StepOptions {
    /// Which etcd.
    #[command(flatten)]
    pub etcd: EtcdOptions,
    /// Which agent.
    #[command(flatten)]
    pub agent: AgentOptions,
    /// Where the record is.
    #[command(flatten)]
    pub state: StateOptions,
    /// What may be restarted.
    #[command(flatten)]
    pub restarts: RestartOptions,
}

impl StepOptions {
    /// The URL of the agent of this host.
    pub async fn agent_url(&self, host: &Host) -> Result<Endpoint> {
        self.agent.url(host, &self.etcd.upstream.endpoints).await
    }
}

/// Where the record of what was changed is kept.
#[derive(Debug, Clone, Args)]
pub struct StateOptions {
    /// The directory of the record of what was changed on this host.
    #[arg(long = "state-dir", env = "CALICO_STATE_DIR", default_value = "/var/lib/calico-dcos")]
    pub state_dir: PathBuf,
    /// How long another calico-installer on this host is waited for, in seconds.
    #[arg(long, env = "CALICO_LOCK_TIMEOUT", value_name = "SECONDS", default_value = "60", value_parser = number::<u64>(0..=86_400))]
    pub lock_timeout: u64,
}

/// Whether something that others use may be restarted.
#[derive(Debug, Clone, Copy, Args)]
pub struct RestartOptions {
    /// Restart what must be restarted for the changes to take effect; without it nothing is changed then (exit 79).
    #[arg(long)]
    pub allow_restart: bool,
}

impl RestartOptions {
    /// As the engine takes it.
    pub fn restarts(self) -> Restarts {
        if self.allow_restart { Restarts::Allowed } else { Restarts::Forbidden }
    }
}

/// Where images come from.
#[derive(Debug, Clone, Args)]
pub struct RegistryOptions {
    /// A registry that images are pulled through: HOST[:PORT].
    #[arg(long = "registry-mirror", env = "CALICO_REGISTRY_MIRROR", value_name = "HOST[:PORT]")]
    pub mirror: Option<String>,
    /// The file of what registries, or the mirror, are logged in to with: user:password, or a config.json of Docker's; PATH
    /// or PATH#sha256=HEX.
    #[arg(long = "registry-credentials", env = "CALICO_REGISTRY_CREDENTIALS", value_name = "PATH")]
    pub credentials: Option<PinnedFile>,
}

/// Which line of Calico's versions, and what follows from it.
#[derive(Debug, Clone, Copy, Args)]
pub struct LineOptions {
    /// Which line of Calico's versions.
    #[arg(long, env = "CALICO_NODE_PROFILE", value_enum, default_value = "v3")]
    pub node_profile: NodeProfile,
    /// How packets travel between hosts [default: vxlan; with --node-profile v2.6: ipip].
    #[arg(long, env = "CALICO_NETWORK_ENCAPSULATION", value_enum)]
    pub network_encapsulation: Option<Encapsulation>,
}

impl LineOptions {
    /// How packets travel between hosts: as given, or as that line does by default.
    pub fn encapsulation(self) -> Result<Encapsulation> {
        match (self.node_profile, self.network_encapsulation) {
            (NodeProfile::V26, Some(Encapsulation::Vxlan)) => Err(Failure::unsuitable(
                "--network-encapsulation vxlan is not in Calico v2.6 (--node-profile): give ipip or none",
            )),
            (_, Some(given)) => Ok(given),
            (NodeProfile::V3, None) => Ok(Encapsulation::Vxlan),
            (NodeProfile::V26, None) => Ok(Encapsulation::Ipip),
        }
    }
}

/// How Docker is reached.
#[derive(Debug, Clone, Args)]
pub struct DockerOptions {
    /// Docker's socket.
    #[arg(long = "docker-socket", env = "CALICO_DOCKER_SOCKET", default_value = "/var/run/docker.sock")]
    pub socket: PathBuf,
}
