//! What calico-node is given: its environment and its host, checked as a whole before anything is done.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::cni::{NODE_NAME_RULE, valid_node_name};
use crate::datastore::{Settings as Datastore, Tls};

/// Directories of the host that must be mounted into the container.
const MOUNTS: [&str; 4] = ["/lib/modules", "/var/run/calico", "/var/lib/calico", "/var/log/calico"];

/// How traffic gets to the other hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// By routes that BGP announces, for pools without VXLAN.
    Bird,
    /// By VXLAN, for pools with it.
    Vxlan,
    /// By somebody else.
    None,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bird => "bird",
            Self::Vxlan => "vxlan",
            Self::None => "none",
        })
    }
}

/// What is true of the host and the container.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The host's IPv4 addresses with the length of their networks.
    pub addresses: Vec<(Ipv4Addr, u8)>,
    /// Those of `MOUNTS` that are mounted into the container.
    pub mounts: BTreeSet<PathBuf>,
    /// `net.ipv4.ip_forward`.
    pub ip_forward: String,
    /// `net.ipv4.conf.all.rp_filter`.
    pub rp_filter: String,
}

impl Facts {
    /// Mount points and sysctls of this container; its addresses are asked for over netlink.
    pub fn read(addresses: Vec<(Ipv4Addr, u8)>) -> std::io::Result<Self> {
        let sysctl = |name: &str| {
            std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).map(|value| value.trim().to_owned())
        };
        Ok(Self {
            addresses,
            mounts: crate::mounts::mounted(&MOUNTS)?,
            ip_forward: sysctl("ip_forward")?,
            rp_filter: sysctl("conf/all/rp_filter")?,
        })
    }
}

/// A checked environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `NODENAME`.
    pub node: String,
    /// `IP`.
    pub ip: Ipv4Addr,
    /// The length of the network of `ip` on this host.
    pub length: u8,
    /// `CALICO_NETWORKING_BACKEND`.
    pub backend: Backend,
    /// `ETCD_…`.
    pub datastore: Datastore,
}

/// Checks everything and returns all faults at once.
pub fn check(variable: &dyn Fn(&str) -> Option<String>, facts: &Facts) -> Result<Settings, Vec<String>> {
    let mut faults = Vec::new();
    let value = |name: &str| variable(name).filter(|value| !value.is_empty());
    let mut required = |name: &str, expected: &str| {
        value(name).unwrap_or_else(|| {
            faults.push(format!("{name} is missing; expected {expected}"));
            String::new()
        })
    };
    let node = required("NODENAME", "this host's name in Calico");
    let ip = required("IP", "this host's IPv4 address");
    let endpoints = required("ETCD_ENDPOINTS", "URLs of etcd");
    let backend = required("CALICO_NETWORKING_BACKEND", "bird, vxlan or none");
    let fixed = [("DATASTORE_TYPE", "etcdv3"), ("NO_DEFAULT_POOLS", "true"), ("FELIX_HEALTHENABLED", "true")];
    let given = fixed.map(|(name, expected)| (name, expected, required(name, expected)));

    for (name, expected, found) in given {
        if !found.is_empty() && found != expected {
            faults.push(format!("{name} is {found:?}; expected {expected}"));
        }
    }
    if !node.is_empty() && !valid_node_name(&node) {
        faults.push(format!("NODENAME is {node:?}; expected {NODE_NAME_RULE}"));
    }
    let address = local_address(&ip, facts, &mut faults);
    let backend = match backend.as_str() {
        "bird" => Backend::Bird,
        "vxlan" => Backend::Vxlan,
        "none" | "" => Backend::None,
        other => {
            faults.push(format!("CALICO_NETWORKING_BACKEND is {other:?}; expected bird, vxlan or none"));
            Backend::None
        }
    };
    let file = |name| value(name).map(PathBuf::from);
    let tls = Tls { ca: file("ETCD_CA_CERT_FILE"), cert: file("ETCD_CERT_FILE"), key: file("ETCD_KEY_FILE") };
    for path in [&tls.ca, &tls.cert, &tls.key].into_iter().flatten() {
        if let Err(error) = std::fs::File::open(path) {
            faults.push(format!("cannot open {}, which an ETCD_… variable names: {error}", path.display()));
        }
    }
    let datastore = match Datastore::parse(&endpoints, tls) {
        Ok(datastore) => Some(datastore),
        Err(_) if endpoints.is_empty() => None,
        Err(error) => {
            faults.push(format!("ETCD_ENDPOINTS: {error}"));
            None
        }
    };
    check_host(value("FELIX_IGNORELOOSERPF").as_deref(), facts, &mut faults);
    match (address, datastore) {
        (Some((ip, length)), Some(datastore)) if faults.is_empty() => {
            Ok(Settings { node, ip, length, backend, datastore })
        }
        _ => Err(faults),
    }
}

