//! What etcd holds, as far as that must be known to write little: a hash a key; and changes as groups of operations.

use std::collections::{HashMap, HashSet};

use sha2::{Digest as _, Sha256};

use super::keys::{Keys, shown};
use crate::core::{AgentId, StateChange};
use crate::state::StoreError;

/// Records in one transaction. Its whole is at most 100 operations, with the leadership's, the schema's and the
/// history's; etcd's own limit is 128.
pub(super) const RECORDS: usize = 98 - super::CHUNKS;
/// Bytes of the records' keys and values in one transaction; etcd's own limit, for all, is 1.5 MiB.
const BYTES: usize = 1 << 20;

/// A key, and its new value; none deletes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operation {
    pub key: String,
    pub value: Option<Vec<u8>>,
    /// Of an agent's record.
    agent: Option<AgentId>,
}

type Hash = [u8; 16];

#[derive(Debug, Default)]
struct Entry {
    /// None while a write of the key is not known to have happened, nor not to have.
    hash: Option<Hash>,
    /// Of an agent's record, as last written for certain.
    agent: Option<AgentId>,
}

/// The keys that exist, or may exist.
#[derive(Debug, Default)]
pub(super) struct Written(HashMap<String, Entry>);

impl Written {
    /// A key that was read.
    pub fn loaded(&mut self, key: String, value: &[u8], agent: Option<AgentId>) {
        self.0.insert(key, Entry { hash: Some(hash(value)), agent });
    }

    /// What is to be written for `changes`, in groups of one transaction each. A key is written once, and not at
    /// all when it is what it was. The two keys of an agent that moved are in one group, unless more than a
    /// group's worth of agents have swapped places.
    pub fn groups(&self, keys: &Keys, changes: &[StateChange]) -> Result<Vec<Vec<Operation>>, StoreError> {
        let mut last: HashMap<String, usize> = HashMap::new();
        let mut operations: Vec<Operation> = Vec::new();
        for change in changes {
            let operation = operation(keys, change)?;
            if let Some(index) = last.get(&operation.key) {
                operations[*index] = operation;
            } else {
                last.insert(operation.key.clone(), operations.len());
                operations.push(operation);
            }
        }
        operations.retain(|operation| match (self.0.get(&operation.key), &operation.value) {
            (None, None) => false,
            (Some(Entry { hash: Some(known), .. }), Some(value)) => *known != hash(value),
            _ => true,
        });
        Ok(packed(self.units(&operations)))
    }

    /// Any operations, in groups of one transaction each.
    pub fn split(operations: Vec<Operation>) -> Vec<Vec<Operation>> {
        packed(operations.into_iter().map(|operation| vec![operation]).collect())
    }

    /// The operations in their order; those that move agents between them are together.
    fn units(&self, operations: &[Operation]) -> Vec<Vec<Operation>> {
        let mut homes: HashMap<&AgentId, usize> = HashMap::new();
        for (index, operation) in operations.iter().enumerate() {
            if let Some(agent) = &operation.agent {
                homes.insert(agent, index);
            }
        }
        let mut moves: HashMap<usize, Vec<usize>> = HashMap::new();
        for (from, operation) in operations.iter().enumerate() {
            let lived_here = self.0.get(&operation.key).and_then(|entry| entry.agent.as_ref());
            if let Some(to) = lived_here.and_then(|agent| homes.get(agent)).filter(|to| **to != from) {
                moves.entry(from).or_default().push(*to);
                moves.entry(*to).or_default().push(from);
            }
        }
        let mut units: Vec<Vec<usize>> = Vec::new();
        let mut seen = HashSet::new();
        for index in 0..operations.len() {
            let (mut unit, mut open) = (Vec::new(), vec![index]);
            while let Some(index) = open.pop() {
                if seen.insert(index) {
                    unit.push(index);
                    open.extend(moves.get(&index).into_iter().flatten());
                }
            }
            if !unit.is_empty() {
                units.push(unit);
            }
        }
        units
            .into_iter()
            .map(|unit| unit.into_iter().map(|index| operations[index].clone()).collect())
            .collect()
    }

    /// From now on it is not known what these keys hold.
    pub fn begin(&mut self, group: &[Operation]) {
        for operation in group {
            self.0.entry(operation.key.clone()).or_default().hash = None;
        }
    }

    /// They hold what was written.
    pub fn finish(&mut self, group: Vec<Operation>) {
        for Operation { key, value, agent } in group {
            match value {
                Some(value) => self.loaded(key, &value, agent),
                None => {
                    self.0.remove(&key);
                }
            }
        }
    }
}

/// Units that are written together, in groups of one transaction each.
fn packed(units: Vec<Vec<Operation>>) -> Vec<Vec<Operation>> {
    let mut groups: Vec<Vec<Operation>> = Vec::new();
    let mut bytes = 0;
    for unit in units {
        let size: usize = unit.iter().map(Operation::size).sum();
        let fits = groups.last().is_some_and(|g| g.len() + unit.len() <= RECORDS && bytes + size <= BYTES);
        if let Some(group) = groups.last_mut().filter(|_| fits) {
            group.extend(unit);
            bytes += size;
        } else {
            groups.extend(unit.chunks(RECORDS).map(<[Operation]>::to_vec));
            bytes = size;
        }
    }
    groups
}

impl Operation {
    /// A record's new value.
    pub fn put(key: String, value: Vec<u8>, agent: Option<AgentId>) -> Self {
        Self { key, value: Some(value), agent }
    }

    fn size(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}

fn operation(keys: &Keys, change: &StateChange) -> Result<Operation, StoreError> {
    let (key, value, agent) = match change {
        StateChange::Framework { id } => (keys.framework_id(), serde_json::to_vec(id), None),
        StateChange::Cluster(record) => (keys.cluster(), serde_json::to_vec(record), None),
        StateChange::Agent(record) => {
            (keys.agent(&record.key), serde_json::to_vec(record), Some(record.id.clone()))
        }
        StateChange::Forget { key } => {
            return Ok(Operation { key: keys.agent(key), value: None, agent: None });
        }
    };
    match value {
        Ok(value) => Ok(Operation { key, value: Some(value), agent }),
        Err(error) => Err(StoreError::Damaged { path: shown(&key), reason: error.to_string() }),
    }
}

fn hash(value: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(&Sha256::digest(value)[..16]);
    hash
}
