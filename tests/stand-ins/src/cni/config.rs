//! The network configuration, in the form of Calico's plugin.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{CniError, Code, VERSIONS};
use crate::cidr::Cidr;
use crate::datastore::{DatastoreError, Settings, Tls};
use crate::labels;

/// Written by calico-node when it starts.
pub const NODENAME_FILE: &str = "/var/lib/calico/nodename";

/// A network configuration with the datastore etcd; unknown fields are refused, also `policy` and `kubernetes`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// One of [`VERSIONS`].
    #[serde(rename = "cniVersion")]
    pub cni_version: String,
    /// The network's name, and that of the profile.
    pub name: String,
    /// `calico`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Who gives addresses.
    pub ipam: IpamConfig,
    /// Comma-separated URLs.
    pub etcd_endpoints: String,
    /// PEM file of the client's key.
    pub etcd_key_file: Option<PathBuf>,
    /// PEM file of the client's certificate.
    pub etcd_cert_file: Option<PathBuf>,
    /// PEM file of the servers' authority.
    pub etcd_ca_cert_file: Option<PathBuf>,
    /// `etcdv3`, if given.
    pub datastore_type: Option<String>,
    /// Checked and otherwise not used.
    pub log_level: Option<LogLevel>,
    /// The host's name in Calico.
    pub nodename: Option<String>,
    /// Whether calico-node need not have written the name.
    #[serde(default)]
    pub nodename_file_optional: bool,
    /// Bytes.
    pub mtu: Option<u32>,
    /// What the runtime adds; Mesos: `org.apache.mesos` with the `NetworkInfo`.
    #[serde(default)]
    pub args: Map<String, Value>,
}

/// The part of the configuration for the IPAM plugin.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IpamConfig {
    /// `calico-ipam`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Pools by their CIDR; all when empty.
    #[serde(default)]
    pub ipv4_pools: Vec<Cidr>,
}

/// Calico's log levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// The usual.
    Info,
    /// Only what is not as expected.
    #[serde(alias = "warn")]
    Warning,
    /// Only what failed.
    Error,
}

/// The version to repeat in an error, also when the rest is not understood.
pub fn version_of(stdin: &[u8]) -> String {
    serde_json::from_slice::<Value>(stdin)
        .ok()
        .and_then(|config| config.get("cniVersion")?.as_str().map(str::to_owned))
        .unwrap_or_else(|| VERSIONS[0].to_owned())
}

impl NetworkConfig {
    /// Checks a configuration.
    pub fn parse(stdin: &[u8]) -> Result<Self, CniError> {
        let invalid =
            |reason: &str| CniError::new(Code::InvalidConfig, "invalid network configuration", reason);
        let value: Value = serde_json::from_slice(stdin).map_err(|error| {
            CniError::new(Code::Decoding, "the network configuration is not JSON", &error)
        })?;
        // The version first: with another one the other fields may differ.
        if let Some(version) = value.get("cniVersion").and_then(Value::as_str)
            && !VERSIONS.contains(&version)
        {
            let details = format!("cniVersion {version:?}; supported: {}", VERSIONS.join(", "));
            return Err(CniError::new(Code::IncompatibleVersion, "incompatible CNI version", &details));
        }
        let config: Self = serde_json::from_value(value).map_err(|error| invalid(&error.to_string()))?;
        let mut faults = Vec::new();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if !config.name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !config.name.chars().all(allowed)
        {
            faults.push(format!("name {:?}; expected letters, digits, '_', '.' and '-'", config.name));
        }
        if config.kind != "calico" {
            faults.push(format!("type {:?}; expected \"calico\"", config.kind));
        }
        if config.ipam.kind != "calico-ipam" {
            faults.push(format!("ipam.type {:?}; expected \"calico-ipam\"", config.ipam.kind));
        }
        if let Some(kind) = config.datastore_type.as_ref().filter(|kind| *kind != "etcdv3") {
            faults.push(format!("datastore_type {kind:?}; expected \"etcdv3\""));
        }
        if config.nodename.as_ref().is_some_and(|name| !valid_node_name(name)) {
            faults.push(format!("nodename {:?}; expected {NODE_NAME_RULE}", config.nodename));
        }
        if let Some(mtu) = config.mtu.filter(|mtu| !(68..=65_535).contains(mtu)) {
            faults.push(format!("mtu {mtu}; expected 68 to 65535"));
        }
        if let Err(error) = config.datastore() {
            faults.push(error.to_string());
        }
        faults.extend(config.labels().err());
        if faults.is_empty() { Ok(config) } else { Err(invalid(&faults.join("; "))) }
    }

    /// The labels of the task's network; or what is wrong with them.
    pub fn labels(&self) -> Result<BTreeMap<String, String>, String> {
        labels::of_mesos(&self.args)
    }

