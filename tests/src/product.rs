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

/// The Marathon app that `dcos package install calico --options` would post for this cluster. `options` go over
/// those that the cluster needs: its masters, its etcd, and a place for state that ends with it. What only Docker's own
/// containers need is left out, since it takes each host some seconds: [`with_docker`] is the package's default.
pub fn app(cluster: &Cluster, options: &Value) -> Result<Value> {
    let failed = |error: &dyn std::error::Error| Error::Invalid(format!("the package: {error}"));
    let artifacts = ARTIFACTS.into_iter().map(|name| Ok((name.to_owned(), cluster.artifact(name)?)));
    let artifacts = artifacts.collect::<Result<_>>()?;
    let (node_image, libnetwork_image) = (cluster.node_image(), cluster.libnetwork_image());
    let resources = Resources { artifacts, node_image, libnetwork_image };
    let package = Package::embedded().filled(&resources).map_err(|error| failed(&error))?;
    let masters: Vec<String> =
        cluster.master_urls().iter().map(|url| url.trim_start_matches("http://").to_owned()).collect();
    let state = cluster.run_dir().join("scheduler/state.json");
    let mut all = json!({
        "service": {"state": format!("file:{}", state.display())},
        "mesos": {"master": masters.join(","), "inventory-interval": "2s"},
        "etcd": {"endpoints": cluster.etcd_endpoint()},
        "docker": {"enable": false},
        "libnetwork": {"enable": false},
    });
    put_over(&mut all, options);
    package.render(&all).map_err(|error| failed(&error))
}

/// `options`, and all that Docker's containers need for addresses of their own.
pub fn with_docker(options: &Value) -> Value {
    let mut all = json!({"docker": {"enable": true}, "libnetwork": {"enable": true}});
    put_over(&mut all, options);
    all
}

fn put_over(all: &mut Value, options: &Value) {
    for (group, values) in options.as_object().into_iter().flatten() {
        for (name, value) in values.as_object().into_iter().flatten() {
            all[group][name] = value.clone();
        }
    }
}

/// Installs the product: the scheduler is started, and alive.
pub fn install<'c>(cluster: &'c Cluster, options: &Value) -> Result<Scheduler<'c>> {
    let scheduler = Scheduler::launch(cluster, "scheduler", &app(cluster, options)?)?;
    scheduler.api().wait_alive(std::time::Duration::from_secs(20))?;
    Ok(scheduler)
}
