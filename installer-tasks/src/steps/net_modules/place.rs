//! Where an agent of Mesos 0.28 reads its modules, isolators, hooks and the address of etcd, and what is set there.

use std::path::Path;

use crate::exit::{Failure, Result};
use crate::host::files::Files;
use crate::host::platform::Platform;
use crate::host::systemd::Unit;
use crate::host::{Host, words};
use crate::steps::agent::later;
use crate::steps::agent::settings::{self, Settings, variable};
use crate::steps::model::WantedFile;

/// The flag that names the file of modules.
pub const MODULES: &str = "modules";
/// The flag that lists isolators.
pub const ISOLATION: &str = "isolation";
/// The flag that lists hooks.
pub const HOOKS: &str = "hooks";
/// All that is set.
pub const FLAGS: [&str; 3] = [MODULES, ISOLATION, HOOKS];
/// The variable in which `calico_mesos` is told where etcd is.
pub const AUTHORITY: &str = "ETCD_AUTHORITY";
/// Where it looks when it is not told.
pub const DEFAULT_AUTHORITY: &str = "127.0.0.1:2379";

/// DC/OS' settings of all agents.
const DCOS_SETTINGS: &str = "/opt/mesosphere/etc/mesos-slave-common";

/// Where things of ours go.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// The library's directory.
    pub libraries: &'static str,
    /// The file of modules, where the agent has none.
    pub modules: &'static str,
}

impl Layout {
    /// On a platform.
    pub fn of(platform: Platform) -> Self {
        match platform {
            Platform::DcOs => Self {
                libraries: "/opt/mesosphere/lib",
                modules: "/opt/mesosphere/etc/mesos-slave-modules.json",
            },
            Platform::Mesos => Self { libraries: "/opt/net-modules", modules: "/calico/modules.json" },
        }
    }
}

/// What an agent is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    /// The file of modules, as the flag has it.
    pub modules: String,
    /// The isolators.
    pub isolation: String,
    /// The hooks.
    pub hooks: String,
    /// Etcd as `calico_mesos` is told of it; `None`: not at all.
    pub authority: Option<String>,
}

impl Values {
    fn flags(&self) -> [(&'static str, &str); 3] {
        [(MODULES, &self.modules), (ISOLATION, &self.isolation), (HOOKS, &self.hooks)]
    }

    /// All of it as variables.
    fn variables(&self) -> Vec<(String, &str)> {
        let flags = self.flags().map(|(flag, value)| (variable(flag), value));
        let authority = self.authority.as_deref().map(|value| (AUTHORITY.to_owned(), value));
        flags.into_iter().chain(authority).collect()
    }
}

/// Where they are set.
#[derive(Debug)]
pub struct Place<'a> {
    /// In which form.
    pub settings: Settings,
    host: &'a Host,
    unit: &'a Unit,
}

impl<'a> Place<'a> {
    /// Those of the agent's unit `name`.
    pub fn of(host: &'a Host, platform: Platform, name: &str, unit: &'a Unit) -> Result<Self> {
        let settings = match platform {
            Platform::Mesos => Settings::of(name, unit).on(host),
            Platform::DcOs => {
                let path = host.place(DCOS_SETTINGS);
                if !host.files().is_file(&path) {
                    return Err(Failure::unsuitable(format!(
                        "{DCOS_SETTINGS} is not there, where DC/OS 1.7 has its agents' settings: say --mesos-platform mesos if \
                         this is none"
                    )));
                }
                Settings::EnvironmentFile(path)
            }
        };
        let place = Self { settings: settings.resolved(host.files())?, host, unit };
        place.refuse_what_goes_before(name)?;
        Ok(place)
    }

    /// In words.
    fn describe(&self, flag: &str) -> String {
        match &self.settings {
            Settings::FlagFiles(directory) => directory.join(flag).display().to_string(),
            Settings::EnvironmentFile(path) | Settings::DropIn(path) => path.display().to_string(),
        }
    }

    /// What an agent takes rather than what is set here: its command line, and what is read later.
    fn refuse_what_goes_before(&self, name: &str) -> Result<()> {
        let words = || self.unit.exec_start.iter().flatten().filter_map(|word| word.strip_prefix("--"));
        for flag in FLAGS {
            if words().any(|word| word.split('=').next() == Some(flag)) {
                return Err(Failure::unsuitable(format!(
                    "{name} has --{flag} on its command line, which counts more than {}: take it out there, and put it here",
                    self.describe(flag)
                )));
            }
        }
        let files = self.host.files();
        let later = self.settings.later_files(self.host, name, self.unit)?;
        for flag in FLAGS.into_iter().chain([AUTHORITY]) {
            let variables = match &self.settings {
                // The wrapper gives the agent its files as flags, which go before variables; some of these it makes flags of.
                Settings::FlagFiles(directory)
                    if flag == AUTHORITY || files.is_file(&directory.join(flag)) =>
                {
                    continue;
                }
                Settings::FlagFiles(_) => vec![variable(flag), flag.to_uppercase()],
                _ if flag == AUTHORITY => vec![flag.to_owned()],
                _ => vec![variable(flag)],
            };
            later::refuse_other_place(files, &later, &variables, &self.describe(flag))?;
        }
        let variables = FLAGS.map(variable).into_iter().chain([AUTHORITY.to_owned()]);
        self.settings.refuse_later_drop_ins(self.host, self.unit, &variables.collect::<Vec<_>>())
    }

