//! Services that the steps use.

use std::path::Path;

use super::Findings;
use crate::exit::Failure;
use crate::host::agent::Agent;
use crate::host::docker::Docker;
use crate::host::{Host, etcd as host_etcd};
use crate::options::{PreflightOptions, UpstreamOptions};
use crate::steps::cni::place::{self, Directories};
use crate::steps::{etcd_tls, net_modules};
use crate::values::NodeProfile;

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

/// One member of etcd answers.
pub(super) async fn etcd(findings: &mut Findings, options: &PreflightOptions) {
    let endpoints = options.agent.etcd_endpoints.clone();
    if endpoints.is_empty() {
        findings.skipped("etcd", "no --etcd-endpoints were given");
        return;
    }
    let upstream = UpstreamOptions { endpoints, discovery_srv: None, tls: options.tls.clone() };
    let asked = async {
        let files = upstream.tls()?;
        let tls = files.as_ref().map(etcd_tls::connector).transpose()?;
        host_etcd::check_members(&upstream.endpoints, tls.as_ref()).await?;
        let v2 = options.line.node_profile == NodeProfile::V26;
        let mut refusal = None;
        for member in &upstream.endpoints {
            refusal = refusal.or(host_etcd::refusal(member, tls.as_ref(), v2).await);
        }
        Ok::<_, Failure>((refusal, files.is_some_and(|files| files.identity.is_some())))
    };
    let (refusal, shows_certificate) = match asked.await {
        Ok(seen) => seen,
        Err(failure) => return findings.fault("etcd", failure.one_line()),
    };
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
pub(super) async fn agent(findings: &mut Findings, host: &Host, options: &PreflightOptions) {
    let check = "mesos-agent";
    let url = match options.agent.url(host).await {
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
    let directories = async { place::directories(host, &agent.flags().await?) };
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
