use super::*;
use crate::arbitrary;
use crate::cli::{Cli, Command, LibnetworkCommand};
use crate::host::container::assert_sound;
use clap::Parser;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;

fn options(more: &str) -> LibnetworkOptions {
    let line = format!(
        "calico-installer libnetwork run --libnetwork-image r/libnetwork:v1 --libnetwork-cpus 0.1 --libnetwork-mem 64 \
         --etcd-endpoints http://a:1 --docker-socket /run/d.sock {more}"
    );
    match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
        Command::Libnetwork(LibnetworkCommand::Run(options)) => *options,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_container_outlives_the_others_and_has_its_name_twice() {
    let options = options("--network-mtu 1450");
    let spec = spec(&Inputs {
        options: &options,
        node_name: "host-1",
        etcd: ("ETCD_ENDPOINTS", "http://127.0.0.1:2379"),
        tls: None,
    });
    let environment: Vec<String> =
        spec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        environment,
        [
            "DATASTORE_TYPE=etcdv3",
            "ETCD_ENDPOINTS=http://127.0.0.1:2379",
            "CALICO_LIBNETWORK_HOSTNAME=host-1",
            "HOSTNAME=host-1",
            "CALICO_LIBNETWORK_LABEL_ENDPOINTS=true",
            "CALICO_LIBNETWORK_NAMESPACE=default",
            "CALICO_LIBNETWORK_VETH_MTU=1450",
        ]
    );
    let binds: Vec<String> = spec.mounts.iter().map(Mount::bind).collect();
    assert_eq!(binds, ["/run/docker/plugins:/run/docker/plugins", "/run/d.sock:/var/run/docker.sock"]);
    assert_eq!(spec.labels()[0], ("calico-dcos.task".to_owned(), "libnetwork".to_owned()));
    assert_eq!((spec.name, spec.memory_bytes), ("calico-libnetwork", 64 << 20));
    assert!(spec.through_restarts.is_some());
}

proptest::proptest! {
    #[test]
    fn every_plugin_is_told_what_was_asked_for_and_no_more(
        image in arbitrary::images(),
        node_name in arbitrary::node_names(),
        (_, place) in arbitrary::etcds(),
        mtu in proptest::option::of(576_u16..),
        socket in arbitrary::paths(),
        memory in arbitrary::memories(),
        cpus in arbitrary::cpus(),
        tls in proptest::option::of(proptest::prelude::any::<([bool; 3], bool)>()),
    ) {
        let mut options = options("");
        (options.libnetwork_image, options.network_mtu, options.docker.socket) = (image.clone(), mtu, socket.clone());
        (options.libnetwork_mem, options.libnetwork_cpus) = (memory, cpus);
        let tls = tls.map(|(on_host, has_identity)| arbitrary::tls_files(on_host, has_identity));
        let tls = tls.as_ref().map(|(_, tls)| tls);
        let spec = spec(&Inputs { options: &options, node_name: &node_name, etcd: ("ETCD_ENDPOINTS", &place), tls });
        assert_sound(&spec, tls);
        let told = |variable: &str| spec.environment.iter().find(|(name, _)| name == variable).map(|(_, value)| value.clone());
        // It is the host that calico-node is, under both of the names that plugins read.
        for (variable, value) in [
            ("CALICO_LIBNETWORK_HOSTNAME", Some(node_name.clone())), ("HOSTNAME", Some(node_name)),
            ("ETCD_ENDPOINTS", Some(place)), ("CALICO_LIBNETWORK_VETH_MTU", mtu.map(|mtu| mtu.to_string())),
            ("DATASTORE_TYPE", Some("etcdv3".to_owned())),
        ] {
            assert_eq!(told(variable), value, "{variable}");
        }
        let files = tls.map_or(0, |tls| tls.paths.len());
        assert_eq!((spec.environment.len(), spec.mounts.len()), (6 + usize::from(mtu.is_some()) + files, 2 + files));
        assert_eq!(spec.mounts[1].bind(), format!("{}:/var/run/docker.sock", socket.display()));
        assert_eq!((spec.image, spec.memory_bytes, spec.cpu_shares), (image, memory.bytes(), cpus.shares()));
        assert!(spec.through_restarts.is_some());
    }
}

#[test]
fn the_host_s_name_must_be_calico_node_s() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("nodename");
    let failure = require_node(&file, "host-1").unwrap_err();
    assert_eq!(failure.exit(), Exit::Unavailable);
    assert!(failure.to_string().contains("nodename"), "{failure}");
    std::fs::write(&file, "host-1\n").unwrap();
    require_node(&file, "host-1").unwrap();
    let failure = require_node(&file, "other").unwrap_err();
    assert_eq!(failure.exit(), Exit::Unsuitable);
    for word in ["host-1", "other", "--node-name"] {
        assert!(failure.to_string().contains(word), "{failure}");
    }
}

/// A plugin that gives one answer to everything.
fn serve(folder: &Path, name: &str, status: &'static str, body: &'static str) {
    let listener = UnixListener::bind(folder.join(format!("{name}.sock"))).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        }
    });
}

#[tokio::test]
async fn both_plugins_must_answer_and_the_network_s_scope_be_global() {
    let folder = tempfile::tempdir().unwrap();
    let error = live(&plugins(folder.path())).await.unwrap_err().to_string();
    assert!(error.contains("calico.sock"), "{error}");
    serve(folder.path(), "calico", "200 OK", r#"{"Implements":["NetworkDriver"],"Scope":"global"}"#);
    let error = live(&plugins(folder.path())).await.unwrap_err().to_string();
    assert!(error.contains("calico-ipam.sock"), "{error}");
    serve(folder.path(), "calico-ipam", "200 OK", r#"{"Implements":["IpamDriver"]}"#);
    live(&plugins(folder.path())).await.unwrap();
    ready(&plugins(folder.path())).await.unwrap();

    let local = tempfile::tempdir().unwrap();
    serve(local.path(), "calico", "200 OK", r#"{"Implements":["VolumeDriver"],"Scope":"local"}"#);
    serve(local.path(), "calico-ipam", "500 Internal Server Error", r#"{"Err":"no"}"#);
    let plugins = plugins(local.path());
    assert!(live(&plugins).await.unwrap_err().to_string().contains("VolumeDriver"));
    assert!(ready(&plugins).await.unwrap_err().to_string().contains("local"));
    let error = plugins[1].ask("IpamDriver.GetCapabilities", CHECK_LIMIT).await.unwrap_err().to_string();
    assert!(error.contains("500") && error.contains("no"), "{error}");
}
