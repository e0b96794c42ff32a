//! How Mesos is set up on this host: as DC/OS does it, or as its own packages for Linux distributions do.

use clap::ValueEnum;

use super::Host;
use super::systemd::{Systemd, Unit};
use crate::exit::{Failure, Result};
use crate::values::NetworkName;

/// Where DC/OS is.
const DCOS_DIRECTORY: &str = "/opt/mesosphere";

/// Where DC/OS (2.1 and later) says that its own Calico is on, whose network is called [`DCOS_NETWORK`].
const DCOS_CALICO: &str = "/opt/mesosphere/etc/calico/calico_enabled";
const DCOS_NETWORK: &str = "calico";
/// The unit of its Felix.
pub const DCOS_FELIX: &str = "dcos-calico-felix.service";

/// DC/OS' own Calico.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DcosCalico {
    /// It is not on.
    Off,
    /// It is on, and its Felix does not run on this host.
    On,
    /// Its Felix runs.
    Runs,
}

impl DcosCalico {
    /// What there is of it; an `Err` where it is on and systemd cannot be asked for its Felix.
    pub async fn on(host: &Host) -> Result<Self> {
        if !host.has(DCOS_CALICO) {
            return Ok(Self::Off);
        }
        let felix = Systemd::connect().await?.unit(DCOS_FELIX).await?;
        // It is prepared for in its unit before it starts, and started again when it fails.
        let runs = felix.is_active() || felix.active_state == "activating";
        Ok(if runs { Self::Runs } else { Self::On })
    }
}

/// Refuses the name that the network of DC/OS' own Calico has, where that is on.
pub fn refuse_dcos_network(host: &Host, network: &NetworkName) -> Result<()> {
    if network.as_str() != DCOS_NETWORK || !host.has(DCOS_CALICO) {
        return Ok(());
    }
    Err(Failure::unsuitable(format!(
        "DC/OS' own Calico is on here ({DCOS_CALICO} exists) and has the network name {DCOS_NETWORK}: turn it off, or give \
         another --network-name"
    )))
}

/// A platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// DC/OS: all of Mesos' settings are its own.
    DcOs,
    /// Plain Mesos: settings are an administrator's, in `/etc`.
    Mesos,
}

/// Which platform it is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlatformChoice {
    /// The one that is found.
    Auto,
    /// DC/OS.
    #[value(name = "dcos")]
    DcOs,
    /// Plain Mesos.
    Mesos,
}

impl PlatformChoice {
    /// The platform of `host`.
    pub fn on(self, host: &Host) -> Platform {
        match self {
            Self::DcOs => Platform::DcOs,
            Self::Auto if host.has(DCOS_DIRECTORY) => Platform::DcOs,
            Self::Auto | Self::Mesos => Platform::Mesos,
        }
    }

    /// The units that the agent may be.
    fn units(self) -> Vec<&'static str> {
        let platforms = match self {
            Self::Auto => vec![Platform::DcOs, Platform::Mesos],
            Self::DcOs => vec![Platform::DcOs],
            Self::Mesos => vec![Platform::Mesos],
        };
        platforms.into_iter().flat_map(Platform::units).collect()
    }
}

impl Platform {
    /// The directory of plugins, where an agent has none.
    pub fn plugins_dir(self) -> &'static str {
        match self {
            Self::DcOs => "/opt/mesosphere/active/cni",
            Self::Mesos => "/opt/cni/bin",
        }
    }

    /// The directory of network configurations, where an agent has none.
    pub fn config_dir(self) -> &'static str {
        match self {
            Self::DcOs => "/opt/mesosphere/etc/dcos/network/cni",
            Self::Mesos => "/etc/cni/net.d",
        }
    }

    fn units(self) -> [&'static str; 2] {
        match self {
            // Of a private agent, and of a public one.
            Self::DcOs => ["dcos-mesos-slave.service", "dcos-mesos-slave-public.service"],
            // Before Mesos 1.0 renamed it, and after.
            Self::Mesos => ["mesos-slave.service", "mesos-agent.service"],
        }
    }
}

