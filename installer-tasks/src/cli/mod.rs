//! The command line.

use clap::{Parser, Subcommand};

use crate::exit::Result;
use crate::host::Host;
use crate::options::{
    ClusterInitOptions, CniOptions, CniUndoOptions, DockerNetworkOptions, DockerNetworkUndoOptions,
    DockerStoreOptions, DockerStoreUndoOptions, EtcdOptions, EtcdProxyOptions, LibnetworkOptions,
    NetModulesOptions, NetModulesUndoOptions, NodeIpOptions, NodeOptions, PrefetchOptions, PreflightOptions,
    ServiceCheckOptions, ServiceUndoOptions, StatusOptions, UndoAllOptions,
};
use crate::steps::cni::{Cni, CniUndo};
use crate::steps::docker_store::{DockerStore, DockerStoreUndo};
use crate::steps::libnetwork::Libnetwork;
use crate::steps::net_modules::{NetModules, NetModulesUndo};
use crate::steps::node::CalicoNode;
use crate::steps::supervise::service::{self, Service};
use crate::steps::{
    cluster_init, docker_network, etcd_proxy, libnetwork, node, node_ip, prefetch, preflight, status,
    undo_all,
};

mod run;

use run::Run;

#[cfg(test)]
mod tests;

/// Installs, supervises and checks Calico's parts on one host.
///
/// Exit codes: 0 done and verified, 1 a check said no or a service ended, 69 a service that is needed is not
/// there, 70 a bug, 75 try again, 77 not permitted, 78 the configuration or this host cannot work, 79 a restart
/// is needed and not allowed (nothing was changed), 80 this host cannot have that step at all (nothing was changed),
/// 143 ended by a signal. `check` of a step changes nothing: 0 nothing to do, 1 changes are to be made, 79 they take
/// a restart, else as `apply` would end. The result is on standard output, progress on standard error; after a
/// failure its last line is `error: …`.
#[derive(Debug, Clone, Parser)]
#[command(name = "calico-installer", version, about)]
pub struct Cli {
    /// The step.
    #[command(subcommand)]
    pub command: Command,
    /// Prints the result as JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// One step on this host.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Docker's cluster store.
    #[command(subcommand)]
    DockerClusterStore(DockerStoreCommand),
    /// The CNI plugins and the network's configuration.
    #[command(subcommand)]
    Cni(CniCommand),
    /// The modules of Mesos 0.28, by hand only.
    #[command(subcommand)]
    NetModules(NetModulesCommand),
    /// The container calico-node.
    #[command(subcommand)]
    Node(NodeCommand),
    /// The container calico-libnetwork: Docker's network and IPAM drivers.
    #[command(subcommand)]
    Libnetwork(LibnetworkCommand),
    /// The proxy to etcd.
    #[command(subcommand)]
    EtcdProxy(EtcdProxyCommand),
    /// The pool and the profile, once in the cluster.
    #[command(subcommand)]
    ClusterInit(ClusterInitCommand),
    /// The network that Docker containers use, once in the cluster.
    #[command(subcommand)]
    DockerNetwork(DockerNetworkCommand),
    /// Has images there, and checks artifacts, that services need which are launched later.
    Prefetch(PrefetchOptions),
    /// What is installed, as it is seen on this host now, and what the journal holds of it.
    Status(StatusOptions),
    /// Takes back what was installed on this host.
    Undo(UndoAllOptions),
    /// What can be told of this host before anything is installed: all findings, and 78 if one is a fault.
    Preflight(PreflightOptions),
    /// Prints this host's address.
    NodeIp(NodeIpOptions),
}

/// What is done with Docker's cluster store.
#[derive(Debug, Clone, Subcommand)]
pub enum DockerStoreCommand {
    /// Configures it, verifies it in the store itself, and takes it back when that fails.
    Apply(Box<DockerStoreOptions>),
    /// Says what `apply` would change, and why; changes nothing.
    Check(Box<DockerStoreOptions>),
    /// Takes back what `apply` changed.
    Undo(DockerStoreUndoOptions),
}

/// What is done with the CNI network.
#[derive(Debug, Clone, Subcommand)]
pub enum CniCommand {
    /// Installs it, verifies it, and takes it back when that fails.
    Apply(Box<CniOptions>),
    /// Says what `apply` would change, and why; changes nothing.
    Check(Box<CniOptions>),
    /// Takes back what `apply` changed.
    Undo(CniUndoOptions),
}

/// What is done with Mesos 0.28's modules.
#[derive(Debug, Clone, Subcommand)]
pub enum NetModulesCommand {
    /// Installs them, restarts the agent, verifies that it has them, and takes all of it back when that fails.
    Apply(Box<NetModulesOptions>),
    /// Says what `apply` would change, and why; changes nothing.
    Check(Box<NetModulesOptions>),
    /// Takes back what `apply` changed.
    Undo(NetModulesUndoOptions),
}

/// What is done with calico-node.
#[derive(Debug, Clone, Subcommand)]
pub enum NodeCommand {
    /// Runs it until SIGTERM, or until it ends by itself.
    Run(Box<NodeOptions>),
    /// Asks whether it is alive or ready.
    Check(ServiceCheckOptions),
    /// Removes its container, and the directories that were made for it.
    Undo(ServiceUndoOptions),
}

