//! `libnetwork`: the container calico-libnetwork, Docker's network driver `calico` and IPAM driver `calico-ipam`.
//!
//! dockerd calls it while it starts and stops itself: at a stop for each container that leaves the network, at a start
//! for what was left over and for each container that dockerd starts again. It can be neither started nor asked by us
//! then, for dockerd serves its API after all of that. So it is the one container of ours that outlives the others when
//! dockerd stops, and that dockerd itself starts again ([`THROUGH_RESTARTS`]).

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::exit::{Exit, Failure, Result};
use crate::host::container::{ContainerSpec, Mount, ThroughRestarts};
use crate::host::plugin::{self, Plugin, PluginError};
use crate::host::process::StopSignals;
use crate::host::{Host, name};
use crate::options::{EtcdApi, LibnetworkOptions, ServiceCheckOptions};
use crate::say;
use crate::steps::StepName;
use crate::steps::etcd_tls::OnHost;
use crate::steps::supervise::service::{self, Directory, Service};
use crate::steps::supervise::{self, Supervisor};
use crate::values::NodeProfile;

/// The container's name.
const NAME: &str = "calico-libnetwork";
/// The task, as its label says it.
const TASK: &str = "libnetwork";
/// The network driver: its name, and that of its socket.
pub const DRIVER: &str = "calico";
/// The IPAM driver.
pub const IPAM_DRIVER: &str = "calico-ipam";
/// Written by calico-node when it starts.
const NODENAME_FILE: &str = "/var/lib/calico/nodename";
/// Where the plugin finds Docker.
const SOCKET_INSIDE: &str = "/var/run/docker.sock";
/// How long one question of a check may take.
const CHECK_LIMIT: Duration = Duration::from_secs(3);
/// SIGWINCH is ignored by whoever does not ask for it. A container has 10 s to end before Docker kills it, and leaves its
/// network after that.
pub(super) const THROUGH_RESTARTS: ThroughRestarts =
    ThroughRestarts { stop_signal: "SIGWINCH", outlives: 12 };

/// The service.
#[derive(Debug, Clone, Copy)]
pub struct Libnetwork;

impl Service for Libnetwork {
    const STEP: StepName = StepName::Libnetwork;
    const TASK: &'static str = TASK;
    const DIRECTORIES: &'static [Directory] = &[Directory { path: plugin::FOLDER, own: false }];
    const PLUGINS: &'static [&'static str] = &[DRIVER, IPAM_DRIVER];
}

/// What the container is made of.
struct Inputs<'a> {
    options: &'a LibnetworkOptions,
    node_name: &'a str,
    etcd: (&'a str, &'a str),
    tls: Option<&'a OnHost>,
}

fn spec(inputs: &Inputs<'_>) -> ContainerSpec {
    let Inputs { options, node_name, etcd, tls } = *inputs;
    let mut environment = vec![
        ("DATASTORE_TYPE", "etcdv3".to_owned()),
        (etcd.0, etcd.1.to_owned()),
        // The first is read by DC/OS' build of the plugin, the second by Calico's own.
        ("CALICO_LIBNETWORK_HOSTNAME", node_name.to_owned()),
        ("HOSTNAME", node_name.to_owned()),
        ("CALICO_LIBNETWORK_LABEL_ENDPOINTS", "true".to_owned()),
        ("CALICO_LIBNETWORK_NAMESPACE", "default".to_owned()),
    ];
    if let Some(mtu) = options.network_mtu {
        environment.push(("CALICO_LIBNETWORK_VETH_MTU", mtu.to_string()));
    }
    for variable in tls.map(OnHost::environment).unwrap_or_default() {
        environment.push(variable);
    }
    let docker = options.docker.socket.to_string_lossy().into_owned();
    ContainerSpec {
        name: NAME,
        task: TASK,
        image: options.libnetwork_image.clone(),
        environment: environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        mounts: [Mount::same(plugin::FOLDER), Mount { host: docker, container: SOCKET_INSIDE.to_owned() }]
            .into_iter()
            .chain(tls.into_iter().flat_map(OnHost::mounts))
            .collect(),
        memory_bytes: options.libnetwork_mem.bytes(),
        cpu_shares: options.libnetwork_cpus.shares(),
        through_restarts: Some(THROUGH_RESTARTS),
        files: tls.map(|tls| tls.sha256.clone()),
    }
}

