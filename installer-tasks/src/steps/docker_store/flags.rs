//! What dockerd's command line says of the cluster store, as systemd puts it together: the unit with its drop-ins,
//! `Environment=` and environment files. dockerd does not start with a setting both there and in daemon.json.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::daemon_json;
use crate::host::words::split;

/// The flag that names another file than [`DEFAULT_DAEMON_JSON`].
const CONFIG_FILE: &str = "config-file";
/// What dockerd reads without that flag.
pub const DEFAULT_DAEMON_JSON: &str = "/etc/docker/daemon.json";
/// The flags that go against what we write.
const FLAGS: [&str; 4] =
    [daemon_json::STORE, daemon_json::ADVERTISE, "cluster-store-opt", daemon_json::OPTIONS];

/// Where a variable's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its value.
    pub value: String,
    /// The environment file, or `None` when it is the unit's `Environment=`.
    pub file: Option<PathBuf>,
}

/// The environment by name; what was set last has won.
pub type Environment = BTreeMap<String, Variable>;

/// A flag on dockerd's command line that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// Its name, without dashes.
    pub name: String,
    /// Its value; empty when there is none.
    pub value: String,
    /// The variable that it comes from, and the variable's environment file.
    pub from: Option<(String, Option<PathBuf>)>,
}

/// The flags among `exec_start`, the words of each `ExecStart=`.
pub fn flags(exec_start: &[Vec<String>], environment: &Environment) -> Vec<Flag> {
    exec_start.iter().flat_map(|words| flags_of(words, environment)).collect()
}

/// A word, and the variable that it comes from.
type Word = (String, Option<String>);

fn flags_of(words: &[String], environment: &Environment) -> Vec<Flag> {
    let mut expanded: Vec<Word> = Vec::new();
    for word in words {
        for (word, from) in expand(word, environment) {
            if word.trim().contains(char::is_whitespace) && !is_flag(&word) {
                // A command line within the command line: `sh -c '…'`, whose variables the shell replaces.
                for inner in split(&word) {
                    let inner = expand(&inner, environment);
                    expanded
                        .extend(inner.into_iter().map(|(word, own)| (word, own.or_else(|| from.clone()))));
                }
            } else {
                expanded.push((word, from));
            }
        }
    }
    let mut flags = Vec::new();
    let mut words = expanded.iter().peekable();
    while let Some((word, from)) = words.next() {
        let Some((name, value)) = flag(word) else { continue };
        if name != CONFIG_FILE && !FLAGS.contains(&name) {
            continue;
        }
        let value = match value {
            Some(value) => value.to_owned(),
            None => words.peek().map(|(value, _)| value.clone()).unwrap_or_default(),
        };
        let from = from.as_ref().map(|variable| {
            (variable.clone(), environment.get(variable).and_then(|variable| variable.file.clone()))
        });
        flags.push(Flag { name: name.to_owned(), value, from });
    }
    flags
}

/// `--name`, `--name=value`, or either with one dash, as Docker up to 1.12 took it.
fn flag(word: &str) -> Option<(&str, Option<&str>)> {
    let rest = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    match rest.split_once('=') {
        Some((name, value)) => Some((name, Some(value))),
        None => Some((rest, None)),
    }
}

fn is_flag(word: &str) -> bool {
    flag(word).is_some_and(|(name, _)| name == CONFIG_FILE || FLAGS.contains(&name))
}

/// As systemd replaces variables: a word that is `$NAME` becomes the value's words, `${NAME}` anywhere its value,
/// `$$` a dollar sign.
fn expand(word: &str, environment: &Environment) -> Vec<Word> {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let value = |name: &str| environment.get(name).map_or("", |variable| &variable.value);
    if let Some(name) = word.strip_prefix('$')
        && is_name(name)
    {
        return split(value(name)).into_iter().map(|word| (word, Some(name.to_owned()))).collect();
    }
    let mut text = String::new();
    let mut from = None;
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            text.push('$');
            rest = after;
        } else if let Some((name, after)) = after.strip_prefix('{').and_then(|it| it.split_once('}'))
            && is_name(name)
        {
            text.push_str(value(name));
            from = Some(name.to_owned());
            rest = after;
        } else {
            text.push('$');
            rest = after;
        }
    }
    text.push_str(rest);
    vec![(text, from)]
}

/// Where a flag is, in words. `texts` are the unit's files.
pub fn place(flag: &Flag, unit: &str, texts: &[(PathBuf, String)]) -> String {
    if let Some((variable, Some(file))) = &flag.from {
        return format!("{} ({variable}, for {unit})", file.display());
    }
    // The last file that speaks of it is the one that holds.
    let file = texts.iter().rev().find(|(_, text)| text.contains(&flag.name));
    file.map_or_else(|| unit.to_owned(), |(path, _)| format!("{} (unit {unit})", path.display()))
}

/// Why a flag is in the way, and where it is; `None` when it is not. `texts` are the unit's files.
pub fn conflict(flag: &Flag, unit: &str, texts: &[(PathBuf, String)], daemon_json: &Path) -> Option<String> {
    let place = place(flag, unit, texts);
    if flag.name != CONFIG_FILE {
        return Some(format!(
            "{place} has the flag --{}: Docker does not start with it and daemon.json both; take it out there",
            flag.name
        ));
    }
    (Path::new(&flag.value) != daemon_json).then(|| {
        format!(
            "{place} has the flag --config-file {}, so Docker does not read {}: give --docker-daemon-json {}",
            flag.value,
            daemon_json.display(),
            flag.value
        )
    })
}

