//! `cni`: installs the CNI plugins and the network's configuration.

use ipnet::Ipv4Net;

use super::{Conditions, Template, artifact_flag, etcd_flags, file, network_name, optional_flags, words};
use crate::config::{AgentUnit, Config, Target};
use crate::core::{MesosVersion, Restart};

pub(super) fn template(config: &Config) -> Option<Template> {
    let target = &config.target;
    let cni = target.cni.as_ref()?;
    let mut args = words(&["cni", "apply"]);
    args.push(network_name(target));
    args.extend(etcd_flags(&target.etcd));
    args.extend(optional_flags(&[
        ("network-mtu", target.network.mtu.map(|mtu| mtu.to_string())),
        ("node-name", target.node.as_ref().and_then(|node| node.name.clone())),
        ("cni-plugins-dir", cni.plugins_dir.as_ref().map(|dir| dir.display().to_string())),
        ("cni-config-dir", cni.config_dir.as_ref().map(|dir| dir.display().to_string())),
        ("cni-ipv4-pools", (!cni.ipv4_pools.is_empty()).then(|| comma_separated(&cni.ipv4_pools))),
        ("cni-log-level", cni.log_level.map(str::to_owned)),
    ]));
    args.extend(unit_flags(&target.agent));
    for (flag, is_set) in [
        ("--cni-nodename-file-optional", cni.nodename_file_optional),
        ("--cni-port-mapper", cni.port_mapper),
        ("--cni-label-wrapper", cni.label_wrapper),
    ] {
        args.extend(is_set.then(|| flag.to_owned()));
    }
    let artifacts = vec![file("calico", &cni.plugin), file("calico-ipam", &cni.ipam)];
    args.push(artifact_flag("artifacts-cni", &artifacts[0]));
    args.push(artifact_flag("artifacts-cni-ipam", &artifacts[1]));
    let install = Template::install(config, target.needs.cni, args, artifacts).with_tls(&target.etcd);
    Some(Template { conditions: conditions(target), ..install })
}

pub(super) fn conditions(target: &Target) -> Conditions {
    let allowed = target.restarts.mesos;
    Conditions {
        // Mesos knows CNI since then.
        min_mesos: Some(MesosVersion(1, 0)),
        restart: Some(Restart { what: "the Mesos agent", option: "mesos.allow-restart", allowed }),
        ..Conditions::default()
    }
}

/// How the agent is run, where the operator says it.
pub(super) fn unit_flags(agent: &AgentUnit) -> Vec<String> {
    optional_flags(&[
        ("mesos-platform", agent.platform.map(str::to_owned)),
        ("mesos-unit", agent.unit.clone()),
    ])
}

fn comma_separated(pools: &[Ipv4Net]) -> String {
    pools.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
