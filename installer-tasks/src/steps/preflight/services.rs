//! Services that the steps use.

use std::path::Path;

use super::Findings;
use crate::exit::{Failure, Result};
use crate::host::agent::Agent;
use crate::host::docker::Docker;
use crate::host::etcd::NotServing;
use crate::host::platform::{self, DcosCalico};
use crate::host::{Host, etcd as host_etcd};
use crate::options::{PreflightOptions, UpstreamOptions};
use crate::steps::cni::place::{self, Directories};
use crate::steps::{etcd_proxy, etcd_tls, net_modules, node};
use crate::values::{Endpoint, NetworkName, NodeProfile};

/// Docker runs calico-node, and has a cluster store from 1.10 to 20.10.
pub(super) async fn docker(findings: &mut Findings, socket: &Path) {
    let version = async { Docker::connect(socket).await?.version().await };
    match version.await {
        Err(error) => findings.fault("docker", format!("{error} (--docker-socket says where it is)")),
        Ok(version) => match store_gate(&version) {
            Ok(()) => findings.ok("docker", format!("version {version}, which has a cluster store")),
            Err(reason) => findings.warning(
                "docker",
                format!("version {version} {reason}: Docker containers cannot have addresses of Calico's; tasks can"),
            ),
        },
    }
}

/// Whether a version of Docker has a cluster store.
fn store_gate(version: &str) -> Result<(), &'static str> {
    let mut numbers = version.split(['.', '-', '+']).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return Err("is not a version that we know");
    };
    match (major, minor) {
        (1, ..10) | (0, _) => Err("has no cluster store yet (it came with 1.10)"),
        (23.., _) => Err("has no cluster store any more (it went with 23.0)"),
        _ => Ok(()),
    }
}

/// A cluster store bears so many dockerds.
pub(super) fn cluster_size(findings: &mut Findings, agents: Option<u64>, most: u64) {
    let check = "docker.max-agents";
    match agents {
        None => findings.skipped(
            check,
            format!("not checked against {most}: the number of agents is not given as --agents"),
        ),
        Some(agents) if agents <= most => findings.ok(check, format!("{agents} agents, {most} at most")),
        Some(agents) => findings.warning(
            check,
            format!(
                "{agents} agents are more than {most}: Docker containers will not have addresses of Calico's, tasks will; \
                 for more, give Docker an etcd of its own as docker.cluster-store, and raise docker.max-agents"
            ),
        ),
    }
}

/// DC/OS' own Calico is not in the way: of the network's name, and of calico-node.
pub(super) async fn dcos_calico(findings: &mut Findings, host: &Host, network: Option<&NetworkName>) {
    let check = "dcos-calico";
    let of_name = network.map_or(Ok(()), |network| platform::refuse_dcos_network(host, network));
    let failure = match (DcosCalico::on(host).await, of_name) {
        (Ok(DcosCalico::Off), _) => return,
        (Ok(DcosCalico::Runs), _) => node::beside_dcos(),
        (Ok(DcosCalico::On), Ok(())) => {
            return findings.warning(
                check,
                format!(
                    "DC/OS' own Calico is on, though {} does not run: calico-node is refused as soon as it does",
                    platform::DCOS_FELIX
                ),
            );
        }
        (Ok(DcosCalico::On), Err(failure)) | (Err(failure), _) => failure,
    };
    findings.fault(check, failure.one_line());
}

/// The members of etcd, as they are given or as SRV records say; none where neither is given.
pub(super) async fn upstream(host: &Host, options: &PreflightOptions) -> Result<UpstreamOptions> {
    let mut upstream = UpstreamOptions {
        endpoints: options.agent.etcd_endpoints.clone(),
        discovery_srv: options.etcd_discovery_srv.clone(),
        tls: options.tls.clone(),
    };
    if let Some(name) = &options.etcd_discovery_srv {
        upstream.endpoints = etcd_proxy::by_srv(host, "_etcd-client", name, &upstream).await?;
        upstream.discovery_srv = None;
    }
    Ok(upstream)
}

