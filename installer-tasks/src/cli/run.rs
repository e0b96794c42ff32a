//! A step's commands: the same for every step.

use std::fmt::Display;

use serde::Serialize;

use crate::exit::{Exit, Failure, Result};
use crate::host::Host;
use crate::options::{StateOptions, StepOptions};
use crate::say;
use crate::steps::model::{Applied, Engine, Report, Step, Undo, Undone};

/// Where, and how the result is shown.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The host.
    pub host: &'a Host,
    /// As JSON, not as text.
    pub json: bool,
}

impl<'a> Run<'a> {
    /// `<step> check`.
    pub async fn check<S: Step>(self, options: &StepOptions, step: &S) -> Result<()> {
        let report = self.engine(&options.state).check(step).await.map(|plan| Report::of_plan(&plan));
        self.checked(S::NAME.as_str(), report)
    }

    /// `<step> apply`.
    pub async fn apply<S: Step>(self, options: &StepOptions, step: &S) -> Result<()> {
        let engine = self.engine(&options.state);
        let applied = async {
            let plan = engine.check(step).await?;
            engine.apply(step, plan, options.restarts.restarts()).await
        };
        self.applied(S::NAME.as_str(), applied.await)
    }

    /// `<step> undo`.
    pub async fn undo<S: Undo>(self, state: &StateOptions, step: &S, force: bool) -> Result<()> {
        self.undone(S::NAME.as_str(), self.engine(state).undo(step, force).await)
    }

    /// `check` of a step that has no plan.
    pub fn checked(self, step: &'static str, report: Result<Report>) -> Result<()> {
        match report {
            Ok(report) => {
                self.print(&report)?;
                report.outcome()
            }
            Err(failure) => self.failed(step, failure),
        }
    }

    /// `apply` of a step that has no plan.
    pub fn applied(self, step: &'static str, applied: Result<Applied>) -> Result<()> {
        match applied {
            Ok(applied) => self.print(&applied),
            Err(failure) => self.failed(step, failure),
        }
    }

    /// `undo` of a step that is not in the journal.
    pub fn undone(self, step: &'static str, undone: Result<Undone>) -> Result<()> {
        match undone {
            Ok(undone) => self.print(&undone),
            Err(failure) => self.failed(step, failure),
        }
    }

    fn engine<'b>(self, state: &'b StateOptions) -> Engine<'b>
    where
        'a: 'b,
    {
        Engine::new(self.host, state)
    }

    /// A failure has its line on standard error; as JSON it is on standard output too.
    fn failed(self, step: &'static str, failure: Failure) -> Result<()> {
        if self.json {
            self.print(&Report::of_failure(step, &failure))?;
        }
        Err(failure)
    }

    /// Prints a result.
    pub fn print(self, result: &(impl Display + Serialize)) -> Result<()> {
        if self.json {
            let text = serde_json::to_string(result).map_err(|error| {
                Failure::new(Exit::Bug, "the result cannot be written as JSON").because(error)
            })?;
            say::result(text);
        } else {
            say::result(result);
        }
        Ok(())
    }
}
