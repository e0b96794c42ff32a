//! `docker.*`, `libnetwork.*`, and what may be restarted.

use std::net::SocketAddr;

use super::Profile;
use super::reader::{Reader, parse};

/// Docker's cluster store.
#[derive(Debug, Clone)]
pub struct DockerStore {
    /// Overrides the one that follows from `etcd.*`.
    pub url: Option<String>,
    /// Overrides detection.
    pub advertise: Option<String>,
    /// Its options, as given.
    pub opts: Option<String>,
    /// Up to how many agents it is set up.
    pub max_agents: usize,
    /// Whether someone else's is replaced.
    pub replace: bool,
}

/// Docker's network plugin.
#[derive(Debug, Clone)]
pub struct Libnetwork {
    /// Its image; none when it is a part of calico-node (`node.profile` = `v2.6`).
    pub image: Option<String>,
}

/// What may be restarted where that is needed.
#[derive(Debug, Clone, Copy)]
pub struct Restarts {
    /// Docker.
    pub docker: bool,
    /// The Mesos agent.
    pub mesos: bool,
}

pub(super) fn store(reader: &mut Reader) -> Option<DockerStore> {
    reader.required("docker.enable", true, parse::boolean).then(|| DockerStore {
        url: reader.optional("docker.cluster-store", store_url),
        advertise: reader.optional("docker.cluster-advertise", advertise),
        opts: reader.optional("docker.cluster-store-opts", store_opts),
        max_agents: reader.required("docker.max-agents", 0, |value| match value.parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err("must be a number of agents from 1, like 500".to_owned()),
        }),
        replace: reader.required("docker.replace-store", false, parse::boolean),
    })
}

/// The plugin: of no use without Docker's cluster store, and without the node whose addresses it hands out.
pub(super) fn libnetwork(
    reader: &mut Reader,
    has_store: bool,
    has_node: bool,
    profile: Profile,
) -> Option<Libnetwork> {
    if !reader.required("libnetwork.enable", true, parse::boolean) {
        return None;
    }
    for (there, needed) in [(has_store, "docker.enable"), (has_node, "node.enable")] {
        if !there {
            let problem = format!("needs {needed}: set {needed} to true, or libnetwork.enable to false");
            reader.fault("libnetwork.enable", problem);
        }
    }
    // Where it cannot run its image makes no difference.
    (has_store && has_node).then(|| Libnetwork {
        image: match profile {
            Profile::V3 => Some(reader.required("libnetwork.image", String::new(), parse::image)),
            Profile::V26 => None,
        },
    })
}

pub(super) fn restarts(reader: &mut Reader) -> Restarts {
    Restarts {
        docker: reader.required("docker.allow-restart", false, parse::boolean),
        mesos: reader.required("mesos.allow-restart", false, parse::boolean),
    }
}

/// As Docker takes it: the scheme, members, and maybe a path.
fn store_url(value: &str) -> Result<String, String> {
    let rest = value
        .strip_prefix("etcd://")
        .or_else(|| value.strip_prefix("zk://"))
        .ok_or("must begin with etcd:// or zk://, like etcd://10.0.0.1:2379,10.0.0.2:2379")?;
    let members = rest.split_once('/').map_or(rest, |(members, _)| members);
    for member in members.split(',') {
        parse::authority(member)?;
    }
    Ok(value.to_owned())
}

fn advertise(value: &str) -> Result<String, String> {
    match value.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 && !address.ip().is_unspecified() => Ok(value.to_owned()),
        _ => Err("must be IP:PORT, like 10.0.0.11:2376".to_owned()),
    }
}

fn store_opts(value: &str) -> Result<String, String> {
    let mut names = Vec::new();
    for option in value.split(',') {
        let name = option.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty());
        match name {
            Some((name, _)) if names.contains(&name) => return Err(format!("'{name}' is given twice")),
            Some((name, _)) => names.push(name),
            None => return Err(format!("'{option}' is not name=value, like kv.cacertfile=/etc/ssl/ca.pem")),
        }
    }
    Ok(value.to_owned())
}

/// A systemd unit's name (`systemd.unit(5)`) of a service.
pub(super) fn unit(value: &str) -> Result<String, String> {
    let name = value.strip_suffix(".service").filter(|name| !name.is_empty() && value.len() < 256);
    let fine = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    match name {
        Some(name) if name.chars().all(fine) => Ok(value.to_owned()),
        _ => {
            Err("must be the name of a systemd service, like docker.service or mesos-slave.service"
                .to_owned())
        }
    }
}
