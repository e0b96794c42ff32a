//! `docker-cluster-store`: the store that Docker needs for networks of the whole cluster.
//!
//! It is written into daemon.json, where it may stand only if nothing of it is on dockerd's command line, and Docker
//! is made to take it: its first store by SIGHUP, which hurts nobody, any other by a restart, which must be allowed.
//! What Docker says of itself is no proof: the store is asked whether Docker is there, and whether a network that
//! is made for this is.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure, Result};
use crate::host::files::{self, Files, Print, Staging};
use crate::host::systemd::Systemd;
use crate::host::{Host, docker};
use crate::journal::{self, Entry, Recorded, What};
use crate::options::{DockerStoreOptions, DockerStoreUndoOptions, DockerUnitOptions, RestartOptions};
use crate::steps::StepName;
use crate::steps::model::{Acts, Back, Content, Direction, Plan, Proposal, Stage, Step, Undo, WantedFile};

mod command_line;
pub mod daemon_json;
pub mod decide;
mod effect;
pub mod flags;
mod look;
mod restart;
mod seen;
pub mod wanted;

use daemon_json::DaemonJson;
pub use decide::Action;
use restart::Before;
pub use seen::seen;

/// The step, as it is installed.
#[derive(Debug)]
pub struct DockerStore<'a> {
    options: &'a DockerStoreOptions,
    /// How Docker was before it was told anything.
    before: RefCell<Option<Before>>,
}

impl<'a> DockerStore<'a> {
    /// With these options.
    pub fn new(options: &'a DockerStoreOptions) -> Self {
        Self { options, before: RefCell::new(None) }
    }

    /// When Docker announced itself last, in changes of etcd; 0 when it never did, or that cannot be read.
    async fn announced(&self, host: &Host) -> Result<u64> {
        let wanted = self.options.wanted(host).await?;
        let Some(target) = look::target(self.options, &wanted)? else { return Ok(0) };
        Ok(target.get(&wanted.node_key()).await?.map_or(0, |node| node.modified))
    }
}

/// The step, as it is taken back.
#[derive(Debug)]
pub struct DockerStoreUndo<'a> {
    /// Which Docker.
    pub unit: &'a DockerUnitOptions,
    /// Where the record is.
    pub state_dir: &'a Path,
    /// Whether Docker may be restarted; without that it keeps the store until its next restart.
    pub restarts: RestartOptions,
    /// Whether it is refused where Docker would keep the store.
    pub complete: bool,
    /// Whether files that were changed since are put back as they were.
    pub force: bool,
}

impl<'a> From<&'a DockerStoreUndoOptions> for DockerStoreUndo<'a> {
    fn from(options: &'a DockerStoreUndoOptions) -> Self {
        let DockerStoreUndoOptions { unit, state, restarts, complete, force } = options;
        let state_dir = &state.state_dir;
        Self { unit, state_dir, restarts: *restarts, complete: *complete, force: *force }
    }
}

impl Acts for DockerStore<'_> {
    type Action = Action;
    const NAME: StepName = StepName::DockerClusterStore;

    async fn act(&self, host: &Host, action: &Action, direction: Direction) -> Result<()> {
        let unit = &self.options.unit;
        let systemd = Systemd::connect().await?;
        match direction {
            Direction::Forward => {
                let mut before = Before::look(&systemd, unit, *action).await?;
                // Options that are taken once more may be no news to Docker.
                if *action != Action::TakeOptions {
                    before.announced = self.announced(host).await?;
                }
                let before = self.before.borrow_mut().insert(before).clone();
                match action {
                    Action::TakeFirstStore | Action::TakeOptions => {
                        Ok(systemd.hang_up(&unit.docker_unit).await?)
                    }
                    Action::Restart => restart::restart(&systemd, unit, &before).await,
                }
            }
            Direction::Back => {
                let before = self.before.borrow().clone();
                let allowed = self.options.step.restarts.allow_restart;
                restart::go_back(&systemd, unit, before.as_ref(), *action, allowed).await
            }
        }
    }
}