fn local_address(text: &str, facts: &Facts, faults: &mut Vec<String>) -> Option<(Ipv4Addr, u8)> {
    if text.is_empty() {
        return None;
    }
    let Ok(ip) = text.parse::<Ipv4Addr>() else {
        faults.push(format!("IP is {text:?}; expected an IPv4 address of this host"));
        return None;
    };
    let found = facts.addresses.iter().find(|(address, _)| *address == ip && !ip.is_loopback());
    if found.is_none() {
        let others: Vec<String> = facts.addresses.iter().map(|(address, _)| address.to_string()).collect();
        faults.push(format!(
            "IP is {ip}, which is not a usable address of this host; it has {}",
            others.join(", ")
        ));
    }
    found.copied()
}

fn check_host(ignore_loose_rpf: Option<&str>, facts: &Facts, faults: &mut Vec<String>) {
    for mount in MOUNTS {
        if !facts.mounts.contains(Path::new(mount)) {
            faults.push(format!("{mount} is not mounted from the host"));
        }
    }
    if facts.ip_forward != "1" {
        faults.push(format!(
            "net.ipv4.ip_forward is {}; it must be 1 before calico-node starts",
            facts.ip_forward
        ));
    }
    if facts.rp_filter == "2" && ignore_loose_rpf != Some("true") {
        faults.push(
            "net.ipv4.conf.all.rp_filter is 2 (loose), which Felix refuses unless FELIX_IGNORELOOSERPF=true"
                .to_owned(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            addresses: vec![(Ipv4Addr::LOCALHOST, 8), (Ipv4Addr::new(10, 0, 0, 1), 24)],
            mounts: MOUNTS.map(PathBuf::from).into(),
            ip_forward: "1".to_owned(),
            rp_filter: "0".to_owned(),
        }
    }

    fn with(changes: &[(&str, &str)], facts: &Facts) -> Result<Settings, String> {
        let base = [
            ("NODENAME", "host-a"),
            ("IP", "10.0.0.1"),
            ("ETCD_ENDPOINTS", "http://127.0.0.1:2379"),
            ("CALICO_NETWORKING_BACKEND", "vxlan"),
            ("DATASTORE_TYPE", "etcdv3"),
            ("NO_DEFAULT_POOLS", "true"),
            ("FELIX_HEALTHENABLED", "true"),
        ];
        let find = |list: &[(&str, &str)], name: &str| {
            list.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        check(&|name| find(changes, name).or_else(|| find(&base, name)), facts)
            .map_err(|faults| faults.join("\n"))
    }

    #[test]
    fn takes_what_the_product_gives() {
        let settings = with(&[], &facts()).unwrap();
        assert_eq!((settings.node.as_str(), settings.length), ("host-a", 24));
        assert_eq!(settings.backend, Backend::Vxlan);
    }

    #[test]
    fn names_every_missing_variable_and_mount_at_once() {
        let empty = Facts { ip_forward: "0".to_owned(), rp_filter: "2".to_owned(), ..Facts::default() };
        let faults = check(&|_| None, &empty).unwrap_err().join("\n");
        for word in [
            "NODENAME",
            "IP is",
            "ETCD_ENDPOINTS",
            "CALICO_NETWORKING_BACKEND",
            "DATASTORE_TYPE",
            "NO_DEFAULT_POOLS",
            "FELIX_HEALTHENABLED",
            "FELIX_IGNORELOOSERPF",
            "ip_forward",
            "/lib/modules",
            "/var/run/calico",
            "/var/lib/calico",
            "/var/log/calico",
        ] {
            assert!(faults.contains(word), "{word} is not in: {faults}");
        }
    }

    #[test]
    fn refuses_wrong_values() {
        for (name, wrong) in [
            ("NODENAME", "Host_A"),
            ("IP", "autodetect"),
            ("IP", "10.0.0.2"),
            ("IP", "127.0.0.1"),
            ("ETCD_ENDPOINTS", "127.0.0.1:2379"),
            ("CALICO_NETWORKING_BACKEND", "ipip"),
            ("DATASTORE_TYPE", "kubernetes"),
            ("NO_DEFAULT_POOLS", "false"),
            ("FELIX_HEALTHENABLED", "1"),
            ("ETCD_CA_CERT_FILE", "/no/such/ca.pem"),
        ] {
            let fault = with(&[(name, wrong)], &facts()).unwrap_err();
            assert!(fault.contains(wrong), "{name}={wrong}: {fault}");
        }
    }

    #[test]
    fn loose_rp_filter_wants_to_be_ignored() {
        let loose = Facts { rp_filter: "2".to_owned(), ..facts() };
        assert!(with(&[], &loose).is_err());
        assert!(with(&[("FELIX_IGNORELOOSERPF", "true")], &loose).is_ok());
    }
}
