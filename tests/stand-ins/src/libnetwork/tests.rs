//! The protocol on bytes, as Docker 20.10 sends them, over a datastore in memory and no host.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::plugin::Refusal;
use super::*;
use crate::datastore::{DatastoreError, Entry, Expect, Store, Write};
use crate::ipam;
use crate::memory::Memory;
use crate::resources;

const NETWORK: &str = "b1f4aa65d09eea52ddbf0b3ab0a5e8ac3e58e9cbdf4b3d2cdd95d1b8d2f1a001";
const ENDPOINT: &str = "0c5a6c86a4cd7c92b0a7ea8c9ea9ba0a3b4b1c5d6e7f8091a2b3c4d5e6f70812";

#[derive(Clone, Default)]
struct Shared(Arc<Memory>);

impl Store for Shared {
    async fn get(&self, key: &str) -> Result<Option<Entry>, DatastoreError> {
        self.0.get(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, DatastoreError> {
        self.0.list(prefix).await
    }
    async fn commit(&self, writes: Vec<Write>) -> Result<bool, DatastoreError> {
        self.0.commit(writes).await
    }
}

/// No host: interfaces are only noted.
#[derive(Default)]
struct Paper {
    store: Shared,
    count: AtomicUsize,
    interfaces: Mutex<Vec<String>>,
}

impl Surroundings for Paper {
    type Store = Shared;

    fn node(&self) -> &'static str {
        "host-a"
    }
    fn unique(&self) -> Result<String, Refusal> {
        Ok(self.count.fetch_add(1, Ordering::Relaxed).to_string())
    }
    async fn store(&self) -> Result<Shared, Refusal> {
        Ok(self.store.clone())
    }
    async fn connect(&self, host: &str, peer: &str, address: std::net::Ipv4Addr) -> Result<(), Refusal> {
        let made = format!("{host} {peer} {address}");
        let mut interfaces = self.interfaces.lock().unwrap();
        if interfaces.contains(&made) {
            return Err(Refusal::Surroundings(format!("{host} exists")));
        }
        interfaces.push(made);
        Ok(())
    }
    async fn disconnect(&self, host: &str) -> Result<(), Refusal> {
        self.interfaces.lock().unwrap().retain(|made| !made.starts_with(host));
        Ok(())
    }
}

/// A host whose node has registered, with one pool and the profile.
async fn prepared() -> Paper {
    let paper = Paper::default();
    let put = |key: String, value: &str| Write { key, expect: Expect::Any, value: Some(value.to_owned()) };
    let pool = r#"{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"p"},"spec":{"cidr":"192.168.0.0/16"}}"#;
    let writes = vec![
        put(format!("{}p", resources::POOLS), pool),
        put(format!("{}calico", resources::PROFILES), "{}"),
        put(format!("{}host-a", resources::NODES), "{}"),
    ];
    assert!(paper.store.commit(writes).await.unwrap());
    paper
}

/// With the network, too.
async fn with_network() -> Paper {
    let paper = prepared().await;
    network(&paper, "CreateNetwork", &network_of(OPTIONS, DATA)).await.unwrap();
    paper
}

async fn ask(paper: &Paper, plugin: Plugin, method: &str, body: &str) -> Result<Value, String> {
    answer(paper, plugin, method, body.as_bytes()).await.map_err(|refusal| refusal.to_string())
}

async fn network(paper: &Paper, method: &str, body: &str) -> Result<Value, String> {
    ask(paper, Plugin::Network, &format!("NetworkDriver.{method}"), body).await
}

async fn ipam(paper: &Paper, method: &str, body: &str) -> Result<Value, String> {
    ask(paper, Plugin::Ipam, &format!("IpamDriver.{method}"), body).await
}

fn text(value: &Value) -> String {
    value.to_string()
}

const POOL: &str = r#"{"PoolID":"192.168.0.0/16","Address":"","Options":null}"#;

const OPTIONS: &str = r#"{"com.docker.network.enable_ipv6":false,"com.docker.network.generic":{"org.projectcalico.profile":"calico"}}"#;
const DATA: &str =
    r#"[{"AddressSpace":"CalicoGlobalAddressSpace","Gateway":"0.0.0.0/0","Pool":"192.168.0.0/16"}]"#;

fn network_of(options: &str, data: &str) -> String {
    format!(r#"{{"NetworkID":"{NETWORK}","Options":{options},"IPv4Data":{data},"IPv6Data":[]}}"#)
}

fn endpoint_at(address: &str) -> String {
    format!(
        r#"{{"NetworkID":"{NETWORK}","EndpointID":"{ENDPOINT}","Interface":{{"Address":"{address}","AddressIPv6":"","MacAddress":""}},"Options":{{"com.docker.network.endpoint.exposedports":[],"com.docker.network.portmap":[]}}}}"#
    )
}

fn join() -> String {
    format!(
        r#"{{"NetworkID":"{NETWORK}","EndpointID":"{ENDPOINT}","SandboxKey":"/var/run/docker/netns/abc","Options":{{"com.docker.network.endpoint.exposedports":[]}}}}"#
    )
}

fn endpoint() -> String {
    format!(r#"{{"NetworkID":"{NETWORK}","EndpointID":"{ENDPOINT}"}}"#)
}

#[tokio::test]
async fn both_plugins_say_what_they_are() {
    let paper = Paper::default();
    for (plugin, expected) in [
        (Plugin::Network, r#"{"Implements":["NetworkDriver"]}"#),
        (Plugin::Ipam, r#"{"Implements":["IpamDriver"]}"#),
    ] {
        assert_eq!(text(&ask(&paper, plugin, "Plugin.Activate", "").await.unwrap()), expected);
    }
    assert_eq!(text(&network(&paper, "GetCapabilities", "null\n").await.unwrap()), r#"{"Scope":"global"}"#);
    let capabilities = ipam(&paper, "GetCapabilities", "{}").await.unwrap();
    assert_eq!(text(&capabilities), r#"{"RequiresMACAddress":false,"RequiresRequestReplay":false}"#);
    assert_eq!(
        text(&ipam(&paper, "GetDefaultAddressSpaces", "null").await.unwrap()),
        r#"{"LocalDefaultAddressSpace":"CalicoLocalAddressSpace","GlobalDefaultAddressSpace":"CalicoGlobalAddressSpace"}"#
    );
}

#[tokio::test]
async fn a_network_and_an_endpoint_live_and_end() {
    let paper = prepared().await;
    let pool = r#"{"AddressSpace":"CalicoGlobalAddressSpace","Pool":"192.168.0.0/16","SubPool":"","Options":null,"V6":false}"#;
    assert_eq!(
        text(&ipam(&paper, "RequestPool", pool).await.unwrap()),
        r#"{"PoolID":"192.168.0.0/16","Pool":"192.168.0.0/16","Data":{"com.docker.network.gateway":"0.0.0.0/0"}}"#
    );
    assert_eq!(text(&network(&paper, "CreateNetwork", &network_of(OPTIONS, DATA)).await.unwrap()), "{}");

    let address = ipam(&paper, "RequestAddress", POOL).await.unwrap();
    assert_eq!(text(&address), r#"{"Address":"192.168.0.0/32","Data":{}}"#);
    assert_eq!(
        text(&network(&paper, "CreateEndpoint", &endpoint_at("192.168.0.0/32")).await.unwrap()),
        r#"{"Interface":{}}"#
    );
    assert_eq!(
        text(&network(&paper, "Join", &join()).await.unwrap()),
        r#"{"InterfaceName":{"SrcName":"temp0c5a6c86a4c","DstPrefix":"cali"},"Gateway":"169.254.1.1","StaticRoutes":[{"Destination":"169.254.1.1/32","RouteType":1,"NextHop":""}]}"#
    );
    assert_eq!(*paper.interfaces.lock().unwrap(), ["cali0c5a6c86a4c temp0c5a6c86a4c 192.168.0.0"]);
    assert_eq!(text(&network(&paper, "EndpointOperInfo", &endpoint()).await.unwrap()), r#"{"Value":{}}"#);
    let program = endpoint().replace('}', r#","Options":{}}"#);
    network(&paper, "ProgramExternalConnectivity", &program).await.unwrap();
    network(&paper, "RevokeExternalConnectivity", &endpoint()).await.unwrap();

    network(&paper, "Leave", &endpoint()).await.unwrap();
    assert!(paper.interfaces.lock().unwrap().is_empty());
    network(&paper, "DeleteEndpoint", &endpoint()).await.unwrap();
    for _ in 0..2 {
        let release = r#"{"PoolID":"192.168.0.0/16","Address":"192.168.0.0"}"#;
        ipam(&paper, "ReleaseAddress", release).await.unwrap();
    }
    let address: std::net::Ipv4Addr = "192.168.0.0".parse().unwrap();
    assert_eq!(ipam::owner(&paper.store, address).await.unwrap(), None);
    let gateway = r#"{"PoolID":"192.168.0.0/16","Address":"0.0.0.0"}"#;
    ipam(&paper, "ReleaseAddress", gateway).await.unwrap();
    ipam(&paper, "ReleasePool", r#"{"PoolID":"192.168.0.0/16"}"#).await.unwrap();
    network(&paper, "DeleteNetwork", &format!(r#"{{"NetworkID":"{NETWORK}"}}"#)).await.unwrap();
    let discovered = r#"{"DiscoveryType":1,"DiscoveryData":{"Address":"10.0.0.1","self":true}}"#;
    network(&paper, "DiscoverNew", discovered).await.unwrap();
    network(&paper, "DiscoverDelete", discovered).await.unwrap();
}

#[tokio::test]
async fn the_wrong_order_and_what_was_not_requested_are_refused() {
    let paper = prepared().await;
    ipam(&paper, "RequestAddress", POOL).await.unwrap();
    let refused = network(&paper, "CreateEndpoint", &endpoint_at("192.168.0.0/32")).await.unwrap_err();
    assert!(refused.contains("no CreateNetwork"), "{refused}");

    let paper = with_network().await;
    let refused = network(&paper, "Join", &join()).await.unwrap_err();
    assert!(refused.contains("before CreateEndpoint"), "{refused}");
    let refused = network(&paper, "CreateEndpoint", &endpoint_at("192.168.0.0/32")).await.unwrap_err();
    assert!(refused.contains("was not requested"), "{refused}");
    assert!(network(&paper, "DeleteEndpoint", &endpoint()).await.is_err());
    network(&paper, "Leave", &endpoint()).await.unwrap();

    ipam(&paper, "RequestAddress", POOL).await.unwrap();
    network(&paper, "CreateEndpoint", &endpoint_at("192.168.0.0/32")).await.unwrap();
    let refused = network(&paper, "CreateEndpoint", &endpoint_at("192.168.0.0/32")).await.unwrap_err();
    assert!(refused.contains("exists already"), "{refused}");
    network(&paper, "Join", &join()).await.unwrap();
    assert!(network(&paper, "Join", &join()).await.is_err());
    // An address of a Mesos task is none of Docker's business.
    let request = ipam::Request { node: "host-a", handle: "calico.c1", pools: &[], address: None };
    let other = ipam::assign(&paper.store, request).await.unwrap();
    let release = format!(r#"{{"PoolID":"192.168.0.0/16","Address":"{other}"}}"#);
    let refused = ipam(&paper, "ReleaseAddress", &release).await.unwrap_err();
    assert!(refused.contains("calico.c1"), "{refused}");
}

#[tokio::test]
async fn what_the_real_one_could_not_work_with_is_refused() {
    let paper = prepared().await;
    let network_of = |options: &str, data: &str| {
        format!(r#"{{"NetworkID":"{NETWORK}","Options":{options},"IPv4Data":{data},"IPv6Data":[]}}"#)
    };
    let data =
        r#"[{"AddressSpace":"CalicoGlobalAddressSpace","Gateway":"0.0.0.0/0","Pool":"192.168.0.0/16"}]"#;
    let other_gateway = data.replace("0.0.0.0/0", "192.168.0.1/16");
    for (body, word) in [
        (network_of(r#"{"com.docker.network.internal":true}"#, DATA), "internal"),
        (network_of(r#"{"com.docker.network.generic":{"mtu":"1400"}}"#, DATA), "mtu"),
        (network_of("{}", &other_gateway), "another IPAM driver"),
        (network_of("{}", "[]"), "0 subnets"),
        (network_of("{}", DATA), "--opt org.projectcalico.profile"),
        (network_of(OPTIONS, DATA).replace("IPv6Data", "IPv5Data"), "IPv5Data"),
        ("[]".to_owned(), "CreateNetwork"),
    ] {
        let refused = network(&paper, "CreateNetwork", &body).await.unwrap_err();
        assert!(refused.contains(word), "{body}: {refused}");
    }
    let pool_of = |space: &str, pool: &str, part: &str, v6: bool| {
        format!(r#"{{"AddressSpace":"{space}","Pool":"{pool}","SubPool":"{part}","Options":{{}},"V6":{v6}}}"#)
    };
    let global = "CalicoGlobalAddressSpace";
    for (body, word) in [
        (pool_of(global, "192.168.0.0/24", "", false), "192.168.0.0/16"),
        (pool_of(global, "", "", false), "expected a pool's CIDR"),
        (pool_of(global, "192.168.0.0/16", "192.168.1.0/24", false), "--ip-range"),
        (pool_of("Local", "192.168.0.0/16", "", false), "address space"),
        (pool_of(global, "192.168.0.0/16", "", true), "IPv6"),
    ] {
        let refused = ipam(&paper, "RequestPool", &body).await.unwrap_err();
        assert!(refused.contains(word), "{body}: {refused}");
    }
    let gateway = POOL.replace("null", r#"{"RequestAddressType":"com.docker.network.gateway"}"#);
    assert!(ipam(&paper, "RequestAddress", &gateway).await.unwrap_err().contains("gateway"));
    let outside = POOL.replace(r#""Address":"""#, r#""Address":"10.0.0.1""#);
    assert!(ipam(&paper, "RequestAddress", &outside).await.unwrap_err().contains("none of the pools"));
    // Each plugin has its own requests.
    assert!(ask(&paper, Plugin::Ipam, "NetworkDriver.Join", &join()).await.is_err());
    assert!(network(&paper, "GetCapability", "{}").await.unwrap_err().contains("GetCapability"));
}

#[tokio::test]
async fn a_host_whose_node_or_profile_is_missing_gets_nothing() {
    let paper = with_network().await;
    ipam(&paper, "RequestAddress", POOL).await.unwrap();
    let delete = |key: &str| vec![Write::delete(key.to_owned(), Expect::Any)];
    paper.store.commit(delete(&format!("{}calico", resources::PROFILES))).await.unwrap();
    let refused = network(&paper, "CreateEndpoint", &endpoint_at("192.168.0.0/32")).await.unwrap_err();
    assert!(refused.contains("profile \"calico\""), "{refused}");
    paper.store.commit(delete(&format!("{}host-a", resources::NODES))).await.unwrap();
    for refused in [
        ipam(&paper, "RequestAddress", POOL).await.unwrap_err(),
        network(&paper, "CreateEndpoint", &endpoint_at("192.168.0.0/32")).await.unwrap_err(),
    ] {
        assert!(refused.contains("is calico-node running here"), "{refused}");
    }
}

#[tokio::test]
async fn a_new_plugin_takes_the_place_of_a_dead_ones_socket() {
    let folder = tempfile::tempdir().unwrap();
    drop(UnixListener::bind(folder.path().join("calico.sock")).unwrap());
    let listener = listen(folder.path(), Plugin::Network).unwrap();
    let serving = tokio::spawn(
        axum::serve(listener, router(Plugin::Network, Arc::new(Paper::default()))).into_future(),
    );
    let mut stream = tokio::net::UnixStream::connect(folder.path().join("calico.sock")).await.unwrap();
    let request =
        "POST /NetworkDriver.Join HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 500 "), "{response}");
    assert!(
        response.contains(protocol::MEDIA_TYPE) && response.contains(r#"{"Err":"NetworkDriver.Join: "#),
        "{response}"
    );
    serving.abort();
}
