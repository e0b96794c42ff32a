//! What the container `calico-node` is created from.

use std::net::Ipv4Addr;

use serde::Serialize;

use crate::host::files;
use crate::options::join;
use crate::values::{Backend, Cpus, Endpoint, Memory};

/// The container's name.
pub const NAME: &str = "calico-node";
/// The label that says that a container is ours.
pub const TASK_LABEL: &str = "calico-dcos.task";
/// The label with the hash of all that the container was created from.
pub const HASH_LABEL: &str = "calico-dcos.hash";

/// The directories of the host that calico/node shares; the last three are ours to make.
const MOUNTS: [&str; 4] = ["/lib/modules", "/var/run/calico", "/var/lib/calico", "/var/log/calico"];
/// Those of [`MOUNTS`] that only Calico uses.
pub const CALICO_DIRECTORIES: [&str; 3] = ["/var/run/calico", "/var/lib/calico", "/var/log/calico"];

/// Everything that makes one calico-node differ from another. It is on the host's network, privileged, and neither
/// restarted nor removed by Docker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContainerSpec {
    /// The image's name.
    pub image: String,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// Directories of the host, mounted where they are.
    pub mounts: Vec<String>,
    /// Memory, in bytes.
    pub memory_bytes: i64,
    /// CPU shares, 1024 a CPU.
    pub cpu_shares: i64,
}

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

impl ContainerSpec {
    /// The container of calico/node v3.
    pub fn v3(inputs: &Inputs<'_>) -> Self {
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
        Self {
            image: inputs.image.to_owned(),
            environment: environment.map(|(name, value)| (name.to_owned(), value)).into(),
            mounts: MOUNTS.map(str::to_owned).into(),
            memory_bytes: inputs.memory.bytes(),
            cpu_shares: inputs.cpus.shares(),
        }
    }

    /// A hash of all of it: a container with another one is replaced.
    pub fn hash(&self) -> String {
        #[expect(clippy::expect_used, reason = "strings and numbers are always JSON")]
        let text = serde_json::to_vec(self).expect("plain values");
        files::sha256_hex(&text)
    }

    /// The labels of its container.
    pub fn labels(&self) -> [(String, String); 2] {
        [(TASK_LABEL.to_owned(), NAME.to_owned()), (HASH_LABEL.to_owned(), self.hash())]
    }
}

/// An image pulled through a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrored {
    /// Its name at the mirror.
    pub source: String,
    /// Its own name without the tag.
    pub repository: String,
    /// Its tag.
    pub tag: String,
}

/// `registry/path:tag` as it is called at `mirror`; `None` for an image named by its digest, which cannot be
/// given its name again.
pub fn at_mirror(image: &str, mirror: &str) -> Option<Mirrored> {
    if image.contains('@') {
        return None;
    }
    let (repository, tag) = match image.rsplit_once(':') {
        // A port, not a tag.
        Some((_, tag)) if tag.contains('/') => (image, "latest"),
        Some((repository, tag)) => (repository, tag),
        None => (image, "latest"),
    };
    let path = match repository.split_once('/') {
        Some((registry, path)) if registry.contains(['.', ':']) || registry == "localhost" => path,
        _ => repository,
    };
    let source = format!("{}/{path}:{tag}", mirror.trim_end_matches('/'));
    Some(Mirrored { source, repository: repository.to_owned(), tag: tag.to_owned() })
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
        ContainerSpec::v3(&inputs)
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
        assert_eq!(spec.mounts, ["/lib/modules", "/var/run/calico", "/var/lib/calico", "/var/log/calico"]);
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

    #[test]
    fn a_mirror_takes_the_registry_s_place() {
        let source = |image| at_mirror(image, "mirror:5000").map(|it| (it.source, it.repository, it.tag));
        let is =
            |source: &str, repository: &str, tag: &str| Some((source.into(), repository.into(), tag.into()));
        assert_eq!(source("calico/node:v3"), is("mirror:5000/calico/node:v3", "calico/node", "v3"));
        assert_eq!(
            source("quay.io/calico/node:v3"),
            is("mirror:5000/calico/node:v3", "quay.io/calico/node", "v3")
        );
        assert_eq!(
            source("10.0.0.1:8080/node"),
            is("mirror:5000/node:latest", "10.0.0.1:8080/node", "latest")
        );
        assert_eq!(source("calico/node@sha256:00"), None);
    }
}
