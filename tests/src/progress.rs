//! Progress lines with the time since the start.

use std::fmt;
use std::time::Instant;

/// Where progress lines go. Threads share it.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    started: Instant,
    shown: bool,
}

impl Progress {
    /// Writes lines to standard error.
    pub fn stderr() -> Self {
        Self { started: Instant::now(), shown: true }
    }

    /// Shows nothing.
    pub fn silent() -> Self {
        Self { started: Instant::now(), shown: false }
    }

    /// Shows one line.
    pub fn line(&self, text: impl fmt::Display) {
        if self.shown {
            eprintln!("{:6.1} s  {text}", self.started.elapsed().as_secs_f32());
        }
    }
}