/// Whether one of the flags names a configuration file.
pub fn has_config_file(flags: &[Flag]) -> bool {
    config_file(flags).is_some()
}

/// The configuration file that the flags name, if they do.
pub fn config_file(flags: &[Flag]) -> Option<&str> {
    flags.iter().find(|flag| flag.name == CONFIG_FILE).map(|flag| flag.value.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        let variable =
            |value: &str| Variable { value: value.into(), file: Some("/etc/default/docker".into()) };
        pairs.iter().map(|(name, value)| ((*name).to_owned(), variable(value))).collect()
    }

    fn found(words: &[&str], pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        flags(&[words], &environment(pairs)).into_iter().map(|flag| (flag.name, flag.value)).collect()
    }

    #[test]
    fn every_way_to_write_a_flag_is_seen() {
        let store = ("cluster-store".to_owned(), "etcd://a:1".to_owned());
        for (words, pairs) in [
            (&["dockerd", "--cluster-store=etcd://a:1"][..], &[][..]),
            (&["dockerd", "--cluster-store", "etcd://a:1"], &[]),
            (&["docker", "daemon", "-cluster-store=etcd://a:1"], &[]),
            (&["dockerd", "$DOCKER_OPTS"], &[("DOCKER_OPTS", "-H fd:// --cluster-store=\"etcd://a:1\"")]),
            (&["dockerd", "$DOCKER_OPTS"], &[("DOCKER_OPTS", "--cluster-store 'etcd://a:1' -D")]),
            (&["dockerd", "--cluster-store=${STORE}"], &[("STORE", "etcd://a:1")]),
            (&["sh", "-c", "exec dockerd --cluster-store=etcd://a:1 $A"], &[]),
            (&["sh", "-c", "exec dockerd $A"], &[("A", "--cluster-store=etcd://a:1")]),
        ] {
            assert_eq!(found(words, pairs), std::slice::from_ref(&store), "{words:?}");
        }
        let names = |words: &[&str]| found(words, &[]).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(
            names(&[
                "dockerd",
                "--cluster-advertise=eth0:1",
                "--cluster-store-opt",
                "a=b",
                "--config-file=/x"
            ]),
            ["cluster-advertise", "cluster-store-opt", "config-file"]
        );
        assert!(
            names(&["dockerd", "--label=--cluster-store=x", "$$--cluster-store", "cluster-store"]).is_empty()
        );
        assert!(found(&["dockerd", "$UNSET", "${UNSET}"], &[]).is_empty());
    }

    #[test]
    fn a_conflict_names_its_place() {
        let daemon_json = Path::new(DEFAULT_DAEMON_JSON);
        let texts = [
            (PathBuf::from("/lib/docker.service"), "ExecStart=dockerd".to_owned()),
            (PathBuf::from("/etc/x.conf"), "ExecStart=dockerd --cluster-store=a".to_owned()),
        ];
        let of = |words: &[&str], pairs: &[(&str, &str)]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let flags = flags(&[words], &environment(pairs));
            conflict(&flags[0], "docker.service", &texts, daemon_json)
        };
        let text = of(&["--cluster-store=a"], &[]).unwrap();
        assert!(text.contains("/etc/x.conf") && text.contains("--cluster-store"), "{text}");
        let text = of(&["$O"], &[("O", "--cluster-advertise=a:1")]).unwrap();
        assert!(text.contains("/etc/default/docker (O") && text.contains("--cluster-advertise"), "{text}");
        assert!(of(&["--config-file", "/etc/other.json"], &[]).unwrap().contains("--docker-daemon-json"));
        assert_eq!(of(&["--config-file", DEFAULT_DAEMON_JSON], &[]), None);
    }

    proptest! {
        /// However many other words there are, and wherever it comes from.
        #[test]
        fn a_flag_among_others_is_found(
            before in prop::collection::vec("[a-z/:=.]{1,8}", 0..4),
            after in prop::collection::vec("[a-z/:=.]{1,8}", 0..4),
            flag in prop::sample::select(&["--cluster-store", "-cluster-advertise", "--cluster-store-opt", "--config-file"][..]),
            value in "[a-z:/0-9]{1,12}",
            (joined, in_variable) in any::<(bool, bool)>(),
        ) {
            let ours = if joined { vec![format!("{flag}={value}")] } else { vec![flag.to_owned(), value.clone()] };
            let all: Vec<String> = before.into_iter().chain(ours).chain(after).collect();
            let (words, environment) = if in_variable {
                (vec!["dockerd".to_owned(), "$OPTS".to_owned()], environment(&[("OPTS", &all.join(" "))]))
            } else {
                (all, Environment::new())
            };
            let found = flags(&[words], &environment);
            let expected = (flag.trim_start_matches('-').to_owned(), value);
            prop_assert!(found.iter().any(|it| (it.name.clone(), it.value.clone()) == expected), "{:?}", found);
            prop_assert!(found.iter().all(|it| it.from.is_some() == in_variable));
        }

        #[test]
        fn no_words_break_it(words in prop::collection::vec("[$ {}\"'A-Za-z=-]{0,20}", 0..6), value in ".{0,20}") {
            flags(&[words], &environment(&[("A", &value)]));
        }
    }
}
