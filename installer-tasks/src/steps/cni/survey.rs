//! Looks at the host and the agent; everything that cannot work is found here, before anything is changed.

use std::path::{Path, PathBuf};

use super::Cni;
use super::config::{self, NetworkConfig, TlsFiles};
use super::place::{self, CONFIG_FLAG, Directory, FLAGS, PLUGINS_FLAG, Searched};
use super::plugins::{self, Plugin};
use crate::exit::{Failure, Result};
use crate::host::agent::{Agent, AgentFlags};
use crate::host::files::{self, Files, Print, Staging};
use crate::host::systemd::Systemd;
use crate::host::{Host, name, platform};
use crate::journal::Recorded;
use crate::options::{CniOptions, EtcdTlsFile};
use crate::steps::StepName;
use crate::steps::agent::restart::Action;
use crate::steps::agent::settings::{Settings, variable};
use crate::steps::agent::{self, Asked};
use crate::steps::etcd_tls::OnHost;
use crate::steps::model::{Content, Proposal, WantedFile};
use crate::values::{Artifact, NetworkName};

/// What there should be.
pub async fn survey(host: &Host, step: &Cni<'_>, recorded: &Recorded<Action>) -> Result<Proposal<Action>> {
    let options = step.options;
    let network = &options.network_name;
    let plugins = plugins::wanted(options, step.compares)?;
    platform::refuse_dcos_network(host, network)?;
    let client = options.step.etcd.client()?;
    let agent = step.agent(host).await?;
    let asked: Asked = agent::ask(&agent, recorded, StepName::Cni).await?;
    let loads_at_start = place::restart_for(asked.version)?;
    let platform = options.unit.platform.on(host);
    let (plugins_dir, config_dir) = (options.cni_plugins_dir.as_deref(), options.cni_config_dir.as_deref());
    let (searched, without_flags) = if let Some(searched) = Searched::from_flags(&asked.flags)? {
        (searched, None)
    } else {
        let because = place::restart_for_flags(platform)?;
        (Searched::usual(host, platform, plugins_dir, config_dir), Some(because))
    };

    let files = host.files();
    let mut proposal = Proposal::new();
    propose_plugins(&mut proposal, files, options, recorded, &searched, &asked.flags, plugins)?;
    let tls = OnHost::of(&client, &options.step.state.state_dir, StepName::Cni)?;
    if let Some(tls) = &tls {
        tls.propose(&mut proposal);
    }
    let text = NetworkConfig {
        network,
        etcd: client.endpoints()?,
        tls: tls.as_ref().and_then(tls_files),
        node_name: &name::node_name(options.node_name.as_deref())?,
        nodename_file_optional: options.cni_nodename_file_optional,
        mtu: options.network_mtu,
        ipv4_pools: &options.cni_ipv4_pools,
        log_level: options.cni_log_level,
        port_mapper: options.cni_port_mapper,
    }
    .render();
    let config_dir = searched.config_dir(config_dir)?;
    let path = config::path_in(&config_dir, network);
    let sha256 = files::sha256_hex(text.as_bytes());
    let config = wanted(path.clone(), Staging::Outside, Content::Bytes(text.into_bytes()), sha256, 0o644);
    check_rivals(files, &config_dir, network, &config, recorded)?;
    let is_new = files.print_of(&path)?.as_ref() != Some(&config.print);
    proposal.file(config);

    // The flags last: an agent that finds them and not the directories does not start.
    let flags =
        [(PLUGINS_FLAG, searched.plugins_text()), (CONFIG_FLAG, searched.config.display().to_string())];
    let flags = flags.each_ref().map(|(flag, value)| (*flag, value.as_str()));
    let set = || recorded.entries.iter().find_map(super::settings_of);
    if let (None, Some(settings)) = (&without_flags, set()) {
        settings.files(files, &flags)?.into_iter().for_each(|file| proposal.file(file));
    }
    let because = match (without_flags, loads_at_start) {
        (Some(because), _) => because,
        (None, Some(because)) => {
            let state = agent.state().await?;
            let has_read_it = files::changed_at(&path).is_some_and(|changed| changed < state.started());
            if !is_new && has_read_it {
                return Ok(proposal);
            }
            because
        }
        (None, None) => return Ok(proposal),
    };
    restarted(host, options, &agent, &asked.flags, &flags, &mut proposal, because).await?;
    Ok(proposal)
}

