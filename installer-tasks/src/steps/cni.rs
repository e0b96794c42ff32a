//! `cni`: Calico's plugins and the configuration of its network, as the Mesos agent's CNI isolator uses them.
//!
//! Binaries first, the configuration last: from the moment that it is there, containers may be started with it. An agent
//! that has no CNI yet, or that reads networks only when it starts, is restarted after that, which must be allowed.
//! Undo goes the other way.

use crate::exit::{Exit, Failure, Result};
use crate::host::Host;
use crate::host::agent::Agent;
use crate::host::files::{Files, Staging};
use crate::journal::{Entry, Recorded, What};
use crate::options::{CniOptions, FindAgentOptions};
use crate::steps::StepName;
use crate::steps::agent::restart::{Action, Restarter};
use crate::steps::agent::settings::Settings;
use crate::steps::etcd_tls;
use crate::steps::model::{Acts, Change, Direction, Plan, Proposal, Step, WantedFile};
use crate::steps::status::{Installed, Seen};

pub mod config;
pub mod place;
mod plugins;
mod survey;
mod undo;

use place::{FLAGS, Searched};
pub use undo::{CniUndo, networks_of};

/// The plugin that connects containers.
pub const PLUGIN: &str = "calico";
/// The plugin that gives addresses.
pub const IPAM_PLUGIN: &str = "calico-ipam";

/// The step, as it is installed.
#[derive(Debug)]
pub struct Cni<'a> {
    options: &'a CniOptions,
    /// Whether it is only compared with what there is. Checksums do for that: artifacts need not be there.
    compares: bool,
    restarter: Restarter<'a>,
}

impl<'a> Cni<'a> {
    /// With these options.
    pub fn new(options: &'a CniOptions) -> Self {
        let restarter = Restarter::new(&options.unit, options.step.restarts.allow_restart);
        Self { options, compares: false, restarter }
    }

    /// The same, to be compared only.
    #[must_use]
    pub fn compared(self) -> Self {
        Self { compares: true, ..self }
    }

    async fn agent(&self, host: &Host) -> Result<Agent> {
        Ok(Agent::at(self.options.step.agent_url(host).await?))
    }
}

impl Acts for Cni<'_> {
    type Action = Action;
    const NAME: StepName = StepName::Cni;

    async fn act(&self, host: &Host, action: &Action, direction: Direction) -> Result<()> {
        self.restarter.act(&self.agent(host).await?, action, direction).await
    }
}

impl Step for Cni<'_> {
    async fn check(&self, host: &Host, recorded: &Recorded<Action>) -> Result<Proposal<Action>> {
        survey::survey(host, self, recorded).await
    }

    async fn verify(&self, host: &Host, plan: &Plan<Action>) -> Result<()> {
        // As the isolator reads it.
        let network = self.options.network_name.as_str();
        for file in plan.files().iter().filter(|file| file.staging == Staging::Outside) {
            let content = host.files().read(&file.path)?.unwrap_or_default();
            if config::network_of(&content).as_deref() != Some(network) {
                let path = file.path.display();
                return Err(Failure::new(Exit::TryAgain, format!("{path} does not configure {network}")));
            }
        }
        if !plan.changes().iter().any(|change| matches!(change, Change::Action { .. })) {
            return Ok(());
        }
        // An agent that has read what was written for it knows the directories.
        let flags = self.agent(host).await?.flags().await?;
        let searched = Searched::from_flags(&flags)?;
        let is_searched = |file: &&WantedFile| {
            file.staging == Staging::Outside || file.path.file_name() == Some(PLUGIN.as_ref())
        };
        let unknown = plan
            .files()
            .iter()
            .filter(is_searched)
            .filter_map(|file| file.path.parent())
            .find(|directory| !searched.as_ref().is_some_and(|searched| searched.names(directory)));
        match unknown {
            None => Ok(()),
            Some(directory) => Err(Failure::unsuitable(format!(
                "the Mesos agent was restarted, and does not know {} all the same: something else sets its flags",
                directory.display()
            ))),
        }
    }
}

/// Where flags of the agent were set, if that is what a file of ours is. It has any name where a link leads to it, and is
/// then known by what it is not.
fn settings_of(entry: &Entry) -> Option<Settings> {
    let What::File { staging: Staging::Beside, .. } = entry.what else { return None };
    let path = &entry.path;
    let is_other = plugins::is_ours(path) || etcd_tls::is_copy(path, StepName::Cni);
    Settings::at(path, &FLAGS).or_else(|| (!is_other).then(|| Settings::EnvironmentFile(path.clone())))
}

/// What is seen of it where the agent looks.
pub async fn seen(host: &Host, agent: &FindAgentOptions) -> Seen {
    let look = async {
        let agent = Agent::at(agent.url(host).await?);
        if let Some(searched) = Searched::from_flags(&agent.flags().await?)? {
            return seen_in(host.files(), &searched);
        }
        let what = vec!["CNI is not enabled on this agent".to_owned()];
        Ok(Seen { installed: Installed::No, what })
    };
    look.await
        .unwrap_or_else(|failure| Seen { installed: Installed::Unknown, what: vec![failure.one_line()] })
}

fn seen_in(files: &Files, searched: &Searched) -> Result<Seen> {
    let mut what = Vec::new();
    let mut plugins = 0;
    for name in [PLUGIN, IPAM_PLUGIN] {
        let paths = searched.plugins.iter().map(|directory| directory.join(name));
        if let Some(path) = paths.into_iter().find(|path| files.is_file(path)) {
            what.push(path.display().to_string());
            plugins += 1;
        }
    }
    let mut networks = 0;
    for (path, content) in survey::configs(files, &searched.config)? {
        if config::plugin_of(&content).as_deref() == Some(PLUGIN) {
            let network = config::network_of(&content).unwrap_or_default();
            what.push(format!("{} configures the network {network}", path.display()));
            networks += 1;
        }
    }
    let installed = match (plugins, networks) {
        (0, 0) => Installed::No,
        (2, 1..) => Installed::Yes,
        _ => Installed::Partly,
    };
    Ok(Seen { installed, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_known_in_the_record_also_where_a_link_led_to_them() {
        let is_set_at = |path: &str, staging| {
            let what = What::File { staging, before: None, wrote: Vec::new() };
            settings_of(&Entry { step: StepName::Cni, path: path.into(), by: None, what })
        };
        for path in ["/etc/default/mesos-slave", "/srv/mesos.env", "/opt/cni/bin.env"] {
            assert_eq!(is_set_at(path, Staging::Beside), Some(Settings::EnvironmentFile(path.into())));
        }
        let flag = is_set_at("/etc/mesos-slave/network_cni_config_dir", Staging::Beside);
        assert_eq!(flag, Some(Settings::FlagFiles("/etc/mesos-slave".into())));
        for path in [
            "/opt/cni/bin/calico",
            "/opt/cni/bin/calico-ipam",
            "/opt/cni/bin/calico-impl",
            "/opt/cni/bin/mesos-cni-port-mapper",
            "/var/lib/calico-dcos/etcd/cni/0123456789abcdef/key.pem",
        ] {
            assert_eq!(is_set_at(path, Staging::Beside), None, "{path}");
        }
        assert_eq!(is_set_at("/etc/cni/net.d/calico.conf", Staging::Outside), None);
    }
}
