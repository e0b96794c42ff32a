//! Looks at the host and at the store; everything that cannot work is found here, before anything is changed.

use std::path::Path;
use std::time::Duration;

use super::command_line::CommandLine;
use super::daemon_json::DaemonJson;
use super::decide::{self, Action, Effect, Observed};
use super::flags;
use super::wanted::{StoreKind, Wanted};
use tokio_rustls::TlsConnector;

use crate::exit::{Exit, Failure, Result};
use crate::host::Host;
use crate::host::docker::{self, Docker, Info};
use crate::host::etcd_v2::{EtcdV2, Node};
use crate::host::systemd::{Systemd, Unit};
use crate::host::tls;
use crate::journal::{self, Recorded};
use crate::options::{DockerStoreOptions, EtcdClient, EtcdPlace};
use crate::say;
use crate::steps::etcd_tls;
use crate::values::{Endpoint, Scheme};

/// How many of Docker's networks are looked for in the store.
const NETWORKS: usize = 20;
/// How often the store is asked while something is waited for.
pub const PAUSE: Duration = Duration::from_millis(500);

/// What was seen.
#[derive(Debug)]
pub struct Seen {
    /// What is decided from.
    pub observed: Observed,
    /// The names of containers that run, and would not after a restart.
    pub ended_by_restart: Vec<String>,
}

pub async fn look(
    host: &Host,
    options: &DockerStoreOptions,
    wanted: &Wanted,
    path: &Path,
    recorded: &Recorded<Action>,
) -> Result<Seen> {
    let unfinished = recorded.unfinished.clone().unwrap_or_default();
    let info = info(options, unfinished.contains(&Action::Restart)).await?;
    if let Some(info) = &info.1 {
        decide::check_suitable(info, wanted.store.kind)?;
    }
    let (unit, info) = info;
    refuse_flags(host, options, &unit, path)?;
    let content = host.files().read(path)?;
    let document = DaemonJson::parse(content.as_deref())
        .map_err(|error| Failure::unsuitable(format!("{} cannot be changed: {error}", path.display())))?;
    let given = if options.etcd_tls()?.is_some() { Vec::new() } else { wanted.tls_files() };
    for (option, file) in given {
        if !host.files().is_file(&host.place(&file.to_string_lossy())) {
            let file = file.display();
            return Err(Failure::unsuitable(format!(
                "{option} names {file}, and there is no such file here"
            )));
        }
    }
    let is_ours = match recorded.entry(path) {
        None => false,
        Some(entry) => {
            let before = journal::content_before(host.files(), &options.step.state.state_dir, entry)?;
            let before = DaemonJson::parse(before.as_deref()).ok().and_then(|it| it.store());
            before != document.store()
        }
    };
    let mut observed = Observed { info, document, is_ours, effect: Effect::Unread, unfinished };
    // First what needs no store, so that what is in the way is not hidden by an etcd that is away.
    decide::decide(&observed, wanted, options.docker_replace_store)?;
    observed.effect = effect(options, wanted, &observed).await?;
    let ended_by_restart = match &observed.info {
        Some(info) if !info.live_restore_enabled => {
            let running = Docker::connect(&options.unit.docker.socket).await?.running().await?;
            running.into_iter().filter(|it| !it.always_restarts).map(|it| it.name).collect()
        }
        _ => Vec::new(),
    };
    Ok(Seen { observed, ended_by_restart })
}

/// Docker's unit, and what it says of itself; `may_be_down` when a restart of ours was interrupted.
async fn info(options: &DockerStoreOptions, may_be_down: bool) -> Result<(Unit, Option<Info>)> {
    let (name, socket) = (&options.unit.docker_unit, &options.unit.docker.socket);
    let systemd = Systemd::connect().await?;
    let unit = systemd.unit(name).await?;
    if !unit.exists() {
        return Err(match docker::info(socket).await {
            Ok(_) => Failure::unsuitable(format!(
                "Docker answers on {}, and systemd has no unit {name}: give its name as --docker-unit",
                socket.display()
            )),
            Err(_) => Failure::not_applicable(format!(
                "there is no Docker here: systemd has no unit {name}, and nothing answers on {}",
                socket.display()
            )),
        });
    }
    // A socket that systemd holds would start it, and looking must change nothing.
    if !unit.is_active() {
        if may_be_down {
            return Ok((unit, None));
        }
        return Err(Failure::new(
            Exit::Unavailable,
            format!("Docker does not run: {name} {}", unit.condition()),
        ));
    }
    match docker::info(socket).await {
        Ok(info) => Ok((unit, Some(info))),
        Err(error) => Err(error.into()),
    }
}

