//! Where everything of a cluster is. All follows from its name, so that `down` finds it without any record.

use std::path::{Path, PathBuf};

use crate::error::{Context, Result};

/// Base image, Mesos and locks; shared by all clusters and kept.
pub(crate) const CACHE: &str = "/var/cache/calico-dcos";
/// One folder a cluster: its state, logs, artifacts and mounts.
pub(crate) const RUN: &str = "/run/calico-dcos";
/// One folder a cluster: what its hosts write. Not below /run, which is small and `noexec` on Debian.
pub(crate) const DISKS: &str = "/var/lib/calico-dcos";

/// The folders of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// State, logs, artifacts and mount points.
    pub run: PathBuf,
    /// The writable layers of the hosts.
    pub disks: PathBuf,
    /// The network namespace.
    pub netns: PathBuf,
}

impl Paths {
    pub fn of(name: &str) -> Self {
        Self {
            run: Path::new(RUN).join(name),
            disks: Path::new(DISKS).join(name),
            netns: Path::new("/run/netns").join(name),
        }
    }

    /// Where the root file system `name` is mounted.
    pub fn mount_point(&self, name: &str) -> PathBuf {
        self.run.join("roots").join(name)
    }

    pub fn artifacts(&self) -> PathBuf {
        self.run.join("artifacts")
    }

    pub fn logs(&self) -> PathBuf {
        self.run.join("logs")
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// The helper programs of the Mesos agent, which hosts see as /opt/mesos-helpers.
    pub fn helpers(&self) -> PathBuf {
        self.disks.join("mesos-helpers")
    }
}

/// Writes a file so that a reader sees the old or the new content, whenever we are killed.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let part = path.with_extension(format!("part-{}", std::process::id()));
    std::fs::write(&part, content).at("write", &part)?;
    std::fs::rename(&part, path).at("write", path)
}

/// Creates a folder and those above it.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).at("create", path)
}
