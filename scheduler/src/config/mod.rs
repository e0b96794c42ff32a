//! What the operator configures. See [`options::OPTIONS`] for every option.

mod agents;
mod capacity;
mod cni;
mod docker;
mod etcd;
mod mesos;
mod node;
pub mod options;
mod reader;
mod rollout;
mod source;
mod state;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub use agents::{Agents, Recovery};
pub use cni::{AgentUnit, Cni};
pub use docker::{DockerStore, Libnetwork, Restarts};
pub use etcd::{Etcd, Proxy, ProxyMode, Tls};
pub use mesos::{Account, Identity, Masters, Mesos, Secret, Server, ZooKeeper};
pub use node::{Node, Profile};
pub use options::{OPTIONS, OptionDef};
pub use reader::{Fault, Faults};
pub use rollout::Rollout;
pub use source::FileSource;
pub use state::{EtcdLocation, EtcdTls, StateLocation};

use crate::core::Needs;
use reader::{Reader, parse};

/// The whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who we are.
    pub service: Service,
    /// How the masters are reached.
    pub mesos: Mesos,
    /// Which agents get Calico.
    pub agents: Agents,
    /// How many are recovered at a time.
    pub recovery: Recovery,
    /// `verify.interval`: how often it is looked whether what is installed is still there; none when it never is.
    pub verify_interval: Option<Duration>,
    /// How a changed configuration comes to them.
    pub rollout: Rollout,
    /// What they get.
    pub target: Target,
}

/// `service.*`
#[derive(Debug, Clone)]
pub struct Service {
    /// The framework's name.
    pub name: String,
    /// Where state is kept.
    pub state: StateLocation,
    /// The user of all tasks.
    pub user: String,
    /// The roles of the subscription.
    pub roles: Vec<String>,
    /// The roles in which services' resources are reserved: none when that is not wanted or not possible.
    pub reserve_in: Vec<String>,
    /// The host that we run on, where Marathon says it.
    pub host: Option<String>,
    /// Where people find the API, when that is known.
    pub webui_url: Option<String>,
    /// How long tasks outlive an absent scheduler.
    pub failover_timeout: Duration,
    /// Where the API listens.
    pub api_listen: SocketAddr,
    /// The log filter.
    pub log: String,
}

/// What agents are to look like: everything that tasks are launched with.
#[derive(Debug, Clone)]
pub struct Target {
    /// `etcd.*`
    pub etcd: Etcd,
    /// `cni.*`; none when it is disabled.
    pub cni: Option<Cni>,
    /// `network.*`
    pub network: Network,
    /// `node.profile`: line of Calico.
    pub profile: Profile,
    /// `node.*`, `registry.*`; none when it is disabled.
    pub node: Option<Node>,
    /// `docker.*`; none when it is disabled.
    pub docker: Option<DockerStore>,
    /// `libnetwork.*`; none when it is disabled.
    pub libnetwork: Option<Libnetwork>,
    /// `docker.unit`: Docker's systemd unit.
    pub docker_unit: String,
    /// `docker.socket`: Docker's API.
    pub docker_socket: PathBuf,
    /// How the Mesos agent is run.
    pub agent: AgentUnit,
    /// What may be restarted.
    pub restarts: Restarts,
    /// The installer.
    pub installer: Artifact,
    /// `calicoctl`.
    pub calicoctl: Artifact,
    /// Resources of each task type.
    pub needs: TaskNeeds,
}

/// `<task>.cpus` and `<task>.mem`
#[derive(Debug, Clone, Copy)]
pub struct TaskNeeds {
    /// Of `cluster-init`.
    pub cluster_init: Needs,
    /// Of `prefetch`.
    pub prefetch: Needs,
    /// Of `etcd-proxy`.
    pub etcd_proxy: Needs,
    /// Of `cni`.
    pub cni: Needs,
    /// Of `calico-node`.
    pub calico_node: Needs,
    /// Of `docker-cluster-store`.
    pub docker_cluster_store: Needs,
    /// Of `libnetwork`.
    pub libnetwork: Needs,
    /// Of `docker-network`.
    pub docker_network: Needs,
}

