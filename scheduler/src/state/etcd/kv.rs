//! What the store asks of etcd, and nothing more: below it is an etcd, or in a simulation something that behaves
//! like one.

use std::time::Duration;

use tokio::time::timeout;

use crate::state::StoreError;

/// How long one request may take: well above what a slow etcd needs.
const REQUEST: Duration = Duration::from_secs(5);

/// An etcd. Clones talk to the same one. A request that does not end is given up by who asks: an implementation
/// needs no limit of its own.
pub trait Kv: Clone + Send + Sync + 'static {
    /// Which etcd it is, for errors: without a password.
    fn name(&self) -> String;

    /// A transaction.
    fn txn(&self, txn: Txn) -> impl Future<Output = Result<TxnAnswer, StoreError>> + Send;

    /// Keys in their order, and their values.
    fn range(&self, range: Range) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// A new lease of so many whole seconds: its ID.
    fn grant(&self, lasting: Duration) -> impl Future<Output = Result<i64, StoreError>> + Send;

    /// Renews a lease: whether there is still one.
    fn keep_alive(&self, lease: i64) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Ends a lease, and deletes its keys. One that is gone is no error.
    fn revoke(&self, lease: i64) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Why it does not answer, as far as that can be found out.
    fn explain(&self) -> impl Future<Output = Option<String>> + Send {
        async { None }
    }
}

/// All of it happens, or nothing of it.
#[derive(Debug, Clone, Default)]
pub struct Txn {
    /// All of them must hold.
    pub when: Vec<Compare>,
    /// What is then written: a key at most once.
    pub then: Vec<Write>,
    /// The key that is read when they do not hold.
    pub or_read: Option<String>,
}

/// A condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// The key was created at this revision; 0: it does not exist.
    Created(String, i64),
    /// The key was last written at this revision; 0: it does not exist.
    Modified(String, i64),
}

/// What a transaction writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// A key's new value.
    Put {
        /// The key.
        key: String,
        /// Its value.
        value: Vec<u8>,
        /// The lease that it goes with.
        lease: Option<i64>,
    },
    /// A key that is no more; one that never was is no error.
    Delete {
        /// The key.
        key: String,
    },
}

/// What every answer begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The cluster that answered.
    pub cluster: u64,
    /// Of the whole etcd: every transaction that writes raises it by one. In a transaction's answer, the revision of
    /// what it wrote.
    pub revision: i64,
}

/// What became of a transaction.
#[derive(Debug, Clone)]
pub struct TxnAnswer {
    /// Of what revision.
    pub header: Header,
    /// Whether its conditions held.
    pub succeeded: bool,
    /// They did not: what the key held that was to be read then.
    pub read: Option<Pair>,
}

/// A question for keys.
#[derive(Debug, Clone)]
pub struct Range {
    /// The first key.
    pub from: String,
    /// The first key that is no longer meant; none: only `from`.
    pub until: Option<String>,
    /// Not more than this at once; 0: all.
    pub limit: i64,
    /// As it was at this revision; 0: as it is.
    pub revision: i64,
}

/// Some of the keys that were asked for.
#[derive(Debug, Clone)]
pub struct Page {
    /// Of what revision etcd is, not the one that was asked for.
    pub header: Header,
    /// In the order of their keys.
    pub pairs: Vec<Pair>,
    /// Whether there are more after these.
    pub more: bool,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// The revision that it was created at.
    pub created: i64,
    /// The revision that it was last written at.
    pub modified: i64,
}

impl Range {
    /// One key, as it is.
    pub fn of(key: String) -> Self {
        Self { from: key, until: None, limit: 0, revision: 0 }
    }
}

/// One request to `kv`, for as long as one may take.
pub(super) async fn bounded<T>(
    kv: &impl Kv,
    request: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    within(kv, REQUEST, request).await
}

/// One request to `kv`, for as long as this one may take.
pub(super) async fn within<T>(
    kv: &impl Kv,
    limit: Duration,
    request: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(limit, request).await.unwrap_or_else(|_| {
        Err(StoreError::Unavailable { etcd: kv.name(), reason: format!("no answer within {limit:?}") })
    })
}
