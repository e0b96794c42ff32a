//! How CNI is taken back: the configuration first, so that no more containers are started with it; then the flags that
//! were set for it; the plugins and directories last.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::config;
use super::place::{FLAGS, Searched};
use super::survey;
use crate::exit::{Failure, Result};
use crate::host::Host;
use crate::host::agent::{Agent, AgentFlags, containers_on};
use crate::host::files::{Files, Staging};
use crate::journal::{Entry, Recorded, What};
use crate::options::{AgentUnitOptions, CniUndoOptions, FindAgentOptions, RestartOptions};
use crate::say;
use crate::steps::agent::restart::{self, Action};
use crate::steps::agent::settings;
use crate::steps::model::{Acts, Back, Direction, Stage, Undo};
use crate::steps::{StepName, agent, users};
use crate::values::NetworkName;

/// The step, as it is taken back.
#[derive(Debug)]
pub struct CniUndo<'a> {
    /// The network; `None` when only plugins are left of what was installed.
    pub network: Option<&'a NetworkName>,
    /// Whether containers that use it are no obstacle.
    pub force: bool,
    /// Whether it is refused where the agent would keep flags that were set for us.
    pub complete: bool,
    /// Whether the agent may be restarted; without that it keeps such flags until its next start.
    pub restarts: RestartOptions,
    /// Which agent.
    pub agent: &'a FindAgentOptions,
    /// How it is run.
    pub unit: &'a AgentUnitOptions,
}

impl<'a> From<&'a CniUndoOptions> for CniUndo<'a> {
    fn from(options: &'a CniUndoOptions) -> Self {
        let CniUndoOptions { network_name, force, complete, restarts, agent, unit, state: _ } = options;
        Self {
            network: Some(network_name),
            force: *force,
            complete: *complete,
            restarts: *restarts,
            agent,
            unit,
        }
    }
}

impl Acts for CniUndo<'_> {
    type Action = Action;
    const NAME: StepName = StepName::Cni;

    async fn act(&self, host: &Host, action: &Action, _: Direction) -> Result<()> {
        restart::undo(&Agent::at(self.agent.url(host).await?), self.unit, action).await
    }
}

impl Undo for CniUndo<'_> {
    async fn next(&self, host: &Host, recorded: &Recorded<Action>) -> Result<Stage<Action>> {
        let Split { configuration, settings, rest, others } = Split::of(&recorded.entries, self.network);
        if configuration.is_none() && !others.is_empty() {
            let network = self.network.map(|network| format!("--network-name {network}")).unwrap_or_default();
            return Err(Failure::unsuitable(format!(
                "{network} was not installed here, but {}",
                others.join(", ")
            )));
        }
        // Asked again for each stage: a container may have been started meanwhile; without the configuration no more are.
        let users = Users::of(host, self).await?;
        users.refuse_unless(self.network, self.force)?;
        let last_network = others.is_empty();
        let searched = users.flags.as_ref().and_then(|flags| Searched::from_flags(flags).ok().flatten());
        let set = settings.iter().find_map(|entry| super::settings_of(entry));
        let mut ended = None;
        let restart = match (&searched, set) {
            (Some(searched), Some(settings)) if last_network => {
                self.refuse_if_flags_are_needed(host.files(), searched, configuration.as_ref(), &users)?;
                ended = self.ended_by_restart(host, &users).await?;
                Some(Action::RestartAgent { reload: settings.needs_reload() })
            }
            _ => None,
        };
        if let Some(path) = configuration {
            let stage = Stage::of(vec![Back::Restore(path)]);
            return Ok(if last_network {
                stage.and_more()
            } else {
                stage.note(format!("the plugins stay for {}", others.join(", ")))
            });
        }
        if !settings.is_empty() {
            let back =
                settings.into_iter().map(|entry| self.back(host.files(), entry)).collect::<Result<_>>()?;
            let stage = Stage::of(back).and_more();
            return Ok(match restart {
                Some(action) if self.restarts.allow_restart => {
                    ended.into_iter().fold(stage.then(action), Stage::note)
                }
                Some(_) => stage.note(
                    "the agent keeps the flags of CNI until its next start (without --allow-restart it was not restarted)",
                ),
                None => stage,
            });
        }
        // An agent does not start without the directories that it is told of; what it is told of may not be known.
        let is_named = |entry: &Entry| {
            let named = || searched.as_ref().is_some_and(|it| it.names(&entry.path));
            matches!(entry.what, What::Directory) && (users.flags.is_none() || named())
        };
        let back = |entry: &Entry| {
            if is_named(entry) { Back::Leave(entry.path.clone()) } else { Back::Restore(entry.path.clone()) }
        };
        Ok(Stage::of(rest.into_iter().map(back).collect()))
    }
}

