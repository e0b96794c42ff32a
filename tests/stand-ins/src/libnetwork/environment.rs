//! What the plugin is given: its environment and mounts, checked as a whole before anything is done.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cni::wiring::MTU;
use crate::cni::{NODE_NAME_RULE, valid_node_name};
use crate::datastore::{Settings as Datastore, Tls};

/// Where dockerd looks for plugins' sockets.
pub const PLUGINS: &str = "/run/docker/plugins";
/// What of the host must be mounted into the container. Calico asks Docker for containers' labels.
pub const MOUNTS: [&str; 2] = [PLUGINS, "/var/run/docker.sock"];

/// A checked environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The host's name in Calico.
    pub node: String,
    /// `ETCD_…`.
    pub datastore: Datastore,
    /// Of both ends of a pair, in bytes.
    pub mtu: u32,
}

/// Checks everything and returns all faults at once.
pub fn check(
    variable: &dyn Fn(&str) -> Option<String>,
    mounts: &BTreeSet<PathBuf>,
) -> Result<Settings, Vec<String>> {
    let mut faults = Vec::new();
    let value = |name: &str| variable(name).filter(|value| !value.is_empty());
    for (name, expected) in [
        ("DATASTORE_TYPE", "etcdv3"),
        ("CALICO_LIBNETWORK_LABEL_ENDPOINTS", "true"),
        ("CALICO_LIBNETWORK_NAMESPACE", "default"),
    ] {
        match value(name) {
            None => faults.push(format!("{name} is missing; expected {expected}")),
            Some(found) if found != expected => {
                faults.push(format!("{name} is {found:?}; expected {expected}"));
            }
            Some(_) => {}
        }
    }
    if value("CALICO_LIBNETWORK_CREATE_PROFILES").is_some_and(|text| text.eq_ignore_ascii_case("false")) {
        faults.push("CALICO_LIBNETWORK_CREATE_PROFILES is false: endpoints would have no profile".to_owned());
    }
    // The first is of DC/OS' fork, the second of Calico's own; Docker itself sets the second.
    let names = ["CALICO_LIBNETWORK_HOSTNAME", "HOSTNAME"];
    let node = names.iter().find_map(|name| value(name)).unwrap_or_default();
    if node.is_empty() {
        faults.push(format!("{} is missing; expected calico-node's NODENAME", names.join(" or ")));
    } else if !valid_node_name(&node) {
        faults.push(format!("the host name is {node:?}; expected {NODE_NAME_RULE}"));
    }
    let mtu = match value("CALICO_LIBNETWORK_VETH_MTU").map(|text| (text.parse::<u16>(), text)) {
        None => MTU,
        Some((Ok(mtu), _)) if mtu >= 68 => mtu.into(),
        Some((_, text)) => {
            faults.push(format!("CALICO_LIBNETWORK_VETH_MTU is {text:?}; expected 68 to 65535"));
            MTU
        }
    };
    let file = |name| value(name).map(PathBuf::from);
    let tls = Tls { ca: file("ETCD_CA_CERT_FILE"), cert: file("ETCD_CERT_FILE"), key: file("ETCD_KEY_FILE") };
    let datastore = match value("ETCD_ENDPOINTS").map(|endpoints| Datastore::parse(&endpoints, tls)) {
        None => Err("ETCD_ENDPOINTS is missing; expected URLs of etcd".to_owned()),
        Some(parsed) => parsed.map_err(|error| format!("ETCD_ENDPOINTS: {error}")),
    };
    for mount in MOUNTS.iter().filter(|mount| !mounts.contains(Path::new(mount))) {
        faults.push(format!("{mount} is not mounted from the host"));
    }
    match datastore {
        Ok(datastore) if faults.is_empty() => Ok(Settings { node, datastore, mtu }),
        Ok(_) => Err(faults),
        Err(fault) => {
            faults.push(fault);
            Err(faults)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(changes: &[(&str, &str)]) -> Result<Settings, String> {
        let base = [
            ("HOSTNAME", "host-a"),
            ("ETCD_ENDPOINTS", "http://127.0.0.1:2379"),
            ("DATASTORE_TYPE", "etcdv3"),
            ("CALICO_LIBNETWORK_LABEL_ENDPOINTS", "true"),
            ("CALICO_LIBNETWORK_NAMESPACE", "default"),
        ];
        let find = |list: &[(&str, &str)], name: &str| {
            list.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let mounts = MOUNTS.map(PathBuf::from).into();
        check(&|name| find(changes, name).or_else(|| find(&base, name)), &mounts)
            .map_err(|faults| faults.join("\n"))
    }

    #[test]
    fn takes_what_the_product_gives() {
        let settings =
            with(&[("CALICO_LIBNETWORK_HOSTNAME", "host-b"), ("CALICO_LIBNETWORK_VETH_MTU", "1450")])
                .unwrap();
        assert_eq!((settings.node.as_str(), settings.mtu), ("host-b", 1450));
        assert_eq!(with(&[]).unwrap().node, "host-a");
    }

    #[test]
    fn names_every_missing_variable_and_mount_at_once() {
        let faults = check(&|_| None, &BTreeSet::new()).unwrap_err().join("\n");
        for word in [
            "HOSTNAME",
            "ETCD_ENDPOINTS",
            "DATASTORE_TYPE",
            "CALICO_LIBNETWORK_LABEL_ENDPOINTS",
            "CALICO_LIBNETWORK_NAMESPACE",
            "/run/docker/plugins",
            "/var/run/docker.sock",
        ] {
            assert!(faults.contains(word), "{word} is not in: {faults}");
        }
    }

    #[test]
    fn refuses_wrong_values() {
        for (name, wrong) in [
            ("HOSTNAME", "Host_A"),
            ("ETCD_ENDPOINTS", "127.0.0.1:2379"),
            ("DATASTORE_TYPE", "kubernetes"),
            ("CALICO_LIBNETWORK_LABEL_ENDPOINTS", "false"),
            ("CALICO_LIBNETWORK_NAMESPACE", "other"),
            ("CALICO_LIBNETWORK_CREATE_PROFILES", "false"),
            ("CALICO_LIBNETWORK_VETH_MTU", "12"),
        ] {
            let fault = with(&[(name, wrong)]).unwrap_err();
            assert!(fault.contains(wrong), "{name}={wrong}: {fault}");
        }
    }
}
