//! `docker-network`: makes the Docker network, once, where its plugin runs.

use super::{Conditions, Template, docker_socket, flag, network_name, words};
use crate::config::Config;
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
    Some(Template { conditions: conditions(), ..install })
}

pub(super) fn conditions() -> Conditions {
    Conditions { beside: Some(TaskType::Libnetwork), ..Conditions::default() }
}
