//! An etcd in memory: keys with their revisions, leases, a history to read from, and what goes wrong with them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use calico_scheduler::state::StoreError;
use calico_scheduler::state::etcd::{Compare, Header, Kv, Page, Pair, Range, Txn, TxnAnswer, Write};

/// So many revisions can be read; older ones are compacted.
const HISTORY: usize = 64;

/// What is asked of it.
#[derive(Debug)]
pub enum Request {
    Txn(Txn),
    Range(Range),
    Grant(Duration),
    KeepAlive(i64),
    Revoke(i64),
}

/// What it answers.
#[derive(Debug)]
pub enum Answer {
    Txn(TxnAnswer),
    Page(Page),
    Lease(i64),
    Alive(bool),
    Revoked,
}

#[derive(Debug, Clone)]
struct Entry {
    value: Arc<[u8]>,
    created: i64,
    modified: i64,
    lease: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    lasting: Duration,
    ends: Duration,
}

type Keys = BTreeMap<String, Entry>;

/// The etcd. A clone is a snapshot.
#[derive(Debug, Clone)]
pub struct Etcd {
    cluster: u64,
    revision: i64,
    keys: Arc<Keys>,
    history: VecDeque<(i64, Arc<Keys>)>,
    leases: BTreeMap<i64, Lease>,
    granted: i64,
    /// It is out of space, and takes no writes.
    pub full: bool,
}

impl Etcd {
    pub fn new() -> Self {
        Self {
            cluster: 1,
            revision: 1,
            keys: Arc::default(),
            history: VecDeque::new(),
            leases: BTreeMap::new(),
            granted: 0,
            full: false,
        }
    }

    /// The keys that begin so, and their values.
    pub fn below(&self, prefix: &str) -> impl Iterator<Item = (&str, &[u8])> {
        let from = self.keys.range(prefix.to_owned()..);
        from.take_while(move |(key, _)| key.starts_with(prefix)).map(|(key, entry)| (&**key, &*entry.value))
    }

    /// Lets leases end whose time has come.
    pub fn advance(&mut self, now: Duration) {
        while let Some(id) = self.leases.iter().find(|(_, lease)| lease.ends <= now).map(|(id, _)| *id) {
            self.end(id);
        }
    }

    /// When the next lease ends.
    pub fn next_time(&self) -> Option<Duration> {
        self.leases.values().map(|lease| lease.ends).min()
    }

    /// A new leader of etcd's own: all leases have their whole time again.
    pub fn elect(&mut self, now: Duration) {
        for lease in self.leases.values_mut() {
            lease.ends = now + lease.lasting;
        }
    }

    /// Becomes what it was when `snapshot` was taken: a new cluster, with another ID.
    pub fn restore(&mut self, snapshot: Self, now: Duration) {
        *self = Self { cluster: self.cluster + 1, granted: self.granted, full: self.full, ..snapshot };
        self.history.clear();
        self.elect(now);
    }

    fn end(&mut self, lease: i64) -> bool {
        let ended = self.leases.remove(&lease).is_some();
        let theirs = self.keys.iter().filter(|(_, entry)| entry.lease == Some(lease));
        let theirs: Vec<String> = theirs.map(|(key, _)| key.clone()).collect();
        if !theirs.is_empty() {
            self.write(|keys, _| theirs.iter().for_each(|key| drop(keys.remove(key))));
        }
        ended
    }

    fn write(&mut self, write: impl FnOnce(&mut Keys, i64)) {
        self.history.push_back((self.revision, Arc::clone(&self.keys)));
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        self.revision += 1;
        write(Arc::make_mut(&mut self.keys), self.revision);
    }

    fn header(&self) -> Header {
        Header { cluster: self.cluster, revision: self.revision }
    }

    /// Carries out a request.
    pub fn handle(&mut self, now: Duration, request: Request) -> Result<Answer, StoreError> {
        self.advance(now);
        let full = || StoreError::NoSpace { etcd: "the simulated etcd".to_owned() };
        match request {
            Request::Txn(txn) => self.txn(txn).map(Answer::Txn),
            Request::Range(range) => self.range(&range).map(Answer::Page),
            Request::Grant(_) if self.full => Err(full()),
            Request::Grant(lasting) => {
                self.granted += 1;
                self.leases.insert(self.granted, Lease { lasting, ends: now + lasting });
                Ok(Answer::Lease(self.granted))
            }
            Request::KeepAlive(id) => {
                let lease = self.leases.get_mut(&id);
                Ok(Answer::Alive(lease.map(|lease| lease.ends = now + lease.lasting).is_some()))
            }
            Request::Revoke(id) => {
                self.end(id);
                Ok(Answer::Revoked)
            }
        }
    }

