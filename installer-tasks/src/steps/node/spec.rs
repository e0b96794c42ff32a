//! What the container `calico-node` is created from.

use std::net::Ipv4Addr;
use std::path::Path;

use crate::host::container::{ContainerSpec, Mount};
use crate::host::plugin;
use crate::steps::etcd_tls::OnHost;
use crate::steps::libnetwork::THROUGH_RESTARTS;
use crate::steps::supervise::service::Directory;
use crate::values::{Backend, Cpus, Memory, NodeProfile};

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

/// Whether Docker's network plugin is in the container (v2.6).
const LIBNETWORK_ENABLED: &str = "CALICO_LIBNETWORK_ENABLED";
/// Docker's socket, as the plugin in calico/node v2.6 finds it.
const SOCKET_INSIDE: &str = "/var/run/docker.sock";
/// Where that plugin has its sockets: Docker's own directory.
pub const PLUGIN_DIRECTORY: [Directory; 1] = [Directory { path: plugin::FOLDER, own: false }];

/// What a spec is made of.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// Which line of Calico's.
    pub profile: NodeProfile,
    /// The image's name.
    pub image: &'a str,
    /// The host's name in Calico.
    pub node_name: &'a str,
    /// The host's address.
    pub node_ip: Ipv4Addr,
    /// The variable that says where etcd is, and what it says.
    pub etcd: (&'a str, &'a str),
    /// The files of TLS towards it.
    pub tls: Option<&'a OnHost>,
    /// The networking backend.
    pub backend: Backend,
    /// Docker's socket, when its network plugin is to run in the container (v2.6).
    pub plugin_of: Option<&'a Path>,
    /// Memory.
    pub memory: Memory,
    /// CPU time.
    pub cpus: Cpus,
}

/// The container of calico/node.
pub fn spec(inputs: &Inputs<'_>) -> ContainerSpec {
    let Inputs { profile, etcd, tls, plugin_of, .. } = *inputs;
    let text = str::to_owned;
    let mut environment = vec![("NODENAME", text(inputs.node_name)), ("IP", inputs.node_ip.to_string())];
    if profile == NodeProfile::V3 {
        environment.push(("DATASTORE_TYPE", text("etcdv3")));
    }
    environment.extend([
        (etcd.0, text(etcd.1)),
        ("CALICO_NETWORKING_BACKEND", text(inputs.backend.name())),
        // DC/OS' agent sets loose reverse path filtering at each start, which Felix refuses unless told.
        ("FELIX_IGNORELOOSERPF", text("true")),
        ("FELIX_HEALTHENABLED", text("true")),
        // Else the first node makes a pool of its own: pools are cluster-init's.
        ("NO_DEFAULT_POOLS", text("true")),
    ]);
    if profile == NodeProfile::V26 {
        environment.push((LIBNETWORK_ENABLED, plugin_of.is_some().to_string()));
    }
    let mut mounts = MOUNTS.map(Mount::same).to_vec();
    if let Some(socket) = plugin_of {
        environment.push(("CALICO_LIBNETWORK_LABEL_ENDPOINTS", text("true")));
        let host = socket.to_string_lossy().into_owned();
        mounts.extend([Mount::same(plugin::FOLDER), Mount { host, container: text(SOCKET_INSIDE) }]);
    }
    for variable in tls.map(OnHost::environment).unwrap_or_default() {
        environment.push(variable);
    }
    mounts.extend(tls.into_iter().flat_map(OnHost::mounts));
    ContainerSpec {
        name: NAME,
        task: NAME,
        image: inputs.image.to_owned(),
        environment: environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        mounts,
        memory_bytes: inputs.memory.bytes(),
        cpu_shares: inputs.cpus.shares(),
        // dockerd calls the plugin while it starts and stops, as it does the one that has a container of its own.
        through_restarts: plugin_of.map(|_| THROUGH_RESTARTS),
        files: tls.map(|tls| tls.sha256.clone()),
    }
}

