//! `FetcherInfo`, as the agent writes it: protobuf's JSON, with Mesos' field names.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

/// All that is to be fetched for a container.
#[derive(Debug, Deserialize)]
pub struct FetcherInfo {
    /// Where the files go.
    pub sandbox_directory: PathBuf,
    /// Where cached files are kept.
    pub cache_directory: Option<PathBuf>,
    /// The files.
    #[serde(default)]
    pub items: Vec<Item>,
    /// Who owns them.
    pub user: Option<String>,
    /// What relative paths are relative to.
    pub frameworks_home: Option<PathBuf>,
    /// How long a download may stand still.
    stall_timeout: Option<Nanoseconds>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Nanoseconds {
    nanoseconds: u64,
}

impl FetcherInfo {
    /// How long a download may stand still; a minute where the agent does not say, as its flag
    /// has it.
    pub fn stall_timeout(&self) -> Duration {
        self.stall_timeout.map_or(Duration::from_mins(1), |limit| Duration::from_nanos(limit.nanoseconds))
    }
}

/// One file.
#[derive(Debug, Deserialize)]
pub struct Item {
    /// Where it comes from and what becomes of it.
    pub uri: Uri,
    /// How the cache is used.
    pub action: Action,
    /// Its name in the cache.
    pub cache_filename: Option<String>,
}

/// How the cache is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Action {
    /// Download straight into the sandbox.
    BypassCache,
    /// Download into the cache, then copy or extract from there.
    DownloadAndCache,
    /// Copy or extract from the cache.
    RetrieveFromCache,
}

/// A `CommandInfo.URI`.
#[derive(Debug, Deserialize)]
pub struct Uri {
    /// The address: http, file, or a path.
    pub value: String,
    /// Make it executable (and do not extract it).
    #[serde(default)]
    pub executable: bool,
    /// Extract it if its name is that of an archive.
    #[serde(default = "yes")]
    pub extract: bool,
    /// Its path in the sandbox, instead of its base name.
    pub output_file: Option<String>,
}

fn yes() -> bool {
    true
}
