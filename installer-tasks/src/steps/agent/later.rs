//! What an agent takes rather than what is set in its settings: files that are read after them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::settings::{DROP_IN, Settings};
use crate::exit::{Failure, Result};
use crate::host::files::Files;
use crate::host::systemd::Unit;
use crate::host::{Host, words};

impl Settings {
    /// Refuses what sets one of `variables`, and counts more than these settings of the unit `name`.
    pub fn refuse_later(&self, host: &Host, name: &str, unit: &Unit, variables: &[String]) -> Result<()> {
        // The wrapper makes flags of its files, which count more than any variable.
        if let Self::EnvironmentFile(place) | Self::DropIn(place) = self {
            let later = self.later_files(host, name, unit)?;
            refuse_other_place(host.files(), &later, variables, &place.display().to_string())?;
        }
        self.refuse_later_drop_ins(host, unit, variables)
    }

    /// The files of variables whose values count more than, or as much as, what is set here.
    pub fn later_files(&self, host: &Host, name: &str, unit: &Unit) -> Result<Vec<PathBuf>> {
        let files = host.files();
        let all = unit.environment_files_on(host)?;
        match self {
            Self::DropIn(_) => Ok(all),
            Self::FlagFiles(_) => {
                let common = Some(host.place("/etc/default/mesos"));
                Ok([common, self.defaults(host)].into_iter().flatten().collect())
            }
            Self::EnvironmentFile(path) => {
                let is_it = |file: &PathBuf| files.resolve(file).is_ok_and(|file| file == *path);
                match all.iter().rposition(is_it) {
                    Some(at) => Ok(all[at + 1..].to_vec()),
                    None => Err(Failure::unsuitable(format!(
                        "{name} does not read {}: say --mesos-platform or --mesos-unit if it is another",
                        path.display()
                    ))),
                }
            }
        }
    }

    /// The file of variables that the wrapper reads.
    pub fn defaults(&self, host: &Host) -> Option<PathBuf> {
        let Self::FlagFiles(directory) = self else { return None };
        Some(host.place("/etc/default").join(directory.file_name()?))
    }

    /// Refuses a drop-in that sets one of `variables` after ours does: systemd reads drop-ins in the order of their names,
    /// wherever they are. One that it has not read yet it reads with ours.
    pub fn refuse_later_drop_ins(&self, host: &Host, unit: &Unit, variables: &[String]) -> Result<()> {
        let Self::DropIn(ours) = self else { return Ok(()) };
        let files = host.files();
        let is_later = |path: &PathBuf| {
            path.extension() == Some("conf".as_ref())
                && path.file_name().is_some_and(|name| *name > *OsStr::new(DROP_IN))
                && files.is_file(path)
        };
        let loaded = unit.files.iter().map(|path| host.place(path));
        let listed = files.list(ours.parent().unwrap_or(Path::new("/")))?;
        for path in loaded.chain(listed).filter(is_later) {
            let content = files.read(&path)?.unwrap_or_default();
            let Some(what) = overrides(&String::from_utf8_lossy(&content), variables) else { continue };
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            return Err(Failure::unsuitable(format!(
                "{} {what}, and is read after {}, which would not count: rename it so that its name comes first (such as \
                 10-{name}), and run `systemctl daemon-reload`",
                path.display(),
                ours.display()
            )));
        }
        Ok(())
    }
}

/// Refuses one of the files `later` that sets one of `variables`, whose place is another.
pub fn refuse_other_place(files: &Files, later: &[PathBuf], variables: &[String], place: &str) -> Result<()> {
    for file in later {
        let content = files.read(file)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&content);
        if let Some(variable) = variables.iter().find(|variable| words::last(&text, variable).is_some()) {
            return Err(Failure::unsuitable(format!(
                "{} sets {variable} too, and only one place counts: take it out there, and put it into {place}",
                file.display()
            )));
        }
    }
    Ok(())
}

/// What a drop-in does, in words, to `variables` that were set before it.
fn overrides(text: &str, variables: &[String]) -> Option<String> {
    let text = text.replace("\\\n", " ");
    let mut in_service = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            in_service = line == "[Service]";
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        if !in_service || key.trim() != "Environment" {
            continue;
        }
        let assignments = words::split(value);
        if assignments.is_empty() {
            return Some("takes away all variables that were set before".to_owned());
        }
        let names = assignments.iter().filter_map(|it| Some(it.split_once('=')?.0));
        if let Some(name) = names.into_iter().find(|name| variables.iter().any(|it| it == name)) {
            return Some(format!("sets {name}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::agent::settings::variable;

    #[test]
    fn what_a_drop_in_does_to_variables_is_read_as_systemd_does() {
        let of = |text: &str| overrides(text, &[variable("isolation"), variable("hooks")]);
        for text in [
            "[Service]\nEnvironment=MESOS_ISOLATION=a\n",
            "[Service]\n Environment = A=1 \"MESOS_ISOLATION=a b\"",
            "[Service]\nEnvironment=A=1 \\\n  MESOS_ISOLATION=a\n",
            "[Unit]\n[Service]\nEnvironment='MESOS_ISOLATION='\n",
        ] {
            assert_eq!(of(text).as_deref(), Some("sets MESOS_ISOLATION"), "{text:?}");
        }
        assert!(of("[Service]\nEnvironment=\n").unwrap().contains("all variables"));
        for text in [
            "",
            "Environment=MESOS_HOOKS=a\n",
            "[Install]\nEnvironment=MESOS_HOOKS=a\n",
            "[Service]\n#Environment=MESOS_HOOKS=a\nEnvironment=MESOS_HOOKS_X=a\nKillMode=process\n",
        ] {
            assert_eq!(of(text), None, "{text:?}");
        }
    }

    #[test]
    fn only_drop_ins_that_are_read_after_ours_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::below(root.path());
        let settings = Settings::DropIn(host.place("/etc/systemd/system/u.service.d").join(DROP_IN));
        let unit = Unit { files: vec!["/run/systemd/system/u.service.d/d.conf".into()], ..Unit::default() };
        let refused = || {
            let refused = settings.refuse_later_drop_ins(&host, &unit, &[variable("hooks")]);
            refused.err().map(|failure| failure.to_string()).unwrap_or_default()
        };
        let write = |place: &str| {
            let path = root.path().join(place);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "[Service]\nEnvironment=MESOS_HOOKS=x\n").unwrap();
            path
        };
        for passed in ["10-override.conf", "calico-dcos.conf", "override.conf.bak", "calico-a.conf"] {
            write(&format!("etc/systemd/system/u.service.d/{passed}"));
            assert_eq!(refused(), "", "{passed}");
        }
        let loaded = write("run/systemd/system/u.service.d/d.conf");
        assert!(refused().contains("d.conf sets MESOS_HOOKS, and is read after"), "{}", refused());
        std::fs::remove_file(loaded).unwrap();
        assert_eq!(refused(), "");
        // One that systemd has not read yet.
        write("etc/systemd/system/u.service.d/override.conf");
        assert!(refused().contains("such as 10-override.conf"), "{}", refused());
    }
}
