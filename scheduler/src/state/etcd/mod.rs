//! State in etcd, with one leader among the schedulers that share it.
//!
//! Below `<prefix>/<service.name>/`: `schema`, `framework-id`, `cluster`, `agents/<host:port>`, each a JSON value,
//! and `leader`, which exists for as long as its holder's lease. Every transaction compares `leader` with what
//! it was after our last one, and writes it again: one of another leader's finds it changed, and so does one of
//! ours that was delayed on its way and comes after a later one.

mod client;
mod election;
mod keys;
mod load;
#[cfg(test)]
mod tests;
mod written;

use std::sync::Arc;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnOpResponse};
use tokio::task::JoinSet;

pub use election::Candidate;

use super::tenure::Renewal;
use super::{SCHEMA_VERSION, Store, StoreError, Tenure};
use crate::core::StateChange;
use client::Etcd;
use keys::Keys;
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
pub struct EtcdStore {
    etcd: Etcd,
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

impl EtcdStore {
    /// Writes one group, all of it or nothing.
    async fn write(&mut self, group: Vec<Operation>) -> Result<(), StoreError> {
        self.written.begin(&group);
        loop {
            if !self.tenure.holds() {
                return Err(StoreError::Deposed);
            }
            let (mut etcd, txn) = (self.etcd.clone(), self.transaction(&group));
            let answer = self.etcd.bounded(etcd.client.txn(txn)).await?;
            if answer.succeeded() {
                self.seat.modified = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
                self.has_schema = true;
                self.written.finish(group);
                return Ok(());
            }
            let found = answer.op_responses().into_iter().find_map(|response| match response {
                TxnOpResponse::Get(get) => {
                    get.kvs().first().map(|pair| (pair.create_revision(), pair.mod_revision()))
                }
                _ => None,
            });
            match found {
                // An attempt of ours whose answer was lost. What it wrote is written again.
                Some((created, modified)) if created == self.seat.created => self.seat.modified = modified,
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
        let guards = [
            Compare::create_revision(leader.clone(), CompareOp::Equal, self.seat.created),
            Compare::mod_revision(leader.clone(), CompareOp::Equal, self.seat.modified),
        ];
        let keep = Some(PutOptions::new().with_lease(self.seat.lease));
        let mut operations = vec![TxnOp::put(leader.clone(), self.seat.value.clone(), keep)];
        if !self.has_schema {
            operations.push(TxnOp::put(self.keys.schema(), SCHEMA_VERSION.to_string(), None));
        }
        operations.extend(group.iter().map(|operation| match &operation.value {
            Some(value) => TxnOp::put(operation.key.clone(), value.clone(), None),
            None => TxnOp::delete(operation.key.clone(), None),
        }));
        Txn::new().when(guards).and_then(operations).or_else([TxnOp::get(leader, None)])
    }
}

impl Store for EtcdStore {
    async fn commit(&mut self, changes: &[StateChange]) -> Result<(), StoreError> {
        for group in self.written.groups(&self.keys, changes)? {
            self.write(group).await?;
        }
        Ok(())
    }
}
