//! The model of every step that changes the host: checked first, recorded, changed, verified by effect, and taken back
//! when that fails.
//!
//! A step only describes. It says what there should be ([`Step::check`] gives a [`Proposal`]), what is done besides
//! files ([`Acts::act`]), how its effect is seen ([`Step::verify`]) and in which stages it is undone
//! ([`Undo::next`]). The [`Engine`] does the rest, the same for all steps:
//!
//! 1. `check`: the proposal is compared with the host. The result is a [`Plan`], which can be made nowhere else, and
//!    `apply` takes nothing but a plan. Nothing is changed, locked or written.
//! 2. `apply`: lock; check again under the lock; record all in the journal, with copies of what is replaced; make
//!    directories; write all new files beside their places (a full disk is met here, when nothing is changed yet);
//!    then, in the proposal's order, rename files into place and do actions; read everything back; [`Step::verify`];
//!    settle the journal.
//! 3. When anything of that fails: files go back to what they were before this run, in reverse order; actions that
//!    were begun are done in the other [`Direction`]; directories that were made are removed. The failure says so.
//! 4. `undo`: the step's stages, one by one. A stage's record is dropped when all of it is done, so an interrupted
//!    undo is continued by the next one.
//!
//! # A step with an action
//!
//! Files often take effect only by something else: a signal, a restart. Such a step has an [`Acts::Action`]:
//!
//! ```no_run
//! use std::fmt;
//! use calico_installer::exit::Result;
//! use calico_installer::host::Host;
//! use calico_installer::host::files::{Print, Staging, sha256_hex};
//! use calico_installer::journal::Recorded;
//! use calico_installer::steps::StepName;
//! use calico_installer::steps::model::{Acts, Content, Direction, Plan, Proposal, Stage, Step, Undo, WantedFile};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
//! #[serde(rename_all = "kebab-case")]
//! enum Action { Reload }
//!
//! impl fmt::Display for Action {
//!     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str("reload docker.service") }
//! }
//!
//! struct Store;
//!
//! impl Acts for Store {
//!     type Action = Action;
//!     const NAME: StepName = StepName::DockerClusterStore;
//!
//!     async fn act(&self, _host: &Host, action: &Action, direction: Direction) -> Result<()> {
//!         // Forward: after the files before it are in place. Back: after all files are back.
//!         match (action, direction) { (Action::Reload, Direction::Forward | Direction::Back) => Ok(()) }
//!     }
//! }
//!
//! impl Step for Store {
//!     async fn check(&self, host: &Host, recorded: &Recorded<Action>) -> Result<Proposal<Action>> {
//!         let mut proposal = Proposal::new();
//!         let path = host.files().resolve(&host.place("/etc/docker/daemon.json"))?;
//!         let content = b"{}\n".to_vec();
//!         let print = Print { sha256: sha256_hex(&content), mode: 0o644, uid: 0, gid: 0 };
//!         proposal.file(WantedFile { path, staging: Staging::Beside, print, content: Content::Bytes(content) });
//!         // Whether it is needed is seen by effect. What was begun and not finished is done again.
//!         let in_effect = false;
//!         if !in_effect || recorded.unfinished.as_ref().is_some_and(|begun| !begun.is_empty()) {
//!             proposal.action(Action::Reload, "Docker does not use the store");
//!         }
//!         Ok(proposal)
//!     }
//!
//!     async fn verify(&self, _host: &Host, _plan: &Plan<Action>) -> Result<()> {
//!         Ok(()) // Asks the target store, with a limit in time.
//!     }
//! }
//!
//! impl Undo for Store {
//!     async fn next(&self, _host: &Host, recorded: &Recorded<Action>) -> Result<Stage<Action>> {
//!         Ok(Stage::all(recorded).then(Action::Reload))
//!     }
//! }
//! ```
//!
//! - A directory that is missing above a wanted file is made, and removed again on undo if it is empty. A step that needs
//!   nothing but directories proposes them ([`Proposal::directory`]); what is in one that is its own goes with it
//!   ([`Back::Clear`]).
//! - [`Proposal::restart`] says that the changes take a restart: without permission `apply` then changes nothing and
//!   exits 79. Whether it is permitted is the [`Engine`]'s to know ([`Restarts`]) and, where it changes what is
//!   proposed, an option of the step's own.
//! - A refusal is an `Err` of [`Step::check`] with its exit code; a host that cannot have the step at all is
//!   [`crate::exit::Exit::NotApplicable`].

use std::fmt::{Debug, Display};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::StepName;
use crate::exit::Result;
use crate::host::Host;
use crate::journal::Recorded;

mod engine;
mod plan;
mod report;
#[cfg(test)]
mod tests;
mod undo;

pub use engine::{Engine, Restarts};
pub use plan::{Change, Content, Plan, Proposal, Verdict, WantedFile};
pub use report::{Applied, Report, Undone, UndoneItem};
pub use undo::{Back, Stage};

/// Something that is done besides writing files, so that they take effect. It is kept in the journal while it is not
/// known to be done; its text completes "we …": `reload docker.service`.
pub trait Action: Debug + Display + Clone + PartialEq + Serialize + DeserializeOwned {}

impl<A: Debug + Display + Clone + PartialEq + Serialize + DeserializeOwned> Action for A {}

/// The action of a step that has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoAction {}

impl Display for NoAction {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {}
    }
}

/// Which way an action goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// What was written is to take effect.
    Forward,
    /// What was there before is back, and is to take effect again.
    Back,
}

/// What a step does besides writing files: what [`Step`] and [`Undo`] have in common.
#[expect(async_fn_in_trait, reason = "one thread runs it, and nobody needs its futures to be Send")]
pub trait Acts {
    /// What there is to do; [`NoAction`] for a step that only has files.
    type Action: Action;

    /// The step's name.
    const NAME: StepName;

    /// Does one action, and waits until it is done.
    async fn act(&self, host: &Host, action: &Self::Action, direction: Direction) -> Result<()>;
}

/// What one part of the host should be like. A step describes; the [`Engine`] does.
#[expect(async_fn_in_trait, reason = "one thread runs it, and nobody needs its futures to be Send")]
pub trait Step: Acts {
    /// Looks at the host and says what there should be. Changes nothing, and fails where it cannot work.
    async fn check(&self, host: &Host, recorded: &Recorded<Self::Action>) -> Result<Proposal<Self::Action>>;

    /// Looks at the effects of what was changed; the files themselves are verified already.
    async fn verify(&self, host: &Host, plan: &Plan<Self::Action>) -> Result<()>;
}

/// How a step is undone; it takes fewer options than the step.
#[expect(async_fn_in_trait, reason = "one thread runs it, and nobody needs its futures to be Send")]
pub trait Undo: Acts {
    /// The next stage of undoing what is recorded; asked again after each, until one is the last. Changes nothing,
    /// and fails where it must not be undone now.
    async fn next(&self, host: &Host, recorded: &Recorded<Self::Action>) -> Result<Stage<Self::Action>>;
}
