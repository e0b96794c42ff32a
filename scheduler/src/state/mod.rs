//! The store: what survives the scheduler, and who may write it.

pub mod disk;
pub mod etcd;
mod file;
mod history;
mod report;
mod schema;
mod tenure;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub use history::Entry;
pub use report::{Condition, Report};
#[cfg(test)]
pub(crate) use tenure::Moment;
pub use tenure::Tenure;

use disk::{Disk, SystemDisk};
use etcd::Kv;

use crate::config::{Service, StateLocation};
use crate::core::{Decision, State, StateChange, Timestamp};
use crate::pulse::Pulse;
use schema::{MIGRATIONS, Schema, this_scheduler};

/// Why state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another scheduler holds the store.
    #[error(
        "{path} is locked: another scheduler with the same service.state is running here. Nothing was changed. \
         End it, or give this one another service.state"
    )]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// A newer scheduler wrote it.
    #[error(
        "{path} has schema version {found}{}; {} knows versions up to {}. Nothing was changed. Start \
         the version that wrote it, or a later one",
        by.as_ref().map(|by| format!(", written by {by}")).unwrap_or_default(),
        this_scheduler(),
        MIGRATIONS.version()
    )]
    Newer {
        /// The file, or the key in etcd.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Who wrote it, where it says so.
        by: Option<String>,
    },
    /// It is not what we wrote.
    #[error("{path} is damaged: {reason}. Nothing was changed. Put a backup in its place")]
    Damaged {
        /// The file, or the key in etcd.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// etcd did not do what it was asked, or it is not known whether it did.
    #[error("{etcd} (service.state): {reason}")]
    Unavailable {
        /// Which etcd.
        etcd: String,
        /// Why not.
        reason: String,
    },
    /// etcd takes no more writes.
    #[error(
        "{etcd} (service.state) is out of space. Nothing is lost; it goes on when etcd takes writes again: compact it, defragment \
         each member (`etcdctl defrag`), then `etcdctl alarm disarm`; or raise its --quota-backend-bytes"
    )]
    NoSpace {
        /// Which etcd.
        etcd: String,
    },
    /// We do not lead any more: nothing was written.
    #[error("this scheduler no longer leads")]
    Deposed,
    /// Another scheduler leads since we did.
    #[error(
        "another scheduler has taken over: {leader}. State is kept, tasks go on running. This one ends; started \
         again, it waits until that one ends"
    )]
    Superseded {
        /// As it calls itself.
        leader: String,
    },
}

impl StoreError {
    fn newer(path: PathBuf, schema: Schema) -> Self {
        Self::Newer { path, found: schema.version, by: schema.written_by }
    }
}

/// Where changes go. One scheduler at a time holds it.
pub trait Store: Send {
    /// Writes changes. After an error some of them may have been written, but never one of an agent that moved
    /// without the other; repeating the call is harmless. Nothing is written for no changes.
    fn commit(&mut self, changes: &[StateChange]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes what beats with each part that a commit writes: many changes take many, one after the other.
    fn beat(&mut self, _pulse: Pulse) {}

    /// Takes what was decided for the history, before what it changed is committed: nobody is told before that is done,
    /// and when this store never does it, nobody is, for it will be decided anew. Losing it is harmless: it is stored
    /// some time, with something else.
    fn note(&mut self, _at: Timestamp, _decisions: &[Decision]) {}
}

/// What a scheduler that may act starts from.
pub struct Opened<K = etcd::Client> {
    /// Where its changes go.
    pub store: AnyStore<K>,
    /// What is stored.
    pub state: State,
    /// For how long it may act.
    pub tenure: Tenure,
    /// Whether more may have been done than is stored: the store was found to hold less than it did before.
    pub doubtful: bool,
}

/// The store of a [`StateLocation`]. How it is shows in its opener's [`Report`].
pub struct AnyStore<K = etcd::Client> {
    kind: StoreKind<K>,
    report: Report,
}

enum StoreKind<K> {
    File(Box<file::FileStore>),
    Etcd(Box<etcd::EtcdStore<K>>),
}

impl<K: Kv> Store for AnyStore<K> {
    async fn commit(&mut self, changes: &[StateChange]) -> Result<(), StoreError> {
        if !changes.is_empty() {
            self.report.storing();
        }
        let committed = match &mut self.kind {
            StoreKind::File(store) => store.commit(changes).await,
            StoreKind::Etcd(store) => store.commit(changes).await,
        };
        if committed.is_ok() {
            self.report.tell();
        }
        match &committed {
            Ok(()) if changes.is_empty() => {}
            Ok(()) => self.report.stored(),
            Err(StoreError::Deposed) => self.report.not_stored(None),
            Err(error) => self.report.not_stored(Some(error)),
        }
        committed
    }

