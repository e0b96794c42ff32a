//! dockerd's command line, read through systemd: a task sees no process of the host.

use std::path::PathBuf;

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
        for file in unit.environment_files_on(host)? {
            let content = host.files().read(&file)?.unwrap_or_default();
            for (name, value) in environment_file(&String::from_utf8_lossy(&content)) {
                environment.insert(name, Variable { value, file: Some(file.clone()) });
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
