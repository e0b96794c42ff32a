//! `calico-node`: supervises the `calico/node` container.

use super::files::{CREDENTIALS, file_flag};
use super::{Conditions, Template, docker_socket, etcd_flags, flag, optional_flags, words};
use crate::config::{Config, Profile};
use crate::core::{TaskType, thousandths};

pub(super) fn template(config: &Config) -> Option<Template> {
    let target = &config.target;
    let node = target.node.as_ref()?;
    let needs = target.needs.calico_node;
    let mut args = words(&["node", "run"]);
    args.extend(etcd_flags(&target.etcd));
    args.extend([
        flag("node-image", &node.image),
        flag("node-profile", target.profile.word()),
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
    if let Some(credentials) = &node.registry_credentials {
        args.push(file_flag("registry-credentials", CREDENTIALS, credentials));
    }
    if target.profile == Profile::V26 && target.libnetwork.is_some() {
        args.push(flag("node-libnetwork", true));
    }
    let service =
        Template::container(config, needs, "node", args).with_tls(&target.etcd).with_credentials(node);
    Some(Template { conditions: conditions(), ..service })
}

pub(super) fn conditions() -> Conditions {
    Conditions { after: vec![TaskType::ClusterInit], ..Conditions::default() }
}
