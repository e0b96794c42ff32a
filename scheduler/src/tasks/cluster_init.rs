//! `cluster-init`: makes the IP pool and the profile, once, before any `calico/node` runs.

use super::{Template, artifact_flag, file, flag, network_name, words};
use crate::config::Config;

pub(super) fn template(config: &Config) -> Template {
    let target = &config.target;
    let network = &target.network;
    let calicoctl = file("calicoctl", &target.calicoctl);
    let mut args = words(&["cluster-init", "apply"]);
    args.extend([
        network_name(target),
        flag("network-pool-cidr", network.pool),
        flag("network-block-size", network.block_size),
        flag("network-encapsulation", network.encapsulation.word()),
        flag("network-nat-outgoing", network.nat_outgoing),
        // It runs before the agent has a proxy.
        flag("etcd-endpoints", target.etcd.endpoints.join(",")),
        artifact_flag("artifacts-calicoctl", &calicoctl),
    ]);
    Template::install(config, target.needs.cluster_init, args, vec![calicoctl])
}