    /// Where etcd is.
    pub fn datastore(&self) -> Result<Settings, DatastoreError> {
        let tls = Tls {
            ca: self.etcd_ca_cert_file.clone(),
            cert: self.etcd_cert_file.clone(),
            key: self.etcd_key_file.clone(),
        };
        Settings::parse(&self.etcd_endpoints, tls)
    }

    /// The host's name: from the configuration, else from calico-node's file, else the lower-case host name.
    pub fn node_name(&self, file: &Path, host_name: &str) -> String {
        let from_file = || {
            let name = std::fs::read_to_string(file).ok()?;
            Some(name.trim().to_owned()).filter(|name| !name.is_empty())
        };
        self.nodename.clone().or_else(from_file).unwrap_or_else(|| host_name.to_lowercase())
    }

    /// [`Self::node_name`] of this host.
    pub fn this_node(&self) -> String {
        let system = rustix::system::uname();
        self.node_name(Path::new(NODENAME_FILE), &system.nodename().to_string_lossy())
    }
}

/// What a node's name must be, in words.
pub const NODE_NAME_RULE: &str = "lower-case letters, digits, '-' and '.', a letter or digit first and last";

/// Whether Calico takes it as a node's name.
pub fn valid_node_name(name: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253
        && name.starts_with(alphanumeric)
        && name.ends_with(alphanumeric)
        && name.chars().all(|c| alphanumeric(c) || c == '-' || c == '.')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(changes: &Value) -> Result<NetworkConfig, CniError> {
        let mut config = json!({
            "name": "calico", "cniVersion": "0.1.0", "type": "calico", "ipam": {"type": "calico-ipam"},
            "etcd_endpoints": "http://127.0.0.1:2379",
            "args": {"org.apache.mesos": {"network_info": {"name": "calico"}}}
        });
        for (key, value) in changes.as_object().unwrap() {
            if value.is_null() {
                config.as_object_mut().unwrap().remove(key);
            } else {
                config[key] = value.clone();
            }
        }
        NetworkConfig::parse(config.to_string().as_bytes())
    }

    #[test]
    fn takes_the_form_that_is_installed() {
        let config = parse(&json!({"mtu": 1410, "nodename": "10.0.0.1", "log_level": "info"})).unwrap();
        assert_eq!((config.mtu, config.name.as_str()), (Some(1410), "calico"));
    }

    #[test]
    fn refuses_missing_unknown_and_wrong_fields() {
        for (changes, word) in [
            (json!({"cniVersion": null}), "cniVersion"),
            (json!({"name": null}), "name"),
            (json!({"etcd_endpoints": null}), "etcd_endpoints"),
            (json!({"ipam": null}), "ipam"),
            (json!({"ipam": {"type": "host-local"}}), "host-local"),
            (json!({"ipam": {"type": "calico-ipam", "subnet": "10.0.0.0/8"}}), "subnet"),
            (json!({"ipam": {"type": "calico-ipam", "ipv4_pools": ["10.0.0.1/8"]}}), "10.0.0.1/8"),
            (json!({"type": "bridge"}), "bridge"),
            (json!({"policy": {"type": "k8s"}}), "policy"),
            (json!({"etcd_endpoint": "http://127.0.0.1:2379"}), "etcd_endpoint"),
            (json!({"etcd_endpoints": "127.0.0.1:2379"}), "127.0.0.1:2379"),
            (json!({"mtu": 12}), "mtu 12"),
            (json!({"nodename": "Host_A"}), "Host_A"),
            (json!({"datastore_type": "kubernetes"}), "kubernetes"),
            (json!({"log_level": "loud"}), "loud"),
            (
                json!({"args": {"org.apache.mesos": {"network_info": {"labels": {"labels": [{"key": "a b"}]}}}}}),
                "a b",
            ),
        ] {
            let error = parse(&changes).unwrap_err();
            assert_eq!(error.code, Code::InvalidConfig as u32, "{changes}");
            assert!(error.details.contains(word), "{changes}: {error}");
        }
        let error = parse(&json!({"cniVersion": "1.0.0"})).unwrap_err();
        assert_eq!(error.code, Code::IncompatibleVersion as u32);
        assert_eq!(NetworkConfig::parse(b"{").unwrap_err().code, Code::Decoding as u32);
    }

    #[test]
    fn the_node_is_named_as_calico_does() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("nodename");
        let config = parse(&json!({})).unwrap();
        assert_eq!(config.node_name(&file, "Host-A"), "host-a");
        std::fs::write(&file, "from-file\n").unwrap();
        assert_eq!(config.node_name(&file, "Host-A"), "from-file");
        let config = parse(&json!({"nodename": "from-config"})).unwrap();
        assert_eq!(config.node_name(&file, "Host-A"), "from-config");
    }
}
