//! The engine on a simulated disk, with a step that has everything a step can have.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::*;
use crate::exit::{Exit, Failure};
use crate::host::disk::Disk;
use crate::host::disk::simulated::{Content as Found, SimulatedDisk, Tree, Trouble};
use crate::host::files::{FileError, Files, Print, Staging, sha256_hex};

mod crashes;
mod engine;

const STATE: &str = "/var/lib/calico-dcos";
const DAEMON: &str = "/etc/daemon/daemon.json";
const PLUGIN: &str = "/opt/bin/plugin";
const DEEP: &str = "/etc/new/deep/file";
const CONFIG: &str = "/etc/net.d/net.conf";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reload {
    Reload,
}

impl Display for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reload the daemon")
    }
}

/// A disk, and a daemon that reads one of its files when it is told to, or started.
#[derive(Debug, Clone)]
struct World {
    disk: SimulatedDisk,
    loaded: Arc<Mutex<Vec<u8>>>,
    reloads: Arc<Mutex<usize>>,
}

impl World {
    /// After a boot: the daemon reads its file.
    fn booted(tree: &Tree) -> Self {
        let loaded = tree.get(Path::new(DAEMON)).cloned().flatten().map(|it| it.bytes).unwrap_or_default();
        Self::running(tree, loaded)
    }

    fn running(tree: &Tree, loaded: Vec<u8>) -> Self {
        let disk = SimulatedDisk::with(tree);
        Self { disk, loaded: Arc::new(Mutex::new(loaded)), reloads: Arc::default() }
    }

    fn troubled(self, trouble: Trouble) -> Self {
        Self { disk: self.disk.troubled(trouble), ..self }
    }

    fn loaded(&self) -> Vec<u8> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn host(&self) -> Host {
        Host::default().with_files(Files::on(Arc::new(self.disk.clone())))
    }

    fn reload(&self) -> Result<()> {
        let failed = |error| FileError::io("reload", DAEMON)(error);
        self.disk.other_operation().map_err(failed)?;
        let content = self.host().files().read(Path::new(DAEMON))?.unwrap_or_default();
        *self.loaded.lock().unwrap() = content;
        *self.reloads.lock().unwrap() += 1;
        Ok(())
    }

    fn apply(&self, version: u8) -> Result<Applied> {
        self.apply_step(&Everything { world: self, version, works: true })
    }

    fn apply_step(&self, step: &Everything<'_>) -> Result<Applied> {
        let host = self.host();
        let engine = engine(&host);
        block_on(async {
            let plan = engine.check(step).await?;
            engine.apply(step, plan, Restarts::Forbidden).await
        })
    }

    fn undo(&self) -> Result<Undone> {
        let host = self.host();
        block_on(engine(&host).undo(&Everything { world: self, version: 0, works: true }, false))
    }

    /// As it is when nothing dies any more.
    fn revived(&self) -> Self {
        Self {
            disk: self.disk.revived(),
            loaded: Arc::new(Mutex::new(self.loaded())),
            reloads: Arc::default(),
        }
    }

    fn is_installed(&self, version: u8) -> bool {
        has_files(&self.disk.tree(), version) && self.loaded() == daemon_json(version)
    }
}

/// Whether all files of a version are there, and nothing that was staged.
fn has_files(tree: &Tree, version: u8) -> bool {
    let outside = tree.keys().filter(|path| !path.starts_with(STATE));
    let staged = |path: &PathBuf| path.to_string_lossy().contains(".calico-dcos");
    !outside.into_iter().any(staged)
        && files(version).iter().all(|file| {
            let Print { mode, uid, gid, .. } = file.print;
            let Content::Bytes(bytes) = file.content.clone() else { return false };
            tree.get(&file.path) == Some(&Some(Found { bytes, mode, owner: (uid, gid) }))
        })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn engine(host: &Host) -> Engine<'_> {
    Engine { host, state_dir: Path::new(STATE), lock_timeout: Duration::ZERO }
}

fn daemon_json(version: u8) -> Vec<u8> {
    format!("store {version}").into_bytes()
}

/// Two that replace something or nothing, one in directories that are not there, one that is written elsewhere.
fn files(version: u8) -> Vec<WantedFile> {
    let file = |path: &str, staging, bytes: Vec<u8>, mode, owner: (u32, u32)| WantedFile {
        path: path.into(),
        staging,
        print: Print { sha256: sha256_hex(&bytes), mode, uid: owner.0, gid: owner.1 },
        content: Content::Bytes(bytes),
    };
    vec![
        file(DAEMON, Staging::Beside, daemon_json(version), 0o640, (5, 6)),
        file(PLUGIN, Staging::Beside, format!("plugin {version}").into_bytes(), 0o755, (0, 0)),
        // The same in all versions.
        file(DEEP, Staging::Beside, b"deep".to_vec(), 0o600, (0, 0)),
        file(CONFIG, Staging::Outside, format!("{{\"net\":{version}}}").into_bytes(), 0o644, (0, 0)),
    ]
}

struct Everything<'a> {
    world: &'a World,
    version: u8,
    /// Whether its verification finds an effect.
    works: bool,
}

impl Acts for Everything<'_> {
    type Action = Reload;
    const NAME: StepName = StepName::Cni;

    async fn act(&self, _: &Host, action: &Reload, _: Direction) -> Result<()> {
        match action {
            Reload::Reload => self.world.reload(),
        }
    }
}

impl Step for Everything<'_> {
    async fn check(&self, _: &Host, recorded: &Recorded<Reload>) -> Result<Proposal<Reload>> {
        let mut proposal = Proposal::new();
        for file in files(self.version) {
            let is_daemons = file.path == Path::new(DAEMON);
            proposal.file(file);
            let begun = recorded.unfinished.as_ref().is_some_and(|begun| !begun.is_empty());
            if is_daemons && (begun || self.world.loaded() != daemon_json(self.version)) {
                proposal.action(Reload::Reload, "it does not use its file yet");
            }
        }
        Ok(proposal)
    }

    async fn verify(&self, _: &Host, _: &Plan<Reload>) -> Result<()> {
        if self.works && self.world.loaded() == daemon_json(self.version) {
            return Ok(());
        }
        Err(Failure::new(Exit::TryAgain, "the daemon does not use it"))
    }
}

impl Undo for Everything<'_> {
    async fn next(&self, _: &Host, recorded: &Recorded<Reload>) -> Result<Stage<Reload>> {
        Ok(Stage::all(recorded).then(Reload::Reload))
    }
}

/// As it was before we came.
fn original() -> Tree {
    let mut tree = Tree::new();
    for directory in
        ["/", "/etc", "/etc/daemon", "/etc/net.d", "/opt", "/opt/bin", "/opt/bin/theirs", "/var", "/var/lib"]
    {
        tree.insert(directory.into(), None);
    }
    let theirs = Found { bytes: b"theirs".to_vec(), mode: 0o640, owner: (5, 6) };
    tree.insert(DAEMON.into(), Some(theirs));
    tree
}

/// With version 1 installed, safely on the disk.
fn installed() -> Tree {
    let world = World::booted(&original());
    world.apply(1).unwrap();
    world.disk.tree()
}
