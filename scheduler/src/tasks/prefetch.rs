//! `prefetch`: what the services and installs of a host are made of comes there, and is checked, before those of an
//! earlier configuration are ended.
//!
//! Artifacts come into the cache of the agent's fetcher (`launch.rs`), images into Docker. An artifact that is not what is
//! configured stays in that cache under its URI and checksum: once the right file is there it needs another URI.

use super::files::{CREDENTIALS, file_flag};
use super::{File, Template, artifact_flag, docker_socket, flag, optional_flags, wanted, words};
use crate::config::Config;
use crate::core::{Scope, TaskType};

pub(super) fn template(config: &Config) -> Option<Template> {
    let target = &config.target;
    let others =
        TaskType::ALL.into_iter().filter(|it| *it != TaskType::Prefetch && it.scope() == Scope::Agent);
    let others: Vec<Template> = others.filter_map(|task_type| wanted(config, task_type)).collect();
    if !others.iter().any(|template| template.service) {
        return None;
    }
    let mut artifacts: Vec<File> = Vec::new();
    for file in others.into_iter().flat_map(|template| template.artifacts) {
        if !artifacts.contains(&file) {
            artifacts.push(file);
        }
    }
    let mut args = words(&["prefetch"]);
    args.extend(artifacts.iter().map(|file| artifact_flag("artifact", file)));
    let node = target.node.as_ref();
    let images = [node.map(|node| &node.image), target.libnetwork.as_ref().and_then(|it| it.image.as_ref())];
    args.extend(images.into_iter().flatten().map(|image| flag("image", image)));
    args.push(docker_socket(target));
    args.extend(optional_flags(&[("registry-mirror", node.and_then(|node| node.registry_mirror.clone()))]));
    let Some(node) = node else {
        return Some(Template::install(config, target.needs.prefetch, args, artifacts));
    };
    if let Some(credentials) = &node.registry_credentials {
        args.push(file_flag("registry-credentials", CREDENTIALS, credentials));
    }
    Some(Template::install(config, target.needs.prefetch, args, artifacts).with_credentials(node))
}
