//! `node`: the container calico-node, supervised through Docker's API, so that it survives us.

use std::time::Duration;

use crate::exit::{Exit, Failure, Result};
use crate::host::docker::Container;
use crate::host::platform::{DCOS_FELIX, DcosCalico};
use crate::host::process::StopSignals;
use crate::host::{Host, http, name, net, plugin};
use crate::options::{EtcdApi, NodeOptions, ServiceCheckOptions};
use crate::say;
use crate::steps::StepName;
use crate::steps::etcd_tls::OnHost;
use crate::steps::libnetwork::{self, Libnetwork};
use crate::steps::supervise::service::{self, Directory, Service};
use crate::steps::supervise::{self, Supervisor};
use crate::values::{Backend, Encapsulation, Endpoint, NodeProfile, Scheme};

pub mod kernel;
pub mod spec;

use spec::{DIRECTORIES, Inputs, NAME, PLUGIN_DIRECTORY};

/// Felix serves its health on this host's loopback.
const FELIX_PORT: u16 = 9099;
/// How long one question of a check may take.
const CHECK_LIMIT: Duration = Duration::from_secs(3);

/// The service.
#[derive(Debug, Clone, Copy)]
pub struct CalicoNode;

impl Service for CalicoNode {
    const STEP: StepName = StepName::CalicoNode;
    const TASK: &'static str = NAME;
    const DIRECTORIES: &'static [Directory] = &DIRECTORIES;
    const PLUGINS: &'static [&'static str] = &[];

    fn plugins_of(container: &Container) -> &'static [&'static str] {
        if spec::serves_docker(&container.environment) { Libnetwork::PLUGINS } else { &[] }
    }
}

/// Prepares the host, and keeps the container running until SIGTERM or until it ends by itself. Never returns
/// success.
pub async fn run(host: &Host, options: &NodeOptions) -> Result<()> {
    let mut signals = StopSignals::take()?;
    let (profile, encapsulation) = (options.line.node_profile, options.line.encapsulation()?);
    let backend = backend(profile, encapsulation, options)?;
    let api = match profile {
        NodeProfile::V3 => EtcdApi::V3,
        NodeProfile::V26 => EtcdApi::V2,
    };
    options.etcd.require(api, &format!("--node-profile {}", profile.name()))?;
    let etcd = options.etcd.client()?;
    if profile == NodeProfile::V26 {
        // It does not look for SRV records yet.
        etcd.endpoints()?;
    }
    if DcosCalico::on(host).await? == DcosCalico::Runs {
        return Err(beside_dcos());
    }
    let node_name = name::node_name(options.node_name.as_deref())?;
    let towards = options.etcd.upstream.endpoints.iter().chain(&options.agent.mesos_agent);
    let node_ip = net::own_ip(host, options.agent.node_ip, towards).await?;
    let tls = OnHost::of(&etcd, &options.state.state_dir, CalicoNode::STEP)?;
    let (variable, place) = etcd.variable();
    let plugin_of = options.node_libnetwork.then_some(options.docker.socket.as_path());
    let spec = spec::spec(&Inputs {
        profile,
        image: &options.node_image,
        node_name: &node_name,
        node_ip,
        etcd: (variable, &place),
        tls: tls.as_ref(),
        backend,
        plugin_of,
        memory: options.node_mem,
        cpus: options.node_cpus,
    });
    say::progress(format_args!("this node is {node_name} at {node_ip}"));

    kernel::prepare(host, encapsulation)?;
    let more = if plugin_of.is_some() { &PLUGIN_DIRECTORY[..] } else { &[] };
    service::make_directories::<CalicoNode>(host, &options.state, more, tls.as_ref()).await?;
    let plugins = match plugin_of {
        Some(_) => libnetwork::plugins(&host.place(plugin::FOLDER)).into(),
        None => Vec::new(),
    };
    let supervisor = Supervisor {
        socket: &options.docker.socket,
        spec: &spec,
        registry: &options.registry,
        memory_option: "node-mem",
        plugins: &plugins,
    };
    supervisor.run(&mut signals).await
}

/// Why calico-node is not run where DC/OS' own Calico has its Felix, whatever the networks are called.
pub fn beside_dcos() -> Failure {
    Failure::unsuitable(format!(
        "DC/OS' own Calico runs on this host ({DCOS_FELIX}), and a second Felix would program the same rules and routes: turn \
         DC/OS' own off, or leave this calico-node out (node.enable = false)"
    ))
}