/// The agent's unit: the one that is `asked` for, else the one of the platform's that runs.
pub async fn agent_unit(
    systemd: &Systemd,
    platform: PlatformChoice,
    asked: Option<&str>,
) -> Result<(String, Unit)> {
    let names = match asked {
        Some(name) => vec![name],
        None => platform.units(),
    };
    let mut units = Vec::new();
    for name in names {
        units.push((name, systemd.unit(name).await?));
    }
    choose(units).map(|(name, unit)| (name.to_owned(), unit))
}

fn choose(units: Vec<(&str, Unit)>) -> Result<(&str, Unit)> {
    let (mut active, rest): (Vec<_>, Vec<_>) = units.into_iter().partition(|(_, unit)| unit.is_active());
    // Two names of one unit.
    active.dedup_by_key(|(_, unit)| unit.main_pid);
    let advice = "give its name as --mesos-unit";
    match (active.pop(), active.is_empty()) {
        (Some(unit), true) => Ok(unit),
        (Some((last, _)), false) => {
            let names: Vec<&str> = active.iter().map(|(name, _)| *name).chain([last]).collect();
            Err(Failure::unsuitable(format!(
                "more than one unit that may be the Mesos agent's is active ({}): {advice}",
                names.join(", ")
            )))
        }
        (None, _) => {
            let said = |(name, unit): &(&str, Unit)| {
                if unit.exists() {
                    format!("{name} {}", unit.condition())
                } else {
                    format!("{name} is not there")
                }
            };
            let said: Vec<String> = rest.iter().map(said).collect();
            Err(Failure::unsuitable(format!(
                "the Mesos agent's unit is not found ({}): {advice}",
                said.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(load: &str, active: &str, main_pid: u32) -> Unit {
        let main_pid = if active == "active" { main_pid } else { 0 };
        Unit { load_state: load.into(), active_state: active.into(), main_pid, ..Unit::default() }
    }

    #[test]
    fn dcos_is_found_by_its_directory_unless_it_is_said_what_it_is() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::below(root.path());
        assert_eq!(PlatformChoice::Auto.on(&host), Platform::Mesos);
        std::fs::create_dir_all(root.path().join("opt/mesosphere")).unwrap();
        assert_eq!(PlatformChoice::Auto.on(&host), Platform::DcOs);
        assert_eq!(PlatformChoice::Mesos.on(&host), Platform::Mesos);
        assert_eq!(PlatformChoice::DcOs.on(&Host::below("/none")), Platform::DcOs);
    }

    #[test]
    fn the_unit_is_the_one_that_runs() {
        let of = |states: [(&str, &str); 4]| {
            let mut pids = 1..;
            let units = states.map(|(load, active)| unit(load, active, pids.next().unwrap()));
            choose(PlatformChoice::Auto.units().into_iter().zip(units).collect()).map(|(name, _)| name)
        };
        let none = ("not-found", "inactive");
        let active = ("loaded", "active");
        for (at, expected) in [
            (0, "dcos-mesos-slave.service"),
            (1, "dcos-mesos-slave-public.service"),
            (2, "mesos-slave.service"),
            (3, "mesos-agent.service"),
        ] {
            let mut states = [none; 4];
            states[at] = active;
            // One that is loaded and does not run is not it.
            states[(at + 1) % 4] = ("loaded", "inactive");
            assert_eq!(of(states).unwrap(), expected);
        }
        let said = of([none, ("loaded", "failed"), none, none]).unwrap_err().to_string();
        assert!(said.contains("dcos-mesos-slave-public.service is failed"), "{said}");
        assert!(said.contains("mesos-agent.service is not there") && said.contains("--mesos-unit"), "{said}");
        let said = of([none, none, active, active]).unwrap_err().to_string();
        assert!(said.contains("(mesos-slave.service, mesos-agent.service)"), "{said}");
        // Two names of one unit.
        let alias =
            ["mesos-slave.service", "mesos-agent.service"].map(|name| (name, unit("loaded", "active", 7)));
        assert!(choose(alias.into()).is_ok());
    }

    #[test]
    fn a_platform_that_is_said_has_its_own_units_only() {
        assert_eq!(PlatformChoice::DcOs.units(), Platform::DcOs.units());
        assert_eq!(PlatformChoice::Mesos.units(), Platform::Mesos.units());
    }
}
