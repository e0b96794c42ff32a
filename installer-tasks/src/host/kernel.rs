//! Kernel modules and sysctls.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flate2::read::GzDecoder;

use super::Host;

/// What shows that a module is in the kernel.
#[derive(Debug, Default)]
pub struct ModuleEvidence {
    /// The names in /sys/module.
    pub loaded: Vec<String>,
    /// The text of modules.builtin.
    pub builtin: String,
    /// The text of the kernel's configuration.
    pub config: String,
}

/// A module that Calico uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Module {
    /// Its name.
    pub name: &'static str,
    /// The kernel configuration symbol that it is built by.
    pub symbol: &'static str,
}

impl ModuleEvidence {
    /// Reads what this host shows; what is missing shows nothing.
    pub fn of(host: &Host) -> Self {
        let loaded = fs::read_dir(host.place("/sys/module"))
            .map(|entries| {
                entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
            })
            .unwrap_or_default();
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let builtin = fs::read_to_string(host.place(&format!("/lib/modules/{release}/modules.builtin")));
        let config = File::open(host.place("/proc/config.gz")).and_then(|file| {
            let mut text = String::new();
            GzDecoder::new(file).read_to_string(&mut text).map(|_| text)
        });
        Self { loaded, builtin: builtin.unwrap_or_default(), config: config.unwrap_or_default() }
    }

    /// Whether a module is loaded, listed as built in, or configured to be built in.
    pub fn shows(&self, module: Module) -> bool {
        let same = |name: &str| name.replace('-', "_") == module.name;
        self.loaded.iter().any(|name| same(name))
            || self.builtin.lines().any(|line| {
                Path::new(line).file_name().is_some_and(|file| {
                    let file = file.to_string_lossy();
                    same(file.split_once(".ko").map_or(&*file, |(stem, _)| stem))
                })
            })
            || self.config.lines().any(|line| line.strip_prefix(module.symbol) == Some("=y"))
    }
}

/// Loads a module with the host's modprobe; the error says why it could not.
pub fn modprobe(module: Module) -> Result<(), String> {
    let output = Command::new("modprobe").arg("--").arg(module.name).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err("this host has no modprobe".to_owned()),
        Err(error) => Err(format!("modprobe: {error}")),
    }
}

/// Whether a module is among those that modprobe knows here.
pub fn can_be_loaded(host: &Host, module: Module) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let known = fs::read_to_string(host.place(&format!("/lib/modules/{release}/modules.dep")));
    // kernel/net/netfilter/xt_set.ko.xz: …
    known.unwrap_or_default().lines().filter_map(|line| line.split_once(':')).any(|(path, _)| {
        let file = path.rsplit('/').next().unwrap_or(path);
        file.split_once(".ko").is_some_and(|(stem, _)| stem.replace('-', "_") == module.name)
    })
}

/// The value of the sysctl `key` (as a path below /proc/sys); `None` when this kernel does not have it.
pub fn sysctl(host: &Host, key: &str) -> io::Result<Option<u64>> {
    let text = match fs::read_to_string(sysctl_path(host, key)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let number = text.trim().parse();
    number.map(Some).map_err(|_| io::Error::other(format!("{:?} is not a number", text.trim())))
}

/// Whether we may write it; on a filesystem that is read-only nobody may.
pub fn sysctl_can_be_written(host: &Host, key: &str) -> bool {
    rustix::fs::access(sysctl_path(host, key), rustix::fs::Access::WRITE_OK).is_ok()
}

fn sysctl_path(host: &Host, key: &str) -> PathBuf {
    host.place("/proc/sys").join(key)
}

/// What came of raising a sysctl.
#[derive(Debug)]
pub enum Raised {
    /// It was high enough: untouched.
    Sufficient,
    /// It was written, from this value.
    From(u64),
    /// It is not there on this host.
    Absent,
    /// It is too low and could not be written.
    Refused {
        /// Its value.
        value: u64,
        /// Why it could not be written.
        error: io::Error,
    },
}

/// Raises the sysctl `key` (as a path below /proc/sys) to `least`; it is never lowered.
pub fn raise_sysctl(host: &Host, key: &str, least: u64) -> io::Result<Raised> {
    let Some(value) = sysctl(host, key)? else { return Ok(Raised::Absent) };
    if value >= least {
        return Ok(Raised::Sufficient);
    }
    match fs::write(sysctl_path(host, key), format!("{least}\n")) {
        Ok(()) => Ok(Raised::From(value)),
        Err(error) => Ok(Raised::Refused { value, error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP_SET: Module = Module { name: "ip_set", symbol: "CONFIG_IP_SET" };

    #[test]
    fn a_module_is_shown_in_any_of_three_places() {
        let shows = |evidence: ModuleEvidence| evidence.shows(IP_SET);
        assert!(!shows(ModuleEvidence::default()));
        assert!(shows(ModuleEvidence { loaded: vec!["ip_set".into()], ..Default::default() }));
        let builtin = "kernel/net/netfilter/ipset/ip-set.ko\n".to_owned();
        assert!(shows(ModuleEvidence { builtin, ..Default::default() }));
        assert!(shows(ModuleEvidence {
            config: "CONFIG_A=y\nCONFIG_IP_SET=y\n".into(),
            ..Default::default()
        }));
    }

    #[test]
    fn names_that_only_begin_alike_show_nothing() {
        let evidence = ModuleEvidence {
            loaded: vec!["ip_set_hash_ip".into()],
            builtin: "kernel/net/ip_set_list.ko.xz\n".into(),
            config: "CONFIG_IP_SET=m\nCONFIG_IP_SET_MAX=256\n# CONFIG_IP_SET=y\n".into(),
        };
        assert!(!evidence.shows(IP_SET));
    }

    #[test]
    fn a_sysctl_is_only_raised() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::below(root.path());
        let key = "net/nf_conntrack_max";
        assert!(matches!(raise_sysctl(&host, key, 10).unwrap(), Raised::Absent));
        let path = host.place("/proc/sys").join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "5\n").unwrap();
        assert!(matches!(raise_sysctl(&host, key, 10).unwrap(), Raised::From(5)));
        assert!(matches!(raise_sysctl(&host, key, 7).unwrap(), Raised::Sufficient));
        assert_eq!(fs::read_to_string(&path).unwrap(), "10\n");
        fs::write(&path, "many").unwrap();
        assert!(raise_sysctl(&host, key, 7).is_err());
    }
}
