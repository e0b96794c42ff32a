//! Where the plugins and the configuration go, and whether this agent will use them there.

use std::path::{Path, PathBuf};

use crate::exit::{Failure, Result};
use crate::host::Host;
use crate::host::agent::{AgentFlags, MesosVersion};
use crate::host::files::Files;
use crate::host::platform::Platform;

/// The flags, without which an agent has no CNI.
pub const PLUGINS_FLAG: &str = "network_cni_plugins_dir";
/// See [`PLUGINS_FLAG`].
pub const CONFIG_FLAG: &str = "network_cni_config_dir";
/// Both.
pub const FLAGS: [&str; 2] = [PLUGINS_FLAG, CONFIG_FLAG];

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
        Err(Failure::unsuitable(format!(
            "Mesos {version} has no CNI: {HAS_CNI} or later is needed, or, with Mesos 0.28, `calico-installer net-modules` by \
             hand"
        )))
    }
}

/// Why an agent without the flags takes a restart; an `Err` where they cannot be set.
pub fn restart_for_flags(platform: Platform) -> Result<String> {
    match platform {
        Platform::Mesos => Ok(format!(
            "CNI is not enabled on this agent: it has neither --{PLUGINS_FLAG} nor --{CONFIG_FLAG}, and takes them only \
             when it starts"
        )),
        Platform::DcOs => Err(Failure::unsuitable(format!(
            "CNI is not enabled on this agent, though it is DC/OS': start it with --{PLUGINS_FLAG} (such as {}) and \
             --{CONFIG_FLAG} (such as {}), or say --mesos-platform mesos if it is none",
            platform.plugins_dir(),
            platform.config_dir()
        ))),
    }
}

/// A directory, as something that files can be put into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directory {
    /// They can.
    Writable,
    /// They can, once it is made.
    Missing,
    /// They cannot.
    Unusable,
}

impl Directory {
    /// Looks.
    pub fn look(files: &Files, path: &Path) -> Self {
        match files.has_directory(path) {
            Ok(true) if files.is_writable_directory(path) => Self::Writable,
            Ok(false) => Self::Missing,
            _ => Self::Unusable,
        }
    }
}

/// The directories that the agent uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Searched {
    /// Where it looks for plugins, in this order.
    pub plugins: Vec<PathBuf>,
    /// Where it reads configurations.
    pub config: PathBuf,
}

impl Searched {
    /// Those of the running agent's flags; `None` when it has neither, and does no CNI at all.
    pub fn from_flags(flags: &AgentFlags) -> Result<Option<Self>> {
        let (plugins, config) = match (flags.get(PLUGINS_FLAG), flags.get(CONFIG_FLAG)) {
            (Some(plugins), Some(config)) => (plugins, config),
            (None, None) => return Ok(None),
            (plugins, _) => {
                let (has, lacks) =
                    if plugins.is_some() { (PLUGINS_FLAG, CONFIG_FLAG) } else { (CONFIG_FLAG, PLUGINS_FLAG) };
                return Err(Failure::unsuitable(format!(
                    "the agent has --{has} and not --{lacks}: CNI takes both"
                )));
            }
        };
        let plugins = plugins.split(':').filter(|entry| !entry.is_empty()).map(PathBuf::from).collect();
        Ok(Some(Self { plugins, config: config.into() }))
    }

    /// Those that an agent is to be given which has none: the asked ones, else what is usual there.
    pub fn usual(host: &Host, platform: Platform, plugins: Option<&Path>, config: Option<&Path>) -> Self {
        let or = |asked: Option<&Path>, usual| asked.map_or_else(|| host.place(usual), Path::to_owned);
        Self { plugins: vec![or(plugins, platform.plugins_dir())], config: or(config, platform.config_dir()) }
    }

    /// Where our plugins go: the asked one, which the agent must search; else the one where they are by the record; else
    /// the first writable one, or one that can be made.
    pub fn plugins_dir(
        &self,
        asked: Option<&Path>,
        recorded: impl Fn(&Path) -> bool,
        look: impl Fn(&Path) -> Directory,
    ) -> Result<PathBuf> {
        if let Some(asked) = asked {
            let searched = self.plugins.iter().find(|entry| same(entry, asked));
            return searched.cloned().ok_or_else(|| {
                Failure::unsuitable(format!(
                    "--cni-plugins-dir {} is not searched by the agent, whose --{PLUGINS_FLAG} is {}",
                    asked.display(),
                    self.plugins_text()
                ))
            });
        }
        let find = |is: &dyn Fn(&Path) -> bool| self.plugins.iter().find(|entry| is(entry.as_path()));
        let found = find(&|entry| recorded(entry) && look(entry) != Directory::Unusable)
            .or_else(|| find(&|entry| look(entry) == Directory::Writable))
            .or_else(|| find(&|entry| look(entry) == Directory::Missing));
        found.cloned().ok_or_else(|| {
            Failure::unsuitable(format!(
                "no entry of the agent's --{PLUGINS_FLAG} {} is a directory that can be written",
                self.plugins_text()
            ))
        })
    }