/// The back end that was asked for, if this line of Calico has it and it carries the encapsulation; else the one that does.
fn backend(profile: NodeProfile, encapsulation: Encapsulation, options: &NodeOptions) -> Result<Backend> {
    if options.node_libnetwork && profile == NodeProfile::V3 {
        return Err(Failure::unsuitable(
            "--node-libnetwork is for --node-profile v2.6: with v3, Docker's plugin is a container of its own \
             (calico-installer libnetwork)",
        ));
    }
    let Some(backend) = options.node_backend else { return Ok(Backend::for_encapsulation(encapsulation)) };
    let carries = match encapsulation {
        Encapsulation::Vxlan => &[Backend::Vxlan, Backend::Bird][..],
        Encapsulation::Ipip => &[Backend::Bird],
        // Routes are spread by BGP, or by others.
        Encapsulation::None => &[Backend::Bird, Backend::None],
    };
    if carries.contains(&backend) {
        return Ok(backend);
    }
    let fitting: Vec<&str> = carries.iter().map(|it| it.name()).collect();
    Err(Failure::unsuitable(format!(
        "--node-backend {} does not carry --network-encapsulation {}: leave it out, or give one of: {}",
        backend.name(),
        encapsulation.name(),
        fitting.join(", ")
    )))
}

/// Asks whether the container runs and Felix answers.
///
/// A dockerd that is away is no reason to be killed, since [`run`] waits for it.
pub async fn check(options: &ServiceCheckOptions) -> Result<()> {
    let said = supervise::asked_within(options.within, || ask(options)).await?;
    say::result(format_args!("{said}"));
    Ok(())
}

async fn ask(options: &ServiceCheckOptions) -> Result<String> {
    let question = if options.live { "/liveness" } else { "/readiness" };
    match supervise::container_runs(&options.docker.socket, NAME).await {
        Ok(()) => {}
        Err(reason) if options.live && reason.is_away() => return Ok(format!("{reason}: it is waited for")),
        Err(reason) => return Err(no(reason.to_string())),
    }
    let felix = Endpoint { scheme: Scheme::Http, host: "127.0.0.1".to_owned(), port: FELIX_PORT };
    let answer = http::get(&felix, question, CHECK_LIMIT).await;
    let answer = answer.map_err(|error| no("Felix does not answer".to_owned()).because(error))?;
    if answer.status != 200 {
        return Err(no(format!("Felix answers {} on {question}", answer.status)));
    }
    Ok(format!("Felix answers 200 on {question}"))
}

fn no(reason: String) -> Failure {
    Failure::new(Exit::No, reason)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command, NodeCommand};
    use crate::options::LineOptions;

    fn options(more: &str) -> NodeOptions {
        let line = format!(
            "calico-installer node run --node-image i --node-cpus 1 --node-mem 64 --etcd-endpoints http://a:1 {more}"
        );
        match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            Command::Node(NodeCommand::Run(options)) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_back_end_carries_its_encapsulation() {
        use NodeProfile::{V3, V26};
        for (profile, given, expected) in [
            (V3, "", Ok(("vxlan", "vxlan"))),
            (V26, "", Ok(("ipip", "bird"))),
            (V3, "--network-encapsulation vxlan --node-backend bird", Ok(("vxlan", "bird"))),
            (V3, "--network-encapsulation none", Ok(("none", "bird"))),
            (V26, "--network-encapsulation none --node-backend none", Ok(("none", "none"))),
            (V26, "--node-libnetwork", Ok(("ipip", "bird"))),
            (V3, "--node-libnetwork", Err("--node-libnetwork is for --node-profile v2.6")),
            (V26, "--network-encapsulation vxlan", Err("vxlan is not in Calico v2.6")),
            (
                V26,
                "--node-backend vxlan",
                Err("--network-encapsulation ipip: leave it out, or give one of: bird"),
            ),
            (V3, "--node-backend none", Err("or give one of: vxlan, bird")),
        ] {
            let options = options(given);
            let found = LineOptions { node_profile: profile, ..options.line }.encapsulation().and_then(
                |encapsulation| Ok((encapsulation.name(), backend(profile, encapsulation, &options)?.name())),
            );
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{profile:?} {given}"),
                (Err(failure), Err(words)) => {
                    assert_eq!(failure.exit(), Exit::Unsuitable);
                    assert!(failure.to_string().contains(words), "{profile:?} {given}: {failure}");
                }
                (found, _) => panic!("{profile:?} {given}: {found:?}"),
            }
        }
    }
}
