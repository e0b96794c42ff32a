//! The package's files.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;
use thiserror::Error;

use crate::Fault;

/// One of the four files of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PackageFile {
    /// `package.json`: what the package is.
    Package,
    /// `config.json`: the schema of its options.
    Config,
    /// `resource.json`: its artifacts and images.
    Resource,
    /// `marathon.json.mustache`: the template of the Marathon app.
    Template,
}

impl PackageFile {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Self; 4] = [Self::Package, Self::Config, Self::Resource, Self::Template];

    /// The file's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Package => "package.json",
            Self::Config => "config.json",
            Self::Resource => "resource.json",
            Self::Template => "marathon.json.mustache",
        }
    }
}

impl fmt::Display for PackageFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A file of a package that cannot be read or written.
#[derive(Debug, Error)]
#[error("{}: {reason}", path.display())]
pub struct LoadError {
    path: PathBuf,
    reason: io::Error,
}

impl LoadError {
    fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |reason| Self { path, reason }
    }
}

/// A package: the text of its four files, valid or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// `package.json`.
    pub package: String,
    /// `config.json`.
    pub config: String,
    /// `resource.json`.
    pub resource: String,
    /// `marathon.json.mustache`.
    pub template: String,
}

impl Package {
    /// The package of this source tree. Its `resource.json` has placeholders: see [`Package::filled`].
    pub fn embedded() -> Self {
        Self {
            package: include_str!("../package.json").to_owned(),
            config: include_str!("../config.json").to_owned(),
            resource: include_str!("../resource.json").to_owned(),
            template: include_str!("../marathon.json.mustache").to_owned(),
        }
    }

    /// Reads the four files of a folder.
    pub fn load(folder: &Path) -> Result<Self, LoadError> {
        let read = |file: PackageFile| {
            let path = folder.join(file.name());
            fs::read_to_string(&path).map_err(LoadError::at(path))
        };
        Ok(Self {
            package: read(PackageFile::Package)?,
            config: read(PackageFile::Config)?,
            resource: read(PackageFile::Resource)?,
            template: read(PackageFile::Template)?,
        })
    }

    /// Writes the four files into a folder, which is made if it is not there.
    pub fn save(&self, folder: &Path) -> Result<(), LoadError> {
        fs::create_dir_all(folder).map_err(LoadError::at(folder))?;
        for file in PackageFile::ALL {
            let path = folder.join(file.name());
            fs::write(&path, self.text(file)).map_err(LoadError::at(path))?;
        }
        Ok(())
    }

    /// A file's text.
    pub fn text(&self, file: PackageFile) -> &str {
        match file {
            PackageFile::Package => &self.package,
            PackageFile::Config => &self.config,
            PackageFile::Resource => &self.resource,
            PackageFile::Template => &self.template,
        }
    }

    /// A file parsed as JSON.
    pub(crate) fn json(&self, file: PackageFile) -> Result<Value, Fault> {
        serde_json::from_str(self.text(file))
            .map_err(|error| Fault::new(file, "", format!("it is not JSON: {error}")))
    }
}
