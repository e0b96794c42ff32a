//! What a service has on the host besides its process: directories, its container, and sockets of plugins.
//!
//! Directories are made and taken back through the journal, as files are. The container is seen by its label, whatever the
//! journal holds: it may have been started by a version that recorded nothing.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::path::Path;

use crate::exit::{Exit, Failure, Result};
use crate::host::container::TASK_LABEL;
use crate::host::docker::{Container, Docker, DockerError};
use crate::host::plugin::{self, Plugin};
use crate::host::systemd::Systemd;
use crate::host::{Host, docker};
use crate::journal::{Recorded, What};
use crate::options::{DockerUnitOptions, ServiceUndoOptions, StateOptions};
use crate::say;
use crate::steps::etcd_tls::OnHost;
use crate::steps::model::{
    Acts, Back, Direction, Engine, NoAction, Plan, Proposal, Restarts, Stage, Step, Undo, Undone, UndoneItem,
    Verdict,
};
use crate::steps::status::{Installed, Seen};
use crate::steps::{StepName, users};

/// Seconds from SIGTERM to SIGKILL.
const STOP_GRACE: i32 = 10;

/// A directory of the host that a service needs.
#[derive(Debug, Clone, Copy)]
pub struct Directory {
    /// Where.
    pub path: &'static str,
    /// Whether all that is ever in it is the service's own, and goes with it when we made it.
    pub own: bool,
}

/// A service in a container.
pub trait Service {
    /// Its name in the journal.
    const STEP: StepName;
    /// The task that its container is labelled with.
    const TASK: &'static str;
    /// The directories that it shares with the host.
    const DIRECTORIES: &'static [Directory];
    /// Docker's plugins that it serves, by the names of their sockets.
    const PLUGINS: &'static [&'static str];

    /// Those that this container of its serves.
    fn plugins_of(_: &Container) -> &'static [&'static str] {
        Self::PLUGINS
    }
}

/// The directories of a service and its files of TLS, as a step of the journal.
#[derive(Debug, Clone)]
struct Directories<'a, S> {
    more: &'a [Directory],
    tls: Option<&'a OnHost>,
    service: PhantomData<S>,
}

impl<'a, S> Directories<'a, S> {
    fn with(more: &'a [Directory], tls: Option<&'a OnHost>) -> Self {
        Self { more, tls, service: PhantomData }
    }
}

impl<S: Service> Acts for Directories<'_, S> {
    type Action = NoAction;
    const NAME: StepName = S::STEP;

    async fn act(&self, _: &Host, action: &NoAction, _: Direction) -> Result<()> {
        match *action {}
    }
}

impl<S: Service> Step for Directories<'_, S> {
    async fn check(&self, host: &Host, _: &Recorded<NoAction>) -> Result<Proposal<NoAction>> {
        let mut proposal = Proposal::new();
        for directory in S::DIRECTORIES.iter().chain(self.more) {
            proposal.directory(host.place(directory.path));
        }
        if let Some(tls) = self.tls {
            tls.propose(&mut proposal);
        }
        Ok(proposal)
    }

    async fn verify(&self, host: &Host, _: &Plan<NoAction>) -> Result<()> {
        for directory in S::DIRECTORIES.iter().chain(self.more) {
            if !host.files().has_directory(&host.place(directory.path))? {
                let path = directory.path;
                return Err(Failure::new(Exit::TryAgain, format!("{path} was made, and is not there")));
            }
        }
        Ok(())
    }
}

impl<S: Service> Undo for Directories<'_, S> {
    async fn next(&self, host: &Host, recorded: &Recorded<NoAction>) -> Result<Stage<NoAction>> {
        let own: Vec<_> =
            S::DIRECTORIES.iter().filter(|it| it.own).map(|directory| host.place(directory.path)).collect();
        let back = recorded.entries.iter().rev().map(|entry| {
            let path = entry.path.clone();
            if entry.what == What::Directory && own.contains(&path) {
                Back::Clear(path)
            } else {
                Back::Restore(path)
            }
        });
        Ok(Stage::of(back.collect()))
    }
}

