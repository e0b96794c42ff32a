//! Where the plugins and the configuration go, and whether this agent will use them there.

use std::path::{Path, PathBuf};

use crate::exit::{Failure, Result};
use crate::host::Host;
use crate::host::agent::{AgentFlags, MesosVersion};

/// From here on the isolator loads a new configuration by itself.
const LOADS_BY_ITSELF: MesosVersion = MesosVersion { major: 1, minor: 2 };
/// From here on there is an isolator for CNI.
const HAS_CNI: MesosVersion = MesosVersion { major: 1, minor: 0 };

/// Why this version of Mesos takes a restart for a new CNI network; `None` when it takes it as it runs.
pub fn restart_for(version: MesosVersion) -> Result<Option<String>> {
    if version >= LOADS_BY_ITSELF {
        Ok(None)
    } else if version >= HAS_CNI {
        Ok(Some(format!(
            "Mesos {version} loads a CNI network only when the agent starts (from {LOADS_BY_ITSELF} on it does at once)"
        )))
    } else {
        Err(Failure::unsuitable(format!("Mesos {version} has no CNI: {HAS_CNI} or later is needed")))
    }
}

/// The directories that an operator would give an agent that has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usual {
    /// For plugins.
    pub plugins: &'static str,
    /// For configurations.
    pub config: &'static str,
}

/// DC/OS' own places.
pub const DCOS: Usual =
    Usual { plugins: "/opt/mesosphere/active/cni", config: "/opt/mesosphere/etc/dcos/network/cni" };
/// The places of plain Mesos.
pub const PLAIN: Usual = Usual { plugins: "/opt/cni/bin", config: "/etc/cni/net.d" };

/// Those of this host.
pub fn usual(host: &Host) -> Usual {
    if host.has("/opt/mesosphere") { DCOS } else { PLAIN }
}

/// The directories that the running agent uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Searched {
    /// Where it looks for plugins, in this order.
    pub plugins: Vec<PathBuf>,
    /// Where it reads configurations.
    pub config: PathBuf,
}

impl Searched {
    /// Reads them from the agent's flags; an agent without both does no CNI at all.
    pub fn from_flags(flags: &AgentFlags, usual: Usual) -> Result<Self> {
        let (Some(plugins), Some(config)) =
            (flags.get("network_cni_plugins_dir"), flags.get("network_cni_config_dir"))
        else {
            return Err(Failure::unsuitable(format!(
                "CNI is not enabled on this agent: start it with --network_cni_plugins_dir (such as {}) and \
                 --network_cni_config_dir (such as {})",
                usual.plugins, usual.config
            )));
        };
        let plugins = plugins.split(':').filter(|entry| !entry.is_empty()).map(PathBuf::from).collect();
        Ok(Self { plugins, config: config.into() })
    }

    /// Where our plugins go: the asked one, which the agent must search, else the first writable one.
    pub fn plugins_dir(&self, asked: Option<&Path>, writable: impl Fn(&Path) -> bool) -> Result<PathBuf> {
        if let Some(asked) = asked {
            let searched = self.plugins.iter().find(|entry| same(entry, asked));
            return searched.cloned().ok_or_else(|| {
                Failure::unsuitable(format!(
                    "--cni-plugins-dir {} is not searched by the agent, whose --network_cni_plugins_dir is {}",
                    asked.display(),
                    self.plugins_text()
                ))
            });
        }
        self.plugins.iter().find(|entry| writable(entry)).cloned().ok_or_else(|| {
            Failure::unsuitable(format!(
                "no entry of the agent's --network_cni_plugins_dir {} is a directory that can be written",
                self.plugins_text()
            ))
        })
    }

    /// Where our configuration goes.
    pub fn config_dir(&self, asked: Option<&Path>) -> Result<PathBuf> {
        match asked {
            Some(asked) if !same(asked, &self.config) => Err(Failure::unsuitable(format!(
                "--cni-config-dir {} is not read by the agent, whose --network_cni_config_dir is {}",
                asked.display(),
                self.config.display()
            ))),
            _ => Ok(self.config.clone()),
        }
    }

    /// The files of this name that the agent finds before the one in `directory`.
    pub fn before(&self, directory: &Path, name: &str) -> Vec<PathBuf> {
        self.plugins.iter().take_while(|entry| *entry != directory).map(|entry| entry.join(name)).collect()
    }

    /// The search list, as the agent's flag has it.
    pub fn plugins_text(&self) -> String {
        self.plugins.iter().map(|entry| entry.display().to_string()).collect::<Vec<_>>().join(":")
    }
}

/// Whether two paths name the same directory, up to trailing slashes.
fn same(one: &Path, other: &Path) -> bool {
    one.components().eq(other.components())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn searched(plugins: &str) -> Searched {
        let flags = [("network_cni_plugins_dir", plugins), ("network_cni_config_dir", "/etc/cni/net.d")];
        Searched::from_flags(&flags.into(), PLAIN).unwrap()
    }

    #[test]
    fn mesos_versions_are_gated() {
        let restart = |text: &str| restart_for(text.parse().unwrap()).map(|reason| reason.is_some());
        assert!(!restart("1.11.0").unwrap());
        assert!(!restart("1.2.0").unwrap());
        assert!(restart("1.1.3").unwrap());
        assert!(restart("1.0.0").unwrap());
        assert_eq!(restart("0.28.3").unwrap_err().exit(), Exit::Unsuitable);
    }

    #[test]
    fn an_agent_without_the_flags_is_told_which() {
        for flags in [
            AgentFlags::default(),
            [("network_cni_plugins_dir", "/p")].into(),
            [("network_cni_config_dir", "")].into(),
        ] {
            let failure = Searched::from_flags(&flags, DCOS).unwrap_err();
            assert_eq!(failure.exit(), Exit::Unsuitable);
            assert!(
                failure.to_string().contains("--network_cni_config_dir (such as /opt/mesosphere"),
                "{failure}"
            );
        }
    }

    #[test]
    fn the_first_writable_entry_is_taken() {
        let searched = searched("/ro:/rw:/rw2:");
        let writable = |path: &Path| path.starts_with("/rw") || path.starts_with("/rw2");
        assert_eq!(searched.plugins_dir(None, writable).unwrap(), Path::new("/rw"));
        assert!(searched.plugins_dir(None, |_| false).unwrap_err().to_string().contains("/ro:/rw:/rw2"));
    }

    #[test]
    fn an_asked_directory_must_be_the_agent_s() {
        let searched = searched("/a:/b/");
        assert_eq!(searched.plugins_dir(Some(Path::new("/b")), |_| false).unwrap(), Path::new("/b/"));
        assert!(searched.plugins_dir(Some(Path::new("/c")), |_| true).is_err());
        assert!(searched.config_dir(Some(Path::new("/etc/cni/net.d/"))).is_ok());
        assert!(searched.config_dir(Some(Path::new("/etc/cni"))).is_err());
    }

    #[test]
    fn only_earlier_entries_shadow() {
        let searched = searched("/a:/b:/c");
        assert_eq!(searched.before(Path::new("/b"), "calico"), [Path::new("/a/calico")]);
        assert!(searched.before(Path::new("/a"), "calico").is_empty());
    }
}
