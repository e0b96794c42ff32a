//! The store: what survives the scheduler.

mod file;

use std::io;
use std::path::PathBuf;

use crate::config::StateLocation;
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
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It is not what we wrote.
    #[error("{path} is damaged: {reason}. Nothing was changed. Put a backup in its place")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Where changes go. One scheduler at a time holds it.
pub trait Store: Send {
    /// Writes changes, in this order, all of them or none. Nothing is written for no changes.
    fn commit(&mut self, changes: &[StateChange]) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Opens the store, and reads what it holds.
pub fn open(location: &StateLocation) -> Result<(impl Store + use<>, State), StoreError> {
    let StateLocation::File(path) = location;
    file::FileStore::open(path)
}
