//! State in one JSON file, for a scheduler that always runs on the same machine.
//!
//! A commit writes the whole state to a new file, syncs it, and renames it over the old one: after a crash the
//! file is as it was before the commit or after it. The lock is a file beside it, held as long as the process
//! lives.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::{info, warn};

use super::disk::{Disk, Lock};
use super::history::decode as history;
use super::report::Report;
use super::schema::{MIGRATIONS, Migrations, Part, Schema};
use super::{Store, StoreError};
use crate::core::{State, StateChange};

/// See [`super::Store`].
pub struct FileStore {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    state: State,
    report: Report,
    _lock: Lock,
}

#[derive(Serialize, Deserialize)]
struct Stored<S> {
    schema_version: u32,
    /// Which scheduler gave it this version; version 1 did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    written_by: Option<String>,
    state: S,
}

#[derive(Deserialize)]
struct Header {
    schema_version: u32,
    #[serde(default)]
    written_by: Option<String>,
}

impl FileStore {
    /// Locks the file, and reads it. One of an older form is rewritten.
    pub fn open(path: &Path, disk: Arc<dyn Disk>, report: Report) -> Result<(Self, State), StoreError> {
        Self::open_as(path, disk, report, MIGRATIONS)
    }

    fn open_as(
        path: &Path,
        disk: Arc<dyn Disk>,
        report: Report,
        migrations: Migrations,
    ) -> Result<(Self, State), StoreError> {
        let directory = directory(path);
        disk.make_directory(directory).map_err(failed("cannot make", directory))?;
        let lock = lock(&*disk, &path.with_added_extension("lock"))?;
        // Whoever wrote it may have died before that was done, and what follows relies on what is read.
        disk.sync_directory(directory).map_err(failed("cannot sync", directory))?;
        let (state, older) = match disk.read(path) {
            Ok(bytes) => decode(path, &bytes, migrations)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (State::default(), false),
            Err(error) => return Err(failed("cannot read", path)(error)),
        };
        if let Ok(stored) = disk.read(&path.with_added_extension("history")) {
            report.load_history(history(&stored));
        }
        let store = Self { path: path.to_owned(), disk, state, report, _lock: lock };
        if older {
            info!(path = %path.display(), "what is stored is of an older form, and is rewritten");
            store.write_as(&store.state, migrations)?;
        }
        let state = store.state.clone();
        Ok((store, state))
    }

    /// Replaces the file by one that holds `state`.
    fn write(&self, state: &State) -> Result<(), StoreError> {
        self.write_as(state, MIGRATIONS)
    }

    fn write_as(&self, state: &State, migrations: Migrations) -> Result<(), StoreError> {
        let Schema { version: schema_version, written_by } = Schema::today(migrations);
        let text = serde_json::to_vec_pretty(&Stored { schema_version, written_by, state })
            .map_err(|error| failed("cannot encode", &self.path)(error.into()))?;
        let new = self.path.with_added_extension("new");
        let mut file = self.disk.create(&new).map_err(failed("cannot create", &new))?;
        file.write_all(&text).and_then(|()| file.sync()).map_err(failed("cannot write", &new))?;
        self.disk.rename(&new, &self.path).map_err(failed("cannot replace", &self.path))?;
        let directory = directory(&self.path);
        self.disk.sync_directory(directory).map_err(failed("cannot sync", directory))
    }

    /// Writes the history beside the state: not synced, for losing it is harmless.
    fn write_history(&self) {
        let path = self.path.with_added_extension("history");
        let new = self.path.with_added_extension("history.new");
        let entries = self.report.history(0);
        let written = serde_json::to_vec(&entries)
            .map_err(io::Error::from)
            .and_then(|text| self.disk.create(&new)?.write_all(&text))
            .and_then(|()| self.disk.rename(&new, &path));
        if let Err(error) = written {
            warn!("cannot write the history to {}: {error}", path.display());
        }
        self.report.tried_all();
    }
}