impl Step for DockerStore<'_> {
    async fn check(&self, host: &Host, recorded: &Recorded<Action>) -> Result<Proposal<Action>> {
        let options = self.options;
        let wanted = options.wanted(host).await?;
        let path = daemon_json_path(host, &options.unit.docker_daemon_json)?;
        let seen = look::look(host, options, &wanted, &path, recorded).await?;
        let decision = decide::decide(&seen.observed, &wanted, options.docker_replace_store)?;

        let mut proposal = Proposal::new();
        if let Some(tls) = options.tls()? {
            tls.propose(&mut proposal);
        }
        let content = decision.document.text().as_bytes().to_vec();
        proposal.file(as_before(host.files(), path, content)?);
        if let Some((action, because)) = decision.action {
            if action == Action::Restart && seen.observed.info.is_some() {
                proposal.restart(format!("{} must be restarted: {because}", options.unit.docker_unit));
                if !seen.ended_by_restart.is_empty() {
                    let list = seen.ended_by_restart.join(", ");
                    proposal.note(format!(
                        "the restart ends containers that Docker does not start again: {list}"
                    ));
                }
            }
            proposal.action(action, because);
        }
        Ok(proposal)
    }

    async fn verify(&self, host: &Host, _: &Plan<Action>) -> Result<()> {
        let before = self.before.borrow().clone();
        let outcome = effect::verify(self.options, &self.options.wanted(host).await?, before.as_ref()).await;
        match before {
            // Again would be another restart: an operator must look first.
            Some(before) if before.restarts => outcome.map_err(Failure::for_operator),
            _ => outcome,
        }
    }
}

impl Acts for DockerStoreUndo<'_> {
    type Action = Action;
    const NAME: StepName = StepName::DockerClusterStore;

    async fn act(&self, _: &Host, action: &Action, _: Direction) -> Result<()> {
        let unit = self.unit;
        let systemd = Systemd::connect().await?;
        let before = Before::look(&systemd, unit, *action).await?;
        restart::restart(&systemd, unit, &before).await?;
        restart::containers_run(unit, &before).await
    }
}

impl Undo for DockerStoreUndo<'_> {
    async fn next(&self, host: &Host, recorded: &Recorded<Action>) -> Result<Stage<Action>> {
        let path = daemon_json_path(host, &self.unit.docker_daemon_json)?;
        let mut back = Vec::new();
        for entry in recorded.entries.iter().rev() {
            back.push(if entry.path == path && !self.force {
                self.back(host.files(), entry)?
            } else {
                Back::Restore(entry.path.clone())
            });
        }
        let stage = Stage::of(back);
        let info = match docker::info(&self.unit.docker.socket).await {
            Ok(info) => info,
            Err(error) => {
                return Ok(stage.note(format!("{error}: it will start without the store")));
            }
        };
        let content = host.files().read(&path)?;
        let written = DaemonJson::parse(content.as_deref()).ok().and_then(|it| it.store());
        // After an interrupted undo the file is without it already.
        if info.cluster_store.is_empty() || written.is_some_and(|written| written != info.cluster_store) {
            return Ok(stage);
        }
        Ok(if self.restarts.allow_restart {
            stage.then(Action::Restart)
        } else if self.complete {
            return Err(Failure::new(
                Exit::RestartNeeded,
                format!(
                    "Docker must be restarted to give up the store {} (--allow-restart); nothing was changed",
                    info.cluster_store
                ),
            ));
        } else {
            stage.note(format!(
                "effective at Docker's next restart: until then it keeps the store {} in memory, and must not be \
                 reloaded (without --allow-restart it was not restarted)",
                info.cluster_store
            ))
        })
    }
}

impl DockerStoreUndo<'_> {
    /// What was there before; or, when others changed the file since, what they made of it without our part.
    fn back(&self, files: &Files, entry: &Entry) -> Result<Back> {
        let restore = Back::Restore(entry.path.clone());
        let What::File { before, wrote, .. } = &entry.what else { return Ok(restore) };
        let Some(print) = files.print_of(&entry.path)? else { return Ok(restore) };
        if Some(&print) == before.as_ref() || wrote.contains(&print.sha256) {
            return Ok(restore);
        }
        let understood = |content: Option<&[u8]>| {
            DaemonJson::parse(content).map_err(|error| {
                let path = entry.path.display();
                Failure::unsuitable(format!("{path} was changed since, and cannot be taken back: {error}"))
            })
        };
        let earlier = journal::content_before(files, self.state_dir, entry)?;
        let now = files.read(&entry.path)?;
        let without = understood(now.as_deref())?.with_store_of(&understood(earlier.as_deref())?);
        let content = without.text().as_bytes().to_vec();
        Ok(Back::Rewrite(as_before(files, entry.path.clone(), content)?))
    }
}

/// Where daemon.json really is.
fn daemon_json_path(host: &Host, path: &Path) -> Result<PathBuf> {
    Ok(host.files().resolve(&host.place(&path.to_string_lossy()))?)
}

/// A file with another content, and the mode and owner that it has; a new one is for all to read.
fn as_before(files: &Files, path: PathBuf, content: Vec<u8>) -> Result<WantedFile> {
    let sha256 = files::sha256_hex(&content);
    let print = if let Some(is) = files.print_of(&path)? {
        Print { sha256, ..is }
    } else {
        let (uid, gid) = files::own_ids();
        Print { sha256, mode: 0o644, uid, gid }
    };
    Ok(WantedFile { path, staging: Staging::Beside, print, content: Content::Bytes(content) })
}

#[cfg(test)]
mod tests;
