//! The network's configuration: its text, and who else has one of the same name.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::options::join;
use crate::values::{Endpoint, NetworkName};

/// The CNI version that Mesos' isolator speaks.
const CNI_VERSION: &str = "0.1.0";

#[derive(Serialize)]
struct NetworkConfig<'a> {
    name: &'a str,
    #[serde(rename = "cniVersion")]
    cni_version: &'a str,
    #[serde(rename = "type")]
    plugin: &'a str,
    ipam: Ipam<'a>,
    etcd_endpoints: String,
    nodename: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u16>,
}

#[derive(Serialize)]
struct Ipam<'a> {
    #[serde(rename = "type")]
    plugin: &'a str,
}

/// The configuration as Calico's plugin reads it. `policy` and `kubernetes` are left out: with them the plugin
/// makes no profile for the network.
pub fn render(network: &NetworkName, etcd: &[Endpoint], node_name: &str, mtu: Option<u16>) -> String {
    let config = NetworkConfig {
        name: network.as_str(),
        cni_version: CNI_VERSION,
        plugin: super::PLUGIN,
        ipam: Ipam { plugin: super::IPAM_PLUGIN },
        etcd_endpoints: join(etcd),
        nodename: node_name,
        mtu,
    };
    // Writing into memory does not fail, and all keys are fields' names: serde_json knows no further reason.
    #[expect(clippy::expect_used, reason = "strings and numbers under string keys are always JSON")]
    let mut text = serde_json::to_string_pretty(&config).expect("plain values");
    text.push('\n');
    text
}

/// The name of the network in a configuration, if it is one.
pub fn network_of(content: &[u8]) -> Option<String> {
    let config: Value = serde_json::from_slice(content).ok()?;
    Some(config.get("name")?.as_str()?.to_owned())
}

/// The plugin of a configuration, if it is one.
pub fn plugin_of(content: &[u8]) -> Option<String> {
    let config: Value = serde_json::from_slice(content).ok()?;
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
mod tests {
    use super::*;
    use serde_json::json;

    fn network() -> NetworkName {
        "calico".parse().unwrap()
    }

    #[test]
    fn the_configuration_is_that_of_calico_s_plugin() {
        let etcd = ["http://127.0.0.1:2379".parse().unwrap()];
        let config: Value = serde_json::from_str(&render(&network(), &etcd, "host-1", Some(1450))).unwrap();
        let expected = json!({
            "name": "calico", "cniVersion": "0.1.0", "type": "calico", "ipam": {"type": "calico-ipam"},
            "etcd_endpoints": "http://127.0.0.1:2379", "nodename": "host-1", "mtu": 1450
        });
        assert_eq!(config, expected);
        let config: Value = serde_json::from_str(&render(&network(), &etcd, "host-1", None)).unwrap();
        assert_eq!(config.get("mtu"), None);
    }

    #[test]
    fn a_rival_is_another_file_with_our_network() {
        let file = |path: &str, content: &str| (PathBuf::from(path), content.as_bytes().to_vec());
        let others = [
            file("/c/calico.conf", r#"{"name":"calico"}"#),
            file("/c/broken", "{"),
            file("/c/x", r#"{"name":"x"}"#),
        ];
        assert_eq!(rival(&others, &network(), Path::new("/c/calico.conf")), None);
        let with_rival = [&others[..], &[file("/c/10-net.cni", r#"{"name":"calico"}"#)]].concat();
        assert_eq!(
            rival(&with_rival, &network(), Path::new("/c/calico.conf")),
            Some(Path::new("/c/10-net.cni"))
        );
    }
}
