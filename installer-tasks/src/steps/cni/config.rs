//! The network's configuration: its text, and who else has one of the same name.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::host::files::sha256_hex;
use crate::options::join;
use crate::values::{Cidr, CniLogLevel, Endpoint, NetworkName};

/// The CNI version that Mesos' isolator speaks.
const CNI_VERSION: &str = "0.1.0";
/// Mesos' own plugin, which maps ports of the host to containers, and has another plugin connect them.
pub const PORT_MAPPER: &str = "mesos-cni-port-mapper";
/// The host's ends of containers' interfaces, which Calico names so; `+` is iptables' `*`.
const CONTAINERS: &str = "cali+";
/// The longest name of a chain that iptables takes.
const LONGEST_CHAIN: usize = 28;
/// How much of a network's hash is in the name of its chain, where the whole name is too long.
const CHAIN_DIGITS: usize = 8;

/// Files on the host, in PEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsFiles<'a> {
    /// The certificates of the authorities that etcd's certificate is of.
    pub ca: &'a Path,
    /// The client's certificate and its key, for an etcd that wants them.
    pub identity: Option<(&'a Path, &'a Path)>,
}

/// All that a configuration says.
#[derive(Debug, Clone)]
pub struct NetworkConfig<'a> {
    /// The network.
    pub network: &'a NetworkName,
    /// The etcd that the plugins use.
    pub etcd: &'a [Endpoint],
    /// With what they speak TLS with it, if they do.
    pub tls: Option<TlsFiles<'a>>,
    /// This host's name in Calico.
    pub node_name: &'a str,
    /// Whether plugins do without the name that calico-node writes to a file.
    pub nodename_file_optional: bool,
    /// The MTU of containers' interfaces, if it is not to be the plugin's.
    pub mtu: Option<u16>,
    /// The pools that addresses are from; all when empty.
    pub ipv4_pools: &'a [Cidr],
    /// What plugins log, if it is not to be what they log by themselves.
    pub log_level: Option<CniLogLevel>,
    /// Whether ports of the host are mapped to containers.
    pub port_mapper: bool,
}

#[derive(Serialize)]
struct Calico<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(rename = "cniVersion")]
    cni_version: &'a str,
    #[serde(rename = "type")]
    plugin: &'a str,
    ipam: Ipam<'a>,
    etcd_endpoints: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd_ca_cert_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd_cert_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd_key_file: Option<String>,
    nodename: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    nodename_file_optional: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_level: Option<&'a str>,
}

#[derive(Serialize)]
struct Ipam<'a> {
    #[serde(rename = "type")]
    plugin: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ipv4_pools: Vec<String>,
}

#[derive(Serialize)]
struct PortMapper<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    plugin: &'a str,
    #[serde(rename = "excludeDevices")]
    exclude_devices: [&'a str; 1],
    chain: String,
    delegate: Calico<'a>,
}

impl NetworkConfig<'_> {
    /// The configuration as Calico's plugin reads it, or as DC/OS has it for its own Calico, where ports are mapped.
    /// `policy` and `kubernetes` are left out: with them the plugin makes no profile for the network.
    pub fn render(&self) -> String {
        let name = self.network.as_str();
        let identity = self.tls.and_then(|tls| tls.identity);
        let text = |path: &Path| path.display().to_string();
        let calico = Calico {
            // The port mapper gives its delegate its own name.
            name: (!self.port_mapper).then_some(name),
            cni_version: CNI_VERSION,
            plugin: super::PLUGIN,
            ipam: Ipam {
                plugin: super::IPAM_PLUGIN,
                ipv4_pools: self.ipv4_pools.iter().map(ToString::to_string).collect(),
            },
            etcd_endpoints: join(self.etcd),
            etcd_ca_cert_file: self.tls.map(|tls| text(tls.ca)),
            etcd_cert_file: identity.map(|(cert, _)| text(cert)),
            etcd_key_file: identity.map(|(_, key)| text(key)),
            nodename: self.node_name,
            nodename_file_optional: self.nodename_file_optional,
            mtu: self.mtu,
            log_level: self.log_level.map(CniLogLevel::name),
        };
        if self.port_mapper {
            pretty(&PortMapper {
                name,
                plugin: PORT_MAPPER,
                exclude_devices: [CONTAINERS],
                chain: chain(self.network),
                delegate: calico,
            })
        } else {
            pretty(&calico)
        }
    }
}

fn pretty(config: &impl Serialize) -> String {
    // Writing into memory does not fail, and all keys are fields' names: serde_json knows no further reason.
    #[expect(clippy::expect_used, reason = "strings and numbers under string keys are always JSON")]
    let mut text = serde_json::to_string_pretty(config).expect("plain values");
    text.push('\n');
    text
}

/// The chain of iptables that the port mapper fills, as DC/OS names it: one a network, whatever that is called.
fn chain(network: &NetworkName) -> String {
    let name = network.as_str();
    let whole = format!("M-{}", name.to_uppercase());
    if whole.len() <= LONGEST_CHAIN {
        return whole;
    }
    let (begin, hash) =
        (&whole[..LONGEST_CHAIN - CHAIN_DIGITS - 1], &sha256_hex(name.as_bytes())[..CHAIN_DIGITS]);
    format!("{begin}-{hash}")
}

/// A configuration, if it is one.
fn parse(content: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(content).ok()? {
        Value::Object(config) => Some(config),
        _ => None,
    }
}

/// The name of the network in a configuration, if it is one.
pub fn network_of(content: &[u8]) -> Option<String> {
    Some(parse(content)?.get("name")?.as_str()?.to_owned())
}

/// The plugin that connects containers by a configuration, if it is one: that which others hand over to.
pub fn plugin_of(content: &[u8]) -> Option<String> {
    let mut config = parse(content)?;
    while let Some(Value::Object(delegate)) = config.remove("delegate") {
        config = delegate;
    }
    Some(config.get("type")?.as_str()?.to_owned())
}

/// Our file in the directory of configurations.
pub fn path_in(directory: &Path, network: &NetworkName) -> PathBuf {
    directory.join(format!("{network}.conf"))
}

/// The first of `files` that configures a network of this name, but is not `ours`.
pub fn rival<'a>(files: &'a [(PathBuf, Vec<u8>)], network: &NetworkName, ours: &Path) -> Option<&'a Path> {
    files
        .iter()
        .find(|(path, content)| path != ours && network_of(content).as_deref() == Some(network.as_str()))
        .map(|(path, _)| path.as_path())
}

#[cfg(test)]
mod tests;
