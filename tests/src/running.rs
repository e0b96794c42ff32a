//! A process of a cluster that is no host.

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use rustix::process::Signal;

use crate::error::{Context, Result};
use crate::process::Identity;

/// A process of a cluster: a service, the artifact server, or what was spawned.
#[derive(Debug, Clone)]
pub struct Process {
    name: String,
    identity: Identity,
    log: PathBuf,
}

impl Process {
    pub(crate) fn new(name: &str, identity: Identity, log: PathBuf) -> Self {
        Self { name: name.to_owned(), identity, log }
    }

    /// Its name in the cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process ID on the machine.
    pub fn pid(&self) -> u32 {
        self.identity.pid
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.identity.is_alive()
    }

    /// Sends it a signal; none when it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.identity.signal(signal)
    }

    /// `kill -9`; it is gone when this returns.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait_gone(Duration::from_secs(10))
    }

    /// Waits until it has ended.
    pub fn wait_gone(&self, limit: Duration) -> Result<()> {
        self.identity.wait_gone(limit)
    }

    /// The file with its output.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// What it has written, all starts together.
    pub fn log(&self) -> Result<String> {
        let bytes = std::fs::read(&self.log).at("read", &self.log)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