/// Keeps the container running until SIGTERM or until it ends by itself. Never returns success.
pub async fn run(host: &Host, options: &LibnetworkOptions) -> Result<()> {
    let mut signals = StopSignals::take()?;
    if options.line.node_profile == NodeProfile::V26 {
        return Err(Failure::unsuitable(
            "calico-node v2.6 has Docker's plugin inside (--node-profile): run it with --node-libnetwork, as \
             CALICO_NODE_LIBNETWORK=true, and no libnetwork beside it",
        ));
    }
    options.etcd.require(EtcdApi::V3, "libnetwork")?;
    let node_name = name::node_name(options.node_name.as_deref())?;
    require_node(&host.place(NODENAME_FILE), &node_name)?;
    let etcd = options.etcd.client()?;
    // It is of a Calico that does not look for SRV records yet.
    etcd.endpoints()?;
    let tls = OnHost::of(&etcd, &options.state.state_dir, Libnetwork::STEP)?;
    service::make_directories::<Libnetwork>(host, &options.state, &[], tls.as_ref()).await?;
    let (variable, place) = etcd.variable();
    let spec = spec(&Inputs { options, node_name: &node_name, etcd: (variable, &place), tls: tls.as_ref() });
    let supervisor = Supervisor {
        socket: &options.docker.socket,
        spec: &spec,
        registry: &options.registry,
        memory_option: "libnetwork-mem",
        plugins: &plugins(&host.place(plugin::FOLDER)),
    };
    supervisor.run(&mut signals).await
}

/// The plugin takes addresses from the blocks of the host that it is told to be: that must be calico-node's, which
/// routes them.
fn require_node(file: &PathBuf, node_name: &str) -> Result<()> {
    let written = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::new(
                Exit::Unavailable,
                format!("calico-node has not run on this host: there is no {}", file.display()),
            ));
        }
        Err(error) => {
            return Err(
                Failure::new(Exit::NotPermitted, format!("cannot read {}", file.display())).because(error)
            );
        }
    };
    let registered = written.trim();
    if registered == node_name {
        return Ok(());
    }
    Err(Failure::unsuitable(format!(
        "calico-node runs on this host as {registered:?} ({}), and libnetwork is to run as {node_name:?}: \
         both must have the same --node-name",
        file.display()
    )))
}

/// Asks whether the container runs and both plugins answer; with `--ready`, whether they are what Docker needs.
///
/// A dockerd that is away is no reason to be killed, since [`run`] waits for it.
pub async fn check(host: &Host, options: &ServiceCheckOptions) -> Result<()> {
    let said = supervise::asked_within(options.within, || ask(host, options)).await?;
    say::result(format_args!("{said}"));
    Ok(())
}

async fn ask(host: &Host, options: &ServiceCheckOptions) -> Result<String> {
    match supervise::container_runs(&options.docker.socket, NAME).await {
        Ok(()) => {}
        Err(reason) if options.live && reason.is_away() => return Ok(format!("{reason}: it is waited for")),
        Err(reason) => return Err(Failure::new(Exit::No, reason.to_string())),
    }
    let plugins = plugins(&host.place(plugin::FOLDER));
    let said = if options.live { live(&plugins).await } else { ready(&plugins).await };
    said.map_err(|error| Failure::new(Exit::No, error.to_string()))?;
    Ok(format!("the plugins {DRIVER} and {IPAM_DRIVER} answer"))
}

pub(super) fn plugins(folder: &Path) -> [Plugin; 2] {
    [Plugin::new(folder, DRIVER), Plugin::new(folder, IPAM_DRIVER)]
}

async fn live([driver, ipam]: &[Plugin; 2]) -> Result<(), PluginError> {
    for (plugin, interface) in [(driver, "NetworkDriver"), (ipam, "IpamDriver")] {
        let method = "Plugin.Activate";
        let said = plugin.ask(method, CHECK_LIMIT).await?;
        let implements = said["Implements"].as_array().into_iter().flatten().filter_map(Value::as_str);
        if !implements.into_iter().any(|it| it == interface) {
            return Err(plugin.unexpected(method, 200, &said.to_string()));
        }
    }
    Ok(())
}

/// A network of global scope is what all hosts share.
async fn ready([driver, ipam]: &[Plugin; 2]) -> Result<(), PluginError> {
    let method = "NetworkDriver.GetCapabilities";
    let said = driver.ask(method, CHECK_LIMIT).await?;
    if said["Scope"] != "global" {
        return Err(driver.unexpected(method, 200, &said.to_string()));
    }
    ipam.ask("IpamDriver.GetCapabilities", CHECK_LIMIT).await.map(drop)
}

#[cfg(test)]
mod tests;
