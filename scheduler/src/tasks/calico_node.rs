//! `calico-node`: supervises the `calico/node` container.

use std::time::Duration;

use super::{Probe, Template, etcd_flags, flag, optional_flags, words};
use crate::config::Config;
use crate::core::{TaskType, thousandths};

pub(super) fn template(config: &Config) -> Option<Template> {
    let target = &config.target;
    let node = target.node.as_ref()?;
    let needs = target.needs.calico_node;
    let socket = flag("docker-socket", node.docker_socket.display());
    let mut args = words(&["node", "run"]);
    args.extend(etcd_flags(&target.etcd));
    args.extend([
        flag("node-image", &node.image),
        flag("node-profile", node.profile),
        flag("network-encapsulation", target.network.encapsulation.word()),
        socket.clone(),
        flag("node-cpus", thousandths(needs.cpus)),
        flag("node-mem", thousandths(needs.mem)),
    ]);
    args.extend(optional_flags(&[
        ("node-backend", node.backend.map(str::to_owned)),
        ("node-ip", node.ip.clone()),
        ("node-name", node.name.clone()),
        ("registry-mirror", node.registry_mirror.clone()),
    ]));
    let probe = |goal: &str| Probe {
        args: [words(&["node", "check", goal]), vec![socket.clone()]].concat(),
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(5),
        // An image that is not there yet is pulled first.
        grace: Duration::from_mins(5),
        failures: 10,
    };
    Some(Template {
        service: true,
        health: Some(Probe { interval: Duration::from_secs(5), ..probe("--live") }),
        check: Some(probe("--ready")),
        grace: Duration::from_secs(30),
        after: vec![TaskType::ClusterInit],
        ..Template::install(config, needs, args, Vec::new())
    })
}
