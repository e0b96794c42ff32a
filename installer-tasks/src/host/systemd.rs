//! systemd: what it knows of a unit, a signal to its main process, and a restart whose result is waited for.
//!
//! Over D-Bus, which a task in PID namespaces of its own reaches too; where there is no bus, through `systemctl`,
//! which speaks to systemd itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Host;
use super::files::FileError;
use crate::exit::{Exit, Failure};

mod bus;
mod systemctl;

use bus::Bus;
use systemctl::Systemctl;

/// systemd answers at once, unless it is reloading.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// SIGHUP.
const SIGHUP: i32 = 1;

/// Something that systemd did not do.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// Neither a bus nor a `systemctl` that works.
    #[error("systemd is not reached, neither over D-Bus ({bus}) nor by systemctl ({systemctl})")]
    Away {
        /// What the bus said.
        bus: String,
        /// What `systemctl` said.
        systemctl: String,
    },
    /// It says no.
    #[error("systemd did not {action}: {message}")]
    Refused {
        /// What was asked.
        action: String,
        /// Its words.
        message: String,
    },
    /// It did not come to an end in time.
    #[error("systemd did not {action} within {} s", limit.as_secs())]
    Timeout {
        /// What was asked.
        action: String,
        /// How long was waited.
        limit: Duration,
    },
}

impl From<SystemdError> for Failure {
    fn from(error: SystemdError) -> Self {
        let exit = match &error {
            SystemdError::Away { .. } => Exit::Unavailable,
            SystemdError::Refused { .. } | SystemdError::Timeout { .. } => Exit::TryAgain,
        };
        Self::new(exit, error.to_string())
    }
}

/// A result of systemd's.
pub type Result<T, E = SystemdError> = std::result::Result<T, E>;

/// A unit as systemd has it loaded: its file and drop-ins together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// `loaded`, `not-found`, `masked`, `error`, …
    pub load_state: String,
    /// `active`, `inactive`, `failed`, `activating`, …
    pub active_state: String,
    /// Why it ended last: `success`, `exit-code`, `start-limit-hit`, …
    pub result: String,
    /// Its main process; 0 when it has none.
    pub main_pid: u32,
    /// When that was started, in microseconds of the monotonic clock.
    pub started: u64,
    /// The words of each `ExecStart=`, variables not replaced.
    pub exec_start: Vec<Vec<String>>,
    /// `NAME=value`, from `Environment=`.
    pub environment: Vec<String>,
    /// From `EnvironmentFile=`, in this order; may be a pattern.
    pub environment_files: Vec<String>,
    /// The unit's file, then its drop-ins.
    pub files: Vec<String>,
    /// What of it is ended with it: `control-group`, `mixed`, `process` or `none`.
    pub kill_mode: String,
}

impl Unit {
    /// Whether systemd knows a unit of this name.
    pub fn exists(&self) -> bool {
        !matches!(self.load_state.as_str(), "" | "not-found")
    }

    /// Its environment files on `host`, in this order; one that is named by a pattern may be several, or none.
    pub fn environment_files_on(&self, host: &Host) -> Result<Vec<PathBuf>, FileError> {
        let files = self.environment_files.iter().map(|pattern| matching(host, pattern));
        Ok(files.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Whether it runs.
    pub fn is_active(&self) -> bool {
        self.active_state == "active" && self.main_pid != 0
    }

    /// Whether its main process is the one of `earlier`, alive.
    pub fn is_still(&self, earlier: &Self) -> bool {
        self.is_active() && (self.main_pid, self.started) == (earlier.main_pid, earlier.started)
    }

    /// Whether what its main process has started outlives it.
    pub fn spares_others(&self) -> bool {
        matches!(self.kill_mode.as_str(), "process" | "none")
    }

    /// How it stands, in words.
    pub fn condition(&self) -> String {
        match self.result.as_str() {
            "" | "success" => format!("is {}", self.active_state),
            "start-limit-hit" | "start-limit" => {
                format!("is {}: it was started too often in a short time", self.active_state)
            }
            result => format!("is {} ({result})", self.active_state),
        }
    }
}

/// The files of an `EnvironmentFile=`, of whose last part `*` may be one.
fn matching(host: &Host, pattern: &str) -> Result<Vec<PathBuf>, FileError> {
    let path = host.place(pattern);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some((start, end)) = name.split_once('*') else { return Ok(vec![path]) };
    let mut files = host.files().list(path.parent().unwrap_or(Path::new("/")))?;
    files.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
    });
    files.sort();
    Ok(files)
}

