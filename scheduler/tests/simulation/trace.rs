//! What happened, line by line.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::time::Duration;

/// How much of it is kept.
#[derive(Debug, Default)]
pub enum Trace {
    /// Nothing.
    #[default]
    Off,
    /// A hash of all lines.
    Hash(DefaultHasher),
    /// All lines, printed.
    Print,
}

impl Trace {
    pub fn hashing() -> Self {
        Self::Hash(DefaultHasher::new())
    }

    pub fn line(&mut self, at: Duration, line: impl FnOnce() -> String) {
        match self {
            Self::Off => {}
            Self::Hash(hasher) => (at, line()).hash(hasher),
            Self::Print => println!("{:>12.6} {}", at.as_secs_f64() - 1.7e9, line()),
        }
    }

    /// The hash so far.
    pub fn hash(&self) -> u64 {
        match self {
            Self::Hash(hasher) => hasher.finish(),
            Self::Off | Self::Print => 0,
        }
    }
}
