//! Docker before and after it was told something.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::decide::Action;
use super::look::PAUSE;
use crate::exit::{Exit, Failure, Result};
use crate::host::docker::{self, Docker, Running};
use crate::host::systemd::{JobResult, Systemd, Unit};
use crate::options::DockerUnitOptions;
use crate::say;

/// How long a restart may take: Docker stops its containers, and starts them again.
const RESTART_LIMIT: Duration = Duration::from_mins(5);
/// How long it may take to answer after its start.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);
/// How long its containers may take to be back.
const CONTAINERS_LIMIT: Duration = Duration::from_mins(1);
/// The exit status of a container that a signal ended is this and the signal's number.
const SIGNALLED: i64 = 128;

/// Docker before it was told something.
#[derive(Debug, Clone)]
pub struct Before {
    /// Its unit.
    pub unit: Unit,
    /// The containers that ran; none when it was down.
    pub containers: Vec<Running>,
    /// Whether they outlive it.
    pub live_restore: bool,
    /// Whether it was then restarted.
    pub restarts: bool,
    /// When it had announced itself last, if it is to announce itself anew: in changes of etcd.
    pub announced: u64,
}

impl Before {
    /// As it is now; `action` is what comes next.
    pub async fn look(systemd: &Systemd, options: &DockerUnitOptions, action: Action) -> Result<Self> {
        let unit = systemd.unit(&options.docker_unit).await?;
        let restarts = action == Action::Restart;
        if !unit.is_active() {
            return Ok(Self { unit, containers: Vec::new(), live_restore: false, restarts, announced: 0 });
        }
        let socket = &options.docker.socket;
        let live_restore = docker::info(socket).await?.live_restore_enabled;
        let containers = Docker::connect(socket).await?.running().await?;
        Ok(Self { unit, containers, live_restore, restarts, announced: 0 })
    }

    /// Whether its containers are not touched by what is done to it.
    fn keeps_containers(&self) -> bool {
        !self.restarts || self.live_restore
    }
}

/// Restarts Docker, and waits until it answers.
pub async fn restart(systemd: &Systemd, options: &DockerUnitOptions, before: &Before) -> Result<()> {
    let name = &options.docker_unit;
    let job = systemd.restart(name, RESTART_LIMIT).await?;
    let unit = systemd.unit(name).await?;
    if let JobResult::Other(result) = job {
        return Err(Failure::unsuitable(format!(
            "{name} did not come back from its restart ({result}): it {}; `journalctl -u {name}` tells why",
            unit.condition()
        )));
    }
    if unit.is_still(&before.unit) {
        return Err(Failure::new(
            Exit::TryAgain,
            format!("{name} was told to restart, and was not restarted"),
        ));
    }
    answers(options).await.map_err(Failure::for_operator)
}

/// Waits until dockerd answers.
async fn answers(options: &DockerUnitOptions) -> Result<()> {
    let end = Instant::now() + ANSWER_LIMIT;
    loop {
        match docker::info(&options.docker.socket).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > end => return Err(error.into()),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Makes Docker take back the file that is there again.
pub async fn go_back(
    systemd: &Systemd,
    options: &DockerUnitOptions,
    before: Option<&Before>,
    action: Action,
    may_restart: bool,
) -> Result<()> {
    let name = &options.docker_unit;
    let unit = systemd.unit(name).await?;
    let info = if unit.is_active() { docker::info(&options.docker.socket).await.ok() } else { None };
    let lives = info.is_some();
    let untouched = before.is_some_and(|before| unit.is_still(&before.unit));
    match action {
        Action::TakeOptions if lives && untouched => return Ok(systemd.hang_up(name).await?),
        Action::TakeFirstStore | Action::TakeOptions if lives => {
            // SIGHUP without a store would stop it half, see `decide`.
            if info.is_some_and(|info| !info.cluster_store.is_empty()) {
                say::progress(
                    "Docker keeps the store until its next restart, and must not be reloaded before that",
                );
            }
            return Ok(());
        }
        // Restarted, and not yet: nothing of the new file was read.
        Action::Restart if lives && untouched => return Ok(()),
        // One that is down loses nothing by a restart.
        _ if unit.is_active() && !may_restart => {
            let why = if lives { "has read what was taken back" } else { "does not answer any more" };
            return Err(Failure::new(
                Exit::Unavailable,
                format!("Docker {why}, and may not be restarted: restart {name}"),
            ));
        }
        _ => {}
    }
    let none = Before {
        unit: Unit::default(),
        containers: Vec::new(),
        live_restore: false,
        restarts: true,
        announced: 0,
    };
    restart(systemd, options, &none).await?;
    let Some(before) = before else { return Ok(()) };
    containers_run(options, &Before { restarts: true, ..before.clone() }).await
}

/// Waits until the containers that ran before run again, as far as they must.
pub async fn containers_run(options: &DockerUnitOptions, before: &Before) -> Result<()> {
    let docker = Docker::connect(&options.docker.socket).await?;
    let end = Instant::now() + CONTAINERS_LIMIT;
    loop {
        let mut lost = Vec::new();
        let now = docker.running().await?;
        for container in &before.containers {
            let runs = now.iter().find(|it| it.id == container.id);
            let as_before = runs.is_some_and(|it| it.started_at == container.started_at);
            let restarted = runs.is_some() && !before.keeps_containers();
            if !(as_before || restarted || ended_by_itself(&docker, before, container).await?) {
                lost.push(container.name.clone());
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        if before.keeps_containers() || Instant::now() > end {
            return Err(Failure::new(
                Exit::TryAgain,
                format!("containers that ran before do not run any more: {}", lost.join(", ")),
            ));
        }
        sleep(PAUSE).await;
    }
}

/// Whether a container that does not run need not: short-lived ones end all the time.
async fn ended_by_itself(docker: &Docker, before: &Before, container: &Running) -> Result<bool> {
    if !before.keeps_containers() {
        // Docker ended it, and starts it again only if it was told to.
        return Ok(!container.always_restarts);
    }
    let found = docker.container(&container.id).await?;
    Ok(found.is_none_or(|it| !it.running && it.error.is_empty() && it.exit_code < SIGNALLED))
}
