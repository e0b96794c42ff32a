//! `calico-node`: supervises the `calico/node` container.

use super::{Conditions, Template, docker_socket, etcd_flags, flag, optional_flags, words};
use crate::config::Config;
use crate::core::{TaskType, thousandths};

pub(super) fn template(config: &Config) -> Option<Template> {
    let target = &config.target;
    let node = target.node.as_ref()?;
    let needs = target.needs.calico_node;
    let mut args = words(&["node", "run"]);
    args.extend(etcd_flags(&target.etcd));
    args.extend([
        flag("node-image", &node.image),
        flag("node-profile", target.profile),
        flag("network-encapsulation", target.network.encapsulation.word()),
        docker_socket(target),
        flag("node-cpus", thousandths(needs.cpus)),
        flag("node-mem", thousandths(needs.mem)),
    ]);
    args.extend(optional_flags(&[
        ("node-backend", node.backend.map(str::to_owned)),
        ("node-ip", node.ip.clone()),
        ("node-name", node.name.clone()),
        ("registry-mirror", node.registry_mirror.clone()),
    ]));
    let conditions = conditions();
    Some(Template { conditions, ..Template::container(config, needs, "node", args) })
}

pub(super) fn conditions() -> Conditions {
    Conditions { after: vec![TaskType::ClusterInit], ..Conditions::default() }
}