    fn txn(&mut self, txn: Txn) -> Result<TxnAnswer, StoreError> {
        if self.full && txn.then.iter().any(|write| matches!(write, Write::Put { .. })) {
            return Err(StoreError::NoSpace { etcd: "the simulated etcd".to_owned() });
        }
        let entry = |key: &String| self.keys.get(key);
        let holds = txn.when.iter().all(|compare| match compare {
            Compare::Created(key, revision) => entry(key).map_or(0, |entry| entry.created) == *revision,
            Compare::Modified(key, revision) => entry(key).map_or(0, |entry| entry.modified) == *revision,
        });
        if !holds {
            let read = txn.or_read.as_ref().and_then(|key| Some(pair(key, entry(key)?)));
            return Ok(TxnAnswer { header: self.header(), succeeded: false, read });
        }
        let gone = txn.then.iter().any(
            |write| matches!(write, Write::Put { lease: Some(lease), .. } if !self.leases.contains_key(lease)),
        );
        if gone {
            return Err(away("etcdserver: requested lease not found"));
        }
        let mut touched = std::collections::BTreeSet::new();
        self.write(|keys, revision| {
            for write in txn.then {
                let (Write::Put { key, .. } | Write::Delete { key }) = &write;
                assert!(
                    touched.insert(key.clone()),
                    "{key} is written twice in a transaction: etcd refuses that"
                );
                match write {
                    Write::Put { key, value, lease } => {
                        let created = keys.get(&key).map_or(revision, |entry| entry.created);
                        keys.insert(key, Entry { value: value.into(), created, modified: revision, lease });
                    }
                    Write::Delete { key } => drop(keys.remove(&key)),
                }
            }
        });
        assert!(touched.len() <= 128, "etcd takes 128 operations in a transaction, not {}", touched.len());
        Ok(TxnAnswer { header: self.header(), succeeded: true, read: None })
    }

    fn range(&self, range: &Range) -> Result<Page, StoreError> {
        let keys = match range.revision {
            0 => &self.keys,
            revision if revision == self.revision => &self.keys,
            revision => {
                let kept = self.history.iter().find(|(kept, _)| *kept == revision);
                let compacted = || away("etcdserver: mvcc: required revision has been compacted");
                &kept.ok_or_else(compacted)?.1
            }
        };
        let limit = usize::try_from(range.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let wanted = |key: &str| match &range.until {
            Some(until) => key < until.as_str(),
            None => key == range.from,
        };
        let mut found = keys.range(range.from.clone()..).take_while(|(key, _)| wanted(key));
        let pairs = found.by_ref().take(limit).map(|(key, entry)| pair(key, entry)).collect();
        Ok(Page { header: self.header(), pairs, more: found.next().is_some() })
    }
}

fn pair(key: &str, entry: &Entry) -> Pair {
    let Entry { value, created, modified, .. } = entry;
    Pair { key: key.to_owned(), value: value.to_vec(), created: *created, modified: *modified }
}

/// It did not do what it was asked.
pub fn away(reason: &str) -> StoreError {
    StoreError::Unavailable { etcd: "the simulated etcd".to_owned(), reason: reason.to_owned() }
}

/// A way to it.
pub trait Ask: Clone + Send + Sync + 'static {
    /// What it answers to a request.
    fn ask(&self, request: Request) -> impl Future<Output = Result<Answer, StoreError>> + Send;
}

/// What the scheduler has of it.
#[derive(Debug, Clone)]
pub struct Client<A>(pub A);

impl<A: Ask> Kv for Client<A> {
    fn name(&self) -> String {
        "the simulated etcd".to_owned()
    }

    async fn txn(&self, txn: Txn) -> Result<TxnAnswer, StoreError> {
        match self.0.ask(Request::Txn(txn)).await? {
            Answer::Txn(answer) => Ok(answer),
            other => panic!("a transaction was answered with {other:?}"),
        }
    }

    async fn range(&self, range: Range) -> Result<Page, StoreError> {
        match self.0.ask(Request::Range(range)).await? {
            Answer::Page(page) => Ok(page),
            other => panic!("a range was answered with {other:?}"),
        }
    }

    async fn grant(&self, lasting: Duration) -> Result<i64, StoreError> {
        match self.0.ask(Request::Grant(lasting)).await? {
            Answer::Lease(lease) => Ok(lease),
            other => panic!("a lease was answered with {other:?}"),
        }
    }

    async fn keep_alive(&self, lease: i64) -> Result<bool, StoreError> {
        match self.0.ask(Request::KeepAlive(lease)).await? {
            Answer::Alive(alive) => Ok(alive),
            other => panic!("a renewal was answered with {other:?}"),
        }
    }

    async fn revoke(&self, lease: i64) -> Result<(), StoreError> {
        self.0.ask(Request::Revoke(lease)).await.map(drop)
    }
}
