//! The store: what survives the scheduler, and who may write it.

pub mod etcd;
mod file;
mod tenure;

use std::io;
use std::path::PathBuf;

pub use tenure::Tenure;

use etcd::Kv;

use crate::config::{Service, StateLocation};
use crate::core::{State, StateChange};

/// The form in which state is stored. Raised with every change that an older scheduler cannot read.
pub const SCHEMA_VERSION: u32 = 1;

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
        "{path} has schema version {found}, this scheduler knows {SCHEMA_VERSION}. Nothing was changed. Start the \
         version that wrote it, or a later one"
    )]
    Newer {
        /// The file, or the key in etcd.
        path: PathBuf,
        /// Its version.
        found: u32,
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
    #[error("{etcd}: {reason}")]
    Unavailable {
        /// Which etcd.
        etcd: String,
        /// Why not.
        reason: String,
    },
    /// etcd takes no more writes.
    #[error(
        "{etcd} is out of space. Nothing is lost; it goes on when etcd takes writes again: compact it, defragment \
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

/// Where changes go. One scheduler at a time holds it.
pub trait Store: Send {
    /// Writes changes. After an error some of them may have been written, but never one of an agent that moved
    /// without the other; repeating the call is harmless. Nothing is written for no changes.
    fn commit(&mut self, changes: &[StateChange]) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What a scheduler that may act starts from.
pub struct Opened<K = etcd::Client> {
    /// Where its changes go.
    pub store: AnyStore<K>,
    /// What is stored.
    pub state: State,
    /// For how long it may act.
    pub tenure: Tenure,
}

/// The store of a [`StateLocation`].
pub enum AnyStore<K = etcd::Client> {
    /// A file.
    File(file::FileStore),
    /// etcd.
    Etcd(Box<etcd::EtcdStore<K>>),
}

impl<K: Kv> Store for AnyStore<K> {
    async fn commit(&mut self, changes: &[StateChange]) -> Result<(), StoreError> {
        match self {
            Self::File(store) => store.commit(changes).await,
            Self::Etcd(store) => store.commit(changes).await,
        }
    }
}

/// Opens a store, again each time that a tenure has ended.
pub struct Opener<K = etcd::Client>(Kind<K>);

enum Kind<K> {
    File(PathBuf),
    Etcd(Box<etcd::Candidate<K>>),
}

impl Opener {
    /// For the store that `service` names. `holder` says to others who we are.
    pub fn new(service: &Service, holder: &str) -> Self {
        Self(match &service.state {
            StateLocation::File(path) => Kind::File(path.clone()),
            StateLocation::Etcd(location) => {
                let client = etcd::Client::new(location.clone());
                Kind::Etcd(Box::new(etcd::Candidate::new(client, &location.prefix, &service.name, holder)))
            }
        })
    }
}

impl<K: Kv> Opener<K> {
    /// For state in an etcd of any kind.
    pub fn in_etcd(candidate: etcd::Candidate<K>) -> Self {
        Self(Kind::Etcd(Box::new(candidate)))
    }

    /// Waits until we may act, and reads what is stored. `waiting` is told what it waits for.
    pub async fn open(&mut self, waiting: impl Fn(&str) + Send) -> Result<Opened<K>, StoreError> {
        match &mut self.0 {
            Kind::File(path) => {
                let (store, state) = file::FileStore::open(path)?;
                Ok(Opened { store: AnyStore::File(store), state, tenure: Tenure::endless() })
            }
            Kind::Etcd(candidate) => {
                let (store, state, tenure) = candidate.open(waiting).await?;
                Ok(Opened { store: AnyStore::Etcd(Box::new(store)), state, tenure })
            }
        }
    }

    /// Lets another scheduler lead at once, as far as that is possible: for the end of the process.
    pub async fn resign(&mut self) {
        if let Kind::Etcd(candidate) = &mut self.0 {
            candidate.resign().await;
        }
    }
}
