//! The command line.

use clap::{Parser, Subcommand};

use crate::exit::Result;
use crate::host::Host;
use crate::options::{
    ClusterInitOptions, CniOptions, CniUndoOptions, EtcdOptions, EtcdProxyOptions, NodeCheckOptions,
    NodeIpOptions, NodeOptions,
};
use crate::steps::{cluster_init, cni, etcd_proxy, node, node_ip};

/// Installs, supervises and checks Calico's parts on one host.
///
/// Exit codes: 0 done and verified, 1 a check said no or a service ended, 69 a service that is needed is not
/// there, 70 a bug, 75 try again, 77 not permitted, 78 the configuration or this host cannot work, 79 a restart
/// is needed and not allowed.
#[derive(Debug, Clone, Parser)]
#[command(name = "calico-installer", version, about)]
pub struct Cli {
    /// The step.
    #[command(subcommand)]
    pub command: Command,
}

/// One step on this host.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// The CNI plugins and the network's configuration.
    #[command(subcommand)]
    Cni(CniCommand),
    /// The container calico-node.
    #[command(subcommand)]
    Node(NodeCommand),
    /// The proxy to etcd.
    #[command(subcommand)]
    EtcdProxy(EtcdProxyCommand),
    /// The pool and the profile, once in the cluster.
    #[command(subcommand)]
    ClusterInit(ClusterInitCommand),
    /// Prints this host's address.
    NodeIp(NodeIpOptions),
}

/// What is done with the CNI network.
#[derive(Debug, Clone, Subcommand)]
pub enum CniCommand {
    /// Installs it.
    Apply(CniOptions),
    /// Says whether it is installed as wanted; changes nothing.
    Check(CniOptions),
    /// Takes back what `apply` changed.
    Undo(CniUndoOptions),
}

/// What is done with calico-node.
#[derive(Debug, Clone, Subcommand)]
pub enum NodeCommand {
    /// Runs it until SIGTERM, or until it ends by itself.
    Run(NodeOptions),
    /// Asks whether it is alive or ready.
    Check(NodeCheckOptions),
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
}

impl Cli {
    /// Does it on `host`.
    pub async fn run(self, host: &Host) -> Result<()> {
        match self.command {
            Command::Cni(CniCommand::Apply(options)) => cni::apply(host, &options).await,
            Command::Cni(CniCommand::Check(options)) => cni::check(host, &options).await,
            Command::Cni(CniCommand::Undo(options)) => cni::undo(&options).await,
            Command::Node(NodeCommand::Run(options)) => node::run(host, &options).await,
            Command::Node(NodeCommand::Check(options)) => node::check(&options).await,
            Command::EtcdProxy(EtcdProxyCommand::Run(options)) => etcd_proxy::run(host, &options).await,
            Command::EtcdProxy(EtcdProxyCommand::Check(options)) => etcd_proxy::check(&options).await,
            Command::ClusterInit(ClusterInitCommand::Apply(options)) => cluster_init::apply(&options).await,
            Command::NodeIp(options) => node_ip::print(&options),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_step_takes_its_options() {
        let artifact = |name: &str| format!("./{name}#sha256={}", "a".repeat(64));
        let etcd = "--etcd-endpoints http://10.0.0.1:2379,http://10.0.0.2:2379";
        let proxied = format!("{etcd} --etcd-proxy gateway --etcd-listen 127.0.0.1:2379");
        let network = "--network-name calico --network-pool-cidr 192.168.0.0/16 --network-block-size 26";
        let plugins = format!(
            "--artifacts-cni {} --artifacts-cni-ipam {}",
            artifact("calico"),
            artifact("calico-ipam")
        );
        let cni = format!(
            "{proxied} {plugins} --network-name calico --network-mtu 1450 --mesos-agent http://h:5051"
        );
        let node = format!(
            "{proxied} --node-image r:8080/calico/node:v3.14.0 --node-profile v3 --network-encapsulation vxlan \
             --node-backend bird --node-ip 10.0.0.1 --node-name h --docker-socket /s --node-cpus 0.1 --node-mem 256.5"
        );
        for line in [
            format!("cni apply {cni} --cni-plugins-dir /p --cni-config-dir /c"),
            format!("cni check {cni}"),
            "cni undo --network-name calico --force".to_owned(),
            format!("node run {node} --registry-mirror m:5000"),
            "node check --live".to_owned(),
            "node check --ready --docker-socket /s".to_owned(),
            format!("etcd-proxy run {proxied} --artifacts-etcd {}", artifact("etcd")),
            format!("etcd-proxy check {proxied}"),
            format!(
                "cluster-init apply {network} {etcd} --network-encapsulation none --network-nat-outgoing false \
                 --artifacts-calicoctl {}",
                artifact("calicoctl")
            ),
            format!("node-ip {etcd}"),
        ] {
            let parsed = Cli::try_parse_from(
                ["calico-installer"].into_iter().chain(line.split(' ').filter(|it| !it.is_empty())),
            );
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn nat_can_be_a_flag_or_have_a_value() {
        let artifact = format!("c#sha256={}", "0".repeat(64));
        for (given, expected) in
            [(&[][..], true), (&["--network-nat-outgoing"], true), (&["--network-nat-outgoing=false"], false)]
        {
            let fixed = [
                "calico-installer",
                "cluster-init",
                "apply",
                "--network-name",
                "calico",
                "--network-pool-cidr",
            ];
            let more = ["10.0.0.0/8", "--etcd-endpoints", "http://a:1", "--artifacts-calicoctl", &artifact];
            let cli = Cli::try_parse_from(fixed.iter().chain(&more).chain(given)).unwrap();
            let Command::ClusterInit(ClusterInitCommand::Apply(options)) = cli.command else {
                panic!("another command")
            };
            assert_eq!(options.network_nat_outgoing, expected);
        }
    }
}
