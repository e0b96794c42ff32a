//! Reading everything back: page by page, as it was at one revision.

use futures::future::OptionFuture;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::keys::{Keys, shown};
use super::kv::{Kv, Pair, Range, bounded};
use super::written::{Operation, Written};
use crate::core::{AgentRecord, State};
use crate::state::StoreError;
use crate::state::history::{Entry, decode as history};
use crate::state::schema::{Migrations, Part, Schema};

/// Keys a page: far below the size of an answer that gRPC takes, 4 MiB.
pub(super) const PAGE: i64 = 500;

/// What is stored.
pub(super) struct Loaded {
    pub state: State,
    pub written: Written,
    /// What is to be written of the schema with the next change; none when it is today's.
    pub schema: Option<Schema>,
    /// Records of an older form, in today's; none when the schema is not older.
    pub migrated: Option<Vec<Operation>>,
    pub history: Vec<Entry>,
}

/// How what is read is understood.
struct Reading<'a> {
    keys: &'a Keys,
    migrations: Migrations,
    /// The version that is stored.
    version: Option<u32>,
}

pub(super) async fn load(etcd: &impl Kv, keys: &Keys, migrations: Migrations) -> Result<Loaded, StoreError> {
    let version = version(etcd, keys, migrations).await?;
    let older = version.is_some_and(|version| version < migrations.version());
    let today = version == Some(migrations.version());
    let mut loaded = Loaded {
        state: State::default(),
        written: Written::default(),
        schema: (!today).then(|| Schema::today(migrations)),
        migrated: older.then(Vec::new),
        history: Vec::new(),
    };
    let reading = Reading { keys, migrations, version };
    let read = |from: String, revision| {
        bounded(etcd, etcd.range(Range { from, until: Some(keys.end()), limit: PAGE, revision }))
    };
    let mut page = read(keys.base().to_owned(), 0).await?;
    let revision = page.header.revision;
    loop {
        let from = page.pairs.last().filter(|_| page.more).map(|last| format!("{}\0", last.key));
        // etcd finds the next page while this one is understood.
        let next = OptionFuture::from(from.map(|from| read(from, revision)));
        let take = async { page.pairs.iter().try_for_each(|pair| loaded.take(&reading, pair)) };
        let (next, taken) = futures::join!(next, take);
        taken?;
        match next.transpose()? {
            Some(next) => page = next,
            None => return Ok(loaded),
        }
    }
}

/// The version that is stored. Nothing else is looked at before it is known to be one of ours.
async fn version(etcd: &impl Kv, keys: &Keys, migrations: Migrations) -> Result<Option<u32>, StoreError> {
    let answer = bounded(etcd, etcd.range(Range::of(keys.schema()))).await?;
    let Some(pair) = answer.pairs.first() else { return Ok(None) };
    let path = shown(&keys.schema());
    match Schema::parse(&pair.value) {
        Some(schema) if schema.version > migrations.version() => Err(StoreError::newer(path, schema)),
        Some(schema) => Ok(Some(schema.version)),
        None => {
            let value = String::from_utf8_lossy(&pair.value);
            Err(StoreError::Damaged { path, reason: format!("'{value}' is not a version that ever was") })
        }
    }
}

impl Loaded {
    fn take(&mut self, reading: &Reading<'_>, pair: &Pair) -> Result<(), StoreError> {
        let (keys, key) = (reading.keys, &pair.key);
        if *key == keys.leader() || *key == keys.schema() {
            return Ok(());
        }
        if key.starts_with(&keys.histories()) {
            self.history.extend(history(&pair.value));
            return Ok(());
        }
        let damaged = |reason: &str| StoreError::Damaged { path: shown(key), reason: reason.to_owned() };
        let Some(version) = reading.version else {
            return Err(damaged("there is no schema version beside it"));
        };
        let part = match key {
            _ if *key == keys.framework_id() => Part::FrameworkId,
            _ if *key == keys.cluster() => Part::Cluster,
            _ => Part::Agent,
        };
        let mut value = pair.value.clone();
        if self.migrated.is_some() {
            let mut record: Value = decode(key, &value)?;
            let before = record.clone();
            reading.migrations.apply(version, part, &mut record);
            if record != before {
                value = serde_json::to_vec(&record).map_err(|error| damaged(&error.to_string()))?;
            }
        }
        let mut agent = None;
        match part {
            Part::FrameworkId => self.state.framework_id = Some(decode(key, &value)?),
            Part::Cluster => self.state.cluster = decode(key, &value)?,
            Part::Agent => {
                let record: AgentRecord = decode(key, &value)?;
                if keys.agent(&record.key) != *key {
                    return Err(damaged(&format!("it holds the record of {}", record.key)));
                }
                agent = Some(record.id.clone());
                self.state.agents.insert(record.key.clone(), record.into());
            }
        }
        self.written.loaded(key.clone(), &pair.value, agent.clone());
        if let Some(migrated) = self.migrated.as_mut().filter(|_| value != pair.value) {
            migrated.push(Operation::put(key.clone(), value, agent));
        }
        Ok(())
    }
}

fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value)
        .map_err(|error| StoreError::Damaged { path: shown(key), reason: error.to_string() })
}
