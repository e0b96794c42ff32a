//! How net-modules are taken back: first all that names the programs, with a restart of the agent; then the programs.

use std::path::Path;

use super::modules_json::{HOOK, ISOLATOR, ModulesJson};
use super::place::{
    AUTHORITY, DEFAULT_AUTHORITY, HOOKS, ISOLATION, Layout, MODULES, with_name, with_word, without_name,
};
use super::{LIBRARY, is_program, not_loaded};
use crate::exit::{Exit, Failure, Result};
use crate::host::agent::{Agent, AgentFlags, AgentState};
use crate::host::files::{self, Files};
use crate::host::platform::Platform;
use crate::host::{Host, words};
use crate::journal::{self, Entry, Recorded, What};
use crate::options::{AgentUnitOptions, FindAgentOptions, NetModulesUndoOptions, RestartOptions};
use crate::say;
use crate::steps::agent::restart::{self, Action};
use crate::steps::agent::settings::{self, Settings, variable};
use crate::steps::model::{Acts, Back, Direction, Stage, Undo};
use crate::steps::{StepName, agent, users};

/// The step, as it is taken back.
#[derive(Debug)]
pub struct NetModulesUndo<'a> {
    /// Whether it goes on although tasks use it, files were changed since, or the agent does not answer.
    pub force: bool,
    /// Whether the agent may be restarted.
    pub restarts: RestartOptions,
    /// Which agent.
    pub agent: &'a FindAgentOptions,
    /// How it is run.
    pub unit: &'a AgentUnitOptions,
    /// Where the record is.
    pub state_dir: &'a Path,
}

impl<'a> From<&'a NetModulesUndoOptions> for NetModulesUndo<'a> {
    fn from(options: &'a NetModulesUndoOptions) -> Self {
        let NetModulesUndoOptions { force, restarts, agent, unit, state } = options;
        Self { force: *force, restarts: *restarts, agent, unit, state_dir: &state.state_dir }
    }
}

impl Acts for NetModulesUndo<'_> {
    type Action = Action;
    const NAME: StepName = StepName::NetModules;

    async fn act(&self, host: &Host, action: &Action, _: Direction) -> Result<()> {
        restart::undo(&Agent::at(self.agent.url(host).await?), self.unit, action).await
    }
}

impl Undo for NetModulesUndo<'_> {
    async fn next(&self, host: &Host, recorded: &Recorded<Action>) -> Result<Stage<Action>> {
        let is_last = |entry: &&Entry| matches!(entry.what, What::Directory) || is_program(&entry.path);
        let (programs, naming): (Vec<&Entry>, Vec<&Entry>) = recorded.entries.iter().rev().partition(is_last);
        // Asked again for each stage: whatever has started the agent meanwhile may have given it the modules again.
        let loaded = self.ask(host).await?.filter(|(flags, _)| not_loaded(flags).len() < 2);
        if naming.is_empty() {
            if let Some((_, state)) = &loaded {
                self.refuse_users(state)?;
                self.refuse_loaded()?;
            }
            return Ok(Stage::of(
                programs.into_iter().map(|entry| Back::Restore(entry.path.clone())).collect(),
            ));
        }
        let back = || naming.iter().map(|entry| self.back(host.files(), entry)).collect::<Result<_>>();
        let Some((flags, state)) = loaded else { return Ok(Stage::of(back()?).and_more()) };
        let ended = agent::ended_by_undo(self.unit, &flags, &state).await?;
        if !self.restarts.allow_restart {
            return Err(agent::refuse_forbidden_restart("the modules that it has loaded", ended.as_deref()));
        }
        self.refuse_users(&state)?;
        let reload = naming.iter().any(|entry| is_drop_in(&entry.path));
        let first = Stage::of(back()?).and_more().then(Action::RestartAgent { reload });
        Ok(ended.into_iter().fold(first, Stage::note))
    }
}

fn is_drop_in(path: &Path) -> bool {
    matches!(Settings::at(path, &[]), Some(Settings::DropIn(_)))
}

