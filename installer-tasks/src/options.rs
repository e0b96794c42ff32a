//! The options of the steps: names, environment variables and defaults are those of the scheduler's options.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{ArgAction, Args};

use crate::exit::{Failure, Result};
use crate::values::{
    Artifact, Backend, Cidr, Cpus, Encapsulation, Endpoint, EtcdProxy, Memory, NetworkName, NodeProfile,
    Scheme,
};

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

/// Where the record of what was changed is kept.
#[derive(Debug, Clone, Args)]
pub struct StateOptions {
    /// The directory of the record of what was changed on this host.
    #[arg(long = "state-dir", env = "CALICO_STATE_DIR", default_value = "/var/lib/calico-dcos")]
    pub state_dir: PathBuf,
}

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
    /// Which etcd.
    #[command(flatten)]
    pub etcd: EtcdOptions,
    /// Which agent.
    #[command(flatten)]
    pub agent: AgentOptions,
    /// Where the record is.
    #[command(flatten)]
    pub state: StateOptions,
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
    /// The etcd members: only to find this host's address.
    #[arg(long, env = "CALICO_ETCD_ENDPOINTS", value_delimiter = ',')]
    pub etcd_endpoints: Vec<Endpoint>,
    /// Which agent.
    #[command(flatten)]
    pub agent: AgentOptions,
    /// Where the record is.
    #[command(flatten)]
    pub state: StateOptions,
}

/// `node run`.
#[derive(Debug, Clone, Args)]
pub struct NodeOptions {
    /// The image of calico/node.
    #[arg(long, env = "CALICO_NODE_IMAGE")]
    pub node_image: String,
    /// Which line of Calico's versions the image is of.
    #[arg(long, env = "CALICO_NODE_PROFILE", value_enum, default_value = "v3")]
    pub node_profile: NodeProfile,
    /// How packets travel between hosts.
    #[arg(long, env = "CALICO_NETWORK_ENCAPSULATION", value_enum, default_value = "vxlan")]
    pub network_encapsulation: Encapsulation,
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
    /// A registry that images are pulled through: HOST[:PORT].
    #[arg(long, env = "CALICO_REGISTRY_MIRROR", value_name = "HOST[:PORT]")]
    pub registry_mirror: Option<String>,
    /// Docker.
    #[command(flatten)]
    pub docker: DockerOptions,
    /// Which etcd.
    #[command(flatten)]
    pub etcd: EtcdOptions,
    /// Which agent.
    #[command(flatten)]
    pub agent: AgentOptions,
}

/// How Docker is reached.
#[derive(Debug, Clone, Args)]
pub struct DockerOptions {
    /// Docker's socket.
    #[arg(long = "docker-socket", env = "CALICO_DOCKER_SOCKET", default_value = "/var/run/docker.sock")]
    pub socket: PathBuf,
}

/// `node check`: exactly one of the two.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false, args = ["live", "ready"])]
pub struct NodeCheckOptions {
    /// Is it alive? No means that it may be killed.
    #[arg(long)]
    pub live: bool,
    /// Does it serve? No is no reason to kill it.
    #[arg(long)]
    pub ready: bool,
    /// Docker.
    #[command(flatten)]
    pub docker: DockerOptions,
}

/// `etcd-proxy run`.
#[derive(Debug, Clone, Args)]
pub struct EtcdProxyOptions {
    /// Which etcd.
    #[command(flatten)]
    pub etcd: EtcdOptions,
    /// The program `etcd`, or a .tar.gz that holds it: PATH#sha256=HEX.
    #[arg(long, env = "CALICO_ARTIFACTS_ETCD")]
    pub artifacts_etcd: Artifact,
}

/// `cluster-init apply`.
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
    /// How packets travel between hosts.
    #[arg(long, env = "CALICO_NETWORK_ENCAPSULATION", value_enum, default_value = "vxlan")]
    pub network_encapsulation: Encapsulation,
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
    /// The etcd members, comma-separated.
    #[arg(long, env = "CALICO_ETCD_ENDPOINTS", value_delimiter = ',', required = true)]
    pub etcd_endpoints: Vec<Endpoint>,
    /// The program `calicoctl`: PATH#sha256=HEX.
    #[arg(long, env = "CALICO_ARTIFACTS_CALICOCTL")]
    pub artifacts_calicoctl: Artifact,
}

/// `node-ip`.
#[derive(Debug, Clone, Args)]
pub struct NodeIpOptions {
    /// Which agent, and the address if it is known.
    #[command(flatten)]
    pub agent: AgentOptions,
    /// The etcd members: the address from which the first is reached is taken.
    #[arg(long, env = "CALICO_ETCD_ENDPOINTS", value_delimiter = ',')]
    pub etcd_endpoints: Vec<Endpoint>,
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
