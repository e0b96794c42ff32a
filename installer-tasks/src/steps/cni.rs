//! `cni`: Calico's plugins and the configuration of its network, as the Mesos agent's CNI isolator uses them.
//!
//! Binaries first, the configuration last: from the moment that it is there, containers may be started with it.
//! Undo goes the other way.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure, Result};
use crate::host::agent::{self, Agent};
use crate::host::files::{self, Print, Staging};
use crate::host::{Host, artifact, name, net};
use crate::journal::{Entry, Journal};
use crate::options::{CniOptions, CniUndoOptions};
use crate::values::{Artifact, NetworkName};

pub mod config;
pub mod place;

use place::Searched;

/// The plugin that connects containers.
pub const PLUGIN: &str = "calico";
/// The plugin that gives addresses.
pub const IPAM_PLUGIN: &str = "calico-ipam";
/// The step's name in the journal.
const STEP: &str = "cni";
/// Where DC/OS says that its own Calico is on, whose network is called [`DCOS_NETWORK`].
const DCOS_CALICO: &str = "/opt/mesosphere/etc/calico/calico_enabled";
const DCOS_NETWORK: &str = "calico";

/// A file as it should be.
#[derive(Debug)]
struct Wanted {
    path: PathBuf,
    staging: Staging,
    print: Print,
    content: Content,
    /// Whether it differs from what is there.
    differs: bool,
}

#[derive(Debug)]
enum Content {
    Artifact(PathBuf),
    Text(String),
}

impl Wanted {
    fn new(path: PathBuf, staging: Staging, content: Content, sha256: String, mode: u32) -> Result<Self> {
        let (uid, gid) = files::own_ids();
        let print = Print { sha256, mode, uid, gid };
        let differs = files::print_of(&path)?.as_ref() != Some(&print);
        Ok(Self { path, staging, print, content, differs })
    }

    fn plugin(directory: &Path, name: &str, artifact: &Artifact) -> Result<Self> {
        let content = Content::Artifact(artifact.path.clone());
        Self::new(directory.join(name), Staging::Beside, content, artifact.sha256.clone(), 0o755)
    }

    fn config(path: PathBuf, text: String) -> Result<Self> {
        let sha256 = files::sha256_hex(text.as_bytes());
        Self::new(path, Staging::Outside, Content::Text(text), sha256, 0o644)
    }

    fn put(&self) -> Result<(), files::FileError> {
        match &self.content {
            Content::Artifact(path) => files::put(&self.path, self.staging, || File::open(path), &self.print),
            Content::Text(text) => files::put(&self.path, self.staging, || Ok(text.as_bytes()), &self.print),
        }
    }

    fn verify(&self, network: &NetworkName) -> Result<()> {
        let there = files::print_of(&self.path)?;
        let named = match &self.content {
            Content::Artifact(_) => true,
            Content::Text(_) => {
                let content = files::read(&self.path)?.unwrap_or_default();
                config::network_of(&content).as_deref() == Some(network.as_str())
            }
        };
        if there.as_ref() == Some(&self.print) && named {
            return Ok(());
        }
        let path = self.path.display();
        Err(Failure::new(Exit::TryAgain, format!("{path} was written, but is not there as it was written")))
    }
}

/// What there is to do, in the order in which it is done.
#[derive(Debug)]
struct Plan {
    files: Vec<Wanted>,
    notes: Vec<String>,
}

impl Plan {
    fn changes(&self) -> impl Iterator<Item = &Wanted> {
        self.files.iter().filter(|file| file.differs)
    }
}

/// Looks at the host and the agent; everything that cannot work is found here, before anything is changed.
async fn survey(host: &Host, options: &CniOptions) -> Result<Plan> {
    let network = &options.network_name;
    let artifacts = [(PLUGIN, &options.artifacts_cni), (IPAM_PLUGIN, &options.artifacts_cni_ipam)];
    for (_, artifact) in artifacts {
        artifact::verify(artifact)?;
    }
    if network.as_str() == DCOS_NETWORK && host.has(DCOS_CALICO) {
        return Err(Failure::unsuitable(format!(
            "DC/OS' own Calico is on here ({DCOS_CALICO} exists) and has the network name {DCOS_NETWORK}: turn it off, \
             or give another --network-name"
        )));
    }

    let etcd = &options.etcd;
    let endpoint =
        net::agent_url(options.agent.mesos_agent.as_ref(), options.agent.node_ip, &etcd.endpoints)?;
    let agent = Agent::at(endpoint);
    let version = agent.version().await?;
    let usual = if host.has("/opt/mesosphere") { place::DCOS } else { place::PLAIN };
    let searched = match Searched::from_flags(&agent.flags().await?, usual) {
        // Its version may be the better reason.
        Err(failure) => {
            return Err(place::mesos_gate(version)
                .err()
                .filter(|gate| gate.exit() == Exit::Unsuitable)
                .unwrap_or(failure));
        }
        Ok(searched) => searched,
    };
    let plugins_dir =
        searched.plugins_dir(options.cni_plugins_dir.as_deref(), files::is_writable_directory)?;
    let config_dir = searched.config_dir(options.cni_config_dir.as_deref())?;

    let mut notes = Vec::new();
    for (name, artifact) in artifacts {
        notes.extend(check_shadows(&searched, &plugins_dir, name, artifact)?);
    }
    let config_path = config::path_in(&config_dir, network);
    let node_name = name::node_name(options.node_name.as_deref())?;
    let text = config::render(network, &etcd.for_clients()?, &node_name, options.network_mtu);
    let files = vec![
        Wanted::plugin(&plugins_dir, PLUGIN, &options.artifacts_cni)?,
        Wanted::plugin(&plugins_dir, IPAM_PLUGIN, &options.artifacts_cni_ipam)?,
        Wanted::config(config_path, text)?,
    ];
    check_rivals(&config_dir, network, &files[2], &Journal::read(&options.state.state_dir)?)?;
    let plan = Plan { files, notes };
    if plan.changes().next().is_some() {
        place::mesos_gate(version)?;
    }
    Ok(plan)
}

