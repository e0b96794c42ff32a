//! The programs of the development build that this one belongs to: they lie beside it.

use std::path::PathBuf;

use crate::error::{Context, Error, Result};

/// The helper programs of the Mesos agent that the Mesos package lacks.
pub(crate) const MESOS_HELPERS: [&str; 2] = ["mesos-executor", "mesos-fetcher"];
/// The programs that the artifact server offers.
pub(crate) const ARTIFACTS: [&str; 7] = [
    "calico-installer",
    "calico-scheduler",
    "calico",
    "calico-ipam",
    "calicoctl",
    "calico-node",
    "libnetwork-plugin",
];

/// The folder of this build's programs.
pub fn folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context(|| "cannot find this program's own file".to_owned())?;
    let folder = own.parent().unwrap_or(&own);
    // Cargo puts the binaries of tests one folder deeper.
    let above = folder.parent().filter(|_| folder.ends_with("deps"));
    Ok(above.unwrap_or(folder).to_owned())
}

/// A program of this build.
pub fn find(name: &str) -> Result<PathBuf> {
    let folder = folder()?;
    let path = folder.join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::Invalid(format!(
        "there is no program '{name}' in {}: run `cargo build --workspace`",
        folder.display()
    )))
}
