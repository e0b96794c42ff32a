//! What is stored, as one sees it who looks into etcd or at the disk.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use calico_scheduler::core::{AgentId, AgentRecord, ClusterRecord, State, TaskId, TaskRecord, Tasks};
use serde::Serialize;

use crate::disk::Disk;
use crate::etcd::Etcd;
use crate::process::{Place, STATE_FILE};

const BELOW: &str = "/calico-dcos/calico/";

/// See above.
#[derive(Clone, Copy)]
pub enum Stored<'a> {
    Etcd(&'a Etcd),
    File(&'a Disk),
}

impl<'a> Stored<'a> {
    pub fn of(place: &'a Place, etcd: &'a Etcd) -> Self {
        match place {
            Place::Etcd => Self::Etcd(etcd),
            Place::File(disk) => Self::File(disk),
        }
    }

    /// Who leads, as the store has it.
    pub fn leader(self) -> Option<String> {
        match self {
            Self::Etcd(etcd) => {
                let (_, value) = etcd.below("/calico-dcos/calico/leader").next()?;
                let value: serde_json::Value = serde_json::from_slice(value).unwrap();
                Some(value["holder"].as_str().unwrap().to_owned())
            }
            Self::File(disk) => disk.holder(Path::new(&format!("{STATE_FILE}.lock"))),
        }
    }

    /// Who holds a slot for restarts.
    pub fn slots(self) -> BTreeSet<AgentId> {
        let agents: Vec<AgentRecord> = match self {
            Self::Etcd(etcd) => {
                let agents = etcd.below(BELOW).filter(|(key, _)| key.contains("/agents/"));
                let disrupted = agents.filter(|(_, value)| contains(value, "\"disruption\""));
                disrupted.map(|(_, value)| serde_json::from_slice(value).unwrap()).collect()
            }
            Self::File(disk) => {
                let file = surely(disk);
                let state = contains(&file, "\"disruption\"").then(|| state(&file));
                let agents = state.into_iter().flat_map(|state| state.agents.into_values());
                agents.map(Arc::unwrap_or_clone).collect()
            }
        };
        agents.into_iter().filter(|agent| agent.disrupted().is_some()).map(|agent| agent.id).collect()
    }

    /// The record that says that this task is alive. In a file: one that outlives a loss of power.
    pub fn task(self, task: &TaskId) -> Option<TaskRecord> {
        let of = |tasks: Tasks| {
            let mut records = tasks.into_iter().map(|(_, record)| record);
            records.find(|record| record.phase.live().is_some_and(|(live, _)| live == task))
        };
        match self {
            Self::Etcd(etcd) => {
                etcd.below(BELOW).filter(|(_, value)| contains(value, &task.0)).find_map(|(key, value)| {
                    if key.ends_with("/cluster") {
                        of(serde_json::from_slice::<ClusterRecord>(value).unwrap().tasks)
                    } else if key.contains("/agents/") {
                        of(serde_json::from_slice::<AgentRecord>(value).unwrap().tasks)
                    } else {
                        None
                    }
                })
            }
            Self::File(disk) => {
                let file = surely(disk);
                if !contains(&file, &task.0) {
                    return None;
                }
                let state = state(&file);
                let agents = state.agents.into_values().map(|agent| agent.tasks.clone());
                agents.chain([state.cluster.tasks]).find_map(of)
            }
        }
    }
}

/// A key of ours, and its value.
pub type Pair<'a> = (Cow<'a, str>, Cow<'a, [u8]>);

/// All that is stored in etcd.
pub fn in_etcd(etcd: &Etcd) -> impl Iterator<Item = Pair<'_>> {
    etcd.below(BELOW).map(|(key, value)| (Cow::Borrowed(key), Cow::Borrowed(value)))
}

/// All that is stored in a file, as it would be in etcd.
pub fn in_file(file: &[u8]) -> impl Iterator<Item = Pair<'static>> {
    let State { agents, cluster, .. } = state(file);
    let cluster = (Cow::Borrowed("/cluster"), bytes(&cluster));
    let agents = agents.into_values().map(|agent| (format!("/agents/{}", agent.key).into(), bytes(&*agent)));
    agents.chain([cluster])
}

/// The file as it is after a loss of power.
fn surely(disk: &Disk) -> Vec<u8> {
    let sure = disk.surely(Path::new(STATE_FILE));
    sure.expect("something is done, and a loss of power may take back what is stored")
}

fn state(file: &[u8]) -> State {
    let mut file: serde_json::Value = serde_json::from_slice(file).unwrap();
    serde_json::from_value(file["state"].take()).unwrap()
}

fn bytes(value: &impl Serialize) -> Cow<'static, [u8]> {
    Cow::Owned(serde_json::to_vec(value).unwrap())
}

fn contains(value: &[u8], text: &str) -> bool {
    memchr::memmem::find(value, text.as_bytes()).is_some()
}
