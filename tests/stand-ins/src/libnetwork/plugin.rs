//! What the two plugins answer: bytes in, JSON out. All that is outside of it is [`Surroundings`].

use std::future::Future;
use std::net::Ipv4Addr;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;

use super::protocol::{
    CreateEndpoint, CreateNetwork, Discovery, Endpoint, GENERIC, GLOBAL_SPACE, InterfaceName, Join, Joined,
    NO_GATEWAY, Network, Nothing, PROFILE, ProgramExternalConnectivity, ReleaseAddress, ReleasePool,
    RequestAddress, RequestPool, StaticRoute,
};
use crate::cidr::Cidr;
use crate::datastore::{DatastoreError, Expect, Store, Write};
use crate::ipam::{self, IpamError, Request};
use crate::resources::{self, EndpointSpec, IpPoolSpec, Resource};

/// The next hop of every container, as with CNI.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// What Docker calls the interfaces in containers: this and a number.
const INTERFACE_PREFIX: &str = "cali";
/// Orchestrator and workload of all endpoints, and how the handles of their addresses begin.
const LIBNETWORK: &str = "libnetwork";

/// One of the two sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plugin {
    /// `calico.sock`
    Network,
    /// `calico-ipam.sock`
    Ipam,
}

impl Plugin {
    /// Its name, and that of its socket.
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "calico",
            Self::Ipam => "calico-ipam",
        }
    }

    /// The interface that it implements.
    fn interface(self) -> &'static str {
        match self {
            Self::Network => "NetworkDriver",
            Self::Ipam => "IpamDriver",
        }
    }
}

/// Why a request is refused.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The body is not what the protocol says.
    #[error("{method}: {error}, in {body}")]
    Body {
        /// Which request.
        method: String,
        /// What is wrong.
        error: serde_json::Error,
        /// The body.
        body: String,
    },
    /// This plugin has no such request.
    #[error("there is no request {0:?} to this plugin")]
    Method(String),
    /// It cannot be done as it is asked for.
    #[error("{0}")]
    Asked(String),
    /// No address.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// The datastore failed.
    #[error(transparent)]
    Datastore(#[from] DatastoreError),
    /// Docker, the kernel or the like failed.
    #[error("{0}")]
    Surroundings(String),
}

/// All that the plugins work with.
pub trait Surroundings: Send + Sync {
    /// The datastore's kind.
    type Store: Store + Send;