/// Makes the service's directories, `more` of them, and the files of TLS that are missing, and records that. With nothing to make, nobody else at work
/// is waited for.
pub async fn make_directories<S: Service>(
    host: &Host,
    state: &StateOptions,
    more: &[Directory],
    tls: Option<&OnHost>,
) -> Result<()> {
    let (engine, step) = (Engine::new(host, state), Directories::<S>::with(more, tls));
    let plan = engine.check(&step).await?;
    if plan.verdict() != Verdict::NothingToDo {
        engine.apply(&step, plan, Restarts::Forbidden).await?;
    }
    Ok(())
}

/// Removes the service's container, then the directories that were made for it.
pub async fn undo<S: Service>(host: &Host, options: &ServiceUndoOptions) -> Result<Undone> {
    let ServiceUndoOptions { force, unit, state } = options;
    let removed = remove_containers::<S>(host, unit, *force).await?;
    let mut undone = Engine::new(host, state).undo(&Directories::<S>::with(&[], None), *force).await?;
    undone.items.splice(0..0, removed);
    Ok(undone)
}

/// Whether `undo` would have something to take back, but for directories.
pub async fn is_there<S: Service>(unit: &DockerUnitOptions) -> Result<bool> {
    let Some(docker) = docker(unit).await? else { return Ok(false) };
    Ok(!docker.labelled(TASK_LABEL, S::TASK).await?.is_empty())
}

async fn remove_containers<S: Service>(
    host: &Host,
    unit: &DockerUnitOptions,
    force: bool,
) -> Result<Vec<UndoneItem>> {
    let (mut items, mut served) = (Vec::new(), BTreeSet::from_iter(S::PLUGINS));
    if let Some(docker) = docker(unit).await? {
        let mut containers = Vec::new();
        for listed in docker.labelled(TASK_LABEL, S::TASK).await? {
            // One that is gone meanwhile serves nothing.
            let plugins = docker.container(&listed.id).await?.map_or(&[][..], |it| S::plugins_of(&it));
            refuse_users(&docker, plugins, force).await?;
            served.extend(plugins);
            containers.push((listed, plugins));
        }
        for (container, plugins) in containers {
            docker.stop(&container.id, if plugins.is_empty() { STOP_GRACE } else { 0 }).await?;
            docker.remove(&container.id).await?;
            let action = format!("removed the container {} (ID {:.12})", container.name, container.id);
            items.push(UndoneItem::Done { action });
        }
    }
    let folder = host.place(plugin::FOLDER);
    let plugins: Vec<Plugin> = served.into_iter().map(|name| Plugin::new(&folder, name)).collect();
    remove_dead_sockets(&plugins).await;
    Ok(items)
}

/// Containers on a network of the plugin's need it when they end.
async fn refuse_users(docker: &Docker, plugins: &[&str], force: bool) -> Result<()> {
    let mut users = Vec::new();
    for driver in plugins {
        for (id, _) in docker.network_ids("driver", driver).await? {
            users.extend(docker.on_network(&id).await?);
        }
    }
    users::refuse("Docker's network", "its plugin", &users, force)
}

/// This host's Docker; `None` when it has none.
async fn docker(unit: &DockerUnitOptions) -> Result<Option<Docker>> {
    let error = match Docker::connect(&unit.docker.socket).await {
        Ok(docker) => return Ok(Some(docker)),
        Err(error) => error,
    };
    if error.is_away() && !unit.docker.socket.exists() && !has_unit(&unit.docker_unit).await {
        return Ok(None);
    }
    Err(error.into())
}

async fn has_unit(name: &str) -> bool {
    let unit = async { Systemd::connect().await?.unit(name).await };
    unit.await.is_ok_and(|unit| unit.exists())
}

/// What is seen of a service's container.
pub async fn seen<S: Service>(socket: &Path) -> Seen {
    let look = async {
        let docker = Docker::connect(socket).await?;
        docker.labelled(TASK_LABEL, S::TASK).await
    };
    match look.await {
        Ok(containers) => seen_of(&containers),
        Err(error) => unseen(&error),
    }
}

