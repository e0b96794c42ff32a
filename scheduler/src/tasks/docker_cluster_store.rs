//! `docker-cluster-store`: gives Docker the store that networks of more than one host need.

use super::{Conditions, Template, docker_socket, etcd_flags, flag, optional_flags, words};
use crate::config::{Config, DockerStore, Target};
use crate::core::{MostAgents, Restart};

pub(super) fn template(config: &Config) -> Option<Template> {
    let target = &config.target;
    let store = target.docker.as_ref()?;
    let mut args = words(&["docker-cluster-store", "apply"]);
    args.extend(etcd_flags(&target.etcd));
    args.extend([
        flag("docker-unit", &target.docker_unit),
        docker_socket(target),
        flag("docker-max-agents", store.max_agents),
    ]);
    args.extend(optional_flags(&[
        ("docker-cluster-store", store.url.clone()),
        ("docker-cluster-advertise", store.advertise.clone()),
        ("docker-cluster-store-opts", store.opts.clone()),
        ("node-ip", target.node.as_ref().and_then(|node| node.ip.clone())),
    ]));
    if store.replace {
        args.extend(words(&["--docker-replace-store"]));
    }
    let install = Template::install(config, target.needs.docker_cluster_store, args, Vec::new());
    Some(Template { conditions: conditions(target), ..install.with_tls(&target.etcd) })
}

pub(super) fn conditions(target: &Target) -> Conditions {
    let most_agents =
        |store: &DockerStore| MostAgents { option: "docker.max-agents", number: store.max_agents };
    Conditions {
        restart: Some(restart(target)),
        most_agents: target.docker.as_ref().map(most_agents),
        ..Conditions::default()
    }
}

pub(super) fn restart(target: &Target) -> Restart {
    Restart { what: "Docker", option: "docker.allow-restart", allowed: target.restarts.docker }
}
