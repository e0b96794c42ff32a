//! Reading everything back: page by page, as it was at one revision.

use serde::de::DeserializeOwned;

use super::keys::{Keys, shown};
use super::kv::{Kv, Pair, Range, bounded};
use super::written::Written;
use crate::core::{AgentRecord, State};
use crate::state::{SCHEMA_VERSION, StoreError};

/// Keys a page: far below the size of an answer that gRPC takes, 4 MiB.
pub(super) const PAGE: i64 = 500;

/// What is stored.
pub(super) struct Loaded {
    pub state: State,
    pub written: Written,
    pub has_schema: bool,
}

pub(super) async fn load(etcd: &impl Kv, keys: &Keys) -> Result<Loaded, StoreError> {
    let has_schema = check_schema(etcd, keys).await?;
    let mut loaded = Loaded { state: State::default(), written: Written::default(), has_schema };
    let mut from = keys.base().to_owned();
    let mut revision = 0;
    loop {
        let range = Range { from, until: Some(keys.end()), limit: PAGE, revision };
        let page = bounded(etcd, etcd.range(range)).await?;
        for pair in &page.pairs {
            loaded.take(keys, pair)?;
        }
        if revision == 0 {
            revision = page.header.revision;
        }
        match page.pairs.last().filter(|_| page.more) {
            Some(last) => from = format!("{}\0", last.key),
            None => return Ok(loaded),
        }
    }
}

/// Whether the schema's version is stored. Nothing else is looked at before it is known to be ours.
async fn check_schema(etcd: &impl Kv, keys: &Keys) -> Result<bool, StoreError> {
    let answer = bounded(etcd, etcd.range(Range::of(keys.schema()))).await?;
    let Some(pair) = answer.pairs.first() else { return Ok(false) };
    let path = shown(&keys.schema());
    match text(&pair.value).parse() {
        Ok(SCHEMA_VERSION) => Ok(true),
        Ok(found) if found > SCHEMA_VERSION => Err(StoreError::Newer { path, found }),
        _ => {
            let reason = format!("'{}' is not a version that ever was", text(&pair.value));
            Err(StoreError::Damaged { path, reason })
        }
    }
}

impl Loaded {
    fn take(&mut self, keys: &Keys, pair: &Pair) -> Result<(), StoreError> {
        let key = pair.key.clone();
        if key == keys.leader() || key == keys.schema() {
            return Ok(());
        }
        let damaged = |reason: &str| StoreError::Damaged { path: shown(&key), reason: reason.to_owned() };
        if !self.has_schema {
            return Err(damaged("there is no schema version beside it"));
        }
        let mut agent = None;
        if key == keys.framework_id() {
            self.state.framework_id = Some(decode(&key, pair)?);
        } else if key == keys.cluster() {
            self.state.cluster = decode(&key, pair)?;
        } else {
            let record: AgentRecord = decode(&key, pair)?;
            if keys.agent(&record.key) != key {
                return Err(damaged(&format!("it holds the record of {}", record.key)));
            }
            agent = Some(record.id.clone());
            self.state.agents.insert(record.key.clone(), record);
        }
        self.written.loaded(key, &pair.value, agent);
        Ok(())
    }
}

fn decode<T: DeserializeOwned>(key: &str, pair: &Pair) -> Result<T, StoreError> {
    serde_json::from_slice(&pair.value)
        .map_err(|error| StoreError::Damaged { path: shown(key), reason: error.to_string() })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
