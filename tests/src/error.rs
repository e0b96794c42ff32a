//! What can go wrong with a cluster, each with what the reader needs to act.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine cannot run a cluster as it is: everything that is missing, with what to do.
    #[error("this machine cannot run the local cluster:{}", list(.0))]
    Missing(Vec<String>),
    /// A name, a number or a setting that was given cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// A cluster of this name runs already.
    #[error("cluster '{0}' is already up: use it, or end it with `cluster --name {0} down`")]
    AlreadyUp(String),
    /// There is no cluster of this name.
    #[error("cluster '{0}' is not up: start it with `cluster --name {0} up`")]
    NotUp(String),
    /// Another process brings this cluster up or takes it down at this moment.
    #[error("cluster '{0}' is being brought up or taken down by another process: wait for it")]
    Busy(String),
    /// The cluster has no host, process or artifact of this name.
    #[error("there is no {kind} '{name}': there are {known}")]
    Unknown {
        /// What was asked for: host, process, artifact.
        kind: &'static str,
        /// The name that was given.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// A host is powered off.
    #[error("host '{0}' is powered off: `cluster power-on {0}` first")]
    PoweredOff(String),
    /// A file, mount or other call of the operating system failed.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted, and on what.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A program failed.
    #[error("`{command}` failed with {status}{}", indented(.output))]
    Command {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// A condition did not come true in time.
    #[error("{what} did not happen within {} s: {hint}", .limit.as_secs())]
    Timeout {
        /// The condition.
        what: String,
        /// How long it was waited for.
        limit: Duration,
        /// What was seen last, and where to look.
        hint: String,
    },
    /// What an earlier run wrote down cannot be read.
    #[error("{path}: {reason}; `cluster down` removes it")]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// `down` could not remove everything: each thing that is left.
    #[error("some of cluster '{name}' could not be removed:{}", list(.left))]
    Leftovers {
        /// The cluster.
        name: String,
        /// What is left, each with the reason.
        left: Vec<String>,
    },
}

/// Turns the error of a system call into ours, saying what was attempted.
pub(crate) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
    fn at(self, verb: &str, path: &Path) -> Result<T>
    where
        Self: Sized,
    {
        self.context(|| format!("cannot {verb} {}", path.display()))
    }
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source: source.into() })
    }
}

fn list(items: &[String]) -> String {
    items.iter().fold(String::new(), |text, item| text + "\n  - " + item)
}

fn indented(output: &str) -> String {
    output.lines().fold(String::new(), |text, line| text + "\n    " + line)
}
