//! State in one JSON file, for a scheduler that always runs on the same machine.
//!
//! A commit writes the whole state to a new file, syncs it, and renames it over the old one: after a crash the
//! file is as it was before the commit or after it. The lock is a file beside it, held as long as the process
//! lives.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{SCHEMA_VERSION, Store, StoreError};
use crate::core::{State, StateChange};

/// See [`super::Store`].
pub struct FileStore {
    path: PathBuf,
    state: State,
    _lock: File,
}

#[derive(Serialize)]
struct Written<'a> {
    schema_version: u32,
    state: &'a State,
}

#[derive(Deserialize)]
struct Header {
    schema_version: u32,
}

#[derive(Deserialize)]
struct Read {
    state: State,
}

impl FileStore {
    /// Locks the file, and reads it.
    pub fn open(path: &Path) -> Result<(Self, State), StoreError> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory).map_err(failed("cannot make", directory))?;
        let lock = lock(&path.with_added_extension("lock"))?;
        let state = match fs::read(path) {
            Ok(bytes) => decode(path, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::default(),
            Err(error) => return Err(failed("cannot read", path)(error)),
        };
        Ok((Self { path: path.to_owned(), state: state.clone(), _lock: lock }, state))
    }

    /// Replaces the file by one that holds `state`.
    fn write(&self, state: &State) -> Result<(), StoreError> {
        let written = Written { schema_version: SCHEMA_VERSION, state };
        let text = serde_json::to_vec_pretty(&written)
            .map_err(|error| failed("cannot encode", &self.path)(error.into()))?;
        let new = self.path.with_added_extension("new");
        let mut file = File::create(&new).map_err(failed("cannot create", &new))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed("cannot write", &new))?;
        fs::rename(&new, &self.path).map_err(failed("cannot replace", &self.path))?;
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed("cannot sync", directory))
    }
}

impl Store for FileStore {
    async fn commit(&mut self, changes: &[StateChange]) -> Result<(), StoreError> {
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

fn lock(path: &Path) -> Result<File, StoreError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(failed("cannot open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed("cannot lock", path)(error)),
    }
}

fn decode(path: &Path, bytes: &[u8]) -> Result<State, StoreError> {
    let damaged =
        |error: serde_json::Error| StoreError::Damaged { path: path.to_owned(), reason: error.to_string() };
    let header: Header = serde_json::from_slice(bytes).map_err(damaged)?;
    if header.schema_version > SCHEMA_VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), found: header.schema_version });
    }
    let read: Read = serde_json::from_slice(bytes).map_err(damaged)?;
    Ok(read.state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{AgentRecord, Phase, TaskRecord, TaskType, Tasks, Timestamp};

    fn agent(key: &str) -> StateChange {
        let done = TaskRecord::new(Phase::Done { at: Timestamp(7) }, None);
        let agent = AgentRecord::new(key.into(), "S1".into(), "1.11.0".into(), Timestamp(5));
        StateChange::Agent(Box::new(AgentRecord { tasks: Tasks::from([(TaskType::Cni, done)]), ..agent }))
    }

    #[tokio::test]
    async fn what_is_committed_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/state.json");
        let (mut store, state) = FileStore::open(&path).unwrap();
        assert_eq!(state, State::default());
        let changes = [StateChange::Framework { id: "F1".into() }, agent("a:5051"), agent("b:5051")];
        store.commit(&changes).await.unwrap();
        store.commit(&[StateChange::Forget { key: "b:5051".into() }]).await.unwrap();
        let expected = store.state.clone();
        drop(store);
        let (_store, state) = FileStore::open(&path).unwrap();
        assert_eq!(state, expected);
        assert_eq!(state.agents.len(), 1);
        assert_eq!(state.framework_id, Some("F1".into()));
    }

    #[tokio::test]
    async fn nothing_is_written_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let (mut store, _) = FileStore::open(&path).unwrap();
        store.commit(&[]).await.unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_crash_before_the_rename_leaves_the_old_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let (mut store, _) = FileStore::open(&path).unwrap();
        store.commit(&[agent("a:5051")]).await.unwrap();
        drop(store);
        fs::write(dir.path().join("state.json.new"), b"{\"schema_ver").unwrap();
        let (_store, state) = FileStore::open(&path).unwrap();
        assert_eq!(state.agents.len(), 1);
    }

    #[tokio::test]
    async fn a_failed_commit_changes_nothing_and_can_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let (mut store, _) = FileStore::open(&path).unwrap();
        store.commit(&[agent("a:5051")]).await.unwrap();
        // A directory in the new file's place: it cannot be created, also not by root.
        fs::create_dir(dir.path().join("state.json.new")).unwrap();
        let error = store.commit(&[agent("b:5051")]).await.unwrap_err();
        assert!(error.to_string().contains("state.json.new"), "{error}");
        fs::remove_dir(dir.path().join("state.json.new")).unwrap();
        store.commit(&[agent("b:5051")]).await.unwrap();
        drop(store);
        let (_store, state) = FileStore::open(&path).unwrap();
        assert_eq!(state.agents.len(), 2);
    }

    #[test]
    fn a_second_scheduler_is_refused_while_the_first_lives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let (first, _) = FileStore::open(&path).unwrap();
        let error = FileStore::open(&path).err().unwrap().to_string();
        assert!(error.contains("another scheduler") && error.contains("state.json.lock"), "{error}");
        drop(first);
        assert!(FileStore::open(&path).is_ok());
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
            let error = FileStore::open(&path).err().unwrap().to_string();
            assert!(error.contains(reason), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