/// The files of TLS as the configuration names them.
fn tls_files(tls: &OnHost) -> Option<TlsFiles<'_>> {
    let identity = tls.path(EtcdTlsFile::Cert).zip(tls.path(EtcdTlsFile::Key));
    Some(TlsFiles { ca: tls.path(EtcdTlsFile::Ca)?, identity })
}

fn propose_plugins(
    proposal: &mut Proposal<Action>,
    files: &Files,
    options: &CniOptions,
    recorded: &Recorded<Action>,
    searched: &Searched,
    flags: &AgentFlags,
    mut plugins: Vec<Plugin>,
) -> Result<()> {
    let ours = |path: &Path| recorded.entry(path).is_some();
    let look = |directory: &Path| Directory::look(files, directory);
    let directory = searched.plugins_dir(
        options.cni_plugins_dir.as_deref(),
        |directory| ours(&directory.join(super::PLUGIN)),
        look,
    )?;
    if options.cni_port_mapper {
        plugins.extend(plugins::port_mapper(files, searched, flags, ours)?);
    }
    for plugin in plugins {
        if let Some(note) = plugins::check_shadows(searched, &directory, &plugin)? {
            proposal.note(note);
        }
        let Plugin { name, source: Artifact { path, sha256 }, .. } = plugin;
        let place = directory.join(name);
        if let Some(theirs) = files.print_of(&place)?.filter(|is| is.sha256 != sha256 && !ours(&place)) {
            proposal.note(format!(
                "{} was not written by calico-installer: it has SHA-256 {}, is replaced, and put back by `cni undo`",
                place.display(),
                theirs.sha256
            ));
        }
        proposal.file(wanted(place, Staging::Beside, Content::Artifact(path), sha256, 0o755));
    }
    Ok(())
}

/// The agent is to be restarted, with `flags` if it has them not.
async fn restarted(
    host: &Host,
    options: &CniOptions,
    agent: &Agent,
    is: &AgentFlags,
    flags: &[(&str, &str)],
    proposal: &mut Proposal<Action>,
    because: String,
) -> Result<()> {
    let systemd = Systemd::connect().await?;
    let (name, unit) =
        platform::agent_unit(&systemd, options.unit.platform, options.unit.unit.as_deref()).await?;
    let mut reload = false;
    if is.get(PLUGINS_FLAG).is_none() {
        let settings = Settings::of(&name, &unit).on(host).resolved(host.files())?;
        settings.refuse_later(host, &name, &unit, &FLAGS.map(variable))?;
        reload = settings.needs_reload();
        settings.files(host.files(), flags)?.into_iter().for_each(|file| proposal.file(file));
    }
    agent::propose_restart(proposal, (&name, &unit), agent, is, reload, because).await
}

fn wanted(path: PathBuf, staging: Staging, content: Content, sha256: String, mode: u32) -> WantedFile {
    let (uid, gid) = files::own_ids();
    WantedFile { path, staging, print: Print { sha256, mode, uid, gid }, content }
}

/// A network has one configuration, and only one that we wrote is replaced.
fn check_rivals(
    files: &Files,
    directory: &Path,
    network: &NetworkName,
    ours: &WantedFile,
    recorded: &Recorded<Action>,
) -> Result<()> {
    match Directory::look(files, directory) {
        Directory::Writable => {}
        Directory::Missing => return Ok(()),
        Directory::Unusable => {
            return Err(Failure::unsuitable(format!(
                "the agent's --{CONFIG_FLAG} {} is not a directory that can be written",
                directory.display()
            )));
        }
    }
    let configs = configs(files, directory)?;
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

/// All files in a directory of configurations, as the isolator reads them.
pub fn configs(files: &Files, directory: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut configs = Vec::new();
    for path in files.list(directory)?.into_iter().filter(|path| files.is_file(path)) {
        if let Some(content) = files.read(&path)? {
            configs.push((path, content));
        }
    }
    Ok(configs)
}
