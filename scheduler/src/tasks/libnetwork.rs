//! `libnetwork`: supervises the container of Docker's network plugin.

use super::files::{CREDENTIALS, file_flag};
use super::{Conditions, Template, docker_socket, etcd_flags, flag, optional_flags, words};
use crate::config::Config;
use crate::core::{TaskType, thousandths};

pub(super) fn template(config: &Config) -> Option<Template> {
    let target = &config.target;
    let (libnetwork, node) = (target.libnetwork.as_ref()?, target.node.as_ref()?);
    let needs = target.needs.libnetwork;
    let mut args = words(&["libnetwork", "run"]);
    args.extend(etcd_flags(&target.etcd));
    args.extend([
        flag("libnetwork-image", libnetwork.image.as_ref()?),
        flag("libnetwork-cpus", thousandths(needs.cpus)),
        flag("libnetwork-mem", thousandths(needs.mem)),
        docker_socket(target),
    ]);
    args.extend(optional_flags(&[
        ("node-name", node.name.clone()),
        ("registry-mirror", node.registry_mirror.clone()),
    ]));
    if let Some(credentials) = &node.registry_credentials {
        args.push(file_flag("registry-credentials", CREDENTIALS, credentials));
    }
    let service =
        Template::container(config, needs, "libnetwork", args).with_tls(&target.etcd).with_credentials(node);
    Some(Template { conditions: conditions(), ..service })
}

pub(super) fn conditions() -> Conditions {
    Conditions { requires: vec![TaskType::DockerClusterStore], ..Conditions::default() }
}
