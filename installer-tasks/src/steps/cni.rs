//! `cni`: Calico's plugins and the configuration of its network, as the Mesos agent's CNI isolator uses them.
//!
//! Binaries first, the configuration last: from the moment that it is there, containers may be started with it.
//! Undo goes the other way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure, Result};
use crate::host::agent::{self, Agent};
use crate::host::files::{self, Files, Print, Staging};
use crate::host::{Host, name};
use crate::journal::{Entry, Recorded, What};
use crate::options::{CniOptions, CniUndoOptions, FindAgentOptions};
use crate::say;
use crate::steps::model::{
    Acts, Back, Content, Direction, NoAction, Plan, Proposal, Stage, Step, Undo, WantedFile,
};
use crate::steps::status::{Installed, Seen};
use crate::steps::{StepName, users};
use crate::values::{Artifact, NetworkName};

pub mod config;
pub mod place;
mod plugins;

use config::NetworkConfig;
use place::Searched;
use plugins::Plugin;

/// The plugin that connects containers.
pub const PLUGIN: &str = "calico";
/// The plugin that gives addresses.
pub const IPAM_PLUGIN: &str = "calico-ipam";
/// Where DC/OS says that its own Calico is on, whose network is called [`DCOS_NETWORK`].
const DCOS_CALICO: &str = "/opt/mesosphere/etc/calico/calico_enabled";
const DCOS_NETWORK: &str = "calico";

/// The step, as it is installed.
#[derive(Debug)]
pub struct Cni<'a> {
    /// What is wanted.
    pub options: &'a CniOptions,
}

/// The step, as it is taken back.
#[derive(Debug)]
pub struct CniUndo<'a> {
    /// The network; `None` when only plugins are left of what was installed.
    pub network: Option<&'a NetworkName>,
    /// Whether containers that use it are no obstacle.
    pub force: bool,
    /// Which agent.
    pub agent: &'a FindAgentOptions,
}

impl<'a> From<&'a CniUndoOptions> for CniUndo<'a> {
    fn from(options: &'a CniUndoOptions) -> Self {
        let CniUndoOptions { network_name, force, agent, state: _ } = options;
        Self { network: Some(network_name), force: *force, agent }
    }
}

impl Acts for Cni<'_> {
    type Action = NoAction;
    const NAME: StepName = StepName::Cni;

    async fn act(&self, _: &Host, action: &NoAction, _: Direction) -> Result<()> {
        match *action {}
    }
}

impl Acts for CniUndo<'_> {
    type Action = NoAction;
    const NAME: StepName = StepName::Cni;

    async fn act(&self, _: &Host, action: &NoAction, _: Direction) -> Result<()> {
        match *action {}
    }
}

impl Step for Cni<'_> {
    async fn check(&self, host: &Host, recorded: &Recorded<NoAction>) -> Result<Proposal<NoAction>> {
        survey(host, self.options, recorded).await
    }

    async fn verify(&self, host: &Host, plan: &Plan<NoAction>) -> Result<()> {
        // As the isolator reads it.
        let network = self.options.network_name.as_str();
        for file in plan.files().iter().filter(|file| file.staging == Staging::Outside) {
            let content = host.files().read(&file.path)?.unwrap_or_default();
            if config::network_of(&content).as_deref() != Some(network) {
                let path = file.path.display();
                return Err(Failure::new(Exit::TryAgain, format!("{path} does not configure {network}")));
            }
        }
        Ok(())
    }
}

fn wanted(path: PathBuf, staging: Staging, content: Content, sha256: String, mode: u32) -> WantedFile {
    let (uid, gid) = files::own_ids();
    WantedFile { path, staging, print: Print { sha256, mode, uid, gid }, content }
}

