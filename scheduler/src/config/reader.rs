//! Reads options one by one and collects every fault, so that an operator mends them all at once.

use std::collections::BTreeMap;
use std::fmt;

use super::options::{OPTIONS, OptionDef};

/// What is wrong with one option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The option's name, or the unknown name.
    pub option: String,
    /// The value that was given.
    pub value: Option<String>,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} = '{value}': {}", self.option, self.problem),
            None => write!(f, "{}: {}", self.option, self.problem),
        }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} fault(s):", self.0.len())?;
        for fault in &self.0 {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

/// The values of all options, and the faults found so far.
pub(super) struct Reader {
    values: BTreeMap<&'static str, String>,
    faults: Vec<Fault>,
}

impl Reader {
    /// Takes values by their environment names from `env`, and over them by option name from `flags`.
    /// Variables that do not begin with `CALICO_` are others' business; of those that do, each must be known.
    pub fn new(env: &BTreeMap<String, String>, flags: BTreeMap<&'static str, String>) -> Self {
        let mut reader = Self { values: BTreeMap::new(), faults: Vec::new() };
        let known: BTreeMap<String, &OptionDef> =
            OPTIONS.iter().map(|option| (option.env(), option)).collect();
        for (name, value) in env.iter().filter(|(name, _)| name.starts_with("CALICO_")) {
            match known.get(name) {
                Some(option) => {
                    reader.values.insert(option.name, value.clone());
                }
                None => reader.faults.push(Fault {
                    option: name.clone(),
                    value: Some(shown(name, value)),
                    problem: format!(
                        "there is no such option; the nearest is {}",
                        nearest(name, known.keys())
                    ),
                }),
            }
        }
        reader.values.extend(flags);
        // An empty value is none: the package passes nothing else for an option that is left out.
        reader.values.retain(|_, value| !value.trim().is_empty());
        reader
    }

    /// The option's value or default, if it has one.
    fn text(&self, name: &'static str) -> Option<String> {
        let option = OPTIONS.iter().find(|option| option.name == name);
        debug_assert!(option.is_some(), "{name} is not in the table");
        self.values.get(name).cloned().or_else(|| option?.default.map(str::to_owned))
    }

    /// Reports a fault of an option.
    pub fn fault(&mut self, name: &'static str, problem: impl Into<String>) {
        let value = self.text(name).map(|value| shown(name, &value));
        self.faults.push(Fault { option: name.to_owned(), value, problem: problem.into() });
    }

    /// Whether the option has a value, right or wrong.
    pub fn is_given(&self, name: &'static str) -> bool {
        self.text(name).is_some()
    }

    /// An option that may be left out.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(self.text(name)?.trim()) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.fault(name, problem);
                None
            }
        }
    }

    /// An option that must have a value. `instead` stands in after a fault, so that the others are read too.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        instead: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        if self.text(name).is_none() {
            self.fault(name, "must be given");
        }
        self.optional(name, parse).unwrap_or(instead)
    }

    /// A list, comma-separated; empty when the option is left out.
    pub fn list<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let parse_all =
            |text: &str| text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(&parse).collect();
        self.optional(name, parse_all).unwrap_or_default()
    }

    /// A list that must name something; otherwise `missing` says what.
    pub fn required_list<T>(
        &mut self,
        name: &'static str,
        missing: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let faults = self.faults.len();
        let list = self.list(name, parse);
        if list.is_empty() && self.faults.len() == faults {
            self.fault(name, missing);
        }
        list
    }

    /// Ends reading: all the faults, or what was read.
    pub fn finish<T>(self, value: T) -> Result<T, Faults> {
        if self.faults.is_empty() { Ok(value) } else { Err(Faults(self.faults)) }
    }
}

/// A value as a fault may show it: without passwords and keys.
fn shown(name: &str, value: &str) -> String {
    let hidden = "(not shown)";
    let name = name.to_lowercase();
    // Of these only a path is harmless.
    let holds_secrets = ["credential", "secret", "password", "key"].iter().any(|word| name.contains(word));
    if (holds_secrets && !value.trim_start().starts_with('/')) || value.contains("PRIVATE KEY") {
        return hidden.to_owned();
    }
    // Before the last `@` of a URL stands user:password.
    let credentials = value.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
    match credentials.and_then(|(credentials, _)| credentials.split_once(':')) {
        Some((_, password)) if !password.is_empty() => value.replacen(&format!(":{password}@"), ":…@", 1),
        _ => value.to_owned(),
    }
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> String {
    known
        .max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)))
        .cloned()
        .unwrap_or_default()
}