/// `network.*`
#[derive(Debug, Clone)]
pub struct Network {
    /// The network, its pool and its profile.
    pub name: String,
    /// The pool.
    pub pool: Ipv4Net,
    /// Prefix length of a block.
    pub block_size: u8,
    /// Between hosts.
    pub encapsulation: Encapsulation,
    /// In bytes.
    pub mtu: Option<u16>,
    /// Whether traffic that leaves the pool is masqueraded.
    pub nat_outgoing: bool,
    /// Whether route reflectors spread routes, and not a full mesh.
    pub route_reflectors: bool,
}

/// How packets travel between hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encapsulation {
    /// VXLAN.
    Vxlan,
    /// IP in IP.
    Ipip,
    /// As they are.
    None,
}

impl Encapsulation {
    const CHOICES: [(&str, Self); 3] = [("vxlan", Self::Vxlan), ("ipip", Self::Ipip), ("none", Self::None)];

    /// The option's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Ipip => "ipip",
            Self::None => "none",
        }
    }

    /// The back ends of calico/node that can carry it, as `node.backend` has them.
    fn backends(self) -> &'static [&'static str] {
        match self {
            Self::Vxlan => &["vxlan", "bird"],
            Self::Ipip => &["bird"],
            // Routes are spread by BGP, or by others.
            Self::None => &["bird", "none"],
        }
    }
}

/// A file that tasks fetch, and its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Where the agent's fetcher gets it from.
    pub uri: String,
    /// Hexadecimal, lower case.
    pub sha256: String,
}

impl Artifact {
    fn parse(value: &str) -> Result<Self, String> {
        let right = "must be URI#sha256=HEX, where HEX is the file's SHA-256 in 64 hexadecimal digits";
        let (uri, sha256) = value.split_once("#sha256=").ok_or(right)?;
        let digits = sha256.len() == 64 && sha256.chars().all(|c| c.is_ascii_hexdigit());
        let named = uri.rsplit('/').next().is_some_and(|name| !name.is_empty() && !name.contains(['?', '=']));
        if !digits || !named || !(uri.contains("://") || uri.starts_with('/')) {
            return Err(right.to_owned());
        }
        Ok(Self { uri: uri.to_owned(), sha256: sha256.to_lowercase() })
    }
}

impl Config {
    /// Reads the configuration from environment variables alone.
    pub fn from_env(env: &BTreeMap<String, String>) -> Result<Self, Faults> {
        Self::read(env, BTreeMap::new())
    }

    /// Reads the configuration from environment variables, and over them from flags by option name.
    pub fn read(
        env: &BTreeMap<String, String>,
        flags: BTreeMap<&'static str, String>,
    ) -> Result<Self, Faults> {
        let mut reader = Reader::new(env, flags);
        let place = etcd::place(&mut reader);
        let service = service(&mut reader, &place.0, env.get("PORT0"), env.get("HOST"));
        let mesos = mesos::read(&mut reader, env);
        let agents = agents::agents(&mut reader);
        let recovery = agents::recovery(&mut reader);
        let verify_interval = agents::verify_interval(&mut reader);
        let rollout = rollout::read(&mut reader);
        let target = target(&mut reader, place);
        reader.finish(Self { service, mesos, agents, recovery, verify_interval, rollout, target })
    }
}

