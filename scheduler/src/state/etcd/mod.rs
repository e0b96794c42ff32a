//! State in etcd, with one leader among the schedulers that share it.
//!
//! Below `<prefix>/<service.name>/`: `schema`, `framework-id`, `cluster`, `agents/<host:port>`, `history/<n>`, each a
//! JSON value, and `leader`, which exists for as long as its holder's lease. Every transaction compares `leader` with
//! what it was after our last one, and writes it again: one of another leader's finds it changed, and so does one of
//! ours that was delayed on its way and comes after a later one.

mod client;
mod election;
mod keys;
mod kv;
mod load;
mod look;
mod past;
#[cfg(test)]
mod tests;
mod written;

use std::sync::Arc;

use tokio::task::JoinSet;
use tracing::{error, warn};

pub use client::Client;
pub use election::Candidate;
pub use kv::{Compare, Header, Kv, Page, Pair, Range, Txn, TxnAnswer, Write};

use super::history::Chunk;
use super::report::Report;
use super::schema::Schema;
use super::tenure::Renewal;
use super::{Store, StoreError, Tenure};
use crate::core::StateChange;
use crate::pulse::Pulse;
use keys::Keys;
use kv::bounded;
use past::Past;
use written::{Operation, Written};

/// Values of the history in one transaction.
const CHUNKS: usize = 4;

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
    /// What is to be written of the schema, with the next change; none when it is stored.
    schema: Option<Schema>,
    tenure: Tenure,
    office: Office,
    /// Of the loop that commits.
    pulse: Pulse,
    /// Renews the lease until it is dropped.
    keeper: JoinSet<()>,
}

/// What the store and the renewal of its lease share.
#[derive(Debug, Clone)]
struct Office {
    renewal: Arc<Renewal>,
    past: Past,
    report: Report,
}

impl Office {
    /// Ends it: etcd holds less than it did. What is stored then is loaded by who leads next, and the master asked
    /// about it.
    fn restored(&self, etcd: &impl Kv, what: String) {
        error!(
            "{}: {what}: it was restored from an older snapshot. Nothing more is done by what was known until now: \
             its state is loaded again, and the master is asked what runs",
            etcd.name()
        );
        self.report.restored(what);
        self.renewal.end();
    }
}

impl<K: Kv> EtcdStore<K> {
    /// Writes one group, all of it or nothing. With the `last` one of a commit it is told what was decided, so that both
    /// are stored or neither.
    async fn write(&mut self, group: Vec<Operation>, last: bool) -> Result<(), StoreError> {
        self.written.begin(&group);
        let history = self.office.report.chunks(CHUNKS, last);
        loop {
            if !self.tenure.holds() {
                return Err(StoreError::Deposed);
            }
            let before = self.office.past.seen();
            let txn = self.transaction(&group, &history);
            let answer = bounded(&self.etcd, self.etcd.txn(txn)).await?;
            let found = answer.read.filter(|found| found.created == self.seat.created);
            let checked = match &found {
                Some(found) => self.office.past.check_seat(before, answer.header, found.modified),
                None => self.office.past.check(before, answer.header),
            };
            if let Err(what) = checked {
                self.office.restored(&self.etcd, what);
                self.keeper.abort_all();
                return Err(StoreError::Deposed);
            }
            if answer.succeeded {
                self.wrote(answer.header.revision);
                self.schema = None;
                self.written.finish(group);
                self.office.report.tried(&history, true);
                return Ok(());
            }
            // An attempt of ours whose answer was lost. What it wrote is written again.
            let Some(found) = found else {
                self.office.renewal.end();
                self.keeper.abort_all();
                return Err(StoreError::Deposed);
            };
            self.wrote(found.modified);
        }
    }

    fn wrote(&mut self, revision: i64) {
        self.seat.modified = revision;
        self.office.past.wrote(revision);
    }

    fn transaction(&self, group: &[Operation], history: &[Chunk]) -> Txn {
        let leader = self.keys.leader();
        let put = |key: String, value: &[u8], lease| Write::Put { key, value: value.to_vec(), lease };
        let mut then = vec![put(leader.clone(), self.seat.value.as_bytes(), Some(self.seat.lease))];
        // A number and a text: they can always be encoded.
        if let Some(schema) = self.schema.as_ref().and_then(|schema| serde_json::to_vec(schema).ok()) {
            then.push(put(self.keys.schema(), &schema, None));
        }
        then.extend(group.iter().map(|operation| match &operation.value {
            Some(value) => put(operation.key.clone(), value, None),
            None => Write::Delete { key: operation.key.clone() },
        }));
        then.extend(history.iter().map(|chunk| put(self.keys.history(chunk.place), &chunk.value, None)));
        let when = vec![
            Compare::Created(leader.clone(), self.seat.created),
            Compare::Modified(leader.clone(), self.seat.modified),
        ];
        Txn { when, then, or_read: Some(leader) }
    }

    /// Writes records in their new form, and when all are, the number of that form.
    async fn migrate(&mut self, records: Vec<Operation>) -> Result<(), StoreError> {
        let schema = self.schema.take();
        for group in Written::split(records) {
            self.write(group, false).await?;
        }
        self.schema = schema;
        self.write(Vec::new(), false).await
    }
}

impl<K: Kv> Store for EtcdStore<K> {
    fn beat(&mut self, pulse: Pulse) {
        self.pulse = pulse;
    }

    async fn commit(&mut self, changes: &[StateChange]) -> Result<(), StoreError> {
        let groups = self.written.groups(&self.keys, changes)?;
        if groups.is_empty() && self.office.report.is_late() {
            // History alone: it is not worth an effect's wait.
            return match self.write(Vec::new(), true).await {
                Err(StoreError::Deposed) => Err(StoreError::Deposed),
                Err(error) => {
                    warn!("cannot store the history: {error}");
                    self.office.report.tried(&[], false);
                    Ok(())
                }
                Ok(()) => Ok(()),
            };
        }
        let last = groups.len().saturating_sub(1);
        for (index, group) in groups.into_iter().enumerate() {
            self.write(group, index == last).await?;
            self.pulse.beat();
        }
        Ok(())
    }
}
