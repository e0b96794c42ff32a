//! What is written down about a cluster, always before it is made: `/run/calico-dcos/NAME/cluster.json`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::paths::{self, Paths, write_atomically};
use crate::process::Identity;
use crate::spec::{HostKind, Spec};

const FILE: &str = "cluster.json";

/// A cluster as it is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    /// What was asked for.
    pub spec: Spec,
    /// Whether `up` came to its end.
    pub ready: bool,
    /// The process that takes it down; nobody when it is to stay.
    pub owner: Option<Identity>,
    /// The cluster's addresses are 10.87.`subnet`.0/24.
    pub subnet: u8,
    /// The base image under its hosts and services.
    pub base: PathBuf,
    /// The build of Mesos that they run.
    pub mesos: PathBuf,
    /// Every host that was begun, by its number.
    pub hosts: Vec<HostState>,
    /// Every other process by its name: services, the artifact server, what a test spawned.
    pub processes: BTreeMap<String, Identity>,
}

impl State {
    /// Whether somebody still wants this cluster: else it is what an earlier process left.
    pub fn in_use(&self) -> bool {
        self.owner.map_or(self.ready, Identity::is_alive)
    }
}

/// A host as it is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HostState {
    pub number: u8,
    pub name: String,
    pub address: Ipv4Addr,
    pub kind: HostKind,
    /// Its systemd-nspawn, while it is powered on.
    pub supervisor: Option<Identity>,
}

/// Reads the state of a cluster; `None` when there is none.
pub(crate) fn load(name: &str) -> Result<Option<State>> {
    let path = file(name);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(None);
        }
        Err(error) => return Err(error).at("read", &path),
    };
    serde_json::from_str(&text).map(Some).map_err(|error| Error::State { path, reason: error.to_string() })
}

/// Changes the state of a cluster: read, changed, written under a lock, since several processes may do so.
pub(crate) fn change<T>(name: &str, change: impl FnOnce(&mut State) -> T) -> Result<T> {
    let _lock = crate::lock::wait(&format!("state-{name}"))?;
    let mut state = load(name)?.ok_or_else(|| Error::NotUp(name.to_owned()))?;
    let result = change(&mut state);
    save(&state)?;
    Ok(result)
}

/// Writes the state of a cluster for the first time, or again.
pub(crate) fn save(state: &State) -> Result<()> {
    let text = serde_json::to_vec_pretty(state)
        .map_err(std::io::Error::from)
        .context(|| "cannot write the state".to_owned())?;
    write_atomically(&file(&state.spec.name), &text)
}

/// The names of all clusters that have a folder, whether that is complete or not.
pub(crate) fn names() -> Result<Vec<String>> {
    let folder = Path::new(paths::RUN);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).at("read", folder),
    };
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

fn file(name: &str) -> PathBuf {
    Paths::of(name).run.join(FILE)
}
