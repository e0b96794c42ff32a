//! The environment of a scheduler, for tests of every kind: unit tests, tests of the library, and benchmarks.

use std::collections::BTreeMap;

/// What an operator sets who sets only what must be set, and `changes` over that.
pub fn environment(changes: &[(&str, &str)]) -> BTreeMap<String, String> {
    let artifact = |name: &str| format!("http://10.0.0.9:8080/{name}#sha256={}", "ab".repeat(32));
    let required = [
        ("PORT0", "10001".to_owned()),
        ("CALICO_SERVICE_STATE", "file:/var/lib/calico/state.json".to_owned()),
        ("CALICO_ETCD_ENDPOINTS", "http://10.0.0.1:2379".to_owned()),
        ("CALICO_NODE_IMAGE", "calico/node:v3.14.0".to_owned()),
        ("CALICO_LIBNETWORK_IMAGE", "calico/libnetwork-plugin:v1.1.3".to_owned()),
        ("CALICO_ARTIFACTS_INSTALLER", artifact("calico-installer")),
        ("CALICO_ARTIFACTS_ETCD", artifact("etcd")),
        ("CALICO_ARTIFACTS_CNI", artifact("calico")),
        ("CALICO_ARTIFACTS_CNI_IPAM", artifact("calico-ipam")),
        ("CALICO_ARTIFACTS_CALICOCTL", artifact("calicoctl")),
    ];
    let changes = changes.iter().map(|(name, value)| (*name, (*value).to_owned()));
    required.into_iter().chain(changes).map(|(name, value)| (name.to_owned(), value)).collect()
}
