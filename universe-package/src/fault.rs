//! What is wrong with a package.

use std::fmt;

use crate::PackageFile;

/// One thing that is wrong in one of the package's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub file: PackageFile,
    /// Where in it: a line, a JSON path or an option's name; empty for the whole file.
    pub place: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl Fault {
    pub(crate) fn new(file: PackageFile, place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { file, place: place.into(), problem: problem.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, place, problem } = self;
        write!(f, "{file}: ")?;
        if !place.is_empty() {
            write!(f, "{place}: ")?;
        }
        f.write_str(problem)
    }
}

impl std::error::Error for Fault {}

/// All that is wrong with a package; never empty when it is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    /// One fault a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.0.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
