//! The options of the steps: names, environment variables and defaults are those of the scheduler's options.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

use crate::exit::{Failure, Result};
use crate::host::net;
use crate::steps::model::Restarts;
use crate::values::{Endpoint, EtcdProxy, Scheme};

mod cluster_init;
mod cni;
mod docker_store;
mod etcd_proxy;
mod host;
mod libnetwork;
mod node;
mod prefetch;

pub use cluster_init::ClusterInitOptions;
pub use cni::{AgentUnitOptions, CniOptions, CniUndoOptions};
pub use docker_store::{DockerStoreOptions, DockerStoreUndoOptions, DockerUnitOptions, MaxAgentsOptions};
pub use etcd_proxy::EtcdProxyOptions;
pub use host::{PreflightOptions, StatusOptions, UndoAllOptions};
pub use libnetwork::{DockerNetworkOptions, DockerNetworkUndoOptions, LibnetworkOptions};
pub use node::{NodeIpOptions, NodeOptions, ServiceCheckOptions, ServiceUndoOptions};
pub use prefetch::PrefetchOptions;

/// Which etcd, and how the host reaches it.
#[derive(Debug, Clone, Args)]
pub struct EtcdOptions {
    /// The etcd members, comma-separated: http://HOST:PORT or https://HOST:PORT.
    #[arg(long = "etcd-endpoints", env = "CALICO_ETCD_ENDPOINTS", value_delimiter = ',', required = true)]
    pub endpoints: Vec<Endpoint>,
    /// How clients on this host reach them.
    #[arg(long = "etcd-proxy", env = "CALICO_ETCD_PROXY", value_enum, default_value = "gateway")]
    pub proxy: EtcdProxy,
    /// Where the proxy listens.
    #[arg(
        long = "etcd-listen",
        env = "CALICO_ETCD_LISTEN",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:2379"
    )]
    pub listen: SocketAddr,
}

impl EtcdOptions {
    /// The endpoints that clients on this host are told: the proxy's, or the members themselves.
    pub fn for_clients(&self) -> Result<Vec<Endpoint>> {
        match self.proxy {
            EtcdProxy::Direct => Ok(self.endpoints.clone()),
            EtcdProxy::Gateway => Ok(vec![self.local()?]),
            EtcdProxy::GrpcProxy | EtcdProxy::V2Proxy => Err(self.unsupported()),
        }
    }

    /// The proxy as clients on this host reach it. It passes TLS through, so the scheme is the members'.
    pub fn local(&self) -> Result<Endpoint> {
        let scheme = self.endpoints.first().map_or(Scheme::Http, |first| first.scheme);
        if self.endpoints.iter().any(|endpoint| endpoint.scheme != scheme) {
            return Err(Failure::unsuitable(
                "--etcd-endpoints has both http:// and https:// members: behind one proxy all must be the same",
            ));
        }
        let ip = match self.listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        Ok(Endpoint { scheme, host: ip.to_string(), port: self.listen.port() })
    }

    /// Why the chosen proxy cannot be had.
    pub fn unsupported(&self) -> Failure {
        Failure::unsuitable(format!(
            "--etcd-proxy {} is not supported yet by this version; use gateway or direct",
            self.proxy.name()
        ))
    }
}

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
    /// This host's address [default: that from which etcd is reached].
    #[arg(long = "node-ip", env = "CALICO_NODE_IP")]
    pub node_ip: Option<Ipv4Addr>,
}

impl AgentOptions {
    /// The agent's URL, found through `etcd` where it is not given.
    pub fn url(&self, etcd: &[Endpoint]) -> Result<Endpoint> {
        net::agent_url(self.mesos_agent.as_ref(), self.node_ip, etcd)
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
    pub fn url(&self) -> Result<Endpoint> {
        self.agent.url(&self.etcd_endpoints)
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

/// Where the record of what was changed is kept.
#[derive(Debug, Clone, Args)]
pub struct StateOptions {
    /// The directory of the record of what was changed on this host.
    #[arg(long = "state-dir", env = "CALICO_STATE_DIR", default_value = "/var/lib/calico-dcos")]
    pub state_dir: PathBuf,
    /// How long another calico-installer on this host is waited for, in seconds.
    #[arg(long, env = "CALICO_LOCK_TIMEOUT", value_name = "SECONDS", default_value = "60")]
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

/// How Docker is reached.
#[derive(Debug, Clone, Args)]
pub struct DockerOptions {
    /// Docker's socket.
    #[arg(long = "docker-socket", env = "CALICO_DOCKER_SOCKET", default_value = "/var/run/docker.sock")]
    pub socket: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etcd(endpoints: &[&str], proxy: EtcdProxy, listen: &str) -> EtcdOptions {
        EtcdOptions {
            endpoints: endpoints.iter().map(|text| text.parse().unwrap()).collect(),
            proxy,
            listen: listen.parse().unwrap(),
        }
    }

    #[test]
    fn clients_use_the_proxy_or_the_members() {
        let members = ["https://a:2379", "https://b:2379"];
        let clients = |proxy, listen| etcd(&members, proxy, listen).for_clients().map(|list| join(&list));
        assert_eq!(clients(EtcdProxy::Direct, "127.0.0.1:1").unwrap(), "https://a:2379,https://b:2379");
        assert_eq!(clients(EtcdProxy::Gateway, "127.0.0.1:2379").unwrap(), "https://127.0.0.1:2379");
        assert_eq!(clients(EtcdProxy::Gateway, "0.0.0.0:2379").unwrap(), "https://127.0.0.1:2379");
        assert_eq!(clients(EtcdProxy::Gateway, "[::]:2379").unwrap(), "https://[::1]:2379");
        assert!(clients(EtcdProxy::V2Proxy, "127.0.0.1:1").unwrap_err().to_string().contains("v2-proxy"));
    }

    #[test]
    fn one_gateway_cannot_serve_two_schemes() {
        let mixed = etcd(&["http://a:1", "https://b:1"], EtcdProxy::Gateway, "127.0.0.1:2379");
        assert!(mixed.for_clients().unwrap_err().to_string().contains("both"));
    }
}