    fn beat(&mut self, pulse: Pulse) {
        match &mut self.kind {
            StoreKind::File(_) => {}
            StoreKind::Etcd(store) => store.beat(pulse),
        }
    }

    fn note(&mut self, at: Timestamp, decisions: &[Decision]) {
        self.report.note(at, decisions);
    }
}

/// Opens a store, again each time that a tenure has ended.
pub struct Opener<K = etcd::Client> {
    kind: OpenerKind<K>,
    report: Report,
}

enum OpenerKind<K> {
    File(PathBuf, Arc<dyn Disk>),
    Etcd(Box<etcd::Candidate<K>>),
}

impl Opener {
    /// For the store that `service` names. `holder` says to others who we are.
    pub fn new(service: &Service, holder: &str) -> Self {
        match &service.state {
            StateLocation::File(path) => Self::in_file(path.clone(), Arc::new(SystemDisk)),
            StateLocation::Etcd(location) => {
                let client = etcd::Client::new(location.clone());
                Self::in_etcd(etcd::Candidate::new(client, &location.prefix, &service.name, holder))
            }
        }
    }
}

impl<K: Kv> Opener<K> {
    /// For state in an etcd of any kind.
    pub fn in_etcd(candidate: etcd::Candidate<K>) -> Self {
        let report = Report::default();
        Self { kind: OpenerKind::Etcd(Box::new(candidate.reporting(report.clone()))), report }
    }

    /// For state in a file, on a disk of any kind.
    pub fn in_file(path: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { kind: OpenerKind::File(path, disk), report: Report::default() }
    }

    /// How the store is, for as long as this opener lives.
    pub fn report(&self) -> Report {
        self.report.clone()
    }

    /// Waits until we may act, and reads what is stored. `waiting` is told what it waits for.
    pub async fn open(&mut self, waiting: impl Fn(&str) + Send) -> Result<Opened<K>, StoreError> {
        let (kind, state, tenure) = match &mut self.kind {
            OpenerKind::File(path, disk) => {
                let (store, state) = file::FileStore::open(path, Arc::clone(disk), self.report.clone())?;
                (StoreKind::File(Box::new(store)), state, Tenure::endless())
            }
            OpenerKind::Etcd(candidate) => {
                let (store, state, tenure) = candidate.open(waiting).await?;
                (StoreKind::Etcd(Box::new(store)), state, tenure)
            }
        };
        self.report.opened();
        let doubtful = self.report.condition().restored.is_some();
        Ok(Opened { store: AnyStore { kind, report: self.report.clone() }, state, tenure, doubtful })
    }

    /// Lets another scheduler lead at once, as far as that is possible: for the end of the process.
    pub async fn resign(&mut self) {
        if let OpenerKind::Etcd(candidate) = &mut self.kind {
            candidate.resign().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_report_tells_of_a_commit_that_fails_until_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let report = Report::default();
        let path = dir.path().join("state.json");
        let (store, _) = file::FileStore::open(&path, Arc::new(SystemDisk), report.clone()).unwrap();
        let kind: StoreKind<etcd::Client> = StoreKind::File(Box::new(store));
        let mut store = AnyStore { kind, report: report.clone() };
        let change = [StateChange::Framework { id: "F1".into() }];
        // A directory in the new file's place: it cannot be created, also not by root.
        std::fs::create_dir(dir.path().join("state.json.new")).unwrap();
        store.note(Timestamp(7), &[Decision::AgentSeen { what: "a:1 joined".to_owned() }]);
        store.commit(&change).await.unwrap_err();
        let first = report.condition().failing.unwrap();
        assert!(first.1.contains("state.json.new") && report.condition().storing.is_none(), "{first:?}");
        store.commit(&change).await.unwrap_err();
        assert_eq!(report.history(0), [], "it is told before it is stored");
        report.answers();
        store.commit(&[]).await.unwrap();
        assert_eq!(report.condition().failing.unwrap().0, first.0);
        std::fs::remove_dir(dir.path().join("state.json.new")).unwrap();
        store.commit(&change).await.unwrap();
        assert_eq!(report.history(0).len(), 1);
        let condition = report.condition();
        assert!(condition.failing.is_none() && condition.stored.is_some() && condition.storing.is_none());
    }
}