    /// The host's name in Calico.
    fn node(&self) -> &str;
    /// A name that was never used before.
    fn unique(&self) -> Result<String, Refusal>;
    /// The datastore, once it answers.
    fn store(&self) -> impl Future<Output = Result<Self::Store, Refusal>> + Send;
    /// Makes a pair of interfaces, and the way to `address` over `host`.
    fn connect(
        &self,
        host: &str,
        peer: &str,
        address: Ipv4Addr,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;
    /// Removes a pair by its end on the host, if it is there.
    fn disconnect(&self, host: &str) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// Answers the request `method` (`NetworkDriver.Join`) to `plugin`.
pub async fn answer<S: Surroundings>(
    around: &S,
    plugin: Plugin,
    method: &str,
    body: &[u8],
) -> Result<Value, Refusal> {
    let done = json!({});
    Ok(match (plugin, method) {
        (_, "Plugin.Activate") => json!({"Implements": [plugin.interface()]}),
        (Plugin::Network, "NetworkDriver.GetCapabilities") => {
            read::<Nothing>(method, body)?;
            json!({"Scope": "global"})
        }
        (Plugin::Network, "NetworkDriver.CreateNetwork") => {
            create_network(around, &read(method, body)?).await?;
            done
        }
        // Of swarm mode, which Calico's plugin answers and does nothing about.
        (Plugin::Network, "NetworkDriver.AllocateNetwork") => {
            read::<CreateNetwork>(method, body)?;
            json!({"Options": {}})
        }
        (Plugin::Network, "NetworkDriver.DeleteNetwork") => {
            let Network { network } = read(method, body)?;
            let write = Write::delete(network_key(&network), Expect::Any);
            around.store().await?.commit(vec![write]).await?;
            done
        }
        (Plugin::Network, "NetworkDriver.FreeNetwork") => {
            read::<Network>(method, body)?;
            done
        }
        (Plugin::Network, "NetworkDriver.CreateEndpoint") => {
            create_endpoint(around, read(method, body)?).await?;
            json!({"Interface": {}})
        }
        (Plugin::Network, "NetworkDriver.EndpointOperInfo") => {
            read::<Endpoint>(method, body)?;
            json!({"Value": {}})
        }
        (Plugin::Network, "NetworkDriver.DeleteEndpoint") => {
            delete_endpoint(around, &read(method, body)?).await?;
            done
        }
        (Plugin::Network, "NetworkDriver.Join") => json!(join(around, read(method, body)?).await?),
        (Plugin::Network, "NetworkDriver.Leave") => {
            let Endpoint { endpoint, .. } = read(method, body)?;
            around.disconnect(&interface("cali", &endpoint)).await?;
            done
        }
        (Plugin::Network, "NetworkDriver.DiscoverNew" | "NetworkDriver.DiscoverDelete") => {
            read::<Discovery>(method, body)?;
            done
        }
        (Plugin::Network, "NetworkDriver.ProgramExternalConnectivity") => {
            read::<ProgramExternalConnectivity>(method, body)?;
            done
        }
        (Plugin::Network, "NetworkDriver.RevokeExternalConnectivity") => {
            read::<Endpoint>(method, body)?;
            done
        }
        (Plugin::Ipam, "IpamDriver.GetCapabilities") => {
            read::<Nothing>(method, body)?;
            json!({"RequiresMACAddress": false, "RequiresRequestReplay": false})
        }
        (Plugin::Ipam, "IpamDriver.GetDefaultAddressSpaces") => {
            read::<Nothing>(method, body)?;
            json!({"LocalDefaultAddressSpace": "CalicoLocalAddressSpace", "GlobalDefaultAddressSpace": GLOBAL_SPACE})
        }
        (Plugin::Ipam, "IpamDriver.RequestPool") => {
            let pool = request_pool(around, &read(method, body)?).await?;
            json!({"PoolID": pool, "Pool": pool, "Data": {"com.docker.network.gateway": NO_GATEWAY}})
        }
        (Plugin::Ipam, "IpamDriver.ReleasePool") => {
            read::<ReleasePool>(method, body)?;
            done
        }
        (Plugin::Ipam, "IpamDriver.RequestAddress") => {
            let address = request_address(around, &read(method, body)?).await?;
            json!({"Address": Cidr::containing(address, 32), "Data": {}})
        }
        (Plugin::Ipam, "IpamDriver.ReleaseAddress") => {
            release_address(around, &read(method, body)?).await?;
            done
        }
        _ => return Err(Refusal::Method(method.to_owned())),
    })
}

fn read<T: DeserializeOwned>(method: &str, body: &[u8]) -> Result<T, Refusal> {
    let body: &[u8] = if matches!(body.trim_ascii(), b"" | b"null") { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| Refusal::Body {
        method: method.to_owned(),
        error,
        body: String::from_utf8_lossy(body).into_owned(),
    })
}

fn asked<T>(text: String) -> Result<T, Refusal> {
    Err(Refusal::Asked(text))
}

/// What is kept of a network, under the ID that Docker gave to it.
fn network_key(id: &str) -> String {
    format!("/calico/stand-in/libnetwork/networks/{id}")
}

/// Keeps the network's profile where all hosts find it. Docker calls one host only; and a dockerd that starts, and
/// its containers with it, cannot be asked about its networks.
async fn create_network<S: Surroundings>(around: &S, request: &CreateNetwork) -> Result<(), Refusal> {
    let profile = check_network(request)?;
    let write = Write::json(network_key(&request.network), Expect::Any, &profile)?;
    around.store().await?.commit(vec![write]).await?;
    Ok(())
}

/// As Calico: no options but the profile, which is returned, and no other IPAM.
fn check_network(request: &CreateNetwork) -> Result<&str, Refusal> {
    for (name, value) in &request.options {
        let unknown: Vec<&String> = match value {
            Value::Object(flags) if name == GENERIC => flags.keys().filter(|flag| *flag != PROFILE).collect(),
            Value::Null | Value::Bool(false) => Vec::new(),
            Value::Object(flags) if flags.is_empty() => Vec::new(),
            _ if name == "com.docker.network.enable_ipv6" => Vec::new(),
            _ => vec![name],
        };
        if !unknown.is_empty() {
            return asked(format!("the Calico driver does not support the options {unknown:?}"));
        }
    }
    if !request.ipv6.is_empty() {
        return asked("IPv6 is not had of this stand-in".to_owned());
    }
    let [data] = &request.ipv4[..] else {
        return asked(format!("{} subnets; expected one, a pool's CIDR", request.ipv4.len()));
    };
    if data.gateway != NO_GATEWAY {
        return asked(format!(
            "the gateway is {:?}: another IPAM driver than calico-ipam is used, or --gateway was given",
            data.gateway
        ));
    }
    if !data.aux_addresses.is_empty() {
        return asked("the Calico driver does not support --aux-address".to_owned());
    }
    match request.options.get(GENERIC).and_then(|flags| flags.get(PROFILE)).and_then(Value::as_str) {
        Some(profile) if !profile.is_empty() => Ok(profile),
        _ => asked(format!("no profile is named; expected --opt {PROFILE}=NAME")),
    }
}

/// The enabled pool of this CIDR.
async fn pool<S: Store>(store: &S, text: &str) -> Result<Cidr, Refusal> {
    let cidr: Cidr = text
        .parse()
        .map_err(|error| Refusal::Asked(format!("--subnet {text:?}: {error}; expected a pool's CIDR")))?;
    let mut others = Vec::new();
    for entry in store.list(resources::POOLS).await? {
        let pool = entry.json::<Resource<IpPoolSpec>>()?.spec;
        if pool.cidr == cidr && !pool.disabled {
            return Ok(cidr);
        }
        others.push(pool.cidr.to_string());
    }
    asked(format!("the subnet {cidr} must be the CIDR of an enabled Calico pool; there are {others:?}"))
}

async fn request_pool<S: Surroundings>(around: &S, request: &RequestPool) -> Result<Cidr, Refusal> {
    if request.v6 {
        return asked("IPv6 is not had of this stand-in".to_owned());
    }
    if request.address_space != GLOBAL_SPACE {
        return asked(format!("address space {:?}; expected {GLOBAL_SPACE}", request.address_space));
    }
    if !request.sub_pool.is_empty() || !request.options.is_empty() {
        return asked("Calico's IPAM knows neither --ip-range nor options".to_owned());
    }
    pool(&around.store().await?, &request.pool).await
}

async fn request_address<S: Surroundings>(around: &S, request: &RequestAddress) -> Result<Ipv4Addr, Refusal> {
    if let Some(kind) = request.options.get("RequestAddressType") {
        return asked(format!("an address of type {kind}: Calico has no gateways in its pools"));
    }
    let address = match request.address.as_str() {
        "" => None,
        text => match text.parse() {
            Ok(address) => Some(address),
            Err(_) => return asked(format!("{text:?} is no IPv4 address")),
        },
    };
    let store = around.store().await?;
    let pools = [pool(&store, &request.pool).await?];
    require_node(&store, around.node()).await?;
    let handle = format!("{LIBNETWORK}.{}", around.unique()?);
    Ok(ipam::assign(&store, Request { node: around.node(), handle: &handle, pools: &pools, address }).await?)
}

/// One that is free already is no error, nor the gateway that there is not.
async fn release_address<S: Surroundings>(around: &S, request: &ReleaseAddress) -> Result<(), Refusal> {
    let Ok(address) = request.address.parse::<Ipv4Addr>() else {
        return asked(format!("{:?} is no IPv4 address", request.address));
    };
    if address.is_unspecified() {
        return Ok(());
    }
    let store = around.store().await?;
    match ipam::owner(&store, address).await? {
        Some((_, handle)) if is_ours(&handle) => {
            ipam::release(&store, &handle).await?;
            Ok(())
        }
        Some((_, handle)) => asked(format!("{address} was not given to Docker, but to {handle}")),
        None => Ok(()),
    }
}

fn is_ours(handle: &str) -> bool {
    handle.strip_prefix(LIBNETWORK).is_some_and(|rest| rest.starts_with('.'))
}

async fn require_node<S: Store>(store: &S, node: &str) -> Result<(), Refusal> {
    match store.get(&format!("{}{node}", resources::NODES)).await? {
        Some(_) => Ok(()),
        None => asked(format!(
            "node {node:?} is not in the datastore: is calico-node running here, under this name?"
        )),
    }
}

fn endpoint_key(node: &str, endpoint: &str) -> String {
    resources::endpoint_key(&resources::endpoint_name(node, LIBNETWORK, LIBNETWORK, endpoint))
}

/// `cali` or `temp`, and as much of the endpoint's ID as an interface's name has room for.
fn interface(prefix: &str, endpoint: &str) -> String {
    format!("{prefix}{}", endpoint.chars().take(11).collect::<String>())
}

async fn create_endpoint<S: Surroundings>(around: &S, request: CreateEndpoint) -> Result<(), Refusal> {
    let CreateEndpoint { network, endpoint, interface: given, .. } = request;
    if !given.address_ipv6.is_empty() {
        return asked("IPv6 is not had of this stand-in".to_owned());
    }
    let address = given.address.split('/').next().and_then(|address| address.parse::<Ipv4Addr>().ok());
    let Some(address) = address else {
        return asked(format!("endpoint {endpoint}: {:?} is no IPv4 address", given.address));
    };
    let node = around.node();
    let store = around.store().await?;
    require_node(&store, node).await?;
    match ipam::owner(&store, address).await? {
        Some((host, handle)) if host == node && is_ours(&handle) => {}
        owner => {
            return asked(format!(
                "endpoint {endpoint}: {address} was not requested of calico-ipam on host {node}; it belongs to {owner:?}"
            ));
        }
    }
    let Some(profile) = store.get(&network_key(&network)).await? else {
        return asked(format!("endpoint {endpoint}: there was no CreateNetwork for network {network}"));
    };
    let profile: String = profile.json()?;
    if store.get(&format!("{}{profile}", resources::PROFILES)).await?.is_none() {
        // Calico would make one that lets in its members only; the product must have made a better one.
        return asked(format!("the network's profile {profile:?} is not in the datastore"));
    }
    let spec = EndpointSpec {
        orchestrator: LIBNETWORK.to_owned(),
        node: node.to_owned(),
        container_id: String::new(),
        workload: LIBNETWORK.to_owned(),
        endpoint: endpoint.clone(),
        interface_name: interface("cali", &endpoint),
        ip_networks: vec![Cidr::containing(address, 32)],
        profiles: vec![profile],
    };
    let name = resources::endpoint_name(node, LIBNETWORK, LIBNETWORK, &endpoint);
    let mut resource = Resource::new("WorkloadEndpoint", &name, spec);
    resource.metadata.namespace = Some("default".to_owned());
    let write = Write::json(resources::endpoint_key(&name), Expect::Absent, &resource)?;
    if store.commit(vec![write]).await? {
        return Ok(());
    }
    asked(format!("endpoint {endpoint} exists already"))
}

async fn delete_endpoint<S: Surroundings>(around: &S, request: &Endpoint) -> Result<(), Refusal> {
    let store = around.store().await?;
    let key = endpoint_key(around.node(), &request.endpoint);
    match store.get(&key).await? {
        Some(_) => {
            store.commit(vec![Write::delete(key, Expect::Any)]).await?;
            Ok(())
        }
        None => asked(format!("there is no endpoint {} on host {}", request.endpoint, around.node())),
    }
}

async fn join<S: Surroundings>(around: &S, request: Join) -> Result<Joined, Refusal> {
    let Join { endpoint, sandbox_key, .. } = request;
    if sandbox_key.is_empty() {
        return asked("SandboxKey is empty".to_owned());
    }
    let store = around.store().await?;
    let Some(entry) = store.get(&endpoint_key(around.node(), &endpoint)).await? else {
        return asked(format!("Join before CreateEndpoint: there is no endpoint {endpoint}"));
    };
    let spec = entry.json::<Resource<EndpointSpec>>()?.spec;
    let Some(network) = spec.ip_networks.first() else {
        return Err(entry.malformed(&"no address").into());
    };
    let peer = interface("temp", &endpoint);
    around.connect(&spec.interface_name, &peer, network.network()).await?;
    Ok(Joined {
        interface_name: InterfaceName { src_name: peer, dst_prefix: INTERFACE_PREFIX },
        gateway: GATEWAY,
        static_routes: [StaticRoute {
            destination: Cidr::containing(GATEWAY, 32),
            route_type: 1,
            next_hop: "",
        }],
    })
}