/// Parsers of values. Each error says what would be right.
pub(super) mod parse {
    use std::net::SocketAddr;
    use std::time::Duration;

    use http::Uri;

    /// `value`, where it has these characters and ASCII's letters and digits only, the first of which is none of `-./:`.
    fn word(value: &str, more: &str, wrong: &str) -> Result<String, String> {
        let fits = value.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
        if fits && !value.starts_with(['-', '.', '/', ':']) {
            Ok(value.to_owned())
        } else {
            Err(wrong.to_owned())
        }
    }

    /// An image, by a tag or a digest.
    pub fn image(value: &str) -> Result<String, String> {
        word(value, "-._/:@", "must be an image's name, like calico/node:v3.14.0")
    }

    /// A host's name in Calico, as the installer takes it.
    pub fn node_name(value: &str) -> Result<String, String> {
        let wrong = "must be lower-case letters, digits, '-', '.' and '_'";
        word(value, "-._", wrong)
            .and_then(|name| if name == name.to_lowercase() { Ok(name) } else { Err(wrong.to_owned()) })
    }

    /// A user of the agents.
    pub fn user(value: &str) -> Result<String, String> {
        word(value, "-._@$", "must be the name of a user of the agents, like root")
    }

    pub fn duration(value: &str) -> Result<Duration, String> {
        humantime::parse_duration(value).map_err(|_| "not a duration; like 30s, 5m or 168h".to_owned())
    }

    pub fn boolean(value: &str) -> Result<bool, String> {
        value.parse().map_err(|_| "must be true or false".to_owned())
    }

    pub fn address(value: &str) -> Result<SocketAddr, String> {
        value.parse().map_err(|_| "not an address; like 127.0.0.1:2379".to_owned())
    }

    /// `host:port`.
    pub fn authority(value: &str) -> Result<String, String> {
        let port = value.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        match port.map(str::parse::<u16>) {
            Some(Ok(port)) if port > 0 => Ok(value.to_owned()),
            _ => Err(format!("'{value}' is not host:port")),
        }
    }

    /// `http://host:port` or `https://host:port`.
    pub fn endpoint(value: &str) -> Result<String, String> {
        let right = || format!("'{value}' is not a URL like http://10.0.0.1:2379");
        let uri: Uri = value.parse().map_err(|_| right())?;
        let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme));
        let authority = uri.authority().filter(|authority| authority.port_u16().is_some());
        match (scheme, authority) {
            (Some(scheme), Some(authority))
                if uri.path().trim_matches('/').is_empty() && uri.query().is_none() =>
            {
                Ok(format!("{scheme}://{authority}"))
            }
            _ => Err(right()),
        }
    }

    /// One of these words.
    pub fn one_of<T: Copy>(value: &str, choices: &[(&str, T)]) -> Result<T, String> {
        let found = choices.iter().find(|(word, _)| *word == value).map(|(_, choice)| *choice);
        found.ok_or_else(|| {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            format!("must be one of: {}", words.join(", "))
        })
    }

    /// A number of at most three decimals, in thousandths.
    pub fn thousandths(value: &str) -> Result<i64, String> {
        let wrong = || "must be a number above 0 with at most three decimals, like 0.1".to_owned();
        let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
        if decimals.len() > 3 || whole.len() > 9 || !value.chars().all(|c| c.is_ascii_digit() || c == '.') {
            return Err(wrong());
        }
        format!("{whole}{decimals:0<3}").parse().ok().filter(|n| *n > 0).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn thousandths_are_exact() {
        assert_eq!(parse::thousandths("0.1"), Ok(100));
        assert_eq!(parse::thousandths("64"), Ok(64_000));
        assert_eq!(parse::thousandths("1.005"), Ok(1005));
        for wrong in ["0", "-1", "1.0005", "1e3", "", "1.2.3", ".", "10000000000"] {
            assert!(parse::thousandths(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn endpoints_need_scheme_and_port() {
        assert_eq!(parse::endpoint("http://10.0.0.1:2379/"), Ok("http://10.0.0.1:2379".into()));
        for wrong in ["10.0.0.1:2379", "http://10.0.0.1", "ftp://a:1", "http://a:1/v2", ""] {
            assert!(parse::endpoint(wrong).unwrap_err().contains("http://10.0.0.1:2379"), "{wrong}");
        }
    }
}