impl Store for FileStore {
    async fn commit(&mut self, changes: &[StateChange]) -> Result<(), StoreError> {
        if self.report.is_late() {
            self.write_history();
        }
        if changes.is_empty() {
            return Ok(());
        }
        let mut state = self.state.clone();
        for change in changes {
            state.apply(change.clone());
        }
        self.write(&state)?;
        self.state = state;
        Ok(())
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io { what, path, source }
}

fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn lock(disk: &dyn Disk, path: &Path) -> Result<Lock, StoreError> {
    disk.lock(path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => StoreError::Locked { path: path.to_owned() },
        _ => failed("cannot lock", path)(error),
    })
}

/// What is stored, and whether it was of an older form.
fn decode(path: &Path, bytes: &[u8], migrations: Migrations) -> Result<(State, bool), StoreError> {
    let damaged = |reason: String| StoreError::Damaged { path: path.to_owned(), reason };
    let not_ours = |error: serde_json::Error| damaged(error.to_string());
    let header: Header = serde_json::from_slice(bytes).map_err(not_ours)?;
    let (version, written_by) = (header.schema_version, header.written_by);
    if version > migrations.version() {
        return Err(StoreError::newer(path.to_owned(), Schema { version, written_by }));
    }
    if version == migrations.version() {
        let stored: Stored<State> = serde_json::from_slice(bytes).map_err(not_ours)?;
        return Ok((stored.state, false));
    }
    if version == 0 {
        return Err(damaged("0 is not a version that ever was".to_owned()));
    }
    let mut stored: Stored<Value> = serde_json::from_slice(bytes).map_err(not_ours)?;
    for (name, part) in [("framework_id", Part::FrameworkId), ("cluster", Part::Cluster)] {
        if let Some(record) = stored.state.get_mut(name).filter(|record| !record.is_null()) {
            migrations.apply(version, part, record);
        }
    }
    if let Some(agents) = stored.state.get_mut("agents").and_then(Value::as_object_mut) {
        agents.values_mut().for_each(|record| migrations.apply(version, Part::Agent, record));
    }
    serde_json::from_value(stored.state).map(|state| (state, true)).map_err(not_ours)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::core::{AgentRecord, Decision, Phase, TaskRecord, TaskType, Tasks, Timestamp};
    use crate::state::disk::SystemDisk;
    use crate::state::schema::tests::INVENTED;

    fn open(path: &Path) -> Result<(FileStore, State), StoreError> {
        FileStore::open(path, Arc::new(SystemDisk), Report::default())
    }

    fn agent(key: &str) -> StateChange {
        let done = TaskRecord::new(Phase::Done { at: Timestamp(7) }, None);
        let agent = AgentRecord::new(key.into(), "S1".into(), "1.11.0".into(), Timestamp(5));
        StateChange::Agent(AgentRecord { tasks: Tasks::from_iter([(TaskType::Cni, done)]), ..agent }.into())
    }

    #[tokio::test]
    async fn what_is_committed_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/state.json");
        let (mut store, state) = open(&path).unwrap();
        assert_eq!(state, State::default());
        let changes = [StateChange::Framework { id: "F1".into() }, agent("a:5051"), agent("b:5051")];
        store.commit(&changes).await.unwrap();
        store.commit(&[StateChange::Forget { key: "b:5051".into() }]).await.unwrap();
        let expected = store.state.clone();
        drop(store);
        let (_store, state) = open(&path).unwrap();
        assert_eq!(state, expected);
        assert_eq!(state.agents.len(), 1);
        assert_eq!(state.framework_id, Some("F1".into()));
    }

    #[tokio::test]
    async fn nothing_is_written_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let (mut store, _) = open(&path).unwrap();
        store.commit(&[]).await.unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_crash_before_the_rename_leaves_the_old_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let (mut store, _) = open(&path).unwrap();
        store.commit(&[agent("a:5051")]).await.unwrap();
        drop(store);
        fs::write(dir.path().join("state.json.new"), b"{\"schema_ver").unwrap();
        let (_store, state) = open(&path).unwrap();
        assert_eq!(state.agents.len(), 1);
    }

    #[tokio::test]
    async fn a_failed_commit_changes_nothing_and_can_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let (mut store, _) = open(&path).unwrap();
        store.commit(&[agent("a:5051")]).await.unwrap();
        // A directory in the new file's place: it cannot be created, also not by root.
        fs::create_dir(dir.path().join("state.json.new")).unwrap();
        let error = store.commit(&[agent("b:5051")]).await.unwrap_err();
        assert!(error.to_string().contains("state.json.new"), "{error}");
        fs::remove_dir(dir.path().join("state.json.new")).unwrap();
        store.commit(&[agent("b:5051")]).await.unwrap();
        drop(store);
        let (_store, state) = open(&path).unwrap();
        assert_eq!(state.agents.len(), 2);
    }

    #[test]
    fn a_second_scheduler_is_refused_while_the_first_lives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let (first, _) = open(&path).unwrap();
        let error = open(&path).err().unwrap().to_string();
        assert!(error.contains("another scheduler") && error.contains("state.json.lock"), "{error}");
        drop(first);
        assert!(open(&path).is_ok());
    }

    #[test]
    fn a_newer_schema_and_a_damaged_file_are_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        for (text, reason) in [
            (r#"{"schema_version": 99, "what": "ever"}"#, "schema version 99"),
            ("", "damaged"),
            (r#"{"schema_version": 1}"#, "missing field `state`"),
        ] {
            fs::write(&path, text).unwrap();
            let error = open(&path).err().unwrap().to_string();
            assert!(error.contains(reason), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    /// As the last scheduler with schema version 1 stored it (commit 82ac9f4, of 0.5.0), recorded from its program.
    const VERSION_1: &str = include_str!("testdata/version-1.file.json");

    #[tokio::test]
    async fn what_version_1_stored_is_read_and_rewritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        fs::write(&path, VERSION_1).unwrap();
        let (store, state) = open(&path).unwrap();
        assert_eq!((state.agents.len(), state.framework_id.is_some()), (4, true));
        drop(store);
        let mut written: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(written["schema_version"], MIGRATIONS.version());
        assert!(written["written_by"].as_str().unwrap().starts_with("calico-scheduler "));
        let mut before: Value = serde_json::from_str(VERSION_1).unwrap();
        for (_, agent) in before["state"]["agents"].as_object_mut().unwrap() {
            MIGRATIONS.apply(1, Part::Agent, agent);
        }
        assert_eq!(written["state"].take(), before["state"].take());
        let (_store, again) = open(&path).unwrap();
        assert_eq!(again, state);
    }

    #[test]
    fn records_are_migrated_one_by_one_and_a_newer_scheduler_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        fs::write(&path, VERSION_1).unwrap();
        let mut before: Value = serde_json::from_str(VERSION_1).unwrap();
        INVENTED.apply(1, Part::Agent, &mut before["state"]["agents"]["10.87.0.12:5051"]);
        assert_eq!(before["state"]["agents"]["10.87.0.12:5051"]["rack"], "unknown");
        let (state, older) = decode(&path, VERSION_1.as_bytes(), INVENTED).unwrap();
        assert!(older && state.agents.len() == 4);
        drop(FileStore::open_as(&path, Arc::new(SystemDisk), Report::default(), INVENTED).unwrap());
        let error = open(&path).err().unwrap().to_string();
        assert!(error.contains("schema version 6, written by calico-scheduler"), "{error}");
        for damaged in [r#"{"schema_version": 1, "state": 5}"#, r#"{"schema_version": 0, "state": {}}"#] {
            fs::write(&path, damaged).unwrap();
            let error = open(&path).err().unwrap().to_string();
            assert!(error.contains("damaged"), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn history_is_kept_beside_the_state_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let report = Report::default();
        let (mut store, _) = FileStore::open(&path, Arc::new(SystemDisk), report.clone()).unwrap();
        report.note(Timestamp(7), &[Decision::AgentAbsent { what: "a:1".to_owned() }]);
        report.tell();
        store.commit(&[]).await.unwrap();
        assert!(!path.with_added_extension("history").exists());
        tokio::time::advance(std::time::Duration::from_secs(11)).await;
        store.commit(&[]).await.unwrap();
        drop(store);
        let again = Report::default();
        let (_store, state) = FileStore::open(&path, Arc::new(SystemDisk), again.clone()).unwrap();
        assert_eq!(state, State::default());
        assert_eq!(again.history(0), report.history(0));
        assert_eq!(again.history(0).len(), 1);
    }
}
