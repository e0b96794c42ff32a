//! `docker-cluster-store`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::{DockerOptions, EtcdApi, EtcdTls, RestartOptions, StateOptions, StepOptions};
use crate::exit::{Failure, Result};
use crate::host::{Host, net};
use crate::steps::StepName;
use crate::steps::docker_store::wanted::{StoreOption, StoreUrl, TLS_OPTIONS, Wanted};
use crate::steps::etcd_tls::OnHost;
use crate::values::{number, socket};

/// The port of the address under which Docker is known; nothing listens there for our sake.
const ADVERTISE_PORT: u16 = 2376;

/// Which Docker, and where its configuration is.
#[derive(Debug, Clone, Args)]
pub struct DockerUnitOptions {
    /// Docker's unit.
    #[arg(long, env = "CALICO_DOCKER_UNIT", default_value = "docker.service")]
    pub docker_unit: String,
    /// Docker's configuration.
    #[arg(long, env = "CALICO_DOCKER_DAEMON_JSON", default_value = "/etc/docker/daemon.json")]
    pub docker_daemon_json: PathBuf,
    /// Its socket.
    #[command(flatten)]
    pub docker: DockerOptions,
}

/// How large a cluster may be in which Docker has a cluster store.
#[derive(Debug, Clone, Copy, Args)]
pub struct MaxAgentsOptions {
    /// How many agents the cluster may have: above 500, Docker announces itself less often.
    #[arg(long, env = "CALICO_DOCKER_MAX_AGENTS", default_value = "500", value_parser = number::<u64>(1..=100_000))]
    pub docker_max_agents: u64,
}

/// `docker-cluster-store apply` and `check`.
#[derive(Debug, Clone, Args)]
pub struct DockerStoreOptions {
    /// The store: etcd://HOST:PORT[,HOST:PORT] or, before Docker 20.10, zk://… [default: the etcd that this host uses].
    #[arg(long, env = "CALICO_DOCKER_CLUSTER_STORE", value_name = "URL")]
    pub docker_cluster_store: Option<StoreUrl>,
    /// The address under which Docker is known there [default: this host's, port 2376].
    #[arg(long, env = "CALICO_DOCKER_CLUSTER_ADVERTISE", value_name = "IP:PORT", value_parser = socket)]
    pub docker_cluster_advertise: Option<SocketAddr>,
    /// Options of the store, comma-separated NAME=VALUE; they go before what is derived.
    #[arg(long, env = "CALICO_DOCKER_CLUSTER_STORE_OPTS", value_delimiter = ',', value_name = "NAME=VALUE")]
    pub docker_cluster_store_opts: Vec<StoreOption>,
    /// How large the cluster may be.
    #[command(flatten)]
    pub max: MaxAgentsOptions,
    /// Whether a store that someone else configured is replaced.
    #[arg(long, env = "CALICO_DOCKER_REPLACE_STORE")]
    pub docker_replace_store: bool,
    /// How long Docker must stay as it is after a change, in seconds.
    #[arg(long, env = "CALICO_DOCKER_SETTLE", value_name = "SECONDS", default_value = "5", value_parser = number::<u64>(0..=3600))]
    pub docker_settle: u64,
    /// Which Docker.
    #[command(flatten)]
    pub unit: DockerUnitOptions,
    /// What every step takes.
    #[command(flatten)]
    pub step: StepOptions,
}

impl DockerStoreOptions {
    /// The store that Docker is to have.
    pub async fn wanted(&self, host: &Host) -> Result<Wanted> {
        let store = if let Some(store) = &self.docker_cluster_store {
            store.clone()
        } else {
            self.step.etcd.require(EtcdApi::V2, "Docker, without a --docker-cluster-store of its own,")?;
            StoreUrl::etcd(&self.step.etcd.for_clients()?)
        };
        let advertise = if let Some(advertise) = self.docker_cluster_advertise {
            advertise
        } else {
            let towards = &self.step.etcd.upstream.endpoints;
            SocketAddr::from((net::own_ip(host, self.step.agent.node_ip, towards).await?, ADVERTISE_PORT))
        };
        let mut given = self.docker_cluster_store_opts.clone();
        if let Some(tls) = self.tls()? {
            let names = TLS_OPTIONS.into_iter().zip(&tls.paths);
            given.extend(names.map(|(name, (_, path))| StoreOption {
                name: name.to_owned(),
                value: path.display().to_string(),
            }));
        }
        let wanted = Wanted::new(store, advertise, &given, self.max.docker_max_agents)?;
        if self.docker_cluster_store.is_none() {
            wanted.check_tls(&self.step.etcd.for_clients()?)?;
        }
        Ok(wanted)
    }

    /// The files of TLS that Docker is given because its store is the etcd of this host's clients, and no others are given.
    pub fn tls(&self) -> Result<Option<OnHost>> {
        let tls = self.etcd_tls()?;
        tls.map(|tls| OnHost::new(&tls, &self.step.state.state_dir, StepName::DockerClusterStore)).transpose()
    }

    /// The same where they come from.
    pub fn etcd_tls(&self) -> Result<Option<EtcdTls>> {
        let is_given = |option: &StoreOption| TLS_OPTIONS.contains(&option.name.as_str());
        if self.docker_cluster_store.is_some() || self.docker_cluster_store_opts.iter().any(is_given) {
            return Ok(None);
        }
        match self.step.etcd.client()?.tls {
            Some(EtcdTls { identity: None, .. }) => Err(Failure::unsuitable(
                "Docker speaks TLS with its cluster store only when it has a certificate: give --etcd-cert and --etcd-key, or \
                 another --docker-cluster-store",
            )),
            tls => Ok(tls),
        }
    }
}

/// `docker-cluster-store undo`.
#[derive(Debug, Clone, Args)]
pub struct DockerStoreUndoOptions {
    /// Which Docker.
    #[command(flatten)]
    pub unit: DockerUnitOptions,
    /// Where the record is.
    #[command(flatten)]
    pub state: StateOptions,
    /// What may be restarted; without it, Docker keeps the store until its next restart.
    #[command(flatten)]
    pub restarts: RestartOptions,
    /// Changes nothing where Docker would keep the store until its next restart, and that is not allowed (exit 79).
    #[arg(long)]
    pub complete: bool,
    /// Go ahead although files were changed since.
    #[arg(long)]
    pub force: bool,
}
