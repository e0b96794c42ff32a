//! `cni.*`, and how the Mesos agent is run that uses it.

use std::path::PathBuf;

use ipnet::Ipv4Net;

use super::reader::{Reader, parse};
use super::{Artifact, absolute, docker, pool};

/// `cni.*`
#[derive(Debug, Clone)]
pub struct Cni {
    /// Where plugins go.
    pub plugins_dir: Option<PathBuf>,
    /// Where the configuration goes.
    pub config_dir: Option<PathBuf>,
    /// The pools that addresses are from; all when empty.
    pub ipv4_pools: Vec<Ipv4Net>,
    /// What the plugins log.
    pub log_level: Option<&'static str>,
    /// Whether they do without the file that calico-node writes this host's name to.
    pub nodename_file_optional: bool,
    /// Whether ports of the host are mapped to containers.
    pub port_mapper: bool,
    /// Whether label values that are too long are shortened.
    pub label_wrapper: bool,
    /// The plugin `calico`.
    pub plugin: Artifact,
    /// The plugin `calico-ipam`.
    pub ipam: Artifact,
}

/// How the Mesos agents are run.
#[derive(Debug, Clone)]
pub struct AgentUnit {
    /// `dcos` or `mesos`; none to see for oneself.
    pub platform: Option<&'static str>,
    /// Its systemd unit, where that is none that is known.
    pub unit: Option<String>,
}

pub(super) fn read(reader: &mut Reader) -> Option<Cni> {
    let no_artifact = Artifact { uri: String::new(), sha256: String::new() };
    reader.required("cni.enable", true, parse::boolean).then(|| Cni {
        plugins_dir: reader.optional("cni.plugins-dir", absolute),
        config_dir: reader.optional("cni.config-dir", absolute),
        ipv4_pools: reader
            .list("cni.ipv4-pools", |value| pool(value).map_err(|problem| format!("'{value}' {problem}"))),
        log_level: reader.optional("cni.log-level", |value| {
            let levels = ["debug", "info", "warning", "error"];
            parse::one_of(value, &levels.map(|level| (level, level)))
        }),
        nodename_file_optional: reader.required("cni.nodename-file-optional", false, parse::boolean),
        port_mapper: reader.required("cni.port-mapper", false, parse::boolean),
        label_wrapper: reader.required("cni.label-wrapper", false, parse::boolean),
        plugin: reader.required("artifacts.cni", no_artifact.clone(), Artifact::parse),
        ipam: reader.required("artifacts.cni-ipam", no_artifact, Artifact::parse),
    })
}

pub(super) fn agent(reader: &mut Reader) -> AgentUnit {
    AgentUnit {
        platform: reader.required("mesos.platform", None, |value| {
            parse::one_of(value, &[("auto", None), ("dcos", Some("dcos")), ("mesos", Some("mesos"))])
        }),
        unit: reader.optional("mesos.unit", docker::unit),
    }
}
