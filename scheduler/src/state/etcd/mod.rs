//! State in etcd, with one leader among the schedulers that share it.
//!
//! Below `<prefix>/<service.name>/`: `schema`, `framework-id`, `cluster`, `agents/<host:port>`, each a JSON value,
//! and `leader`, which exists for as long as its holder's lease. Every transaction compares `leader` with what
//! it was after our last one, and writes it again: one of another leader's finds it changed, and so does one of
//! ours that was delayed on its way and comes after a later one.

mod client;
mod election;
mod keys;
mod kv;
mod load;
#[cfg(test)]
mod tests;
mod written;

use std::sync::Arc;

use tokio::task::JoinSet;

pub use client::Client;
pub use election::Candidate;
pub use kv::{Compare, Header, Kv, Page, Pair, Range, Txn, TxnAnswer, Write};

use super::tenure::Renewal;
use super::{SCHEMA_VERSION, Store, StoreError, Tenure};
use crate::core::StateChange;
use keys::Keys;
use kv::bounded;
use written::{Operation, Written};

/// The leadership key as our last write left it.
#[derive(Debug, Clone)]
struct Seat {
    lease: i64,
    value: String,
    /// Tells our leadership from every other.
    created: i64,
    modified: i64,
}

/// See [`super::Store`].
pub struct EtcdStore<K> {
    etcd: K,
    keys: Keys,
    seat: Seat,
    written: Written,
    /// Whether the schema's version is stored; it is written with the first change.
    has_schema: bool,
    tenure: Tenure,
    renewal: Arc<Renewal>,
    /// Renews the lease until it is dropped.
    keeper: JoinSet<()>,
}

impl<K: Kv> EtcdStore<K> {
    /// Writes one group, all of it or nothing.
    async fn write(&mut self, group: Vec<Operation>) -> Result<(), StoreError> {
        self.written.begin(&group);
        loop {
            if !self.tenure.holds() {
                return Err(StoreError::Deposed);
            }
            let answer = bounded(&self.etcd, self.etcd.txn(self.transaction(&group))).await?;
            if answer.succeeded {
                self.seat.modified = answer.header.revision;
                self.has_schema = true;
                self.written.finish(group);
                return Ok(());
            }
            match answer.read {
                // An attempt of ours whose answer was lost. What it wrote is written again.
                Some(found) if found.created == self.seat.created => self.seat.modified = found.modified,
                _ => {
                    self.renewal.end();
                    self.keeper.abort_all();
                    return Err(StoreError::Deposed);
                }
            }
        }
    }

    fn transaction(&self, group: &[Operation]) -> Txn {
        let leader = self.keys.leader();
        let put = |key: String, value: &[u8], lease| Write::Put { key, value: value.to_vec(), lease };
        let mut then = vec![put(leader.clone(), self.seat.value.as_bytes(), Some(self.seat.lease))];
        if !self.has_schema {
            then.push(put(self.keys.schema(), SCHEMA_VERSION.to_string().as_bytes(), None));
        }
        then.extend(group.iter().map(|operation| match &operation.value {
            Some(value) => put(operation.key.clone(), value, None),
            None => Write::Delete { key: operation.key.clone() },
        }));
        let when = vec![
            Compare::Created(leader.clone(), self.seat.created),
            Compare::Modified(leader.clone(), self.seat.modified),
        ];
        Txn { when, then, or_read: Some(leader) }
    }
}

impl<K: Kv> Store for EtcdStore<K> {
    async fn commit(&mut self, changes: &[StateChange]) -> Result<(), StoreError> {
        for group in self.written.groups(&self.keys, changes)? {
            self.write(group).await?;
        }
        Ok(())
    }
}
