use super::*;
use crate::arbitrary::{cidrs, networks};
use proptest::prelude::*;
use serde_json::json;

fn network() -> NetworkName {
    "calico".parse().unwrap()
}

fn etcd() -> Vec<Endpoint> {
    vec!["http://127.0.0.1:2379".parse().unwrap()]
}

fn plain<'a>(network: &'a NetworkName, etcd: &'a [Endpoint]) -> NetworkConfig<'a> {
    NetworkConfig {
        network,
        etcd,
        tls: None,
        node_name: "host-1",
        nodename_file_optional: false,
        mtu: None,
        ipv4_pools: &[],
        log_level: None,
        port_mapper: false,
    }
}

fn rendered(config: &NetworkConfig<'_>) -> Value {
    serde_json::from_str(&config.render()).unwrap()
}

#[test]
fn the_configuration_is_that_of_calico_s_plugin() {
    let (network, etcd) = (network(), etcd());
    let expected = json!({
        "name": "calico", "cniVersion": "0.1.0", "type": "calico", "ipam": {"type": "calico-ipam"},
        "etcd_endpoints": "http://127.0.0.1:2379", "nodename": "host-1"
    });
    assert_eq!(rendered(&plain(&network, &etcd)), expected, "what nobody asked for is left out");
    let pools = ["10.1.0.0/16".parse().unwrap(), "10.2.0.0/24".parse().unwrap()];
    let all = NetworkConfig {
        mtu: Some(1450),
        tls: Some(TlsFiles {
            ca: Path::new("/t/ca"),
            identity: Some((Path::new("/t/cert"), Path::new("/t/key"))),
        }),
        nodename_file_optional: true,
        ipv4_pools: &pools,
        log_level: Some(CniLogLevel::Debug),
        ..plain(&network, &etcd)
    };
    let expected = json!({
        "name": "calico", "cniVersion": "0.1.0", "type": "calico",
        "ipam": {"type": "calico-ipam", "ipv4_pools": ["10.1.0.0/16", "10.2.0.0/24"]},
        "etcd_endpoints": "http://127.0.0.1:2379", "nodename": "host-1", "nodename_file_optional": true,
        "mtu": 1450, "log_level": "debug",
        "etcd_ca_cert_file": "/t/ca", "etcd_cert_file": "/t/cert", "etcd_key_file": "/t/key"
    });
    assert_eq!(rendered(&all), expected);
}

/// But for the node's name, this is what DC/OS 2.1 has for its own Calico.
#[test]
fn ports_are_mapped_as_dcos_does() {
    let (network, etcd) = (network(), etcd());
    let config = NetworkConfig { port_mapper: true, mtu: Some(1410), ..plain(&network, &etcd) };
    let expected = json!({
        "name": "calico", "type": "mesos-cni-port-mapper", "excludeDevices": ["cali+"], "chain": "M-CALICO",
        "delegate": {
            "cniVersion": "0.1.0", "type": "calico", "mtu": 1410, "etcd_endpoints": "http://127.0.0.1:2379",
            "nodename": "host-1", "ipam": {"type": "calico-ipam"}
        }
    });
    assert_eq!(rendered(&config), expected);
    assert_eq!(plugin_of(config.render().as_bytes()).as_deref(), Some("calico"));
}

#[test]
fn a_rival_is_another_file_with_our_network() {
    let file = |path: &str, content: &str| (PathBuf::from(path), content.as_bytes().to_vec());
    let others = [
        file("/c/calico.conf", r#"{"name":"calico"}"#),
        file("/c/broken", "{"),
        file("/c/list", "[]"),
        file("/c/x", r#"{"name":"x"}"#),
    ];
    assert_eq!(rival(&others, &network(), Path::new("/c/calico.conf")), None);
    let with_rival = [&others[..], &[file("/c/10-net.cni", r#"{"name":"calico"}"#)]].concat();
    assert_eq!(rival(&with_rival, &network(), Path::new("/c/calico.conf")), Some(Path::new("/c/10-net.cni")));
}

/// What Mesos' port mapper gives to the plugin behind it.
fn delegated(mut config: Value) -> Value {
    let name = config["name"].clone();
    let mut delegate = config["delegate"].take();
    delegate["name"] = name;
    delegate
}

proptest! {
    #[test]
    fn every_configuration_says_what_was_asked_for_and_no_more(
        network in networks(),
        ports in prop::collection::vec(1_u16.., 1..4),
        node_name in "[a-z0-9._-]{1,30}",
        nodename_file_optional: bool,
        mtu in prop::option::of(576_u16..),
        pools in prop::collection::vec(cidrs(32), 0..4),
        log_level in prop::option::of(prop::sample::select(&[
            CniLogLevel::Debug, CniLogLevel::Info, CniLogLevel::Warning, CniLogLevel::Error,
        ])),
        port_mapper: bool,
        tls in prop::option::of(("/[a-z.]{1,9}", prop::option::of(("/[a-z.]{1,9}", "/[a-z.]{1,9}")))),
    ) {
        let etcd: Vec<Endpoint> =
            ports.iter().map(|port| format!("https://etcd-{port}:{port}").parse().unwrap()).collect();
        let config = NetworkConfig {
            network: &network, etcd: &etcd, tls: tls.as_ref().map(|(ca, identity)| TlsFiles {
                ca: Path::new(ca),
                identity: identity.as_ref().map(|(cert, key)| (Path::new(cert), Path::new(key))),
            }), node_name: &node_name, nodename_file_optional, mtu,
            ipv4_pools: &pools, log_level, port_mapper,
        };
        let text = config.render();
        prop_assert_eq!(text.lines().last(), Some("}"));
        prop_assert_eq!(network_of(text.as_bytes()), Some(network.to_string()));
        prop_assert_eq!(plugin_of(text.as_bytes()), Some("calico".to_owned()));
        let outer = rendered(&config);
        let calico = if port_mapper { delegated(outer.clone()) } else { outer.clone() };
        // Read back field by field.
        let mut expected = json!({
            "name": network.as_str(), "cniVersion": "0.1.0", "type": "calico", "ipam": { "type": "calico-ipam" },
            "etcd_endpoints": join(&etcd), "nodename": node_name,
        });
        if !pools.is_empty() {
            expected["ipam"]["ipv4_pools"] = pools.iter().map(ToString::to_string).collect();
        }
        let identity = tls.as_ref().and_then(|(_, identity)| identity.as_ref());
        for (key, value) in [
            ("etcd_ca_cert_file", tls.as_ref().map(|(ca, _)| json!(ca))),
            ("etcd_cert_file", identity.map(|(cert, _)| json!(cert))),
            ("etcd_key_file", identity.map(|(_, key)| json!(key))),
            ("nodename_file_optional", nodename_file_optional.then(|| json!(true))),
            ("mtu", mtu.map(|mtu| json!(mtu))),
            ("log_level", log_level.map(|level| json!(level.name()))),
        ] {
            if let Some(value) = value {
                expected[key] = value;
            }
        }
        prop_assert_eq!(calico, expected);
        if port_mapper {
            let chain = outer["chain"].as_str().unwrap();
            prop_assert!(chain.len() <= 28 && chain.starts_with("M-"), "{}", chain);
            // It stands in a shell's script as it is.
            prop_assert!(chain.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c)), "{}", chain);
        }
    }

    #[test]
    fn each_network_has_a_chain_of_its_own(one in networks(), other in networks()) {
        prop_assert_eq!(one == other, chain(&one) == chain(&other));
    }
}