/// Looks at the host and the agent; everything that cannot work is found here, before anything is changed.
async fn survey(
    host: &Host,
    options: &CniOptions,
    recorded: &Recorded<NoAction>,
) -> Result<Proposal<NoAction>> {
    let network = &options.network_name;
    let mut plugins = plugins::wanted(options)?;
    if network.as_str() == DCOS_NETWORK && host.has(DCOS_CALICO) {
        return Err(Failure::unsuitable(format!(
            "DC/OS' own Calico is on here ({DCOS_CALICO} exists) and has the network name {DCOS_NETWORK}: turn it off, \
             or give another --network-name"
        )));
    }

    let etcd = &options.step.etcd;
    let agent = Agent::at(options.step.agent.url(&etcd.endpoints)?);
    let version = agent.version().await?;
    let flags = agent.flags().await?;
    let searched = match Searched::from_flags(&flags, place::usual(host)) {
        // Its version may be the better reason.
        Err(failure) => {
            return Err(place::restart_for(version).err().unwrap_or(failure));
        }
        Ok(searched) => searched,
    };
    let files = host.files();
    let writable = |directory: &Path| files.is_writable_directory(directory);
    let plugins_dir = searched.plugins_dir(options.cni_plugins_dir.as_deref(), writable)?;
    let config_dir = searched.config_dir(options.cni_config_dir.as_deref())?;

    let mut proposal = Proposal::new();
    if options.cni_port_mapper {
        let ours = |path: &Path| recorded.entry(path).is_some();
        plugins.extend(plugins::port_mapper(files, &searched, &flags, ours)?);
    }
    for plugin in plugins {
        if let Some(note) = plugins::check_shadows(&searched, &plugins_dir, &plugin)? {
            proposal.note(note);
        }
        let Plugin { name, source: Artifact { path, sha256 }, .. } = plugin;
        proposal.file(wanted(
            plugins_dir.join(name),
            Staging::Beside,
            Content::Artifact(path),
            sha256,
            0o755,
        ));
    }
    let text = NetworkConfig {
        network,
        etcd: &etcd.for_clients()?,
        node_name: &name::node_name(options.node_name.as_deref())?,
        nodename_file_optional: options.cni_nodename_file_optional,
        mtu: options.network_mtu,
        ipv4_pools: &options.cni_ipv4_pools,
        log_level: options.cni_log_level,
        port_mapper: options.cni_port_mapper,
    }
    .render();
    let path = config::path_in(&config_dir, network);
    let sha256 = files::sha256_hex(text.as_bytes());
    let config = wanted(path, Staging::Outside, Content::Bytes(text.into_bytes()), sha256, 0o644);
    check_rivals(files, &config_dir, network, &config, recorded)?;
    proposal.file(config);
    match place::restart_for(version)? {
        Some(because) if options.step.restarts.allow_restart => Err(Failure::unsuitable(format!(
            "{because}, and this version of calico-installer does not restart it; Mesos 1.2 or later is needed"
        ))),
        Some(because) => {
            proposal.restart(because);
            Ok(proposal)
        }
        None => Ok(proposal),
    }
}

/// A network has one configuration, and only one that we wrote is replaced.
fn check_rivals(
    files: &Files,
    directory: &Path,
    network: &NetworkName,
    ours: &WantedFile,
    recorded: &Recorded<NoAction>,
) -> Result<()> {
    if !files.is_writable_directory(directory) {
        return Err(Failure::unsuitable(format!(
            "the agent's --network_cni_config_dir {} is not a directory that can be written",
            directory.display()
        )));
    }
    let mut configs = Vec::new();
    for path in files.list(directory)?.into_iter().filter(|path| files.is_file(path)) {
        if let Some(content) = files.read(&path)? {
            configs.push((path, content));
        }
    }
    if let Some(rival) = config::rival(&configs, network, &ours.path) {
        return Err(Failure::unsuitable(format!(
            "{} already configures a network called {network}: remove it, or give another --network-name",
            rival.display()
        )));
    }
    let there = configs.iter().find(|(path, _)| *path == ours.path);
    let foreign = |content: &[u8]| {
        let same = files::sha256_hex(content) == ours.print.sha256;
        !same && recorded.entry(&ours.path).is_none()
    };
    match there {
        Some((path, content)) if foreign(content) => Err(Failure::unsuitable(format!(
            "{} is there, differs from ours, and was not written by calico-installer: remove it, or give another --network-name",
            path.display()
        ))),
        _ => Ok(()),
    }
}