impl CniUndo<'_> {
    /// What the restart ends that takes the flags away, in words, if there is to be one. Refused where it must not be, and
    /// where it may not and the agent is to have them taken completely.
    async fn ended_by_restart(&self, host: &Host, users: &Users) -> Result<Option<String>> {
        let RestartOptions { allow_restart, .. } = self.restarts;
        let Some(flags) = users.flags.as_ref().filter(|_| allow_restart || self.complete) else {
            return Ok(None);
        };
        let state = Agent::at(self.agent.url(host).await?).state().await?;
        let ended = agent::ended_by_undo(self.unit, flags, &state).await?;
        if allow_restart {
            return Ok(ended);
        }
        let what = "the flags of CNI that were set for this network";
        Err(agent::refuse_forbidden_restart(what, ended.as_deref()))
    }

    /// Refuses to take flags from an agent that others need.
    fn refuse_if_flags_are_needed(
        &self,
        files: &Files,
        searched: &Searched,
        ours: Option<&PathBuf>,
        users: &Users,
    ) -> Result<()> {
        users.refuse_unless(None, self.force)?;
        let configs = survey::configs(files, &searched.config)?;
        let foreign = configs
            .iter()
            .find(|(path, content)| Some(path) != ours && config::network_of(content).is_some())
            .map(|(path, _)| path.display());
        if let Some(foreign) = foreign.filter(|_| !self.force) {
            return Err(Failure::unsuitable(format!(
                "{foreign} configures another network, which needs the flags of CNI that were set for ours: remove it, or \
                 use --force"
            )));
        }
        Ok(())
    }

    /// What was there before; or, when others changed a file of variables since, what they made of it without ours.
    fn back(&self, files: &Files, entry: &Entry) -> Result<Back> {
        let restore = Back::Restore(entry.path.clone());
        let What::File { before: Some(before), wrote, .. } = &entry.what else { return Ok(restore) };
        let Some(print) = files.print_of(&entry.path)? else { return Ok(restore) };
        if self.force || print == *before || wrote.contains(&print.sha256) {
            return Ok(restore);
        }
        let content = files.read(&entry.path)?.unwrap_or_default();
        let Ok(text) = String::from_utf8(content) else { return Ok(restore) };
        let without = settings::without_variables(&text, &FLAGS);
        Ok(Back::Rewrite(settings::file(files, entry.path.clone(), without)?))
    }
}

/// The journal's entries, as undoing one network sees them; the last first.
struct Split<'a> {
    /// The network's own configuration.
    configuration: Option<PathBuf>,
    /// Where the agent's flags were set.
    settings: Vec<&'a Entry>,
    /// The plugins, and all directories.
    rest: Vec<&'a Entry>,
    /// The configurations of other networks of ours.
    others: Vec<String>,
}

impl<'a> Split<'a> {
    fn of(entries: &'a [Entry], network: Option<&NetworkName>) -> Self {
        let mut split =
            Self { configuration: None, settings: Vec::new(), rest: Vec::new(), others: Vec::new() };
        for entry in entries.iter().rev() {
            let path = &entry.path;
            match &entry.what {
                What::File { staging: Staging::Outside, .. } => {
                    let own = |network| path.parent().map(|it| config::path_in(it, network));
                    if network.and_then(own).as_ref() == Some(path) {
                        split.configuration = Some(path.clone());
                    } else {
                        split.others.push(path.display().to_string());
                    }
                }
                What::File { .. } if super::settings_of(entry).is_some() => split.settings.push(entry),
                What::File { .. } | What::Directory => split.rest.push(entry),
            }
        }
        split
    }
}

/// The networks whose configuration is recorded.
pub fn networks_of(entries: &[Entry]) -> Vec<NetworkName> {
    let is_config = |entry: &&Entry| matches!(entry.what, What::File { staging: Staging::Outside, .. });
    let network = |entry: &Entry| entry.path.file_stem()?.to_str()?.parse().ok();
    entries.iter().filter(is_config).filter_map(network).collect()
}

/// How the containers are found that need the plugins for their DEL.
struct Users {
    /// The agent's flags; `None` when it could not be asked and that is to be no obstacle.
    flags: Option<AgentFlags>,
    /// What runs in the agent's containers, in words.
    names: BTreeMap<String, String>,
}

impl Users {
    async fn of(host: &Host, undo: &CniUndo<'_>) -> Result<Self> {
        let ask = async {
            let agent = Agent::at(undo.agent.url(host).await?);
            let flags = agent.flags().await?;
            // Only for the message: the isolator's directory says who they are.
            Ok::<_, Failure>((flags, agent.containers().await.unwrap_or_default()))
        };
        match ask.await {
            Ok((flags, names)) => Ok(Self { flags: Some(flags), names }),
            Err(failure) if undo.force => {
                say::progress(format_args!(
                    "cannot tell which containers use the network, going on as asked: {}",
                    failure.one_line()
                ));
                Ok(Self { flags: None, names: BTreeMap::new() })
            }
            Err(failure) => Err(failure),
        }
    }

    /// Looks now, for containers of a network, or of any.
    fn refuse_unless(&self, network: Option<&NetworkName>, force: bool) -> Result<()> {
        let Some(flags) = &self.flags else { return Ok(()) };
        let users: Vec<String> = containers_on(&flags.cni_root(), network.map(NetworkName::as_str))?
            .into_iter()
            .map(|id| match self.names.get(&id) {
                Some(name) => format!("{id} ({name})"),
                None => id,
            })
            .collect();
        let network = match network {
            Some(network) => format!("the network {network}"),
            None => "CNI networks".to_owned(),
        };
        users::refuse(&network, "its plugins", &users, force)
    }
}