/// Whether a container with this environment, `NAME=VALUE`, has Docker's network plugin inside.
pub fn serves_docker(environment: &[String]) -> bool {
    environment.iter().any(|it| it.split_once('=') == Some((LIBNETWORK_ENABLED, "true")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitrary;
    use crate::host::container::assert_sound;
    use crate::options::EtcdTlsFile;

    fn spec(change: impl FnOnce(&mut Inputs<'static>)) -> ContainerSpec {
        let mut inputs = Inputs {
            image: "calico/node:v3.14.0",
            node_name: "host-1",
            node_ip: "10.0.0.1".parse().unwrap(),
            profile: NodeProfile::V3,
            etcd: ("ETCD_ENDPOINTS", "http://127.0.0.1:2379"),
            tls: None,
            plugin_of: None,
            backend: Backend::Vxlan,
            memory: "256".parse().unwrap(),
            cpus: "0.1".parse().unwrap(),
        };
        change(&mut inputs);
        super::spec(&inputs)
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

    #[test]
    fn v2_6_has_docker_s_plugin_inside_where_that_is_wanted() {
        let two = spec(|inputs| {
            (inputs.profile, inputs.backend) = (NodeProfile::V26, Backend::Bird);
            inputs.plugin_of = Some(Path::new("/run/d.sock"));
        });
        let environment: Vec<String> =
            two.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            environment,
            [
                "NODENAME=host-1",
                "IP=10.0.0.1",
                "ETCD_ENDPOINTS=http://127.0.0.1:2379",
                "CALICO_NETWORKING_BACKEND=bird",
                "FELIX_IGNORELOOSERPF=true",
                "FELIX_HEALTHENABLED=true",
                "NO_DEFAULT_POOLS=true",
                "CALICO_LIBNETWORK_ENABLED=true",
                "CALICO_LIBNETWORK_LABEL_ENDPOINTS=true",
            ]
        );
        let mounts: Vec<String> = two.mounts[4..].iter().map(ToString::to_string).collect();
        assert_eq!(mounts, ["/run/docker/plugins", "/run/d.sock:/var/run/docker.sock"]);
        assert!(two.through_restarts.is_some());
        let without = spec(|inputs| inputs.profile = NodeProfile::V26);
        assert!(without.environment.contains(&("CALICO_LIBNETWORK_ENABLED".into(), "false".into())));
        assert_eq!((without.mounts.len(), without.through_restarts), (4, None));
    }

    proptest::proptest! {
        #[test]
        fn every_node_is_told_what_was_asked_for_and_no_more(
            (profile, encapsulation) in arbitrary::lines(),
            image in arbitrary::images(),
            node_name in arbitrary::node_names(),
            node_ip in arbitrary::addresses(),
            (variable, place) in arbitrary::etcds(),
            plugin in proptest::option::of(arbitrary::paths()),
            memory in arbitrary::memories(),
            cpus in arbitrary::cpus(),
            tls in proptest::option::of(proptest::prelude::any::<([bool; 3], bool)>()),
        ) {
            let tls = tls.map(|(on_host, has_identity)| arbitrary::tls_files(on_host, has_identity));
            let tls = tls.as_ref().map(|(_, tls)| tls);
            let is_v3 = profile == NodeProfile::V3;
            let plugin_of = plugin.as_deref().filter(|_| !is_v3);
            let backend = Backend::for_encapsulation(encapsulation);
            let inputs = Inputs {
                profile, image: &image, node_name: &node_name, node_ip, etcd: (variable, &place), tls, backend, plugin_of,
                memory, cpus,
            };
            let spec = super::spec(&inputs);
            assert_sound(&spec, tls);
            let mut expected = vec![
                ("NODENAME", node_name.clone()), ("IP", node_ip.to_string()), (variable, place.clone()),
                ("CALICO_NETWORKING_BACKEND", backend.name().to_owned()), ("FELIX_IGNORELOOSERPF", "true".to_owned()),
                ("FELIX_HEALTHENABLED", "true".to_owned()), ("NO_DEFAULT_POOLS", "true".to_owned()),
            ];
            if is_v3 {
                expected.push(("DATASTORE_TYPE", "etcdv3".to_owned()));
            } else {
                expected.push(("CALICO_LIBNETWORK_ENABLED", plugin_of.is_some().to_string()));
            }
            expected.extend(plugin_of.map(|_| ("CALICO_LIBNETWORK_LABEL_ENDPOINTS", "true".to_owned())));
            let is_tls = |name: &str| arbitrary::tls_variables().contains(&name);
            let mut told: Vec<_> = spec.environment.iter().filter(|(name, _)| !is_tls(name)).cloned().collect();
            let mut expected: Vec<_> = expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            told.sort();
            expected.sort();
            assert_eq!(told, expected);
            assert_eq!((spec.image.as_str(), spec.memory_bytes, spec.cpu_shares), (image.as_str(), memory.bytes(), cpus.shares()));
            assert_eq!(spec.mounts.len(), 4 + 2 * usize::from(plugin_of.is_some()) + tls.map_or(0, |it| it.paths.len()));
            assert_eq!((spec.through_restarts.is_some(), serves_docker(&lines(&spec))), (plugin_of.is_some(), plugin_of.is_some()));
            // Another name is another container.
            let other = super::spec(&Inputs { node_name: "another", ..inputs });
            assert_eq!(other.hash() == spec.hash(), node_name == "another");
        }
    }

    fn lines(spec: &ContainerSpec) -> Vec<String> {
        spec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// Whatever is in the files, the container is another one when that is.
    #[test]
    fn files_of_tls_are_mounted_and_their_content_is_in_the_hash() {
        let with = |sha256: &str| {
            let paths = [(EtcdTlsFile::Ca, "/s/ca.pem"), (EtcdTlsFile::Key, "/s/key.pem")];
            let tls = OnHost::at(paths.map(|(what, path)| (what, path.into())).into(), sha256);
            let tls: &'static OnHost = Box::leak(Box::new(tls));
            spec(|inputs| inputs.tls = Some(tls))
        };
        let (one, two) = (with("aa"), with("bb"));
        assert_ne!(one.hash(), two.hash());
        let mounts: Vec<String> = one.mounts[4..].iter().map(ToString::to_string).collect();
        assert_eq!(mounts, ["/s/ca.pem", "/s/key.pem"]);
        assert!(one.environment.contains(&("ETCD_KEY_FILE".into(), "/s/key.pem".into())));
    }
}