fn refuse_flags(host: &Host, options: &DockerStoreOptions, unit: &Unit, path: &Path) -> Result<()> {
    let CommandLine { flags, texts } = CommandLine::of(host, unit)?;
    let daemon_json = &options.unit.docker_daemon_json;
    let name = &options.unit.docker_unit;
    let mut reasons: Vec<String> =
        flags.iter().filter_map(|flag| flags::conflict(flag, name, &texts, daemon_json)).collect();
    if !flags::has_config_file(&flags) && daemon_json != Path::new(flags::DEFAULT_DAEMON_JSON) {
        reasons.push(format!(
            "Docker reads {}, not --docker-daemon-json {}",
            flags::DEFAULT_DAEMON_JSON,
            path.display()
        ));
    }
    if reasons.is_empty() { Ok(()) } else { Err(Failure::unsuitable(reasons.join("; "))) }
}

/// The etcd in which the store is, as we reach it; `None` when we cannot read there.
pub fn target(options: &DockerStoreOptions, wanted: &Wanted) -> Result<Option<EtcdV2>> {
    if wanted.store.kind != StoreKind::Etcd {
        return Ok(None);
    }
    if options.docker_cluster_store.is_some() {
        return as_docker(options, wanted).map(Some);
    }
    // Not through the proxy: what Docker sent through it must have arrived.
    let EtcdClient { place, tls } = options.step.etcd.upstream.client()?;
    match place {
        EtcdPlace::Endpoints(members) => {
            Ok(Some(EtcdV2 { members, tls: tls.as_ref().map(etcd_tls::connector).transpose()? }))
        }
        EtcdPlace::Srv(_) => as_docker(options, wanted).map(Some),
    }
}

/// The store as Docker reaches it.
fn as_docker(options: &DockerStoreOptions, wanted: &Wanted) -> Result<EtcdV2> {
    let tls = match options.etcd_tls()? {
        // Files that are yet to be put where Docker is told that they are.
        Some(sources) => Some(etcd_tls::connector(&sources)?),
        None => tls(wanted)?,
    };
    Ok(EtcdV2 { members: servers(wanted), tls })
}

/// With Docker's own files: they are shown to work before Docker is told of them.
fn tls(wanted: &Wanted) -> Result<Option<TlsConnector>> {
    match &wanted.tls_files()[..] {
        [(_, authorities), (_, certificate), (_, key)] => {
            Ok(Some(tls::connector(authorities, Some((certificate, key)))?))
        }
        _ => Ok(None),
    }
}

/// The store's servers, as Docker reaches them.
fn servers(wanted: &Wanted) -> Vec<Endpoint> {
    let scheme = if wanted.tls_files().is_empty() { Scheme::Http } else { Scheme::Https };
    let endpoint = |server: &String| format!("{scheme}://{server}").parse().ok();
    wanted.store.servers.iter().filter_map(endpoint).collect()
}

async fn effect(options: &DockerStoreOptions, wanted: &Wanted, observed: &Observed) -> Result<Effect> {
    let Some(target) = target(options, wanted)? else { return Ok(Effect::Unread) };
    let key = wanted.node_key();
    let mut node = target.get(&key).await?;
    if options.docker_cluster_store.is_none() {
        // The way that Docker takes.
        as_docker(options, wanted)?.get(&key).await?;
    }
    let Some(info) = &observed.info else { return Ok(Effect::Unread) };
    let is_told = info.cluster_store == wanted.store.to_string()
        && info.cluster_advertise == wanted.advertise.to_string();
    if !is_told {
        return Ok(Effect::Seen { announced: node.is_some(), networks_elsewhere: false });
    }
    // A key outlives the one who wrote it. Where it is about to be signalled, or may have been reloaded without a
    // store, the next heartbeat must be seen.
    let as_installed =
        observed.document == observed.document.with_store(wanted) && observed.unfinished.is_empty();
    if node.is_none() || !as_installed {
        node = heartbeat(&target, wanted, node.as_ref()).await?;
    }
    let docker = Docker::connect(&options.unit.docker.socket).await?;
    let networks = docker.network_ids("scope", "global").await?;
    let mut elsewhere = !networks.is_empty();
    for (id, _) in networks.iter().take(NETWORKS) {
        if target.get(&format!("{}/{id}", wanted.networks_key())).await?.is_some() {
            elsewhere = false;
            break;
        }
    }
    Ok(Effect::Seen { announced: node.is_some(), networks_elsewhere: elsewhere })
}

/// Docker's key once it is written anew; `None` when that does not happen for as long as a key holds.
async fn heartbeat(target: &EtcdV2, wanted: &Wanted, last: Option<&Node>) -> Result<Option<Node>> {
    let holds = last.and_then(|node| node.ttl).and_then(|ttl| u64::try_from(ttl).ok()).unwrap_or(0);
    let limit = Duration::from_secs(holds.max(wanted.ttl() / 2) + 2);
    say::progress(format!("waiting for Docker to announce itself in the store, up to {} s", limit.as_secs()));
    let wait = async {
        loop {
            match target.get(&wanted.node_key()).await? {
                Some(node) if last.is_none_or(|last| node.modified > last.modified) => return Ok(Some(node)),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    };
    tokio::time::timeout(limit, wait).await.unwrap_or(Ok(None))
}
