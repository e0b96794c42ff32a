//! dockerd's command line, read through systemd: a task sees no process of the host.

use std::path::{Path, PathBuf};

use super::flags::{self, Environment, Flag, Variable};
use crate::exit::Result;
use crate::host::Host;
use crate::host::systemd::Unit;
use crate::host::words::environment_file;

/// What of it matters for the cluster store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The flags.
    pub flags: Vec<Flag>,
    /// The unit's files, to find a flag's place.
    pub texts: Vec<(PathBuf, String)>,
}

impl CommandLine {
    /// Reads it from the unit, its drop-ins and its environment files.
    pub fn of(host: &Host, unit: &Unit) -> Result<Self> {
        let mut environment = Environment::new();
        for assignment in &unit.environment {
            if let Some((name, value)) = assignment.split_once('=') {
                environment.insert(name.to_owned(), Variable { value: value.to_owned(), file: None });
            }
        }
        for pattern in &unit.environment_files {
            for file in matching(host, pattern)? {
                let content = host.files().read(&file)?.unwrap_or_default();
                for (name, value) in environment_file(&String::from_utf8_lossy(&content)) {
                    environment.insert(name, Variable { value, file: Some(file.clone()) });
                }
            }
        }
        let mut texts = Vec::new();
        for file in &unit.files {
            let content = host.files().read(&host.place(file))?.unwrap_or_default();
            texts.push((PathBuf::from(file), String::from_utf8_lossy(&content).into_owned()));
        }
        Ok(Self { flags: flags::flags(&unit.exec_start, &environment), texts })
    }
}

/// The files of an `EnvironmentFile=`, of whose last part `*` may be one.
fn matching(host: &Host, pattern: &str) -> Result<Vec<PathBuf>> {
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