/// One member of etcd answers, and all that do have the API that is needed.
pub(super) async fn etcd(
    findings: &mut Findings,
    options: &PreflightOptions,
    upstream: Result<UpstreamOptions>,
) {
    if upstream.as_ref().is_ok_and(|upstream| upstream.endpoints.is_empty()) {
        return findings.skipped("etcd", "neither --etcd-endpoints nor --etcd-discovery-srv was given");
    }
    let asked = async {
        let upstream = upstream?;
        let files = upstream.tls()?;
        let tls = files.as_ref().map(etcd_tls::connector).transpose()?;
        host_etcd::check_members(&upstream.endpoints, tls.as_ref()).await?;
        let v2 = options.line.node_profile == NodeProfile::V26;
        let (mut refusal, mut no_v2) = (None, None);
        for member in &upstream.endpoints {
            refusal = refusal.or(host_etcd::refusal(member, tls.as_ref(), v2).await);
            if let Err(reason @ NotServing::NoV2(_)) = host_etcd::serves_v2(member, tls.as_ref()).await {
                no_v2 = no_v2.or(Some(reason.to_string()));
            }
        }
        Ok::<_, Failure>((refusal, no_v2, files.is_some_and(|files| files.identity.is_some())))
    };
    let (refusal, no_v2, shows_certificate) = match asked.await {
        Ok(seen) => seen,
        Err(failure) => return findings.fault("etcd", failure.one_line()),
    };
    let check = "docker.cluster-store";
    match &no_v2 {
        _ if options.docker_cluster_store.is_some() => {
            findings.skipped(check, "--docker-cluster-store is looked at by docker-cluster-store check");
        }
        None => findings.ok(check, "etcd serves the v2 API, in which Docker keeps it"),
        Some(reason) => findings.warning(
            check,
            format!(
                "{reason}, or give Docker another --docker-cluster-store, for Docker keeps it in that API: until then Docker \
                 containers cannot have addresses of Calico's; tasks can"
            ),
        ),
    }
    if let (Some(reason), NodeProfile::V26) = (no_v2, options.line.node_profile) {
        return findings.fault("etcd", format!("{reason}: Calico v2.6 (--node-profile) speaks no other"));
    }
    match refusal {
        None => findings.ok("etcd", "it answers, and Calico's keys can be read"),
        // Over HTTP etcd takes no user from a certificate, and Calico does not ask over HTTP.
        Some(said) if shows_certificate => findings.warning(
            "etcd",
            format!("it answers; whether the user of --etcd-cert may read and write /calico cannot be told ({said})"),
        ),
        Some(said) => findings.fault(
            "etcd",
            format!(
                "it answers, and does not let Calico's keys be read ({said}): its authentication is on, and Calico has no \
                 user here: give a certificate of one (--etcd-cert, --etcd-key), or turn it off"
            ),
        ),
    }
}

/// The Mesos agent has what CNI takes.
pub(super) async fn agent(
    findings: &mut Findings,
    host: &Host,
    options: &PreflightOptions,
    etcd: &[Endpoint],
) {
    let check = "mesos-agent";
    let url = match options.agent.agent.url(host, etcd).await {
        Ok(url) => url,
        Err(failure) => return findings.skipped(check, failure.one_line()),
    };
    let agent = Agent::at(url);
    match agent.version().await {
        Err(failure) => return findings.fault(check, failure.one_line()),
        Ok(version) => match place::restart_for(version) {
            Ok(None) => findings.ok(check, format!("Mesos {version}")),
            Ok(Some(restart)) => findings.warning(check, restart),
            // It has another way, by hand; none of what follows is there.
            Err(failure) if net_modules::serves(version).is_ok() => {
                return findings.warning(check, failure.one_line());
            }
            Err(failure) => return findings.fault(check, failure.one_line()),
        },
    }
    // What an undo asks before it takes the network away; its answer is of no matter here.
    if let Err(failure) = agent.containers().await {
        findings.warning(
            check,
            format!(
                "{}: whether tasks use the network cannot be told, so undo takes --force",
                failure.one_line()
            ),
        );
    }
    let directories = async {
        let (plugins, config) = (options.cni_plugins_dir.as_deref(), options.cni_config_dir.as_deref());
        let (flags, platform) = (agent.flags().await?, options.mesos_platform.on(host));
        place::directories(host.files(), platform, &flags, plugins, config)
    };
    match directories.await {
        Ok(Directories::Known(text)) => findings.ok(check, text),
        Ok(Directories::ToBeSet(restart)) => findings.warning(check, restart),
        Err(failure) => findings.fault(check, failure.one_line()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_docker_have_a_store_from_1_10_to_20_10() {
        for version in ["1.10.0", "1.13.1", "17.03.2-ce", "20.10.24+dfsg1"] {
            assert_eq!(store_gate(version), Ok(()), "{version}");
        }
        for version in ["1.9.1", "23.0.0", "26.1.5", "dev"] {
            assert!(store_gate(version).is_err(), "{version}");
        }
    }
}
