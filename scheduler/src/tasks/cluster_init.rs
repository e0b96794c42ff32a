//! `cluster-init`: makes the IP pool and the profile, once, before any `calico/node` runs.

use super::files::tls_flags;
use super::{Template, artifact_flag, file, flag, network_name, upstream_flag, words};
use crate::config::{Config, Profile};

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
        upstream_flag(&target.etcd),
        artifact_flag("artifacts-calicoctl", &calicoctl),
    ]);
    args.extend(tls_flags(&target.etcd));
    if target.profile != Profile::V3 {
        args.push(flag("node-profile", target.profile.word()));
    }
    Template::install(config, target.needs.cluster_init, args, vec![calicoctl]).with_tls(&target.etcd)
}
