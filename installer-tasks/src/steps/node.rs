//! `node`: the container calico-node, supervised through Docker's API, so that it survives us.

use std::time::Duration;

use crate::exit::{Exit, Failure, Result};
use crate::host::process::StopSignals;
use crate::host::{Host, http, name, net};
use crate::options::{EtcdApi, NodeOptions, ServiceCheckOptions};
use crate::say;
use crate::steps::StepName;
use crate::steps::supervise::service::{self, Directory, Service};
use crate::steps::supervise::{self, Supervisor};
use crate::values::{Backend, Endpoint, NodeProfile, Scheme};

pub mod kernel;
pub mod spec;

use spec::{DIRECTORIES, Inputs, NAME};

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
}

/// Prepares the host, and keeps the container running until SIGTERM or until it ends by itself. Never returns
/// success.
pub async fn run(host: &Host, options: &NodeOptions) -> Result<()> {
    let mut signals = StopSignals::take()?;
    if options.node_profile == NodeProfile::V26 {
        return Err(Failure::unsuitable("--node-profile v2.6 is not supported yet by this version; use v3"));
    }
    options.etcd.require(EtcdApi::V3, "--node-profile v3")?;
    let node_name = name::node_name(options.node_name.as_deref())?;
    let towards = options.etcd.upstream.endpoints.iter().chain(&options.agent.mesos_agent);
    let node_ip = net::node_ip(options.agent.node_ip, towards)?;
    let etcd = options.etcd.for_clients()?;
    let spec = spec::v3(&Inputs {
        image: &options.node_image,
        node_name: &node_name,
        node_ip,
        etcd: &etcd,
        backend: options.node_backend.unwrap_or(Backend::for_encapsulation(options.network_encapsulation)),
        memory: options.node_mem,
        cpus: options.node_cpus,
    });
    say::progress(format_args!("this node is {node_name} at {node_ip}"));

    kernel::prepare(host, options.network_encapsulation)?;
    service::make_directories::<CalicoNode>(host, &options.state).await?;
    let supervisor = Supervisor {
        socket: &options.docker.socket,
        spec: &spec,
        mirror: options.registry_mirror.as_deref(),
        memory_option: "node-mem",
        plugins: &[],
    };
    supervisor.run(&mut signals).await
}

/// Asks whether the container runs and Felix answers.
///
/// A dockerd that is away is no reason to be killed, since [`run`] waits for it.
pub async fn check(options: &ServiceCheckOptions) -> Result<()> {
    let question = if options.live { "/liveness" } else { "/readiness" };
    match supervise::container_runs(&options.docker.socket, NAME).await {
        Ok(()) => {}
        Err(reason) if options.live && reason.is_away() => {
            say::result(format_args!("{reason}: it is waited for"));
            return Ok(());
        }
        Err(reason) => return Err(no(reason.to_string())),
    }
    let felix = Endpoint { scheme: Scheme::Http, host: "127.0.0.1".to_owned(), port: FELIX_PORT };
    let answer = http::get(&felix, question, CHECK_LIMIT).await;
    let answer = answer.map_err(|error| no("Felix does not answer".to_owned()).because(error))?;
    if answer.status != 200 {
        return Err(no(format!("Felix answers {} on {question}", answer.status)));
    }
    say::result(format_args!("Felix answers 200 on {question}"));
    Ok(())
}

fn no(reason: String) -> Failure {
    Failure::new(Exit::No, reason)
}
