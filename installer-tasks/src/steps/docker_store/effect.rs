//! Whether Docker uses the store, seen in the store itself.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::look::{PAUSE, target};
use super::restart::{self, Before};
use super::wanted::Wanted;
use crate::exit::{Exit, Failure, Result};
use crate::host::docker::{self, Docker};
use crate::host::etcd_v2::EtcdV2;
use crate::host::systemd::Systemd;
use crate::options::DockerStoreOptions;

/// How long Docker may take to announce itself; it tries twice a second.
const ANNOUNCE_LIMIT: Duration = Duration::from_secs(30);
/// How long a network may take to be removed; it is tried again.
const REMOVE_LIMIT: Duration = Duration::from_secs(15);
/// The label of networks that only serve to be seen.
const PROBE_LABEL: &str = "calico-dcos.task";

/// All of it: Docker announces itself in the store, keeps a network there, stays as it is, and so do its containers.
pub async fn verify(options: &DockerStoreOptions, wanted: &Wanted, before: Option<&Before>) -> Result<()> {
    let unit = &options.unit;
    let systemd = Systemd::connect().await?;
    // Seen first, so that a Docker that goes away while it is looked at is noticed, too.
    let started = systemd.unit(&unit.docker_unit).await?;
    let signalled = before.filter(|before| !before.restarts && before.unit.is_active());
    if let Some(before) = signalled
        && !started.is_still(&before.unit)
    {
        return Err(went_away(options, &started.condition()));
    }
    let target = target(options, wanted)?;
    announced(options, wanted, target.as_ref(), before).await?;
    probe(options, wanted, target.as_ref()).await?;

    let end = Instant::now() + Duration::from_secs(options.docker_settle);
    loop {
        let now = systemd.unit(&unit.docker_unit).await?;
        if !now.is_still(&started) {
            return Err(went_away(options, &now.condition()));
        }
        docker::info(&unit.docker.socket).await?;
        if Instant::now() >= end {
            break;
        }
        sleep(PAUSE).await;
    }
    match before {
        Some(before) => restart::containers_run(unit, before).await,
        None => Ok(()),
    }
}

fn went_away(options: &DockerStoreOptions, condition: &str) -> Failure {
    let name = &options.unit.docker_unit;
    Failure::new(
        Exit::TryAgain,
        format!(
            "{name} was restarted or ended after the change: it {condition}; `journalctl -u {name}` tells why"
        ),
    )
}

/// Its key must have been written after what was seen `before`: one of an earlier life lasts for a while.
async fn announced(
    options: &DockerStoreOptions,
    wanted: &Wanted,
    target: Option<&EtcdV2>,
    before: Option<&Before>,
) -> Result<()> {
    let since = before.map_or(0, |before| before.announced);
    // What it is told by a signal it reads in its own time; at its start it has read all before it answers.
    let may_be_told = before.is_none_or(|before| !before.restarts);
    let (store, advertise) = (wanted.store.to_string(), wanted.advertise.to_string());
    let end = Instant::now() + ANNOUNCE_LIMIT;
    loop {
        let info = docker::info(&options.unit.docker.socket).await?;
        let told = info.cluster_store == store && info.cluster_advertise == advertise;
        let reason = if told {
            let Some(target) = target else { return Ok(()) };
            match target.get(&wanted.node_key()).await {
                Ok(Some(node)) if node.modified > since => return Ok(()),
                Ok(Some(_)) => format!("the key {} is not written anew", wanted.node_key()),
                Ok(None) => format!("there is no key {} in it", wanted.node_key()),
                Err(failure) if Instant::now() > end => return Err(failure),
                Err(failure) => failure.one_line(),
            }
        } else {
            let unit = &options.unit.docker_unit;
            let (store, advertise) = (&info.cluster_store, &info.cluster_advertise);
            format!("it has {store:?} as {advertise:?}; `journalctl -u {unit}` may tell why")
        };
        if Instant::now() > end || !(told || may_be_told) {
            return Err(Failure::new(
                Exit::TryAgain,
                format!("Docker does not announce itself in the store {store} as {advertise}: {reason}"),
            ));
        }
        sleep(PAUSE).await;
    }
}

/// Makes a network of the whole cluster, looks for it in the store, and removes it.
async fn probe(options: &DockerStoreOptions, wanted: &Wanted, target: Option<&EtcdV2>) -> Result<()> {
    let docker = Docker::connect(&options.unit.docker.socket).await?;
    let name = probe_name(wanted);
    // One of ours that died may have left it.
    for (id, _) in docker.network_ids("name", &name).await?.into_iter().filter(|(_, found)| *found == name) {
        docker.remove_network(&id).await?;
    }
    let id = docker.create_probe_network(&name, PROBE_LABEL).await?;
    let seen = match target {
        None => Ok(true),
        Some(target) => is_kept(target, &format!("{}/{id}", wanted.networks_key())).await,
    };
    let end = Instant::now() + REMOVE_LIMIT;
    while let Err(error) = docker.remove_network(&id).await {
        if Instant::now() > end {
            return Err(error.into());
        }
        sleep(PAUSE).await;
    }
    if seen? {
        return Ok(());
    }
    Err(Failure::new(
        Exit::TryAgain,
        format!("Docker says that it has the store {}, but a new network was not kept there", wanted.store),
    ))
}

/// Whether a key is there. One question without an answer is no reason to take all back.
async fn is_kept(target: &EtcdV2, key: &str) -> Result<bool> {
    let end = Instant::now() + ANNOUNCE_LIMIT;
    loop {
        match target.get(key).await {
            Ok(found) => return Ok(found.is_some()),
            Err(failure) if Instant::now() > end => return Err(failure),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// No other agent's has this name.
fn probe_name(wanted: &Wanted) -> String {
    let advertise: String = wanted
        .advertise
        .to_string()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    format!("calico-dcos-probe-{}", advertise.trim_matches('-'))
}
