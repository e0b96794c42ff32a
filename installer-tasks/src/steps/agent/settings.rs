//! Where an agent of plain Mesos gets its flags from, and how they are set there.
//!
//! The packages of Mesos start it by `mesos-init-wrapper`, which makes a flag of each file in `/etc/mesos-slave`. Other
//! units read `/etc/default/mesos-slave`; and each takes variables from a drop-in.

use std::path::{Path, PathBuf};

use crate::exit::{Failure, Result};
use crate::host::Host;
use crate::host::files::{self, Files, Print, Staging};
use crate::host::systemd::Unit;
use crate::host::words;
use crate::steps::model::{Content, WantedFile};

/// What the packages start the agent by.
const WRAPPER: &str = "mesos-init-wrapper";
/// Where administrators keep the settings of services.
const DEFAULTS: &str = "/etc/default/mesos-";
/// Our drop-in's name.
pub(super) const DROP_IN: &str = "calico-dcos.conf";

/// A flag and its value.
pub type Flag<'a> = (&'a str, &'a str);

/// Where flags are set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settings {
    /// A file a flag, in this directory.
    FlagFiles(PathBuf),
    /// Variables in a file that the unit reads.
    EnvironmentFile(PathBuf),
    /// Variables in a drop-in of ours.
    DropIn(PathBuf),
}

impl Settings {
    /// Those of an agent's unit.
    pub fn of(name: &str, unit: &Unit) -> Self {
        let words = unit.exec_start.iter().flatten();
        let mut after =
            words.skip_while(|word| Path::new(word).file_name() != Some(WRAPPER.as_ref())).skip(1);
        if let Some(role) = after.next() {
            return Self::FlagFiles(format!("/etc/mesos-{role}").into());
        }
        let plain = |path: &&String| path.starts_with(DEFAULTS) && !path.contains(['*', '?', '[']);
        // The last one that has a variable wins.
        match unit.environment_files.iter().rev().find(plain) {
            Some(path) => Self::EnvironmentFile(path.into()),
            None => Self::DropIn(format!("/etc/systemd/system/{name}.d/{DROP_IN}").into()),
        }
    }

    /// Those that a file at `path` is of, if it is one that sets `flags`.
    pub fn at(path: &Path, flags: &[&str]) -> Option<Self> {
        let directory = path.parent()?;
        let name = path.file_name()?.to_str()?;
        match name {
            _ if flags.contains(&name) => Some(Self::FlagFiles(directory.to_owned())),
            DROP_IN if directory.extension() == Some("d".as_ref()) => Some(Self::DropIn(path.to_owned())),
            _ if name.starts_with("mesos-") && directory.ends_with("etc/default") => {
                Some(Self::EnvironmentFile(path.to_owned()))
            }
            _ => None,
        }
    }

    /// Whether systemd must read its units again to see them.
    pub fn needs_reload(&self) -> bool {
        matches!(self, Self::DropIn(_))
    }

    /// The same, below the root of `host`.
    #[must_use]
    pub fn on(self, host: &Host) -> Self {
        let place = |path: PathBuf| host.place(&path.to_string_lossy());
        match self {
            Self::FlagFiles(path) => Self::FlagFiles(place(path)),
            Self::EnvironmentFile(path) => Self::EnvironmentFile(place(path)),
            Self::DropIn(path) => Self::DropIn(place(path)),
        }
    }

    /// The same, where they really are: what an administrator keeps elsewhere, and DC/OS in a package, is changed there.
    pub fn resolved(self, files: &Files) -> Result<Self> {
        Ok(match self {
            Self::EnvironmentFile(path) => Self::EnvironmentFile(files.resolve(&path)?),
            other => other,
        })
    }

