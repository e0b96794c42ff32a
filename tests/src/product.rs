//! The product on a cluster, as an operator gets it: the package, filled with this build's artifacts, rendered with
//! the operator's options, and run by Marathon's stand-in.

use calico_universe::{Package, Resources};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::marathon::Scheduler;

/// The artifacts that the package names.
const ARTIFACTS: [&str; 6] =
    ["calico-scheduler", "calico-installer", "etcd", "calico", "calico-ipam", "calicoctl"];

/// The image of Docker's network plugin, in the registry that has the one of calico/node.
const LIBNETWORK_IMAGE: &str = "calico/libnetwork-plugin:v1.1.3";

/// Whether Docker gets its store and its plugin. Not yet: the installer of this version has no steps for them.
const WITH_DOCKER: bool = false;

/// The Marathon app that `dcos package install calico --options` would post for this cluster. `options` go over
/// those that the cluster needs: its masters, its etcd, and a place for state that ends with it.
pub fn app(cluster: &Cluster, options: &Value) -> Result<Value> {
    let failed = |error: &dyn std::error::Error| Error::Invalid(format!("the package: {error}"));
    let artifacts = ARTIFACTS.into_iter().map(|name| Ok((name.to_owned(), cluster.artifact(name)?)));
    let artifacts = artifacts.collect::<Result<_>>()?;
    let node_image = cluster.node_image();
    let registry = node_image.split_once('/').map_or("", |(registry, _)| registry);
    let libnetwork_image = format!("{registry}/{LIBNETWORK_IMAGE}");
    let resources = Resources { artifacts, node_image, libnetwork_image };
    let package = Package::embedded().filled(&resources).map_err(|error| failed(&error))?;
    let masters: Vec<String> =
        cluster.master_urls().iter().map(|url| url.trim_start_matches("http://").to_owned()).collect();
    let state = cluster.run_dir().join("scheduler/state.json");
    let mut all = json!({
        "service": {"state": format!("file:{}", state.display())},
        "mesos": {"master": masters.join(","), "inventory-interval": "2s"},
        "etcd": {"endpoints": cluster.etcd_endpoint()},
        "docker": {"enable": WITH_DOCKER},
        "libnetwork": {"enable": WITH_DOCKER},
    });
    for (group, values) in options.as_object().into_iter().flatten() {
        for (name, value) in values.as_object().into_iter().flatten() {
            all[group][name] = value.clone();
        }
    }
    package.render(&all).map_err(|error| failed(&error))
}

/// Installs the product: the scheduler is started, and alive.
pub fn install<'c>(cluster: &'c Cluster, options: &Value) -> Result<Scheduler<'c>> {
    let scheduler = Scheduler::launch(cluster, "scheduler", &app(cluster, options)?)?;
    scheduler.api().wait_alive(std::time::Duration::from_secs(20))?;
    Ok(scheduler)
}
