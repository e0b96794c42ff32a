//! Carries out what steps describe.

use std::path::Path;
use std::time::Duration;

use super::report::{Applied, Undone, UndoneItem};
use super::undo::{Back, Stage};
use super::{Action, Acts, Change, Direction, Plan, Step, Undo, Verdict};
use crate::exit::{Exit, Failure, Result};
use crate::host::Host;
use crate::host::files::Files;
use crate::journal::{Document, Entry, Journal, What};
use crate::options::StateOptions;
use crate::say;

/// Whether something that others use may be restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restarts {
    /// It may.
    Allowed,
    /// It may not: a plan that takes one is refused, and nothing is changed.
    Forbidden,
}

/// Checks, applies and undoes any step on one host.
#[derive(Debug, Clone, Copy)]
pub struct Engine<'a> {
    /// The host.
    pub host: &'a Host,
    /// The journal's directory.
    pub state_dir: &'a Path,
    /// How long another installer is waited for.
    pub lock_timeout: Duration,
}

impl<'a> Engine<'a> {
    /// As the options say.
    pub fn new(host: &'a Host, options: &'a StateOptions) -> Self {
        let lock_timeout = Duration::from_secs(options.lock_timeout);
        Self { host, state_dir: &options.state_dir, lock_timeout }
    }
}

