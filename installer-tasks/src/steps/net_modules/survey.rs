//! Looks at the host and the agent; everything that cannot work is found here, before anything is changed.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::modules_json::{HOOK, ISOLATOR, Library, ModulesJson};
use super::place::{self, AUTHORITY, DEFAULT_AUTHORITY, HOOKS, ISOLATION, Layout, MODULES, Place, Values};
use super::{COMMAND, LIBRARY, NetModules};
use crate::exit::{Failure, Result};
use crate::host::agent::MesosVersion;
use crate::host::files::{self, Files, Print, Staging};
use crate::host::platform::{self, Platform};
use crate::host::systemd::Systemd;
use crate::host::{Host, artifact};
use crate::journal::Recorded;
use crate::options::{EtcdApi, EtcdOptions, NetModulesOptions};
use crate::steps::StepName;
use crate::steps::agent::restart::Action;
use crate::steps::agent::{self, Asked, settings};
use crate::steps::model::{Content, Proposal, WantedFile};
use crate::values::Artifact;

/// The only version that these modules are for.
const ONLY: MesosVersion = MesosVersion { major: 0, minor: 28 };

/// What there should be.
pub async fn survey(
    host: &Host,
    step: &NetModules<'_>,
    recorded: &Recorded<Action>,
) -> Result<Proposal<Action>> {
    let options = step.options;
    verify_artifacts(options, step.compares)?;
    let etcd = authority(&options.step.etcd)?;
    let agent = step.agent(host).await?;
    let Asked { version, flags } = agent::ask(&agent, recorded, StepName::NetModules).await?;
    serves(version)?;
    let systemd = Systemd::connect().await?;
    let (name, unit) =
        platform::agent_unit(&systemd, options.unit.platform, options.unit.unit.as_deref()).await?;
    let platform = options.unit.platform.on(host);
    let layout = Layout::of(platform);
    let place = Place::of(host, platform, &name, &unit)?;

    let files = host.files();
    let set = place.get(MODULES)?;
    // What was set by us, and is lost, is no other's.
    let is_ours = place.files(&none())?.iter().any(|file| recorded.entry(&file.path).is_some());
    let unknown = flags.get(MODULES).is_some() && !is_ours;
    let modules = place::modules_file(set.as_deref(), unknown, layout, &place)?;
    let list = |flag: &str, name: &str| {
        let set = place.get(flag)?;
        let list = set.as_deref().or(flags.get(flag)).unwrap_or_default();
        Ok::<_, Failure>(place::with_name(list, name))
    };
    let values = Values {
        isolation: list(ISOLATION, ISOLATOR)?,
        hooks: list(HOOKS, HOOK)?,
        authority: authority_to_set(platform, &place, &etcd)?,
        modules: set.filter(|set| !set.is_empty()).unwrap_or_else(|| format!("file://{modules}")),
    };

    let [command, library] = programs(host, options, layout);
    let library_file = format!("{}/{LIBRARY}", layout.libraries);
    let modules =
        modules_wanted(files, &host.place(&modules), Library { file: &library_file, command: COMMAND })?;
    let settings = place.files(&values)?;
    let read_at_start: Vec<WantedFile> = [library, modules].into_iter().chain(settings).collect();
    let because = match &super::not_loaded(&flags)[..] {
        [] => changed(files, &read_at_start, agent.state().await?.started())?
            .map(|path| format!("it reads {} only when it starts", path.display())),
        missing => Some(format!("it has not loaded {}", missing.join(" and "))),
    };
    let mut proposal = Proposal::new();
    proposal.file(command);
    for file in read_at_start {
        proposal.file(file);
    }
    if let Some(because) = because {
        let reload = place.settings.needs_reload();
        agent::propose_restart(&mut proposal, (&name, &unit), &agent, &flags, reload, because).await?;
    }
    Ok(proposal)
}

/// Values that nothing is written of.
fn none() -> Values {
    Values { modules: String::new(), isolation: String::new(), hooks: String::new(), authority: None }
}