    /// The files as they are to be for the agent to have these flags.
    pub fn files(&self, files: &Files, flags: &[Flag<'_>]) -> Result<Vec<WantedFile>> {
        match self {
            Self::FlagFiles(directory) => flags
                .iter()
                .map(|(flag, value)| file(files, directory.join(flag), format!("{value}\n")))
                .collect(),
            Self::EnvironmentFile(path) => {
                let text = with_variables(&text_of(files, path)?, flags).ok_or_else(|| goes_on(path))?;
                Ok(vec![file(files, files.resolve(path)?, text)?])
            }
            Self::DropIn(path) => {
                let variables: Vec<_> = flags.iter().map(|(flag, value)| (variable(flag), *value)).collect();
                Ok(vec![file(files, path.clone(), drop_in(&variables))?])
            }
        }
    }
}

/// The text of a file; none at all is an empty one.
pub fn text_of(files: &Files, path: &Path) -> Result<String> {
    let content = files.read(path)?.unwrap_or_default();
    String::from_utf8(content).map_err(|error| {
        Failure::unsuitable(format!("{} is not a text that can be changed", path.display())).because(error)
    })
}

/// Refuses an environment file that ends within a line that goes on.
pub fn goes_on(path: &Path) -> Failure {
    let path = path.display();
    Failure::unsuitable(format!(
        "{path} cannot be changed: what is added to it would be a part of its last line"
    ))
}

/// The variable of a flag.
pub fn variable(flag: &str) -> String {
    format!("MESOS_{}", flag.to_uppercase())
}

/// A drop-in that sets variables.
pub fn drop_in(variables: &[(String, &str)]) -> String {
    let line = |(name, value): &(String, &str)| {
        // systemd's own characters in a value.
        let value = value.replace('%', "%%").replace('\\', "\\\\").replace('"', "\\\"");
        format!("Environment=\"{name}={value}\"\n")
    };
    format!("[Service]\n{}", variables.iter().map(line).collect::<String>())
}

/// An environment file with these flags at its end, unless it has them; `None` when it ends within a line that goes on.
fn with_variables(text: &str, flags: &[Flag<'_>]) -> Option<String> {
    let has = |text: &str, (flag, value): &Flag<'_>| {
        words::last(text, &variable(flag)).is_some_and(|is| is == *value)
    };
    let mut after = text.to_owned();
    for (flag, value) in flags.iter().filter(|flag| !has(text, flag)) {
        after = words::with_assignment(&after, &variable(flag), value);
    }
    flags.iter().all(|flag| has(&after, flag)).then_some(after)
}

/// An environment file without the lines that set these flags.
pub fn without_variables(text: &str, flags: &[&str]) -> String {
    let ours = |line: &str| flags.iter().any(|flag| line.starts_with(&format!("{}=", variable(flag))));
    text.split_inclusive('\n').filter(|line| !ours(line)).collect()
}

/// A file with the mode and owner that it has; a new one is for all to read.
pub fn file(files: &Files, path: PathBuf, text: String) -> Result<WantedFile> {
    let sha256 = files::sha256_hex(text.as_bytes());
    let print = if let Some(is) = files.print_of(&path)? {
        Print { sha256, ..is }
    } else {
        let (uid, gid) = files::own_ids();
        Print { sha256, mode: 0o644, uid, gid }
    };
    // The wrapper and systemd pass over files that begin with a dot.
    Ok(WantedFile { path, staging: Staging::Beside, print, content: Content::Bytes(text.into_bytes()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLUGINS_FLAG: &str = "network_cni_plugins_dir";
    const CONFIG_FLAG: &str = "network_cni_config_dir";
    const BOTH: [&str; 2] = [PLUGINS_FLAG, CONFIG_FLAG];

    fn unit(exec: &str, environment_files: &[&str]) -> Unit {
        Unit {
            exec_start: vec![words::split(exec)],
            environment_files: environment_files.iter().map(ToString::to_string).collect(),
            ..Unit::default()
        }
    }

    #[test]
    fn settings_are_where_the_unit_looks() {
        let of = |exec: &str, files: &[&str]| Settings::of("mesos-agent.service", &unit(exec, files));
        let flag_files = |path: &str| Settings::FlagFiles(path.into());
        let wrapper = "/usr/bin/mesos-init-wrapper";
        let defaults = ["/etc/default/mesos", "/etc/default/mesos-slave"];
        assert_eq!(of(&format!("{wrapper} slave"), &defaults), flag_files("/etc/mesos-slave"));
        assert_eq!(of(&format!("/bin/sh -x {wrapper} agent"), &[]), flag_files("/etc/mesos-agent"));
        let environment = |path: &str| Settings::EnvironmentFile(path.into());
        let plain = "/usr/sbin/mesos-agent --work_dir=/w";
        assert_eq!(of(plain, &defaults), environment("/etc/default/mesos-slave"));
        let more = ["/etc/default/mesos-agent", "/etc/default/mesos-agent.d/*", "/run/other"];
        assert_eq!(of(plain, &more), environment("/etc/default/mesos-agent"));
        let drop_in = Settings::DropIn("/etc/systemd/system/mesos-agent.service.d/calico-dcos.conf".into());
        for (exec, files) in [(plain, &["/etc/mesos-agent.env"][..]), (wrapper, &[]), ("", &[])] {
            assert_eq!(of(exec, files), drop_in);
        }
    }

    #[test]
    fn a_setting_is_known_by_its_file() {
        let at = |path: &str| Settings::at(Path::new(path), &BOTH);
        for (path, expected) in [
            ("/etc/mesos-slave/network_cni_config_dir", Settings::FlagFiles("/etc/mesos-slave".into())),
            ("/etc/default/mesos-slave", Settings::EnvironmentFile("/etc/default/mesos-slave".into())),
            ("/x.d/calico-dcos.conf", Settings::DropIn("/x.d/calico-dcos.conf".into())),
        ] {
            assert_eq!(at(path), Some(expected));
        }
        for path in
            ["/opt/cni/bin/calico", "/etc/cni/net.d/calico.conf", "/opt/cni/bin/mesos-cni-port-mapper", "/"]
        {
            assert_eq!(at(path), None, "{path}");
        }
    }

    const FLAGS: [Flag<'_>; 2] = [(PLUGINS_FLAG, "/opt/cni/bin"), (CONFIG_FLAG, "/etc/cni/net.d")];
    const LINES: &str =
        "MESOS_NETWORK_CNI_PLUGINS_DIR=\"/opt/cni/bin\"\nMESOS_NETWORK_CNI_CONFIG_DIR=\"/etc/cni/net.d\"\n";

    #[test]
    fn variables_are_added_at_the_end_and_only_where_they_are_missing() {
        for (text, after) in [
            ("", LINES.to_owned()),
            ("# mine\nMASTER=`cat /etc/mesos/zk`\n", format!("# mine\nMASTER=`cat /etc/mesos/zk`\n{LINES}")),
            ("A=1", format!("A=1\n{LINES}")),
            (LINES, LINES.to_owned()),
            ("MESOS_NETWORK_CNI_PLUGINS_DIR=\n", format!("MESOS_NETWORK_CNI_PLUGINS_DIR=\n{LINES}")),
        ] {
            assert_eq!(with_variables(text, &FLAGS).as_ref(), Some(&after), "{text:?}");
        }
        for open in ["A=1 \\", "A=\"1", "# comment \\"] {
            assert_eq!(with_variables(open, &FLAGS), None, "{open:?}");
        }
        assert_eq!(without_variables(&format!("A=1\n{LINES}B=2"), &BOTH), "A=1\nB=2");
    }

    #[test]
    fn a_drop_in_says_the_same() {
        let text = drop_in(&[(variable(PLUGINS_FLAG), "/opt/a%b:/c")]);
        assert_eq!(text, "[Service]\nEnvironment=\"MESOS_NETWORK_CNI_PLUGINS_DIR=/opt/a%%b:/c\"\n");
    }

    proptest! {
        /// As systemd reads it: words with quotes, and two signs of percent for one.
        #[test]
        fn a_drop_in_gives_back_any_value(plugins in "/[ -~]{0,20}", config in "/[ -~]{0,20}") {
            let set = [(variable(PLUGINS_FLAG), &*plugins), (variable(CONFIG_FLAG), &*config)];
            let text = drop_in(&set);
            let mut lines = text.lines();
            prop_assert_eq!(lines.next(), Some("[Service]"));
            for (flag, value) in [(PLUGINS_FLAG, plugins), (CONFIG_FLAG, config)] {
                let assignments = words::split(lines.next().unwrap().strip_prefix("Environment=").unwrap());
                prop_assert_eq!(assignments.len(), 1, "{}", text);
                let (name, is) = assignments[0].split_once('=').unwrap();
                prop_assert_eq!((name.to_owned(), is.replace("%%", "%")), (variable(flag), value));
                prop_assert!(!is.replace("%%", "").contains('%'), "{}", text);
            }
            prop_assert_eq!(lines.next(), None);
        }

        /// Whatever an administrator has in the file stays, and systemd reads our values.
        #[test]
        fn an_environment_file_keeps_what_it_has(
            lines in prop::collection::vec("[A-Z_]{1,9}=[a-z\"'\\\\ #]{0,9}|#.{0,9}|", 0..6),
            value in "/[ -~]{0,20}",
        ) {
            let before = lines.join("\n");
            let flags = [(PLUGINS_FLAG, value.as_str()), (CONFIG_FLAG, "/c")];
            let Some(after) = with_variables(&before, &flags) else { return Ok(()) };
            prop_assert!(after.starts_with(&before));
            let (is, was) = (words::environment_file(&after), words::environment_file(&before));
            prop_assert_eq!(&is[..is.len() - 2], &was[..]);
            let ours = [("MESOS_NETWORK_CNI_PLUGINS_DIR", value.as_str()), ("MESOS_NETWORK_CNI_CONFIG_DIR", "/c")];
            let ours = ours.map(|(name, value)| (name.to_owned(), value.to_owned()));
            prop_assert_eq!(&is[is.len() - 2..], &ours[..]);
            prop_assert_eq!(with_variables(&after, &flags), Some(after.clone()), "once is enough");
            let back = without_variables(&after, &BOTH);
            prop_assert_eq!(back.strip_suffix('\n').unwrap_or(&back), before.strip_suffix('\n').unwrap_or(&before));
        }
    }
}