    /// What is set of a flag.
    pub fn get(&self, flag: &str) -> Result<Option<String>> {
        let files = self.host.files();
        match &self.settings {
            Settings::FlagFiles(directory) => {
                let path = directory.join(flag);
                if files.print_of(&path)?.is_none() {
                    return Ok(None);
                }
                Ok(Some(settings::text_of(files, &path)?.trim().to_owned()))
            }
            Settings::EnvironmentFile(path) => {
                Ok(words::last(&settings::text_of(files, path)?, &variable(flag)))
            }
            Settings::DropIn(_) => Ok(self.of_unit(&variable(flag))),
        }
    }

    /// Etcd as `calico_mesos` is told of it by what is set.
    pub fn authority(&self) -> Result<Option<String>> {
        let path = match &self.settings {
            Settings::DropIn(_) => return Ok(self.of_unit(AUTHORITY)),
            Settings::EnvironmentFile(path) => Some(path.clone()),
            Settings::FlagFiles(_) => self.settings.defaults(self.host),
        };
        let Some(path) = path else { return Ok(None) };
        Ok(words::last(&settings::text_of(self.host.files(), &path)?, AUTHORITY))
    }

    /// A variable of `Environment=`.
    fn of_unit(&self, name: &str) -> Option<String> {
        let value = |assignment: &String| Some(assignment.strip_prefix(name)?.strip_prefix('=')?.to_owned());
        self.unit.environment.iter().rev().find_map(value)
    }

    /// The files as they are to be, in the order in which they are put in place: an agent that is started in between finds
    /// no name of a module that it does not know.
    pub fn files(&self, values: &Values) -> Result<Vec<WantedFile>> {
        let files = self.host.files();
        match &self.settings {
            Settings::DropIn(path) => {
                let text = settings::drop_in(&values.variables());
                Ok(vec![settings::file(files, path.clone(), text)?])
            }
            Settings::EnvironmentFile(path) => Ok(vec![with_values(files, path, &values.variables())?]),
            Settings::FlagFiles(directory) => {
                let mut wanted = Vec::new();
                if let (Some(path), Some(authority)) = (self.settings.defaults(self.host), &values.authority)
                {
                    let path = files.resolve(&path)?;
                    wanted.push(with_values(files, &path, &[(AUTHORITY.to_owned(), authority.as_str())])?);
                }
                for (flag, value) in values.flags() {
                    let path = directory.join(flag);
                    let text = settings::text_of(files, &path)?;
                    let text =
                        if text.trim().is_empty() { format!("{value}\n") } else { with_word(&text, value) };
                    wanted.push(settings::file(files, path, text)?);
                }
                Ok(wanted)
            }
        }
    }
}

/// A file of one value with another one, the blanks around it kept.
pub fn with_word(text: &str, value: &str) -> String {
    let start = text.len() - text.trim_start().len();
    let end = start + text.trim().len();
    format!("{}{value}{}", &text[..start], &text[end..])
}

fn with_values(files: &Files, path: &Path, values: &[(String, &str)]) -> Result<WantedFile> {
    let mut text = settings::text_of(files, path)?;
    for (name, value) in values {
        text = words::with_value(&text, name, value).ok_or_else(|| settings::goes_on(path))?;
    }
    settings::file(files, path.to_owned(), text)
}

/// The file of modules that an agent reads: what is set, else what is usual there. `unknown` is whether it has modules
/// although none are set.
pub fn modules_file(set: Option<&str>, unknown: bool, layout: Layout, place: &Place<'_>) -> Result<String> {
    let shown = || place.describe(MODULES);
    let Some(set) = set.filter(|set| !set.is_empty()) else {
        if unknown {
            return Err(Failure::unsuitable(format!(
                "the agent has --{MODULES}, which is set somewhere else than in {}: set it there",
                shown()
            )));
        }
        return Ok(layout.modules.to_owned());
    };
    let path = set.strip_prefix("file://").unwrap_or(set);
    if path.starts_with('/') {
        return Ok(path.to_owned());
    }
    Err(Failure::unsuitable(format!(
        "{} has {set:?} as --{MODULES}: put the modules into a file, and name that as file:///PATH",
        shown()
    )))
}

/// The words of a list.
pub fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// A list with one more name at its end, unless it has it.
pub fn with_name(list: &str, name: &str) -> String {
    match list.trim_end_matches([',', ' ']) {
        _ if names(list).any(|it| it == name) => list.to_owned(),
        "" => name.to_owned(),
        list => format!("{list},{name}"),
    }
}

/// A list without a name.
pub fn without_name(list: &str, name: &str) -> String {
    names(list).filter(|it| *it != name).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
