//! What the container `calico-node` is created from.

use std::net::Ipv4Addr;

use crate::host::container::{ContainerSpec, Mount};
use crate::options::join;
use crate::steps::supervise::service::Directory;
use crate::values::{Backend, Cpus, Endpoint, Memory};

/// The container's name.
pub const NAME: &str = "calico-node";
/// The directories of the host that calico/node shares; the last three only Calico uses.
const MOUNTS: [&str; 4] = ["/lib/modules", "/var/run/calico", "/var/lib/calico", "/var/log/calico"];
/// [`MOUNTS`]: Docker would make those that are missing, and nobody would know.
pub const DIRECTORIES: [Directory; 4] = [
    Directory { path: MOUNTS[0], own: false },
    Directory { path: MOUNTS[1], own: true },
    Directory { path: MOUNTS[2], own: true },
    Directory { path: MOUNTS[3], own: true },
];

/// What a spec is made of.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// The image's name.
    pub image: &'a str,
    /// The host's name in Calico.
    pub node_name: &'a str,
    /// The host's address.
    pub node_ip: Ipv4Addr,
    /// As clients on this host reach etcd.
    pub etcd: &'a [Endpoint],
    /// The networking backend.
    pub backend: Backend,
    /// Memory.
    pub memory: Memory,
    /// CPU time.
    pub cpus: Cpus,
}

/// The container of calico/node v3.
pub fn v3(inputs: &Inputs<'_>) -> ContainerSpec {
    let environment = [
        ("NODENAME", inputs.node_name.to_owned()),
        ("IP", inputs.node_ip.to_string()),
        ("DATASTORE_TYPE", "etcdv3".to_owned()),
        ("ETCD_ENDPOINTS", join(inputs.etcd)),
        ("CALICO_NETWORKING_BACKEND", inputs.backend.name().to_owned()),
        // DC/OS' agent sets loose reverse path filtering at each start, which Felix refuses unless told.
        ("FELIX_IGNORELOOSERPF", "true".to_owned()),
        ("FELIX_HEALTHENABLED", "true".to_owned()),
        // Else the first node makes a pool of its own: pools are cluster-init's.
        ("NO_DEFAULT_POOLS", "true".to_owned()),
    ];
    ContainerSpec {
        name: NAME,
        task: NAME,
        image: inputs.image.to_owned(),
        environment: environment.map(|(name, value)| (name.to_owned(), value)).into(),
        mounts: MOUNTS.map(Mount::same).into(),
        memory_bytes: inputs.memory.bytes(),
        cpu_shares: inputs.cpus.shares(),
        through_restarts: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(change: impl FnOnce(&mut Inputs<'_>)) -> ContainerSpec {
        let etcd = ["http://127.0.0.1:2379".parse().unwrap()];
        let mut inputs = Inputs {
            image: "calico/node:v3.14.0",
            node_name: "host-1",
            node_ip: "10.0.0.1".parse().unwrap(),
            etcd: &etcd,
            backend: Backend::Vxlan,
            memory: "256".parse().unwrap(),
            cpus: "0.1".parse().unwrap(),
        };
        change(&mut inputs);
        v3(&inputs)
    }

    #[test]
    fn the_node_gets_its_environment_and_resources() {
        let spec = spec(|_| ());
        let environment: Vec<String> =
            spec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            environment,
            [
                "NODENAME=host-1",
                "IP=10.0.0.1",
                "DATASTORE_TYPE=etcdv3",
                "ETCD_ENDPOINTS=http://127.0.0.1:2379",
                "CALICO_NETWORKING_BACKEND=vxlan",
                "FELIX_IGNORELOOSERPF=true",
                "FELIX_HEALTHENABLED=true",
                "NO_DEFAULT_POOLS=true",
            ]
        );
        assert_eq!((spec.memory_bytes, spec.cpu_shares), (268_435_456, 102));
        let mounts: Vec<String> = spec.mounts.iter().map(ToString::to_string).collect();
        assert_eq!(mounts, ["/lib/modules", "/var/run/calico", "/var/lib/calico", "/var/log/calico"]);
    }

    #[test]
    fn every_difference_changes_the_hash() {
        let first = spec(|_| ()).hash();
        assert_eq!(first, spec(|_| ()).hash());
        assert_ne!(first, spec(|inputs| inputs.image = "calico/node:v3.14.1").hash());
        assert_ne!(first, spec(|inputs| inputs.node_ip = "10.0.0.2".parse().unwrap()).hash());
        assert_ne!(first, spec(|inputs| inputs.memory = "512".parse().unwrap()).hash());
        assert_ne!(first, spec(|inputs| inputs.cpus = "0.2".parse().unwrap()).hash());
    }
}
