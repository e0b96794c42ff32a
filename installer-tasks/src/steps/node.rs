//! `node`: the container calico-node, supervised through Docker's API, so that it survives us.

use std::time::Duration;

use tokio::time::timeout;

use crate::exit::{Exit, Failure, Result};
use crate::host::docker::{Docker, DockerError};
use crate::host::process::StopSignals;
use crate::host::{Host, files, http, name, net};
use crate::options::{DockerOptions, NodeCheckOptions, NodeOptions};
use crate::values::{Backend, Endpoint, NodeProfile, Scheme};

pub mod kernel;
pub mod spec;
mod supervise;

use spec::{CALICO_DIRECTORIES, ContainerSpec, Inputs, NAME};
use supervise::Supervisor;

/// Felix serves its health on this host's loopback.
const FELIX_PORT: u16 = 9099;
/// How long one question of a check may take.
const CHECK_LIMIT: Duration = Duration::from_secs(3);

/// Prepares the host, and keeps the container running until SIGTERM or until it ends by itself. Never returns
/// success: a service that has ended is not finished.
pub async fn run(host: &Host, options: &NodeOptions) -> Result<()> {
    let mut signals = StopSignals::take()?;
    if options.node_profile == NodeProfile::V26 {
        return Err(Failure::unsuitable("--node-profile v2.6 is not supported yet by this version; use v3"));
    }
    let node_name = name::node_name(options.node_name.as_deref())?;
    let towards = options.etcd.endpoints.iter().chain(&options.agent.mesos_agent);
    let node_ip = net::node_ip(options.agent.node_ip, towards)?;
    let etcd = options.etcd.for_clients()?;
    let spec = ContainerSpec::v3(&Inputs {
        image: &options.node_image,
        node_name: &node_name,
        node_ip,
        etcd: &etcd,
        backend: options.node_backend.unwrap_or(Backend::for_encapsulation(options.network_encapsulation)),
        memory: options.node_mem,
        cpus: options.node_cpus,
    });
    eprintln!("this node is {node_name} at {node_ip}");

    kernel::prepare(host, options.network_encapsulation)?;
    for directory in CALICO_DIRECTORIES {
        files::make_directory(&host.place(directory))?;
    }
    let supervisor = Supervisor::new(&options.docker.socket, &spec, options.registry_mirror.as_deref());
    let signal = tokio::select! {
        signal = signals.received() => signal,
        failure = supervisor.supervise() => return Err(failure),
    };
    eprintln!("{signal}: stopping {NAME}");
    supervisor.stop().await?;
    Err(Failure::new(Exit::Terminated, format!("ended by {signal}; {NAME} is stopped")))
}

/// Asks whether the container runs and Felix answers.
///
/// A dockerd that is away is no reason to be killed, since [`run`] waits for it: then Felix alone says whether the
/// node lives.
pub async fn check(options: &NodeCheckOptions) -> Result<()> {
    let question = if options.live { "/liveness" } else { "/readiness" };
    match timeout(CHECK_LIMIT, container_runs(&options.docker)).await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) if options.live && reason.is_away() => eprintln!("{reason}"),
        Err(_) if options.live => eprintln!("Docker does not answer within {} s", CHECK_LIMIT.as_secs()),
        Ok(Err(reason)) => return Err(no(reason.to_string())),
        Err(_) => return Err(no(format!("Docker does not answer within {} s", CHECK_LIMIT.as_secs()))),
    }
    let felix = Endpoint { scheme: Scheme::Http, host: "127.0.0.1".to_owned(), port: FELIX_PORT };
    let answer = http::get(&felix, question, CHECK_LIMIT).await;
    let answer = answer.map_err(|error| no("Felix does not answer".to_owned()).because(error))?;
    if answer.status != 200 {
        return Err(no(format!("Felix answers {} on {question}", answer.status)));
    }
    println!("Felix answers 200 on {question}");
    Ok(())
}

fn no(reason: String) -> Failure {
    Failure::new(Exit::No, reason)
}

/// Why the container does not run.
#[derive(Debug, thiserror::Error)]
enum NotRunning {
    #[error(transparent)]
    Docker(#[from] DockerError),
    #[error("there is no container {NAME}")]
    Absent,
    #[error("the container {NAME} does not run (exit status {0})")]
    Ended(i64),
}

impl NotRunning {
    fn is_away(&self) -> bool {
        matches!(self, Self::Docker(error) if error.is_away())
    }
}

async fn container_runs(options: &DockerOptions) -> Result<(), NotRunning> {
    let docker = Docker::connect(&options.socket).await?;
    match docker.container(NAME).await? {
        None => Err(NotRunning::Absent),
        Some(container) if !container.running => Err(NotRunning::Ended(container.exit_code)),
        Some(_) => Ok(()),
    }
}