/// How a job of systemd's ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobResult {
    /// The unit is as it was asked to be.
    Done,
    /// It is not: `failed`, `canceled`, `timeout`, `dependency`, …
    Other(String),
}

impl From<&str> for JobResult {
    fn from(text: &str) -> Self {
        if text == "done" { Self::Done } else { Self::Other(text.to_owned()) }
    }
}

/// The host's systemd.
#[derive(Debug)]
pub enum Systemd {
    /// Over D-Bus.
    Bus(Bus),
    /// Through `systemctl`.
    Systemctl(Systemctl),
}

impl Systemd {
    /// Connects to the system's bus; where that is not possible, sees whether `systemctl` works.
    pub async fn connect() -> Result<Self> {
        let bus = match Bus::connect().await {
            Ok(bus) => return Ok(Self::Bus(bus)),
            Err(error) => error,
        };
        match Systemctl::find().await {
            Ok(systemctl) => Ok(Self::Systemctl(systemctl)),
            Err(systemctl) => Err(SystemdError::Away { bus: bus.to_string(), systemctl }),
        }
    }

    /// What it knows of a unit; one that is not there is no error.
    pub async fn unit(&self, name: &str) -> Result<Unit> {
        let action = || format!("show {name}");
        match self {
            Self::Bus(bus) => bounded(action, CALL_LIMIT, bus.unit(name)).await,
            Self::Systemctl(systemctl) => systemctl.unit(name, action()).await,
        }
    }

    /// Sends SIGHUP to the unit's main process.
    pub async fn hang_up(&self, name: &str) -> Result<()> {
        let action = || format!("send SIGHUP to {name}");
        match self {
            Self::Bus(bus) => bounded(action, CALL_LIMIT, bus.kill_main(name, SIGHUP)).await,
            Self::Systemctl(systemctl) => systemctl.hang_up(name, action()).await,
        }
    }

    /// Makes it read the files of units again.
    pub async fn reload(&self) -> Result<()> {
        let action = || "read its units again".to_owned();
        match self {
            Self::Bus(bus) => bounded(action, CALL_LIMIT, bus.reload()).await,
            Self::Systemctl(systemctl) => systemctl.reload(action()).await,
        }
    }

    /// Restarts the unit, and waits until the job has ended. Failures of before do not count against it.
    pub async fn restart(&self, name: &str, limit: Duration) -> Result<JobResult> {
        let action = || format!("restart {name}");
        match self {
            Self::Bus(bus) => bounded(action, limit, bus.restart(name)).await,
            Self::Systemctl(systemctl) => systemctl.restart(name, action(), limit).await,
        }
    }
}

async fn bounded<T>(
    action: impl Fn() -> String,
    limit: Duration,
    call: impl Future<Output = zbus::Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(SystemdError::Refused { action: action(), message: error.to_string() }),
        Err(_) => Err(SystemdError::Timeout { action: action(), limit }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_still_the_same_while_its_process_is() {
        let before = Unit { active_state: "active".into(), main_pid: 7, started: 9, ..Unit::default() };
        assert!(before.is_still(&before));
        assert!(!Unit { main_pid: 8, ..before.clone() }.is_still(&before));
        assert!(!Unit { started: 10, ..before.clone() }.is_still(&before));
        assert!(!Unit { active_state: "deactivating".into(), ..before.clone() }.is_still(&before));
    }

    #[test]
    fn a_start_limit_is_said() {
        let unit =
            |result: &str| Unit { active_state: "failed".into(), result: result.into(), ..Unit::default() };
        assert!(unit("start-limit-hit").condition().contains("too often"));
        assert_eq!(unit("exit-code").condition(), "is failed (exit-code)");
        assert_eq!(unit("success").condition(), "is failed");
    }
}
