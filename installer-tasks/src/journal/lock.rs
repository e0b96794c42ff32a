//! One installer at a time: a lock on the state directory, and a note beside it that says who has it.

use std::fmt::{self, Debug};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::exit::{Exit, Failure, Result};
use crate::host::disk::Locked;
use crate::host::files::{FileError, Files};
use crate::say;

/// How often a lock that another has is asked for.
const POLL: Duration = Duration::from_millis(100);
/// The note's name in the state directory.
pub const NOTE: &str = "holder.json";

/// Who holds the lock. Only for messages: the lock itself is the kernel's, and ends with its process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process ID, as it sees itself.
    pub pid: u32,
    /// Its PID namespace: in another one its process ID means nothing.
    pub pid_namespace: String,
    /// What it does.
    pub doing: String,
    /// When it began, in seconds since 1970.
    pub since: u64,
    /// Its version.
    pub version: String,
}

impl Holder {
    /// This process, which is about to do `doing`.
    pub fn this(doing: &str) -> Self {
        Self {
            pid: std::process::id(),
            pid_namespace: pid_namespace(),
            doing: doing.to_owned(),
            since: now(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Whether its process is seen to have ended.
    fn is_gone(&self) -> bool {
        self.pid_namespace == pid_namespace() && !Path::new("/proc").join(self.pid.to_string()).exists()
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, pid_namespace: namespace, doing, since, version } = self;
        let elsewhere = if *namespace == pid_namespace() { "" } else { " in another PID namespace" };
        let seconds = now().saturating_sub(*since);
        write!(f, "process {pid}{elsewhere}, calico-installer {version}, `{doing}` for {seconds} s")
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn pid_namespace() -> String {
    fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default()
}

/// Waits for the lock on `directory`, at most `limit`. `None` when there is no such directory, and `make` is not
/// asked for.
pub async fn take(
    files: &Files,
    directory: &Path,
    make: bool,
    limit: Duration,
) -> Result<Option<Box<dyn Debug>>> {
    let since = Instant::now();
    let mut told = false;
    loop {
        if make {
            files.make_directory(directory)?;
        } else if !files.has_directory(directory)? {
            return Ok(None);
        }
        match files.disk().lock(directory) {
            Ok(Locked::Ours(lock)) => return Ok(Some(lock)),
            Ok(Locked::Theirs) => {}
            Ok(Locked::Gone) => continue,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(FileError::io("lock", directory)(error).into()),
        }
        let holder = holder(files, directory);
        if since.elapsed() >= limit {
            return Err(Failure::new(
                Exit::TryAgain,
                format!(
                    "another calico-installer is at work on this host and was waited for {} s ({} is locked): {holder}",
                    limit.as_secs(),
                    directory.display()
                ),
            ));
        }
        if !std::mem::replace(&mut told, true) {
            say::progress(format_args!(
                "waiting up to {} s for another calico-installer: {holder}",
                limit.as_secs()
            ));
        }
        sleep(POLL.min(limit)).await;
    }
}

fn holder(files: &Files, directory: &Path) -> String {
    let note = files.read(&directory.join(NOTE)).ok().flatten();
    match note.and_then(|note| serde_json::from_slice::<Holder>(&note).ok()) {
        Some(holder) if !holder.is_gone() => holder.to_string(),
        // A killed one leaves its note, and one that only looks writes none.
        _ => "it has not said who it is".to_owned(),
    }
}

/// Writes the note. Without one the lock is as good, so what does not work is no failure.
pub fn note(files: &Files, directory: &Path, doing: &str) {
    clear_note(files, directory);
    let text = serde_json::to_vec(&Holder::this(doing)).unwrap_or_default();
    let _ = files.disk().create(&directory.join(NOTE)).and_then(|mut note| note.write_all(&text));
}

/// Removes the note.
pub fn clear_note(files: &Files, directory: &Path) {
    let _ = files.disk().remove(&directory.join(NOTE));
}
