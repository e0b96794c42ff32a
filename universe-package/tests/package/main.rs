//! The package: its files, what Cosmos makes of them, and what the scheduler makes of that.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod render;
mod scheduler;
mod validate;

use calico_universe::{Package, Resources};

const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// Where an artifact of [`package`] is.
fn uri(name: &str) -> String {
    format!("http://10.0.0.1:8080/{name}#sha256={HASH}")
}

/// The package with all artifacts.
fn package() -> Package {
    let names = ["calico-scheduler", "calico-installer", "etcd", "calico", "calico-ipam", "calicoctl"];
    let resources = Resources {
        artifacts: names.map(|name| (name.to_owned(), uri(name))).into(),
        node_image: "registry:5000/calico/node:v3.14.0".to_owned(),
        libnetwork_image: "registry:5000/calico/libnetwork-plugin:v1.1.3".to_owned(),
    };
    Package::embedded().filled(&resources).unwrap()
}