/// The agent runs the first plugin of a name that it finds: an earlier one of another content is in our way.
fn check_shadows(
    searched: &Searched,
    directory: &Path,
    name: &str,
    ours: &Artifact,
) -> Result<Option<String>> {
    for earlier in searched.before(directory, name) {
        if !earlier.is_file() {
            continue;
        }
        let ours_path = directory.join(name);
        if files::sha256_of(&earlier)? != ours.sha256 {
            return Err(Failure::unsuitable(format!(
                "{} shadows {}: the agent searches {} first and cannot be given ours there; remove or replace it",
                earlier.display(),
                ours_path.display(),
                earlier.parent().unwrap_or(Path::new("/")).display()
            )));
        }
        return Ok(Some(format!(
            "{} comes first in the agent's search list, and is the same",
            earlier.display()
        )));
    }
    Ok(None)
}

/// A network has one configuration, and only one that we wrote is replaced.
fn check_rivals(directory: &Path, network: &NetworkName, ours: &Wanted, journal: &[Entry]) -> Result<()> {
    if !files::is_writable_directory(directory) {
        return Err(Failure::unsuitable(format!(
            "the agent's --network_cni_config_dir {} is not a directory that can be written",
            directory.display()
        )));
    }
    let mut configs = Vec::new();
    for path in files::list(directory)?.into_iter().filter(|path| path.is_file()) {
        if let Some(content) = files::read(&path)? {
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
        !same && !journal.iter().any(|entry| entry.path == ours.path)
    };
    match there {
        Some((path, content)) if foreign(content) => Err(Failure::unsuitable(format!(
            "{} is there, differs from ours, and was not written by calico-installer: remove it, or give another --network-name",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Installs what differs, and verifies it.
pub async fn apply(host: &Host, options: &CniOptions) -> Result<()> {
    let network = &options.network_name;
    let plan = survey(host, options).await?;
    for note in &plan.notes {
        eprintln!("{note}");
    }
    if plan.changes().next().is_none() {
        println!("nothing to do: the plugins and the network {network} are as they should be");
        return Ok(());
    }
    let mut journal = Journal::open(&options.state.state_dir)?;
    // Until now another installer may have been at work.
    let plan = survey(host, options).await.inspect_err(|_| journal.close())?;
    install(&plan, network, &mut journal).map_err(Failure::once_begun)?;
    println!("the network {network} is installed");
    Ok(())
}

fn install(plan: &Plan, network: &NetworkName, journal: &mut Journal) -> Result<()> {
    for file in plan.changes() {
        eprintln!("writing {}", file.path.display());
        journal.about_to_write(STEP, &file.path, file.staging, &file.print.sha256)?;
        file.put()?;
        println!("wrote {} (SHA-256 {})", file.path.display(), file.print.sha256);
    }
    for file in &plan.files {
        file.verify(network)?;
        journal.has_written(&file.path, &file.print.sha256)?;
    }
    Ok(())
}

/// Says what `apply` would change.
pub async fn check(host: &Host, options: &CniOptions) -> Result<()> {
    let network = &options.network_name;
    let plan = survey(host, options).await?;
    let different: Vec<String> = plan.changes().map(|file| file.path.display().to_string()).collect();
    if different.is_empty() {
        println!("the plugins and the network {network} are as they should be");
        return Ok(());
    }
    Err(Failure::new(Exit::No, format!("missing or different from what is wanted: {}", different.join(", "))))
}

/// Takes back what `apply` changed: the configuration first, then the binaries, unless another network of ours
/// needs them.
pub async fn undo(options: &CniUndoOptions) -> Result<()> {
    let network = &options.network_name;
    if Journal::read(&options.state.state_dir)?.iter().all(|entry| entry.step != STEP) {
        println!("nothing to take back: {} has no record of it", options.state.state_dir.display());
        return Ok(());
    }
    let users = Users::of(options).await?;
    users.refuse_unless(options.force)?;
    let mut journal = Journal::open(&options.state.state_dir)?;
    let Undo { configuration, binaries, others } = Undo::of(journal.of_step(STEP), network);
    if configuration.is_empty() && !others.is_empty() {
        let there = others.join(", ");
        return Err(Failure::unsuitable(format!(
            "--network-name {network} was not installed here, but {there}"
        )));
    }
    for entry in &configuration {
        take_back(&mut journal, entry, options.force)?;
    }
    if !others.is_empty() {
        println!("the network {network} is taken back; the plugins stay for {}", others.join(", "));
        return Ok(());
    }
    // A container may have been started meanwhile; without the configuration no more are.
    users.refuse_unless(options.force)?;
    for entry in &binaries {
        take_back(&mut journal, entry, options.force)?;
    }
    println!("the network {network} is taken back");
    Ok(())
}

/// The journal's entries, as undoing one network sees them.
struct Undo {
    /// The network's own configuration.
    configuration: Vec<Entry>,
    /// The plugins, last first.
    binaries: Vec<Entry>,
    /// The configurations of other networks of ours.
    others: Vec<String>,
}

impl Undo {
    fn of(entries: Vec<Entry>, network: &NetworkName) -> Self {
        let (configs, mut binaries): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.staging == Staging::Outside);
        binaries.reverse();
        let own =
            |entry: &Entry| entry.path.parent().is_some_and(|it| config::path_in(it, network) == entry.path);
        let (configuration, others): (Vec<_>, Vec<_>) = configs.into_iter().partition(own);
        let others = others.iter().map(|entry| entry.path.display().to_string()).collect();
        Self { configuration, binaries, others }
    }
}

fn take_back(journal: &mut Journal, entry: &Entry, force: bool) -> Result<()> {
    let path = entry.path.display();
    let there = files::print_of(&entry.path)?;
    let ours = there.as_ref().is_none_or(|print| entry.wrote.contains(&print.sha256));
    if there == entry.before {
        journal.forget(&entry.path)?;
        println!("{path} is as it was before");
        return Ok(());
    }
    if !ours && !force {
        return Err(Failure::unsuitable(format!(
            "{path} was changed by someone else since it was installed: take it back by hand, or use --force"
        )));
    }
    journal.restore(entry)?;
    match entry.before {
        None => println!("removed {path}"),
        Some(_) => println!("restored {path}"),
    }
    Ok(())
}

/// How the containers are found that need the plugins for their DEL.
struct Users {
    network: NetworkName,
    /// Where the isolator keeps them; `None` when the agent could not be asked and that is to be no obstacle.
    cni_root: Option<PathBuf>,
    /// What runs in the agent's containers, in words.
    names: BTreeMap<String, String>,
}

impl Users {
    async fn of(options: &CniUndoOptions) -> Result<Self> {
        let network = options.network_name.clone();
        let ask = async {
            let given = options.agent.mesos_agent.as_ref();
            let agent = Agent::at(net::agent_url(given, options.agent.node_ip, &options.etcd_endpoints)?);
            let flags = agent.flags().await?;
            // Only for the message: the isolator's directory says who they are.
            Ok::<_, Failure>((flags.cni_root(), agent.containers().await.unwrap_or_default()))
        };
        match ask.await {
            Ok((cni_root, names)) => Ok(Self { network, cni_root: Some(cni_root), names }),
            Err(failure) if options.force => {
                eprintln!(
                    "cannot tell which containers use the network, going on as asked: {}",
                    failure.one_line()
                );
                Ok(Self { network, cni_root: None, names: BTreeMap::new() })
            }
            Err(failure) => Err(failure),
        }
    }

    /// Looks now.
    fn refuse_unless(&self, force: bool) -> Result<()> {
        let Some(cni_root) = &self.cni_root else { return Ok(()) };
        let users: Vec<String> = agent::containers_on(cni_root, self.network.as_str())?
            .into_iter()
            .map(|id| match self.names.get(&id) {
                Some(name) => format!("{id} ({name})"),
                None => id,
            })
            .collect();
        let network = &self.network;
        if users.is_empty() {
            return Ok(());
        }
        let list = users.join(", ");
        if force {
            eprintln!("containers use the network {network}, going on as asked: {list}");
            return Ok(());
        }
        Err(Failure::new(
            Exit::TryAgain,
            format!(
                "containers use the network {network}, and need its plugins when they end: {list}; end them, or use --force"
            ),
        ))
    }
}
