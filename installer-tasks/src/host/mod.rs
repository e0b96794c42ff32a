//! The only code that does I/O on the host. What to do is decided in [`crate::steps`].

use std::path::{Path, PathBuf};

pub mod agent;
pub mod artifact;
pub mod container;
pub mod disk;
pub mod dns;
pub mod docker;
pub mod etcd;
pub mod etcd_v2;
pub mod files;
pub mod http;
pub mod kernel;
pub mod name;
pub mod net;
pub mod platform;
pub mod plugin;
pub mod ports;
pub mod process;
pub mod registry;
pub mod routes;
pub mod systemd;
pub mod tls;
pub mod words;

use files::Files;

/// The host that is worked on.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
    files: Files,
}

impl Default for Host {
    fn default() -> Self {
        Self::below("/")
    }
}

impl Host {
    /// A host whose well-known places (`/proc`, `/sys`, `/opt/mesosphere`, …) are below `root`: for tests.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), files: Files::default() }
    }

    /// The same host, with its files on another disk: for tests.
    #[must_use]
    pub fn with_files(self, files: Files) -> Self {
        Self { files, ..self }
    }

    /// Its files.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Where the well-known absolute path `place` is.
    pub fn place(&self, place: &str) -> PathBuf {
        self.root.join(place.trim_start_matches('/'))
    }

    /// Whether the well-known path `place` is there.
    pub fn has(&self, place: &str) -> bool {
        self.place(place).exists()
    }

    /// Where the host is mounted: `/`, but for tests.
    pub fn root(&self) -> &Path {
        &self.root
    }
}