    /// Where our configuration goes.
    pub fn config_dir(&self, asked: Option<&Path>) -> Result<PathBuf> {
        match asked {
            Some(asked) if !same(asked, &self.config) => Err(Failure::unsuitable(format!(
                "--cni-config-dir {} is not read by the agent, whose --{CONFIG_FLAG} is {}",
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

    /// Whether one of them is this, or is in it.
    pub fn names(&self, directory: &Path) -> bool {
        self.plugins.iter().chain([&self.config]).any(|entry| entry.starts_with(directory))
    }

    /// The search list, as the agent's flag has it.
    pub fn plugins_text(&self) -> String {
        self.plugins.iter().map(|entry| entry.display().to_string()).collect::<Vec<_>>().join(":")
    }
}

/// What can be told of the directories before anything is installed, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directories {
    /// The agent knows them.
    Known(String),
    /// It is to be told of them, and restarted.
    ToBeSet(String),
}

/// The directories that an agent with these flags would get what into: the asked ones, where it uses them.
pub fn directories(
    files: &Files,
    platform: Platform,
    flags: &AgentFlags,
    plugins_dir: Option<&Path>,
    config_dir: Option<&Path>,
) -> Result<Directories> {
    let Some(searched) = Searched::from_flags(flags)? else {
        return restart_for_flags(platform).map(Directories::ToBeSet);
    };
    let look = |directory: &Path| Directory::look(files, directory);
    let plugins = searched.plugins_dir(plugins_dir, |_| false, look)?;
    let config = searched.config_dir(config_dir)?;
    let config = config.display();
    if look(&searched.config) == Directory::Unusable {
        return Err(Failure::unsuitable(format!(
            "the agent's --{CONFIG_FLAG} {config} is not a directory that can be written"
        )));
    }
    Ok(Directories::Known(format!("plugins go into {}, configurations into {config}", plugins.display())))
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
        let flags = [(PLUGINS_FLAG, plugins), (CONFIG_FLAG, "/etc/cni/net.d")];
        Searched::from_flags(&flags.into()).unwrap().unwrap()
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
    fn an_agent_has_both_flags_or_none() {
        assert_eq!(Searched::from_flags(&AgentFlags::default()).unwrap(), None);
        let empty = [(PLUGINS_FLAG, ""), (CONFIG_FLAG, "")];
        assert_eq!(Searched::from_flags(&empty.into()).unwrap(), None);
        for (flag, lacks) in
            [(PLUGINS_FLAG, "not --network_cni_config_dir"), (CONFIG_FLAG, "not --network_cni_plugins")]
        {
            let failure = Searched::from_flags(&[(flag, "/p")].into()).unwrap_err();
            assert_eq!(failure.exit(), Exit::Unsuitable);
            assert!(failure.to_string().contains(lacks), "{failure}");
        }
    }

    #[test]
    fn flags_are_set_for_plain_mesos_alone() {
        assert!(restart_for_flags(Platform::Mesos).unwrap().contains("--network_cni_plugins_dir"));
        let failure = restart_for_flags(Platform::DcOs).unwrap_err();
        assert_eq!(failure.exit(), Exit::Unsuitable);
        assert!(failure.to_string().contains("(such as /opt/mesosphere/active/cni)"), "{failure}");
        let host = Host::below("/r");
        let usual = Searched::usual(&host, Platform::Mesos, None, None);
        assert_eq!(
            (usual.plugins_text().as_str(), usual.config.as_path()),
            ("/r/opt/cni/bin", Path::new("/r/etc/cni/net.d"))
        );
        let asked = Searched::usual(&host, Platform::Mesos, Some(Path::new("/p")), Some(Path::new("/c")));
        assert_eq!((asked.plugins_text().as_str(), asked.config.as_path()), ("/p", Path::new("/c")));
    }

    #[test]
    fn the_first_writable_entry_is_taken() {
        let look = |path: &Path| match path.to_str().unwrap() {
            path if path.starts_with("/rw") => Directory::Writable,
            path if path.starts_with("/none") => Directory::Missing,
            _ => Directory::Unusable,
        };
        let of = |list: &str, recorded: &str| {
            searched(list).plugins_dir(None, |entry| entry == Path::new(recorded), look).unwrap()
        };
        assert_eq!(of("/ro:/rw:/rw2:", ""), Path::new("/rw"));
        // One that is not there is made where no other is; and where ours was, it is put back.
        assert_eq!(of("/none:/rw", ""), Path::new("/rw"));
        assert_eq!(of("/ro:/none", ""), Path::new("/none"));
        assert_eq!(of("/rw:/none", "/none"), Path::new("/none"));
        assert_eq!(of("/ro:/rw", "/ro"), Path::new("/rw"));
        let none = searched("/ro:/ro2").plugins_dir(None, |_| true, look).unwrap_err();
        assert!(none.to_string().contains("/ro:/ro2"), "{none}");
    }

    #[test]
    fn an_asked_directory_must_be_the_agent_s() {
        let searched = searched("/a:/b/");
        let asked =
            |path: &str| searched.plugins_dir(Some(Path::new(path)), |_| false, |_| Directory::Unusable);
        assert_eq!(asked("/b").unwrap(), Path::new("/b/"));
        assert!(asked("/c").is_err());
        assert!(searched.config_dir(Some(Path::new("/etc/cni/net.d/"))).is_ok());
        assert!(searched.config_dir(Some(Path::new("/etc/cni"))).is_err());
    }

    #[test]
    fn only_earlier_entries_shadow() {
        let searched = searched("/a:/b:/c");
        assert_eq!(searched.before(Path::new("/b"), "calico"), [Path::new("/a/calico")]);
        assert!(searched.before(Path::new("/a"), "calico").is_empty());
    }

    #[test]
    fn directories_above_those_that_are_named_are_named_too() {
        let searched = searched("/opt/cni/bin");
        for path in ["/opt/cni/bin", "/opt/cni", "/etc/cni"] {
            assert!(searched.names(Path::new(path)), "{path}");
        }
        for path in ["/opt/cni/bin/x", "/etc/mesos-slave"] {
            assert!(!searched.names(Path::new(path)), "{path}");
        }
    }
}