fn service(reader: &mut Reader, etcd: &[String], port0: Option<&String>, host: Option<&String>) -> Service {
    let roles = reader.required_list("service.role", "must name a role, like *", role);
    if let Some(twice) = roles.iter().enumerate().find(|(n, role)| roles[..*n].contains(role)) {
        // The master refuses such a subscription for good.
        reader.fault("service.role", format!("'{}' is named twice", twice.1));
    }
    let reserve = reader.required("service.reserve", true, parse::boolean);
    // DC/OS' own role of public agents is shared by all: what is reserved in it is still everybody's.
    let ours = roles.iter().filter(|role| reserve && !["*", "slave_public"].contains(&role.as_str()));
    let api_listen = api_listen(reader, port0);
    Service {
        name: reader.required("service.name", String::new(), name),
        reserve_in: ours.cloned().collect(),
        host: host.filter(|host| !host.is_empty()).cloned(),
        webui_url: reader.optional("service.webui-url", web_url).or_else(|| webui_url(api_listen, host)),
        state: state::read(reader, etcd),
        user: reader.required("service.user", String::new(), parse::user),
        roles,
        // A scheduler that is away for longer has all its tasks killed, and its framework removed.
        failover_timeout: reader.required(
            "service.failover-timeout",
            Duration::ZERO,
            at_least(Duration::from_hours(1)),
        ),
        api_listen,
        log: reader.required("service.log", String::new(), |value| {
            let filter: Result<tracing_subscriber::EnvFilter, _> = value.parse();
            filter.map(|_| value.to_owned()).map_err(|error| error.to_string())
        }),
    }
}

fn api_listen(reader: &mut Reader, port0: Option<&String>) -> SocketAddr {
    let default = SocketAddr::from(([0, 0, 0, 0], 0));
    reader.required("service.api-listen", default, |value| match (value.contains("$PORT0"), port0) {
        (true, None) => Err("PORT0 is not in the environment; give an address like 0.0.0.0:8080".into()),
        (true, Some(port)) => parse::address(&value.replace("$PORT0", port)),
        (false, _) => parse::address(value),
    })
}

/// Where the API is found by others; none when that cannot be told.
fn webui_url(listen: SocketAddr, host: Option<&String>) -> Option<String> {
    let address = match host.filter(|host| !host.is_empty()) {
        Some(host) if listen.ip().is_unspecified() => format!("{host}:{}", listen.port()),
        None if listen.ip().is_unspecified() => return None,
        _ => listen.to_string(),
    };
    (listen.port() != 0).then(|| format!("http://{address}/"))
}

fn web_url(value: &str) -> Result<String, String> {
    let fine = value.starts_with("http://") || value.starts_with("https://");
    let uri: Result<http::Uri, _> = value.parse();
    if fine && uri.is_ok() {
        Ok(value.to_owned())
    } else {
        Err("must be an http:// or https:// URL".to_owned())
    }
}

fn target(reader: &mut Reader, place: (Vec<String>, Option<String>)) -> Target {
    let no_artifact = Artifact { uri: String::new(), sha256: String::new() };
    let etcd = etcd::read(reader, place);
    let cni = cni::read(reader);
    let profile = node::profile(reader);
    let node = node::node(reader);
    let network = network(reader, profile);
    node::check(reader, node.as_ref(), network.encapsulation);
    let docker = docker::store(reader);
    let libnetwork = docker::libnetwork(reader, docker.is_some(), node.is_some(), profile);
    capacity::check(reader, &network, &etcd);
    etcd::check(reader, &etcd, profile, docker.as_ref(), libnetwork.is_some());
    Target {
        etcd,
        cni,
        network,
        profile,
        node,
        docker,
        libnetwork,
        docker_unit: reader.required("docker.unit", String::new(), docker::unit),
        docker_socket: reader.required("docker.socket", PathBuf::new(), absolute),
        agent: cni::agent(reader),
        restarts: docker::restarts(reader),
        installer: reader.required("artifacts.installer", no_artifact.clone(), Artifact::parse),
        calicoctl: reader.required("artifacts.calicoctl", no_artifact, Artifact::parse),
        needs: TaskNeeds {
            cluster_init: needs(reader, "cluster-init.cpus", "cluster-init.mem"),
            prefetch: needs(reader, "prefetch.cpus", "prefetch.mem"),
            etcd_proxy: needs(reader, "etcd-proxy.cpus", "etcd-proxy.mem"),
            cni: needs(reader, "cni.cpus", "cni.mem"),
            calico_node: needs(reader, "calico-node.cpus", "calico-node.mem"),
            docker_cluster_store: needs(reader, "docker-cluster-store.cpus", "docker-cluster-store.mem"),
            libnetwork: needs(reader, "libnetwork.cpus", "libnetwork.mem"),
            docker_network: needs(reader, "docker-network.cpus", "docker-network.mem"),
        },
    }
}

