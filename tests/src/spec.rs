//! What a cluster shall be: numbers, names and settings, checked before anything is made.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The longest name: host names `NAME-host99` and interface names are made of it.
const LONGEST_NAME: usize = 24;
/// Hosts have the addresses NET.11 to NET.99.
pub(crate) const MOST_HOSTS: u8 = 89;

/// What a cluster shall be. `..Spec::default()` gives the rest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// The cluster's name: its network namespace, and the beginning of its hosts' names.
    pub name: String,
    /// Number of agent hosts: the first is set up as DC/OS does, the last of several is public.
    pub agents: u8,
    /// How the agent hosts are set up.
    #[serde(default)]
    pub platform: Platform,
    /// Number of masters: 1, or 3 that elect a leader through ZooKeeper.
    pub masters: u8,
    /// More settings of each master, as `MESOS_…` environment variables.
    pub master_env: BTreeMap<String, String>,
    /// Files of the masters by their absolute path, with their content: those that settings name.
    #[serde(default)]
    pub master_files: BTreeMap<String, String>,
    /// More settings of each agent, as `MESOS_…` environment variables; an empty one takes away what is set otherwise.
    pub agent_env: BTreeMap<String, String>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            name: "calico".to_owned(),
            agents: 3,
            platform: Platform::default(),
            masters: 1,
            master_env: BTreeMap::new(),
            master_files: BTreeMap::new(),
            agent_env: BTreeMap::new(),
        }
    }
}

impl Spec {
    /// Checks every field.
    pub(crate) fn check(&self) -> Result<()> {
        check_name(&self.name)?;
        if !(1..=MOST_HOSTS).contains(&self.agents) {
            return Err(Error::Invalid(format!("{} agents: give 1 to {MOST_HOSTS}", self.agents)));
        }
        if ![1, 3].contains(&self.masters) {
            return Err(Error::Invalid(format!("{} masters: give 1, or 3 for an election", self.masters)));
        }
        for path in self.master_files.keys() {
            let inside = path.split('/').skip(1).all(|part| !["", ".", ".."].contains(&part));
            if !path.starts_with('/') || path == "/" || !inside {
                return Err(Error::Invalid(format!(
                    "'{path}' cannot be a master's file: write /folder/file"
                )));
            }
        }
        for (name, value) in self.master_env.iter().chain(&self.agent_env) {
            if !name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_') {
                return Err(Error::Invalid(format!(
                    "'{name}' is no environment variable: use A-Z, 0-9 and _"
                )));
            }
            if value.contains(['\n', '\0']) {
                return Err(Error::Invalid(format!("the value of {name} must be one line")));
            }
        }
        Ok(())
    }
}

/// Checks the name of a cluster: it becomes a part of paths, host names and control groups.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let fits = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && name.len() <= LONGEST_NAME
        && !name.ends_with('-');
    if fits {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "'{name}' cannot be the name of a cluster: use a-z, 0-9 and -, from a letter on, at most {LONGEST_NAME}"
    )))
}

/// How the agent hosts of a cluster are set up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    /// The first as DC/OS does, the others with plain Mesos' directories; all with DC/OS' names of units.
    #[default]
    Mixed,
    /// All as the packages of Mesos for Linux distributions do.
    Mesos,
}

/// How a host is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostKind {
    /// Plain Mesos: /opt/cni/bin and /etc/cni/net.d.
    Mesos,
    /// As DC/OS does: its folders below /opt/mesosphere, its isolators.
    DcOs,
    /// Plain Mesos, as a public agent: resources of the role `slave_public`, attribute `public_ip:true`.
    Public,
    /// As the packages of Mesos do it: the unit `mesos-slave`, which starts the agent by `mesos-init-wrapper` with a flag
    /// for each file in /etc/mesos-slave.
    Packaged,
    /// The same under Mesos' newer name, as a public agent: the unit `mesos-agent`, with variables of
    /// /etc/default/mesos-agent.
    PackagedPublic,
}

impl HostKind {
    /// The kind of host `number` (from 1) of the `of` that a cluster starts with; one that joins later is no public one.
    pub(crate) fn of_host(platform: Platform, number: u8, of: u8) -> Self {
        let is_last = number > 1 && number == of;
        match platform {
            Platform::Mixed if number == 1 => Self::DcOs,
            Platform::Mixed if is_last => Self::Public,
            Platform::Mixed => Self::Mesos,
            Platform::Mesos if is_last => Self::PackagedPublic,
            Platform::Mesos => Self::Packaged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_their_folder_are_refused() {
        for name in ["", "../x", "a b", "A", "1a", "a-", "a/b", "an-awfully-long-name-of-a-cluster"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        check_name("e2e-1").unwrap();
    }

    #[test]
    fn two_masters_cannot_elect() {
        let error = Spec { masters: 2, ..Spec::default() }.check().unwrap_err().to_string();
        assert_eq!(error, "2 masters: give 1, or 3 for an election");
    }

    #[test]
    fn settings_are_one_line_each() {
        let agent_env = BTreeMap::from([("MESOS_X".to_owned(), "a\nb".to_owned())]);
        assert!(Spec { agent_env, ..Spec::default() }.check().is_err());
        let agent_env = BTreeMap::from([("MESOS X".to_owned(), String::new())]);
        assert!(Spec { agent_env, ..Spec::default() }.check().is_err());
    }

    #[test]
    fn files_of_masters_stay_in_their_root() {
        for path in ["secret", "/", "/../secret", "/etc//secret", "/etc/."] {
            let master_files = BTreeMap::from([(path.to_owned(), String::new())]);
            assert!(Spec { master_files, ..Spec::default() }.check().is_err(), "{path}");
        }
        let master_files = BTreeMap::from([("/etc/secret".to_owned(), String::new())]);
        Spec { master_files, ..Spec::default() }.check().unwrap();
    }

    #[test]
    fn the_first_host_is_as_on_dcos_and_the_last_public() {
        let kinds =
            |platform| (1..=3).map(|number| HostKind::of_host(platform, number, 3)).collect::<Vec<_>>();
        assert_eq!(kinds(Platform::Mixed), [HostKind::DcOs, HostKind::Mesos, HostKind::Public]);
        assert_eq!(
            kinds(Platform::Mesos),
            [HostKind::Packaged, HostKind::Packaged, HostKind::PackagedPublic]
        );
        assert_eq!(HostKind::of_host(Platform::Mixed, 1, 1), HostKind::DcOs);
        assert_eq!(HostKind::of_host(Platform::Mesos, 1, 1), HostKind::Packaged);
    }
}