fn seen_of(containers: &[docker::Listed]) -> Seen {
    let what = containers.iter().map(|it| format!("the container {} is {}", it.name, it.state)).collect();
    let installed = match containers.iter().filter(|it| it.is_running()).count() {
        _ if containers.is_empty() => Installed::No,
        0 => Installed::Partly,
        _ => Installed::Yes,
    };
    Seen { installed, what }
}

fn unseen(error: &DockerError) -> Seen {
    Seen { installed: Installed::Unknown, what: vec![error.to_string()] }
}

/// Removes the sockets on which nobody listens any more.
pub async fn remove_dead_sockets(plugins: &[Plugin]) {
    for plugin in plugins {
        if let Err(error) = plugin.remove_if_dead().await {
            say::progress(format_args!("the socket of {plugin:?} stays: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use crate::host::disk::simulated::{SimulatedDisk, Tree, Trouble};
    use crate::host::files::Files;
    use crate::options::{EtcdTls, EtcdTlsFile};
    use crate::steps::libnetwork::Libnetwork;
    use crate::steps::node::{CalicoNode, spec};
    use crate::values::PinnedFile;

    #[tokio::test]
    async fn directories_that_were_made_go_with_what_is_in_them_and_those_of_before_stay() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::below(root.path());
        let state = StateOptions { state_dir: root.path().join("state"), lock_timeout: 1 };
        fs::create_dir_all(host.place("/var/lib/calico")).unwrap();
        make_directories::<CalicoNode>(&host, &state, &[], None).await.unwrap();
        fs::write(host.place("/var/lib/calico/nodename"), "theirs").unwrap();
        fs::create_dir_all(host.place("/var/log/calico/cni")).unwrap();
        fs::write(host.place("/var/log/calico/cni/log"), "Felix").unwrap();
        std::os::unix::fs::symlink("/etc", host.place("/var/log/calico/link")).unwrap();
        fs::write(host.place("/lib/modules/theirs"), "").unwrap();

        // What is there is not made, and nobody else at work is waited for.
        let held = fs::File::open(&state.state_dir).unwrap();
        rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
        make_directories::<CalicoNode>(&host, &state, &[], None).await.unwrap();
        drop(held);

        let undone = Engine::new(&host, &state)
            .undo(&Directories::<CalicoNode>::with(&[], None), false)
            .await
            .unwrap();
        assert!(
            !host.has("/var/log") && !host.has("/var/run") && host.has("/lib/modules/theirs"),
            "{undone}"
        );
        assert_eq!(fs::read_to_string(host.place("/var/lib/calico/nodename")).unwrap(), "theirs");
        assert!(!state.state_dir.exists() && Path::new("/etc").exists());
    }

    /// The files of TLS with this key, as they come to a sandbox.
    fn tls(sandbox: &Path, state_dir: &Path, key: &str) -> OnHost {
        for (name, text) in [("ca", "ca"), ("cert", "cert"), ("key", key)] {
            fs::write(sandbox.join(name), text).unwrap();
        }
        // From the directory that tests run in.
        let up: PathBuf = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
        let file = |name| {
            let path = up.join(sandbox.strip_prefix("/").unwrap()).join(name);
            PinnedFile { path, sha256: None }
        };
        let tls = EtcdTls { ca: file("ca"), identity: Some((file("cert"), file("key"))) };
        OnHost::new(&tls, state_dir, CalicoNode::STEP).unwrap()
    }

    #[tokio::test]
    async fn files_of_tls_are_private_come_anew_with_their_content_and_are_taken_back() {
        let (root, sandbox) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let host = Host::below(root.path());
        let state = StateOptions { state_dir: root.path().join("state"), lock_timeout: 1 };
        let mut keys = Vec::new();
        for key in ["one", "two"] {
            let tls = tls(sandbox.path(), &state.state_dir, key);
            make_directories::<CalicoNode>(&host, &state, &[], Some(&tls)).await.unwrap();
            let path = tls.path(EtcdTlsFile::Key).unwrap().to_owned();
            assert_eq!(fs::read_to_string(&path).unwrap(), key);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            keys.push(path);
        }
        assert!(keys[0] != keys[1] && keys[0].exists(), "whoever has the first can still read it");
        let step = Directories::<CalicoNode>::with(&[], None);
        let undone = Engine::new(&host, &state).undo(&step, false).await.unwrap();
        assert!(!state.state_dir.exists() && !host.has("/var"), "{undone}");
    }

    /// Whenever the process dies, also before a loss of power, no file is there by half, and all can be finished and taken
    /// back.
    async fn whole_whenever_the_process_dies<S: Service>(more: &[Directory]) {
        let sandbox = tempfile::tempdir().unwrap();
        let state = StateOptions { state_dir: "/state".into(), lock_timeout: 1 };
        let tls = tls(sandbox.path(), &state.state_dir, "key");
        let original = Tree::from([(PathBuf::from("/"), None)]);
        let host = |disk: &SimulatedDisk| Host::default().with_files(Files::on(Arc::new(disk.clone())));
        let install =
            async |disk: &SimulatedDisk| make_directories::<S>(&host(disk), &state, more, Some(&tls)).await;
        let assert_whole = |tree: &Tree, how: &str| {
            for (what, text) in
                [(EtcdTlsFile::Ca, "ca"), (EtcdTlsFile::Cert, "cert"), (EtcdTlsFile::Key, "key")]
            {
                if let Some(Some(found)) = tree.get(tls.path(what).unwrap()) {
                    assert_eq!((&found.bytes[..], found.mode), (text.as_bytes(), 0o600), "{how}");
                }
            }
        };
        let assert_there = |tree: &Tree, how: &str| {
            assert_whole(tree, how);
            let directories = S::DIRECTORIES.iter().chain(more).map(|it| Path::new(it.path));
            for path in directories.chain([tls.path(EtcdTlsFile::Key).unwrap()]) {
                assert!(tree.contains_key(path), "{how}: {}", path.display());
            }
        };
        let undo = async |disk: &SimulatedDisk| {
            Engine::new(&host(disk), &state).undo(&Directories::<S>::with(&[], None), false).await
        };
        // An install, and an undo of one, dies.
        for undoes in [false, true] {
            let mut deaths = 0;
            for at in 0.. {
                let before = SimulatedDisk::with(&original);
                if undoes {
                    install(&before).await.unwrap();
                }
                let disk = SimulatedDisk::with(&before.tree()).troubled(Trouble::DeadFrom(at));
                let finished = if undoes { undo(&disk).await.is_ok() } else { install(&disk).await.is_ok() };
                let mut found = vec![disk.revived()];
                found.extend(disk.revived().after_power_cut(16).iter().map(SimulatedDisk::with));
                for disk in found {
                    let how = format!("{}: undo {undoes}, death at {at}", S::TASK);
                    assert_whole(&disk.tree(), &how);
                    install(&disk).await.unwrap_or_else(|failure| panic!("{how}: {}", failure.one_line()));
                    assert_there(&disk.tree(), &how);
                    undo(&disk).await.unwrap_or_else(|failure| panic!("{how}: {}", failure.one_line()));
                    assert_eq!(disk.tree(), original, "{how}");
                }
                if finished {
                    break;
                }
                deaths += 1;
            }
            assert!(deaths > 10, "so few operations cannot be all: {deaths}");
        }
    }

    #[tokio::test]
    async fn directories_and_files_of_tls_are_whole_whenever_the_process_dies() {
        whole_whenever_the_process_dies::<CalicoNode>(&[]).await;
        whole_whenever_the_process_dies::<CalicoNode>(&spec::PLUGIN_DIRECTORY).await;
        whole_whenever_the_process_dies::<Libnetwork>(&[]).await;
    }

    #[test]
    fn a_container_is_seen_as_it_is() {
        let container =
            |state: &str| docker::Listed { id: "1".into(), name: "n".into(), state: state.into() };
        assert_eq!(seen_of(&[]).installed, Installed::No);
        assert_eq!(seen_of(&[container("exited")]).installed, Installed::Partly);
        let seen = seen_of(&[container("exited"), container("running")]);
        assert_eq!((seen.installed, seen.what.len()), (Installed::Yes, 2));
    }
}
