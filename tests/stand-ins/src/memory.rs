//! A datastore in memory that detects conflicts as etcd does, for tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::datastore::{DatastoreError, Entry, Expect, Store, Write};

/// Keys with values and revisions; each access yields first, so that tasks interleave.
#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    revision: i64,
    conflicts: usize,
    entries: BTreeMap<String, (String, i64)>,
}

impl Memory {
    /// How many transactions were refused.
    pub fn conflicts(&self) -> usize {
        self.with(|state| state.conflicts)
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store for Memory {
    async fn get(&self, key: &str) -> Result<Option<Entry>, DatastoreError> {
        tokio::task::yield_now().await;
        Ok(self.with(|state| {
            state.entries.get(key).map(|(value, revision)| Entry {
                key: key.to_owned(),
                value: value.clone(),
                revision: *revision,
            })
        }))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, DatastoreError> {
        tokio::task::yield_now().await;
        Ok(self.with(|state| {
            state
                .entries
                .range(prefix.to_owned()..)
                .take_while(|(key, _)| key.starts_with(prefix))
                .map(|(key, (value, revision))| Entry {
                    key: key.clone(),
                    value: value.clone(),
                    revision: *revision,
                })
                .collect()
        }))
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<bool, DatastoreError> {
        tokio::task::yield_now().await;
        Ok(self.with(|state| {
            let holds = writes.iter().all(|write| {
                let current = state.entries.get(&write.key).map(|(_, revision)| *revision);
                match write.expect {
                    Expect::Absent => current.is_none(),
                    Expect::Revision(revision) => current == Some(revision),
                    Expect::Any => true,
                }
            });
            if !holds {
                state.conflicts += 1;
                return false;
            }
            state.revision += 1;
            for Write { key, value, .. } in writes {
                match value {
                    Some(value) => state.entries.insert(key, (value, state.revision)),
                    None => state.entries.remove(&key),
                };
            }
            true
        }))
    }
}