impl Engine<'_> {
    /// Looks at the host, without a lock. Changes nothing.
    pub async fn check<S: Step>(&self, step: &S) -> Result<Plan<S::Action>> {
        self.plan(step, &Document::read(self.files(), self.state_dir)?).await
    }

    /// Carries out a plan, or rather, since another installer may have been at work until now, what the same step
    /// proposes under the lock.
    pub async fn apply<S: Step>(
        &self,
        step: &S,
        plan: Plan<S::Action>,
        restarts: Restarts,
    ) -> Result<Applied> {
        let doing = format!("{} apply", S::NAME);
        let mut journal = if plan.verdict() == Verdict::NothingToDo {
            // Another may be at work on just that, and may still take it back.
            let journal = Journal::open_existing(self.files(), self.state_dir, self.lock_timeout).await?;
            let Some(journal) = journal else { return Ok(Applied::of_plan(&plan)) };
            journal
        } else {
            permit(&plan, restarts)?;
            Journal::open(self.files(), self.state_dir, &doing, self.lock_timeout).await?
        };
        let outcome = self.apply_locked(step, &mut journal, restarts, &doing).await;
        let closed = journal.close();
        outcome.and_then(|applied| closed.map(|()| applied))
    }

    async fn apply_locked<S: Step>(
        &self,
        step: &S,
        journal: &mut Journal,
        restarts: Restarts,
        doing: &str,
    ) -> Result<Applied> {
        let plan = self.plan(step, journal.document()).await?;
        if plan.verdict() == Verdict::NothingToDo {
            return Ok(Applied::of_plan(&plan));
        }
        permit(&plan, restarts)?;
        journal.note(doing);
        for note in plan.notes() {
            say::progress(note);
        }
        // What an interrupted run began may have taken effect.
        let recorded = journal.document().of_step::<S::Action>(S::NAME)?;
        let mut begun = recorded.unfinished.unwrap_or_default();
        let Err(failure) = self.carry_out(step, &plan, journal, &mut begun).await else {
            return Ok(Applied::of_plan(&plan));
        };
        Err(match self.take_back(step, journal, &begun).await {
            Ok(true) => failure.also("all changes of this run were taken back"),
            Ok(false) => failure.also("nothing was changed"),
            Err(reason) => failure.also(format!(
                "and not all changes could be taken back ({}): run `calico-installer {} undo` when that is mended",
                reason.one_line(),
                S::NAME.command()
            )),
        })
    }

    async fn carry_out<S: Step>(
        &self,
        step: &S,
        plan: &Plan<S::Action>,
        journal: &mut Journal,
        begun: &mut Vec<S::Action>,
    ) -> Result<()> {
        journal.begin(plan.run()?, &plan.wanted())?;
        // An interrupted run or undo may have left some of what the plan does not write again.
        for entry in journal.document().entries_of(S::NAME) {
            if let What::File { staging, .. } = entry.what {
                self.files().clear_leftovers(&entry.path, staging)?;
            }
        }
        self.change(step, plan, begun).await?;
        // An interrupted run may have made or placed it without coming to the sync.
        let directories = journal.document().unfinished.iter().flat_map(|run| &run.directories);
        for path in directories.chain(plan.files().iter().map(|file| &file.path)) {
            self.files().sync_directory(path.parent().unwrap_or(Path::new("/")))?;
        }
        for file in plan.files() {
            file.verify(self.files())?;
        }
        step.verify(self.host, plan).await?;
        journal.settle(S::NAME)
    }

    async fn plan<S: Step>(&self, step: &S, document: &Document) -> Result<Plan<S::Action>> {
        let recorded = document.of_step(S::NAME)?;
        let proposal = step.check(self.host, &recorded).await?;
        Plan::new(S::NAME, proposal, self.files(), recorded.unfinished.is_some())
    }

    /// Makes the changes of a plan that is recorded.
    async fn change<S: Step>(
        &self,
        step: &S,
        plan: &Plan<S::Action>,
        begun: &mut Vec<S::Action>,
    ) -> Result<()> {
        let files = self.files();
        let mut staged = Vec::new();
        for change in plan.changes() {
            match change {
                Change::Directory(path) => files.make_directory(path).map_err(met_after_check)?,
                Change::File { file, .. } => {
                    let open = || file.content.open();
                    let it = files.stage(&file.path, file.staging, &open, &file.print);
                    staged.push(it.map_err(met_after_check)?);
                }
                Change::Action { .. } | Change::Finish => {}
            }
        }
        let mut staged = staged.into_iter();
        for change in plan.changes() {
            match change {
                Change::Directory(_) | Change::Finish => {}
                Change::File { file, .. } => {
                    let Some(staged) = staged.next() else { continue };
                    say::progress(format_args!("writing {}", file.path.display()));
                    let open = || file.content.open();
                    let placed = files.place(staged, &file.path, file.staging, &open, &file.print);
                    placed.map_err(met_after_check)?;
                }
                Change::Action { action, because } => {
                    say::progress(format_args!("{action}: {because}"));
                    begun.push(action.clone());
                    step.act(self.host, action, Direction::Forward).await?;
                }
            }
        }
        Ok(())
    }

    /// Goes back to what was there before the run of `step` that is recorded; says whether there was any.
    async fn take_back<S: Acts>(&self, step: &S, journal: &mut Journal, begun: &[S::Action]) -> Result<bool> {
        let Some(run) = journal.document().unfinished.iter().find(|run| run.step == S::NAME).cloned() else {
            // It was not even recorded.
            return Ok(false);
        };
        // One that does not go back is no reason to leave the others.
        let mut reasons = Vec::new();
        for file in run.files.iter().rev() {
            if let Err(reason) = journal.restore(&file.path, file.staging, file.previous.as_ref()) {
                reasons.push(reason.one_line());
            }
        }
        for action in begun.iter().rev() {
            say::progress(format_args!("taking back: {action}"));
            if let Err(reason) = step.act(self.host, action, Direction::Back).await {
                reasons.push(reason.one_line());
            }
        }
        for directory in run.directories.iter().rev() {
            if let Err(reason) = self.files().remove_empty_directory(directory) {
                reasons.push(reason.to_string());
            }
        }
        if !reasons.is_empty() {
            return Err(Failure::new(Exit::TryAgain, reasons.join("; ")));
        }
        journal.taken_back(S::NAME)?;
        Ok(true)
    }

    /// Takes back all that the journal holds of a step. With `force`, also what someone else changed since.
    pub async fn undo<S: Undo>(&self, step: &S, force: bool) -> Result<Undone> {
        let mut undone = Undone { step: S::NAME.as_str(), items: Vec::new(), notes: Vec::new() };
        let recorded = Document::read(self.files(), self.state_dir)?.of_step::<S::Action>(S::NAME)?;
        if !recorded.is_empty() {
            // It may refuse, before anything is touched.
            step.next(self.host, &recorded).await?;
        }
        let journal = Journal::open_existing(self.files(), self.state_dir, self.lock_timeout).await?;
        let Some(mut journal) = journal else {
            // An interrupted undo may have removed it without coming to the sync.
            self.files().sync_directory(self.state_dir.parent().unwrap_or(Path::new("/")))?;
            return Ok(undone);
        };
        let outcome = self.undo_locked(step, &mut journal, force, &mut undone).await;
        let closed = journal.close();
        outcome.and(closed).map(|()| undone)
    }

    async fn undo_locked<S: Undo>(
        &self,
        step: &S,
        journal: &mut Journal,
        force: bool,
        undone: &mut Undone,
    ) -> Result<()> {
        loop {
            let recorded = journal.document().of_step::<S::Action>(S::NAME)?;
            if recorded.is_empty() {
                return Ok(());
            }
            let Stage { back, actions, notes, last } = step.next(self.host, &recorded).await?;
            journal.note(&format!("{} undo", S::NAME));
            let entries: Vec<(&Back, &Entry)> =
                back.iter().filter_map(|it| Some((it, recorded.entry(it.path())?))).collect();
            for (it, entry) in &entries {
                if !matches!(it, Back::Rewrite(_) | Back::Leave(_)) && !force {
                    self.refuse_if_foreign(entry)?;
                }
            }
            for note in &notes {
                say::progress(note);
            }
            undone.notes.extend(notes);
            for (it, entry) in &entries {
                undone.items.push(self.go_back(journal, it, entry)?);
            }
            for action in &actions {
                say::progress(action);
                step.act(self.host, action, Direction::Back).await?;
                undone.items.push(UndoneItem::Done { action: action.to_string() });
            }
            let paths: Vec<_> = back.iter().map(|it| it.path().to_owned()).collect();
            journal.forget(S::NAME, &paths)?;
            if last {
                return Ok(());
            }
        }
    }

    /// What is neither as we wrote it nor as it was before is someone else's.
    fn refuse_if_foreign(&self, entry: &Entry) -> Result<()> {
        let What::File { before, wrote, .. } = &entry.what else { return Ok(()) };
        let there = self.files().print_of(&entry.path)?;
        if there == *before || there.is_none_or(|print| wrote.contains(&print.sha256)) {
            return Ok(());
        }
        Err(Failure::unsuitable(format!(
            "{} was changed by someone else since it was installed: take it back by hand, or use --force",
            entry.path.display()
        )))
    }

    fn go_back(&self, journal: &Journal, back: &Back, entry: &Entry) -> Result<UndoneItem> {
        let path = entry.path.clone();
        match (back, &entry.what) {
            (Back::Rewrite(file), _) => {
                let open = || file.content.open();
                self.files().put(&file.path, file.staging, open, &file.print)?;
                file.verify(self.files())?;
                Ok(UndoneItem::Rewritten { path })
            }
            (Back::Leave(_), _) => Ok(UndoneItem::Left { path }),
            (Back::Clear(_), What::Directory) => {
                say::progress(format_args!("removing {} and all that is in it", path.display()));
                self.files().remove_directory_with_all(&path)?;
                Ok(UndoneItem::Removed { path })
            }
            (Back::Restore(_), What::Directory) => {
                let gone = self.files().remove_empty_directory(&path)?;
                Ok(if gone { UndoneItem::Removed { path } } else { UndoneItem::Kept { path } })
            }
            (Back::Restore(_) | Back::Clear(_), What::File { staging, before, .. }) => {
                let as_before = self.files().print_of(&path)? == *before;
                say::progress(format_args!("taking back {}", path.display()));
                journal.restore(&path, *staging, before.as_ref())?;
                Ok(match before {
                    _ if as_before => UndoneItem::AsBefore { path },
                    Some(_) => UndoneItem::Restored { path },
                    None => UndoneItem::Removed { path },
                })
            }
        }
    }

    fn files(&self) -> &Files {
        self.host.files()
    }
}

/// Refuses a plan that takes a restart which is not allowed.
fn permit<A: Action>(plan: &Plan<A>, restarts: Restarts) -> Result<()> {
    match plan.restart() {
        Some(because) if restarts == Restarts::Forbidden => Err(Failure::new(
            Exit::RestartNeeded,
            format!("{because}; nothing was changed, because --allow-restart was not given"),
        )),
        _ => Ok(()),
    }
}

/// What cannot work was found by the check, so this has come up since, and may pass.
fn met_after_check(error: impl Into<Failure>) -> Failure {
    error.into().once_begun()
}
