//! How the installer ends: one failure type, and the exit code that each kind of it has.

use std::error::Error;
use std::fmt;

/// Why a run did not end well, as the process's exit code says it to the scheduler.
///
/// The numbers follow sysexits.h, 1 apart, which is a check's plain "no".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// A check said no, or a service that should go on has ended.
    No = 1,
    /// A service that is needed is not there (the datastore, Docker, the Mesos agent).
    Unavailable = 69,
    /// A fault of ours.
    Bug = 70,
    /// It may well work later (an address in use, containers that still run).
    TryAgain = 75,
    /// The operating system or the agent does not permit it.
    NotPermitted = 77,
    /// The configuration, or this host, cannot work as it is.
    Unsuitable = 78,
    /// A restart is needed and not allowed; nothing was changed.
    RestartNeeded = 79,
    /// This host cannot have the step at all (it has no Docker); nothing was changed, and other steps go on.
    NotApplicable = 80,
    /// A service was told to end by SIGTERM or SIGINT.
    Terminated = 143,
}

/// What went wrong, with its causes and its exit code.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    /// What else is to be said, after the causes.
    also: Vec<String>,
}

/// The result of everything that can end a run.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure without a further cause.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), source: None, also: Vec::new() }
    }

    /// A configuration or host that cannot work as it is.
    pub fn unsuitable(message: impl Into<String>) -> Self {
        Self::new(Exit::Unsuitable, message)
    }

    /// The same failure, caused by `source`.
    #[must_use]
    pub fn because(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// A host that cannot have a step at all.
    pub fn not_applicable(message: impl Into<String>) -> Self {
        Self::new(Exit::NotApplicable, message)
    }

    /// The same failure, of which something else is to be said: what became of the changes that had begun.
    #[must_use]
    pub fn also(mut self, text: impl Into<String>) -> Self {
        self.also.push(text.into());
        self
    }

    /// The same failure, met when changes had begun: what cannot work was found before that, so this may pass.
    #[must_use]
    pub fn once_begun(mut self) -> Self {
        if self.exit == Exit::Unsuitable {
            self.exit = Exit::TryAgain;
        }
        self
    }

    /// The same failure, of which trying again would do harm: an operator must look at it first.
    #[must_use]
    pub fn for_operator(self) -> Self {
        Self { exit: Exit::Unsuitable, ..self }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// One line with all causes, as a human reads it.
    pub fn one_line(&self) -> String {
        let mut line = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Many libraries repeat their cause in their own text.
            if !line.contains(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            cause = error.source();
        }
        for also in &self.also {
            line.push_str("; ");
            line.push_str(also);
        }
        line.replace('\n', "; ")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_names_every_cause_once() {
        let cause = std::io::Error::other("disk on fire");
        let failure = Failure::new(Exit::TryAgain, "cannot write /etc/x").because(cause);
        assert_eq!(failure.one_line(), "cannot write /etc/x: disk on fire");

        let repeated =
            Failure::new(Exit::Bug, "failed: disk on fire").because(std::io::Error::other("disk on fire"));
        assert_eq!(repeated.one_line(), "failed: disk on fire");
    }
}