/// What is done with calico-libnetwork.
#[derive(Debug, Clone, Subcommand)]
pub enum LibnetworkCommand {
    /// Runs it until SIGTERM, or until it ends by itself.
    Run(Box<LibnetworkOptions>),
    /// Asks whether it is alive or ready.
    Check(ServiceCheckOptions),
    /// Removes its container, and the directories that were made for it.
    Undo(ServiceUndoOptions),
}

/// What is done with the proxy.
#[derive(Debug, Clone, Subcommand)]
pub enum EtcdProxyCommand {
    /// Runs it until SIGTERM, or until it ends by itself.
    Run(EtcdProxyOptions),
    /// Reads from etcd through it.
    Check(EtcdOptions),
}

/// What is done with the pool and the profile.
#[derive(Debug, Clone, Subcommand)]
pub enum ClusterInitCommand {
    /// Makes those that are missing.
    Apply(ClusterInitOptions),
    /// Says what `apply` would make; changes nothing.
    Check(ClusterInitOptions),
}

/// What is done with Docker's network.
#[derive(Debug, Clone, Subcommand)]
pub enum DockerNetworkCommand {
    /// Makes it where it is missing.
    Apply(DockerNetworkOptions),
    /// Says what `apply` would make; changes nothing.
    Check(DockerNetworkOptions),
    /// Removes it, when no container uses it.
    Undo(DockerNetworkUndoOptions),
}

impl Cli {
    /// Does it on `host`.
    pub async fn run(self, host: &Host) -> Result<()> {
        let run = Run { host, json: self.json };
        match self.command {
            Command::DockerClusterStore(DockerStoreCommand::Apply(options)) => {
                run.apply(&options.step, &DockerStore::new(&options)).await
            }
            Command::DockerClusterStore(DockerStoreCommand::Check(options)) => {
                run.check(&options.step, &DockerStore::new(&options)).await
            }
            Command::DockerClusterStore(DockerStoreCommand::Undo(options)) => {
                run.undo(&options.state, &DockerStoreUndo::from(&options), options.force).await
            }
            Command::Cni(CniCommand::Apply(options)) => run.apply(&options.step, &Cni::new(&options)).await,
            Command::Cni(CniCommand::Check(options)) => {
                run.check(&options.step, &Cni::new(&options).compared()).await
            }
            Command::Cni(CniCommand::Undo(options)) => {
                run.undo(&options.state, &CniUndo::from(&options), options.force).await
            }
            Command::NetModules(NetModulesCommand::Apply(options)) => {
                run.apply(&options.step, &NetModules::new(&options)).await
            }
            Command::NetModules(NetModulesCommand::Check(options)) => {
                run.check(&options.step, &NetModules::new(&options).compared()).await
            }
            Command::NetModules(NetModulesCommand::Undo(options)) => {
                run.undo(&options.state, &NetModulesUndo::from(&options), options.force).await
            }
            Command::Node(NodeCommand::Run(options)) => node::run(host, &options).await,
            Command::Node(NodeCommand::Check(options)) => node::check(&options).await,
            Command::Node(NodeCommand::Undo(options)) => {
                run.undone(CalicoNode::STEP.as_str(), service::undo::<CalicoNode>(host, &options).await)
            }
            Command::Libnetwork(LibnetworkCommand::Run(options)) => libnetwork::run(host, &options).await,
            Command::Libnetwork(LibnetworkCommand::Check(options)) => libnetwork::check(host, &options).await,
            Command::Libnetwork(LibnetworkCommand::Undo(options)) => {
                run.undone(Libnetwork::STEP.as_str(), service::undo::<Libnetwork>(host, &options).await)
            }
            Command::EtcdProxy(EtcdProxyCommand::Run(options)) => etcd_proxy::run(host, &options).await,
            Command::EtcdProxy(EtcdProxyCommand::Check(options)) => etcd_proxy::check(&options).await,
            Command::ClusterInit(ClusterInitCommand::Apply(options)) => {
                run.applied(cluster_init::NAME, cluster_init::apply(&options).await)
            }
            Command::ClusterInit(ClusterInitCommand::Check(options)) => {
                run.checked(cluster_init::NAME, cluster_init::check(&options).await)
            }
            Command::DockerNetwork(DockerNetworkCommand::Apply(options)) => {
                run.applied(docker_network::NAME, docker_network::apply(&options).await)
            }
            Command::DockerNetwork(DockerNetworkCommand::Check(options)) => {
                run.checked(docker_network::NAME, docker_network::check(&options).await)
            }
            Command::DockerNetwork(DockerNetworkCommand::Undo(options)) => {
                run.undone(docker_network::NAME, docker_network::undo(&options).await)
            }
            Command::Prefetch(options) => prefetch::prefetch(&options).await,
            Command::Status(options) => run.print(&status::status(host, &options).await?),
            Command::Undo(options) => {
                let all = undo_all::undo_all(host, &options).await?;
                run.print(&all)?;
                all.outcome()
            }
            Command::Preflight(options) => {
                let findings = preflight::preflight(host, &options).await;
                run.print(&findings)?;
                findings.outcome()
            }
            Command::NodeIp(options) => node_ip::print(host, &options).await,
        }
    }
}