impl Undo for CniUndo<'_> {
    /// The configuration first, then the binaries, unless another network of ours needs them.
    async fn next(&self, _: &Host, recorded: &Recorded<NoAction>) -> Result<Stage<NoAction>> {
        let Split { configuration, binaries, others } = Split::of(&recorded.entries, self.network);
        if configuration.is_none() && !others.is_empty() {
            let network = self.network.map(|network| format!("--network-name {network}")).unwrap_or_default();
            return Err(Failure::unsuitable(format!(
                "{network} was not installed here, but {}",
                others.join(", ")
            )));
        }
        // Asked again for the binaries: a container may have been started meanwhile; without the configuration no
        // more are.
        Users::of(self).await?.refuse_unless(self.force)?;
        Ok(match configuration {
            Some(path) if others.is_empty() => Stage::of(vec![Back::Restore(path)]).and_more(),
            Some(path) => Stage::of(vec![Back::Restore(path)])
                .note(format!("the plugins stay for {}", others.join(", "))),
            None => Stage::of(binaries.into_iter().map(Back::Restore).collect()),
        })
    }
}

/// The journal's entries, as undoing one network sees them.
struct Split {
    /// The network's own configuration.
    configuration: Option<PathBuf>,
    /// The plugins, last first.
    binaries: Vec<PathBuf>,
    /// The configurations of other networks of ours.
    others: Vec<String>,
}

impl Split {
    fn of(entries: &[Entry], network: Option<&NetworkName>) -> Self {
        let mut split = Self { configuration: None, binaries: Vec::new(), others: Vec::new() };
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
                What::File { .. } | What::Directory => split.binaries.push(path.clone()),
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

/// What is seen of it where the agent looks.
pub async fn seen(host: &Host, agent: &FindAgentOptions) -> Seen {
    let look = async {
        let agent = Agent::at(agent.url()?);
        let searched = Searched::from_flags(&agent.flags().await?, place::usual(host))?;
        seen_in(host.files(), &searched)
    };
    look.await
        .unwrap_or_else(|failure| Seen { installed: Installed::Unknown, what: vec![failure.one_line()] })
}

fn seen_in(files: &Files, searched: &Searched) -> Result<Seen> {
    let mut what = Vec::new();
    for name in [PLUGIN, IPAM_PLUGIN] {
        let paths = searched.plugins.iter().map(|directory| directory.join(name));
        what.extend(
            paths.into_iter().find(|path| files.is_file(path)).map(|path| path.display().to_string()),
        );
    }
    let plugins = what.len();
    for path in files.list(&searched.config)?.into_iter().filter(|path| files.is_file(path)) {
        let content = files.read(&path)?.unwrap_or_default();
        if config::plugin_of(&content).as_deref() == Some(PLUGIN) {
            let network = config::network_of(&content).unwrap_or_default();
            what.push(format!("{} configures the network {network}", path.display()));
        }
    }
    let installed = match (plugins, what.len() - plugins) {
        (0, 0) => Installed::No,
        (2, 1..) => Installed::Yes,
        _ => Installed::Partly,
    };
    Ok(Seen { installed, what })
}

/// How the containers are found that need the plugins for their DEL.
struct Users<'a> {
    network: Option<&'a NetworkName>,
    /// Where the isolator keeps them; `None` when the agent could not be asked and that is to be no obstacle.
    cni_root: Option<PathBuf>,
    /// What runs in the agent's containers, in words.
    names: BTreeMap<String, String>,
}

impl<'a> Users<'a> {
    async fn of(undo: &CniUndo<'a>) -> Result<Self> {
        let network = undo.network;
        let ask = async {
            let agent = Agent::at(undo.agent.url()?);
            let flags = agent.flags().await?;
            // Only for the message: the isolator's directory says who they are.
            Ok::<_, Failure>((flags.cni_root(), agent.containers().await.unwrap_or_default()))
        };
        match ask.await {
            Ok((cni_root, names)) => Ok(Self { network, cni_root: Some(cni_root), names }),
            Err(failure) if undo.force => {
                say::progress(format_args!(
                    "cannot tell which containers use the network, going on as asked: {}",
                    failure.one_line()
                ));
                Ok(Self { network, cni_root: None, names: BTreeMap::new() })
            }
            Err(failure) => Err(failure),
        }
    }

    /// Looks now.
    fn refuse_unless(&self, force: bool) -> Result<()> {
        let Some(cni_root) = &self.cni_root else { return Ok(()) };
        let users: Vec<String> = agent::containers_on(cni_root, self.network.map(NetworkName::as_str))?
            .into_iter()
            .map(|id| match self.names.get(&id) {
                Some(name) => format!("{id} ({name})"),
                None => id,
            })
            .collect();
        let network = match self.network {
            Some(network) => format!("the network {network}"),
            None => "CNI networks".to_owned(),
        };
        users::refuse(&network, "its plugins", &users, force)
    }
}