fn verify_artifacts(options: &NetModulesOptions, compared: bool) -> Result<()> {
    let NetModulesOptions { artifacts_net_modules, artifacts_calico_mesos, .. } = options;
    let mut needed = [artifacts_net_modules, artifacts_calico_mesos]
        .into_iter()
        .filter(|artifact| !compared || artifact.path.exists());
    needed.try_for_each(artifact::verify)
}

/// Refuses any other version than the one that the modules are for.
pub fn serves(version: MesosVersion) -> Result<()> {
    if version == ONLY {
        return Ok(());
    }
    let instead = if version > ONLY {
        "this one has CNI: use `calico-installer cni`"
    } else {
        "upgrade Mesos, to 1.0 or later where `calico-installer cni` serves it"
    };
    Err(Failure::unsuitable(format!(
        "Mesos {version} runs here, and net-modules are for {ONLY} alone: {instead}"
    )))
}

/// Etcd as `calico_mesos` can be told of it: one address, without TLS, and by its v2 API.
pub fn authority(etcd: &EtcdOptions) -> Result<String> {
    etcd.require(EtcdApi::V2, "net-modules")?;
    let client = etcd.client()?;
    if client.tls.is_some() {
        return Err(Failure::unsuitable(format!(
            "calico_mesos is told of etcd by {AUTHORITY}, which has no TLS: give --etcd-proxy v2-proxy, which speaks TLS for it"
        )));
    }
    match client.endpoints()? {
        [one] => Ok(one.authority()),
        several => Err(Failure::unsuitable(format!(
            "calico_mesos is told of etcd by {AUTHORITY}, which is one address, and --etcd-endpoints has {} with --etcd-proxy \
             direct: give --etcd-proxy gateway or v2-proxy",
            several.len()
        ))),
    }
}

/// On plain Mesos it is always set; on DC/OS where it is not what `calico_mesos` does by itself.
fn authority_to_set(platform: Platform, place: &Place<'_>, etcd: &str) -> Result<Option<String>> {
    let is_told = || Ok::<_, Failure>(place.authority()?.as_deref().unwrap_or(DEFAULT_AUTHORITY) == etcd);
    Ok(if platform == Platform::DcOs && is_told()? { None } else { Some(etcd.to_owned()) })
}

/// `calico_mesos`, and the library.
fn programs(host: &Host, options: &NetModulesOptions, layout: Layout) -> [WantedFile; 2] {
    let wanted = |path: PathBuf, Artifact { path: artifact, sha256 }: &Artifact| {
        let (uid, gid) = files::own_ids();
        let print = Print { sha256: sha256.clone(), mode: 0o755, uid, gid };
        WantedFile { path, staging: Staging::Beside, print, content: Content::Artifact(artifact.clone()) }
    };
    [
        wanted(host.place(COMMAND), &options.artifacts_calico_mesos),
        wanted(host.place(layout.libraries).join(LIBRARY), &options.artifacts_net_modules),
    ]
}

fn modules_wanted(files: &Files, path: &Path, library: Library<'_>) -> Result<WantedFile> {
    let path = files.resolve(path)?;
    let content = files.read(&path)?;
    let merged = ModulesJson::parse(content.as_deref()).and_then(|modules| modules.with(library));
    let merged = merged
        .map_err(|error| Failure::unsuitable(format!("{} cannot be changed: {error}", path.display())))?;
    settings::file(files, path, merged.text().to_owned())
}

/// A file that the agent, started at that time, may not have read as it is wanted: one that is not there, or was put there
/// since. It may have been started while it was lost.
fn changed(files: &Files, wanted: &[WantedFile], started: SystemTime) -> Result<Option<PathBuf>> {
    for WantedFile { path, print, .. } in wanted {
        let is = files.print_of(path)?.is_some_and(|is| is.sha256 == print.sha256);
        if !(is && files::changed_at(path).is_some_and(|changed| changed < started)) {
            return Ok(Some(path.clone()));
        }
    }
    Ok(None)
}