fn network(reader: &mut Reader, profile: Profile) -> Network {
    let pool = reader.required("network.pool-cidr", Ipv4Net::default(), pool);
    let block_size = reader.required("network.block-size", 26, |value| match value.parse() {
        Ok(size) if profile == Profile::V26 && size != 26 => {
            Err("must be 26 with node.profile = v2.6, which has no others".to_owned())
        }
        Ok(size) if (20..=32).contains(&size) && size >= pool.prefix_len() => Ok(size),
        _ => Err(format!(
            "must be from 20 to 32, and not shorter than the pool's prefix ({})",
            pool.prefix_len()
        )),
    });
    Network {
        name: reader.required("network.name", String::new(), network_name),
        pool,
        block_size,
        encapsulation: reader
            .optional("network.encapsulation", |value| parse::one_of(value, profile.encapsulations()))
            .unwrap_or(profile.encapsulation()),
        mtu: reader.optional("network.mtu", |value| match value.parse() {
            Ok(mtu) if mtu >= 576 => Ok(mtu),
            _ => Err("must be a number of bytes from 576 to 65535".to_owned()),
        }),
        nat_outgoing: reader.required("network.nat-outgoing", true, parse::boolean),
        route_reflectors: reader.required("network.route-reflectors", false, parse::boolean),
    }
}

fn pool(value: &str) -> Result<Ipv4Net, String> {
    let pool: Ipv4Net = value.parse().map_err(|_| "not a network; like 192.168.0.0/16".to_owned())?;
    if pool.trunc() == pool { Ok(pool) } else { Err(format!("has host bits set; meant is {}", pool.trunc())) }
}

fn needs(reader: &mut Reader, cpus: &'static str, mem: &'static str) -> Needs {
    Needs {
        cpus: reader.required(cpus, 0, parse::thousandths),
        // Mesos' own minimum for a container.
        mem: reader.required(mem, 0, |value| match parse::thousandths(value)? {
            mem if mem >= 32_000 => Ok(mem),
            _ => Err("must be at least 32 (MB)".to_owned()),
        }),
    }
}

fn at_least(least: Duration) -> impl FnOnce(&str) -> Result<Duration, String> {
    move |value| match parse::duration(value)? {
        duration if duration >= least => Ok(duration),
        _ => Err(format!("must be at least {}", humantime::format_duration(least))),
    }
}

fn absolute(value: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(value);
    if path.is_absolute() { Ok(path) } else { Err("must be an absolute path".to_owned()) }
}

/// A name that is also a part of paths, container names and DNS names.
fn name(value: &str) -> Result<String, String> {
    let value = value.trim_start_matches('/');
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if value.is_empty() || value.len() > 128 || !value.chars().all(fine) {
        return Err("must be letters, digits, '-', '_', '.' and '/' only, at most 128".to_owned());
    }
    Ok(value.to_owned())
}

/// A name that Calico takes for its resources (`metadata.name`).
fn network_name(value: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inner = value.chars().all(|c| fine(c) || "-.".contains(c));
    if value.len() <= 63 && inner && value.starts_with(fine) && value.ends_with(fine) {
        return Ok(value.to_owned());
    }
    Err("must be lower-case letters, digits, '-' and '.', at most 63, with a letter or digit at both ends"
        .to_owned())
}

/// Mesos' rules for role names (`src/common/roles.cpp`): no white space, no leading `-`, no `.` or `..` alone.
fn role(value: &str) -> Result<String, String> {
    let bad = value.starts_with('-') || [".", ".."].contains(&value) || value.contains(char::is_whitespace);
    if bad { Err(format!("'{value}' is not a role's name")) } else { Ok(value.to_owned()) }
}

#[cfg(test)]
pub(crate) use mesos::test_key;

#[cfg(test)]
mod tests;
