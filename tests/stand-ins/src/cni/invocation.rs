//! The environment of a plugin.

use std::path::PathBuf;

use super::{CniError, Code};

/// `CNI_COMMAND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Connect a container.
    Add,
    /// Disconnect it.
    Del,
    /// Verify that it is connected.
    Check,
    /// Tell the versions.
    Version,
}

/// A plugin's environment, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// What to do.
    pub action: Action,
    /// The container; empty for VERSION only.
    pub container_id: String,
    /// Its network namespace; may be missing for DEL.
    pub netns: Option<PathBuf>,
    /// The interface in it.
    pub interface: String,
    /// Where plugins are.
    pub path: Vec<PathBuf>,
}

impl Invocation {
    /// Checks all variables and names all faults at once.
    pub fn parse(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, CniError> {
        let value = |name| variable(name).filter(|value| !value.is_empty());
        let mut faults = Vec::new();
        let action = match value("CNI_COMMAND").as_deref() {
            Some("ADD") => Some(Action::Add),
            Some("DEL") => Some(Action::Del),
            Some("CHECK") => Some(Action::Check),
            Some("VERSION") => Some(Action::Version),
            Some(other) => {
                faults.push(format!("CNI_COMMAND is {other:?}; expected ADD, DEL, CHECK or VERSION"));
                None
            }
            None => {
                faults.push("CNI_COMMAND is missing".to_owned());
                None
            }
        };
        let mut invocation = Self {
            action: action.unwrap_or(Action::Version),
            container_id: value("CNI_CONTAINERID").unwrap_or_default(),
            netns: value("CNI_NETNS").map(PathBuf::from),
            interface: value("CNI_IFNAME").unwrap_or_default(),
            path: Vec::new(),
        };
        if let Some(path) = value("CNI_PATH") {
            invocation.path = std::env::split_paths(&path).collect();
        }
        if action.is_some_and(|action| action != Action::Version) {
            invocation.check(&mut faults);
        }
        if faults.is_empty() {
            Ok(invocation)
        } else {
            Err(CniError::new(Code::InvalidEnvironment, "invalid environment", &faults.join("; ")))
        }
    }

    fn check(&self, faults: &mut Vec<String>) {
        let id = &self.container_id;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if !id.starts_with(|c: char| c.is_ascii_alphanumeric()) || !id.chars().all(allowed) {
            faults.push(format!(
                "CNI_CONTAINERID is {id:?}; expected letters, digits, '_', '.' and '-', a letter or digit first"
            ));
        }
        let name = &self.interface;
        let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(bad) {
            faults.push(format!("CNI_IFNAME is {name:?}; expected an interface name of 1 to 15 bytes"));
        }
        if self.netns.is_none() && self.action != Action::Del {
            faults.push("CNI_NETNS is missing".to_owned());
        }
        if self.netns.as_ref().is_some_and(|path| !path.is_absolute()) {
            faults.push("CNI_NETNS is not an absolute path".to_owned());
        }
        if self.path.is_empty() {
            faults.push("CNI_PATH is missing".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(changes: &[(&str, &str)]) -> Result<Invocation, CniError> {
        let base = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "0d0c-1"),
            ("CNI_NETNS", "/run/netns/x"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/a:/opt/b"),
        ];
        Invocation::parse(&|name| {
            let find = |list: &[(&str, &str)]| {
                list.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            };
            find(changes).or_else(|| find(&base))
        })
    }

    #[test]
    fn takes_what_mesos_gives() {
        let invocation = parse(&[]).unwrap();
        assert_eq!(invocation.action, Action::Add);
        assert_eq!(invocation.path, [PathBuf::from("/opt/a"), PathBuf::from("/opt/b")]);
    }

    #[test]
    fn names_all_faults_at_once() {
        let error =
            parse(&[("CNI_CONTAINERID", "../x"), ("CNI_NETNS", ""), ("CNI_IFNAME", "a/b"), ("CNI_PATH", "")]);
        let error = error.unwrap_err();
        assert_eq!(error.code, 4);
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"] {
            assert!(error.details.contains(name), "{name}: {error}");
        }
    }

    #[test]
    fn del_needs_no_namespace_and_version_nothing() {
        assert_eq!(parse(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")]).unwrap().netns, None);
        let version = Invocation::parse(&|name| (name == "CNI_COMMAND").then(|| "VERSION".to_owned()));
        assert_eq!(version.unwrap().action, Action::Version);
        assert!(parse(&[("CNI_COMMAND", "GC")]).unwrap_err().details.contains("GC"));
    }
}
