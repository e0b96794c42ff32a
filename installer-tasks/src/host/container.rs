//! What a container of ours is created from.

use std::fmt;

use serde::{Serialize, Serializer};

use super::files;

/// The label that says that a container is ours, and of which task.
pub const TASK_LABEL: &str = "calico-dcos.task";
/// The label with the hash of all that a container was created from.
pub const HASH_LABEL: &str = "calico-dcos.hash";

/// Everything that makes one container of a service differ from another. It is on the host's network, and privileged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContainerSpec {
    /// The container's name.
    #[serde(skip)]
    pub name: &'static str,
    /// The task that it is of.
    #[serde(skip)]
    pub task: &'static str,
    /// The image's name.
    pub image: String,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// What of the host it shares.
    pub mounts: Vec<Mount>,
    /// Memory, in bytes.
    pub memory_bytes: i64,
    /// CPU shares, 1024 a CPU.
    pub cpu_shares: i64,
    /// How it goes through a restart of dockerd; `None`: it ends with dockerd, and is started again by us.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through_restarts: Option<ThroughRestarts>,
    /// The hash of what is in files that it reads when it starts, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
}

/// A container that other containers need while dockerd stops and starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ThroughRestarts {
    /// A signal that does not end it: what dockerd sends when it stops.
    pub stop_signal: &'static str,
    /// Seconds from that to SIGKILL.
    pub outlives: i64,
}

/// A directory or socket of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is on the host.
    pub host: String,
    /// Where it is in the container.
    pub container: String,
}

impl Mount {
    /// At the same place.
    pub fn same(path: &str) -> Self {
        Self { host: path.to_owned(), container: path.to_owned() }
    }

    /// As Docker takes it.
    pub fn bind(&self) -> String {
        format!("{}:{}", self.host, self.container)
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host == self.container { f.write_str(&self.host) } else { f.write_str(&self.bind()) }
    }
}

/// A plain path where both are the same: so did earlier versions hash it.
impl Serialize for Mount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl ContainerSpec {
    /// A hash of all of it: a container with another one is replaced.
    pub fn hash(&self) -> String {
        // Writing into memory does not fail, no map has other keys than strings, and no own `Serialize` here gives an error:
        // serde_json knows no further reason.
        #[expect(clippy::expect_used, reason = "strings and numbers are always JSON")]
        let text = serde_json::to_vec(self).expect("plain values");
        files::sha256_hex(&text)
    }

    /// The labels of its container.
    pub fn labels(&self) -> [(String, String); 2] {
        [(TASK_LABEL.to_owned(), self.task.to_owned()), (HASH_LABEL.to_owned(), self.hash())]
    }
}

/// What holds of the container of every service, whatever its options are.
#[cfg(test)]
pub fn assert_sound(spec: &ContainerSpec, tls: Option<&crate::steps::etcd_tls::OnHost>) {
    use crate::arbitrary::{SECRET, tls_variables};

    let mut names: Vec<&str> = spec.environment.iter().map(|(name, _)| name.as_str()).collect();
    let mut places: Vec<&str> = spec.mounts.iter().map(|mount| mount.container.as_str()).collect();
    for (name, value) in &spec.environment {
        assert!(!value.is_empty() && !name.contains('=') && !value.contains(['\n', '\0']), "{name}={value}");
    }
    for mount in &spec.mounts {
        let whole = |path: &str| path.starts_with('/') && !path.contains([':', ',']);
        assert!(whole(&mount.host) && whole(&mount.container), "{mount}");
    }
    for list in [&mut names, &mut places] {
        let count = list.len();
        list.sort_unstable();
        list.dedup();
        assert_eq!(list.len(), count, "a name or a place is there twice: {list:?}");
    }
    // Files of TLS are where the variables say, and nothing else is told of them.
    let told = |variable| spec.environment.iter().find(|(name, _)| name == variable).map(|(_, path)| path);
    let told: Vec<_> = tls_variables().into_iter().filter_map(told).collect();
    let there: Vec<_> =
        tls.iter().flat_map(|tls| &tls.paths).map(|(_, path)| path.display().to_string()).collect();
    assert_eq!(told, there.iter().collect::<Vec<_>>());
    assert!(there.iter().all(|path| spec.mounts.contains(&Mount::same(path))), "{:?}", spec.mounts);
    assert_eq!(spec.files.is_some(), tls.is_some());
    assert!(!serde_json::to_string(spec).unwrap().contains(SECRET), "what is in a file");
    // Docker's least.
    assert!(
        spec.memory_bytes >= 6 << 20 && spec.cpu_shares >= 2,
        "{} {}",
        spec.memory_bytes,
        spec.cpu_shares
    );
    let [(_, task), (_, hash)] = spec.labels();
    assert!(task == spec.task && hash.len() == 64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_earlier_versions() {
        let spec = ContainerSpec {
            name: "calico-node",
            task: "calico-node",
            image: "calico/node:v3".to_owned(),
            environment: vec![("IP".to_owned(), "10.0.0.1".to_owned())],
            mounts: vec![Mount::same("/lib/modules")],
            memory_bytes: 1,
            cpu_shares: 2,
            through_restarts: None,
            files: None,
        };
        let text = r#"{"image":"calico/node:v3","environment":[["IP","10.0.0.1"]],"mounts":["/lib/modules"],"memory_bytes":1,"cpu_shares":2}"#;
        assert_eq!(serde_json::to_string(&spec).unwrap(), text);
        let through_restarts = Some(ThroughRestarts { stop_signal: "SIGWINCH", outlives: 12 });
        assert_ne!(spec.hash(), ContainerSpec { through_restarts, ..spec.clone() }.hash());
        assert_ne!(spec.hash(), ContainerSpec { files: Some("ab".to_owned()), ..spec.clone() }.hash());
    }
}
