//! `docker-network`: makes the Docker network, once, where its plugin runs.

use super::{Conditions, Template, docker_socket, flag, network_name, words};
use crate::config::{Config, Target};
use crate::core::TaskType;

pub(super) fn template(config: &Config) -> Option<Template> {
    let target = &config.target;
    target.libnetwork.as_ref()?;
    let mut args = words(&["docker-network", "apply"]);
    args.extend([
        network_name(target),
        flag("network-pool-cidr", target.network.pool),
        docker_socket(target),
    ]);
    let install = Template::install(config, target.needs.docker_network, args, Vec::new());
    Some(Template { conditions: conditions(target), ..install })
}

pub(super) fn conditions(target: &Target) -> Conditions {
    // Without an image of its own the plugin is a part of calico-node.
    let inside = target.libnetwork.as_ref().is_some_and(|libnetwork| libnetwork.image.is_none());
    let beside = if inside { TaskType::CalicoNode } else { TaskType::Libnetwork };
    Conditions { beside: Some(beside), ..Conditions::default() }
}
