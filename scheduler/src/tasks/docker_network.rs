//! `docker-network`: makes the Docker network, once, where its plugin runs.

use super::{Conditions, Template, docker_socket, flag, network_name, words};
use crate::config::Config;
use crate::core::TaskType;

pub(super) fn template(config: &Config) -> Option<Template> {
    let target = &config.target;
    let beside = match target.libnetwork.as_ref()?.image {
        Some(_) => TaskType::Libnetwork,
        // The plugin is a part of it.
        None => TaskType::CalicoNode,
    };
    let mut args = words(&["docker-network", "apply"]);
    args.extend([
        network_name(target),
        flag("network-pool-cidr", target.network.pool),
        docker_socket(target),
    ]);
    let install = Template::install(config, target.needs.docker_network, args, Vec::new());
    let conditions = Conditions { beside: Some(beside), ..Conditions::default() };
    Some(Template { conditions, ..install })
}