impl NetModulesUndo<'_> {
    /// Refuses while there are tasks that may have their addresses from the modules.
    fn refuse_users(&self, state: &AgentState) -> Result<()> {
        let users = state.tasks_with_own_addresses();
        users::refuse("addresses of their own, as net-modules give them", "calico_mesos", &users, self.force)
    }

    /// Refuses to take the programs from an agent that has loaded the modules, though nothing of ours names them any more.
    fn refuse_loaded(&self) -> Result<()> {
        if self.force {
            return Ok(());
        }
        Err(Failure::new(
            Exit::TryAgain,
            format!(
                "the Mesos agent has our modules loaded again, which run calico_mesos, though all that names them was taken \
                 back: see that nothing else sets --{MODULES}, --{ISOLATION} and --{HOOKS}, and restart it, or use --force"
            ),
        ))
    }

    /// What the agent has and runs; `None` when it does not answer, and that is to be no obstacle.
    async fn ask(&self, host: &Host) -> Result<Option<(AgentFlags, AgentState)>> {
        let ask = async {
            let agent = Agent::at(self.agent.url(host).await?);
            Ok::<_, Failure>((agent.flags().await?, agent.state().await?))
        };
        match ask.await {
            Ok(asked) => Ok(Some(asked)),
            Err(failure) if self.force => {
                let why = failure.one_line();
                say::progress(format_args!(
                    "cannot tell what the agent has loaded, going on as asked: {why}"
                ));
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// What was there before; or, when others changed the file since, what they made of it without our part.
    fn back(&self, files: &Files, entry: &Entry) -> Result<Back> {
        let restore = Back::Restore(entry.path.clone());
        let What::File { before, wrote, .. } = &entry.what else { return Ok(restore) };
        let Some(print) = files.print_of(&entry.path)? else { return Ok(restore) };
        if self.force || Some(&print) == before.as_ref() || wrote.contains(&print.sha256) {
            return Ok(restore);
        }
        let before = journal::content_before(files, self.state_dir, entry)?;
        let before = before.map(|content| String::from_utf8_lossy(&content).into_owned());
        let now = settings::text_of(files, &entry.path)?;
        let name = entry.path.file_name().unwrap_or_default().to_string_lossy();
        let without = match &*name {
            ISOLATION => in_list(&now, ISOLATOR),
            HOOKS => in_list(&now, HOOK),
            MODULES => None,
            _ if is_drop_in(&entry.path) => None,
            _ if now.trim_start().starts_with(['{', '[']) => {
                Some(in_modules(&now, before.as_deref()).map_err(|error| {
                    let path = entry.path.display();
                    Failure::unsuitable(format!(
                        "{path} was changed since, and cannot be taken back: {error}"
                    ))
                })?)
            }
            _ => in_variables(&now, before.as_deref().unwrap_or_default(), wrote),
        };
        match without {
            Some(text) => Ok(Back::Rewrite(settings::file(files, entry.path.clone(), text)?)),
            None => Ok(restore),
        }
    }
}

/// A file of a list without our name; `None` when that is all that is in it.
fn in_list(text: &str, name: &str) -> Option<String> {
    let without = without_name(text, name);
    (!without.is_empty()).then(|| with_word(text, &without))
}

/// A file of modules without our library.
fn in_modules(text: &str, before: Option<&str>) -> Result<String, super::modules_json::ModulesError> {
    let (mut now, before) =
        (ModulesJson::parse(Some(text.as_bytes()))?, ModulesJson::parse(before.map(str::as_bytes))?);
    for platform in [Platform::DcOs, Platform::Mesos] {
        now = now.with_library_of(&before, &format!("{}/{LIBRARY}", Layout::of(platform).libraries))?;
    }
    Ok(now.text().to_owned())
}

/// A file of variables without our names and values, of which `wrote` has the hashes of what we made of it; `None` when it
/// ends within a line that goes on.
fn in_variables(text: &str, before: &str, wrote: &[String]) -> Option<String> {
    let mut now = text.to_owned();
    for (flag, name) in [(ISOLATION, ISOLATOR), (HOOKS, HOOK)] {
        let variable = variable(flag);
        let Some(list) = words::last(&now, &variable) else { continue };
        let list = without_name(&list, name);
        now = match words::last(before, &variable) {
            None if list.is_empty() => words::without(&now, &variable),
            _ => words::with_value(&now, &variable, &list)?,
        };
    }
    // A file of modules that someone has named instead stays.
    let is_ours = |file: &str| {
        [Platform::DcOs, Platform::Mesos].iter().any(|it| file.ends_with(Layout::of(*it).modules))
    };
    let modules = variable(MODULES);
    if words::last(before, &modules).is_none()
        && words::last(&now, &modules).is_some_and(|file| is_ours(&file))
    {
        now = words::without(&now, &modules);
    }
    // So does an address of etcd.
    let address = words::last(&now, AUTHORITY);
    if !address.is_some_and(|it| it == DEFAULT_AUTHORITY || wrote_address(wrote, before, text, &it)) {
        return Some(now);
    }
    match words::last(before, AUTHORITY) {
        None => Some(words::without(&now, AUTHORITY)),
        Some(value) => words::with_value(&now, AUTHORITY, &value),
    }
}

/// Whether we wrote this address of etcd. Of what we wrote only hashes are known, so it is made again of what was there
/// before, with the flags as they are now or as we add to what they were; what is not found is another's.
fn wrote_address(wrote: &[String], before: &str, now: &str, address: &str) -> bool {
    let mut texts = vec![before.to_owned()];
    for (flag, name) in [(MODULES, None), (ISOLATION, Some(ISOLATOR)), (HOOKS, Some(HOOK))] {
        let variable = variable(flag);
        let ours = words::last(before, &variable).zip(name).map(|(list, name)| with_name(&list, name));
        let values: Vec<String> = words::last(now, &variable).into_iter().chain(ours).collect();
        let with = |text: &String| {
            let set = values.iter().filter_map(|value| words::with_value(text, &variable, value));
            set.collect::<Vec<_>>()
        };
        let more: Vec<String> = texts.iter().flat_map(with).collect();
        texts.extend(more);
    }
    let with_address = |text: &String| words::with_value(text, AUTHORITY, address);
    texts.iter().filter_map(with_address).any(|text| wrote.contains(&files::sha256_hex(text.as_bytes())))
}

#[cfg(test)]
mod tests;
