//! The Mesos agent of this host, asked over its HTTP endpoints `/version`, `/flags`, `/containers`, `/state` and
//! `/metrics/snapshot`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use super::files::Files;
use super::http::{self, HttpError};
use crate::exit::{Exit, Failure, Result};
use crate::values::Endpoint;

mod state;

pub use state::AgentState;

/// How long executors have to register with an agent that was restarted, where it does not say.
const REREGISTRATION: Duration = Duration::from_secs(2);

/// What is read of it, for operators.
const READ: &str = "/version, /flags, /containers, /state and /metrics/snapshot";
/// An agent that is there answers at once; a busy one within this.
const LIMIT: Duration = Duration::from_secs(10);

/// A version of Mesos, as far as it decides anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MesosVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl fmt::Display for MesosVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for MesosVersion {
    type Err = ();

    /// `1.11.0`, `1.2.0-rc1`, `0.28.3`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.split('.').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok(Self { major, minor }),
            _ => Err(()),
        }
    }
}

/// The flags that the running agent was started with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentFlags(BTreeMap<String, String>);

impl AgentFlags {
    /// A flag's value, if it is set to something.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Where the CNI isolator keeps what it knows of each container: `<container>/<network>/<interface>/`.
    pub fn cni_root(&self) -> PathBuf {
        let persist = self.get("network_cni_root_dir_persist") == Some("true");
        let base = if persist { self.get("work_dir") } else { self.get("runtime_dir") };
        Path::new(base.unwrap_or("/var/run/mesos")).join("isolators/network/cni")
    }

    /// How long an agent that was restarted waits for its executors before it registers with a master.
    pub fn reregistration_timeout(&self) -> Duration {
        self.get("executor_reregistration_timeout").and_then(duration).unwrap_or(REREGISTRATION)
    }

    /// Whether tasks of frameworks that checkpoint outlive a restart of the agent.
    pub fn recovers(&self) -> bool {
        self.get("recover").is_none_or(|recover| recover == "reconnect")
    }

    /// Whether the agent puts executors into a control group apart from its unit's.
    pub fn moves_executors(&self) -> bool {
        self.get("systemd_enable_support").is_none_or(|enabled| enabled == "true")
    }

    /// Where the programs are that come with the agent.
    pub fn launcher_dir(&self) -> &Path {
        Path::new(self.get("launcher_dir").unwrap_or("/usr/local/libexec/mesos"))
    }
}

impl<const N: usize> From<[(&str, &str); N]> for AgentFlags {
    fn from(flags: [(&str, &str); N]) -> Self {
        Self(flags.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// A duration as Mesos writes it: `10mins`, `1.5secs`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "secs" => 1.0,
        "mins" => 60.0,
        "hrs" => 3600.0,
        "days" => 86_400.0,
        "weeks" => 604_800.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

/// The agent at an address.
#[derive(Debug, Clone)]
pub struct Agent {
    endpoint: Endpoint,
}

impl Agent {
    /// The agent at `endpoint`; nothing is asked yet.
    pub fn at(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// Which version runs.
    pub async fn version(&self) -> Result<MesosVersion> {
        #[derive(Deserialize)]
        struct Version {
            version: String,
        }
        let Version { version } = self.get("/version").await?;
        version.parse().map_err(|()| {
            Failure::unsuitable(format!("{}/version: {version:?} is not a version of Mesos", self.endpoint))
        })
    }

    /// What it was started with.
    pub async fn flags(&self) -> Result<AgentFlags> {
        #[derive(Deserialize)]
        struct Flags {
            flags: BTreeMap<String, String>,
        }
        let Flags { flags } = self.get("/flags").await?;
        Ok(AgentFlags(flags))
    }

    /// What runs in each container: its ID, and its executor and framework in words.
    pub async fn containers(&self) -> Result<BTreeMap<String, String>> {
        #[derive(Deserialize)]
        struct Container {
            #[serde(rename = "container_id")]
            id: String,
            #[serde(rename = "executor_id")]
            executor: String,
            #[serde(rename = "framework_id")]
            framework: String,
        }
        let containers: Vec<Container> = self.get("/containers").await?;
        let named = |it: Container| (it.id, format!("{} of framework {}", it.executor, it.framework));
        Ok(containers.into_iter().map(named).collect())
    }

    /// Who it is, since when it runs, and what it runs.
    pub async fn state(&self) -> Result<AgentState> {
        self.get("/state").await
    }

    /// Whether it is registered with a master.
    pub async fn is_registered(&self) -> Result<bool> {
        let metrics: BTreeMap<String, Option<f64>> = self.get("/metrics/snapshot").await?;
        Ok(metrics.get("slave/registered").copied().flatten() == Some(1.0))
    }

    async fn get<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T> {
        let answer = http::get(&self.endpoint, path, LIMIT).await.map_err(|error| {
            let exit = if matches!(error, HttpError::Tls(_)) { Exit::Unsuitable } else { Exit::Unavailable };
            Failure::new(
                exit,
                "the Mesos agent of this host does not answer (--mesos-agent says where it is)",
            )
            .because(error)
        })?;
        let url = format!("{}{path}", self.endpoint);
        match answer.status {
            200 => serde_json::from_slice(&answer.body).map_err(|error| {
                Failure::unsuitable(format!("{url}: not the answer of a Mesos agent")).because(error)
            }),
            401 => Err(Failure::new(
                Exit::NotPermitted,
                format!(
                    "{url}: the agent wants a login (401), and calico-installer has no login for agents: {READ} must be \
                     readable without one: start it without --authenticate_http_readonly"
                ),
            )),
            403 => Err(Failure::new(
                Exit::NotPermitted,
                format!(
                    "{url}: the agent does not permit it (403): reading {READ} must be allowed to everybody in its --acls"
                ),
            )),
            status @ 500.. => {
                Err(Failure::new(Exit::Unavailable, format!("{url}: the agent answers {status}")))
            }
            status => {
                Err(Failure::unsuitable(format!("{url}: the agent answers {status}: is this a Mesos agent?")))
            }
        }
    }
}

/// The containers that use a network, or any, from the state directory of the CNI isolator: it has every container from
/// before its ADD until after its DEL, which the agent's API has not.
pub fn containers_on(cni_root: &Path, network: Option<&str>) -> Result<Vec<String>> {
    let uses = |container: &PathBuf| match network {
        Some(network) => container.join(network).is_dir(),
        None => Files::default().list(container).is_ok_and(|networks| networks.iter().any(|it| it.is_dir())),
    };
    let name = |container: PathBuf| container.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Files::default().list(cni_root)?.into_iter().filter(uses).map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_numbers() {
        let version = |text: &str| text.parse::<MesosVersion>();
        assert!(version("1.11.0").unwrap() > version("1.2.0-rc1").unwrap());
        assert!(version("0.28.3").unwrap() < version("1.0").unwrap());
        assert!(version("new").is_err());
        assert!(version("1").is_err());
    }

    #[test]
    fn durations_are_mesos_own() {
        for (text, millis) in
            [("10mins", 600_000), ("2secs", 2000), ("1.5secs", 1500), ("15ms", 15), ("1hrs", 3_600_000)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "secs", "-1secs", "1.2.3secs", "1e3secs", "1min", "9e999weeks"] {
            assert_eq!(duration(text), None, "{text}");
        }
        let flags = |value: &str| AgentFlags::from([("executor_reregistration_timeout", value)]);
        assert_eq!(flags("15secs").reregistration_timeout(), Duration::from_secs(15));
        assert_eq!(flags("soon").reregistration_timeout(), Duration::from_secs(2));
    }

    #[test]
    fn what_a_restart_does_to_tasks_is_in_the_flags() {
        let of = |name: &str, value: &str| AgentFlags::from([(name, value)]);
        assert!(AgentFlags::default().recovers() && AgentFlags::default().moves_executors());
        assert!(of("recover", "reconnect").recovers() && !of("recover", "cleanup").recovers());
        assert!(!of("systemd_enable_support", "false").moves_executors());
    }

    #[test]
    fn the_isolator_s_directory_follows_the_flags() {
        let root = |flags: AgentFlags| flags.cni_root().display().to_string();
        assert_eq!(root(AgentFlags::default()), "/var/run/mesos/isolators/network/cni");
        assert_eq!(root([("runtime_dir", "/run/m")].into()), "/run/m/isolators/network/cni");
        let persistent =
            [("network_cni_root_dir_persist", "true"), ("work_dir", "/w"), ("runtime_dir", "/r")];
        assert_eq!(root(persistent.into()), "/w/isolators/network/cni");
    }

    #[test]
    fn containers_are_those_with_the_network_s_directory() {
        let root = tempfile::tempdir().unwrap();
        for path in ["one/calico/eth0", "two/other/eth0", "three/calico/eth0"] {
            std::fs::create_dir_all(root.path().join(path)).unwrap();
        }
        assert_eq!(containers_on(root.path(), Some("calico")).unwrap(), ["one", "three"]);
        assert_eq!(containers_on(root.path(), None).unwrap(), ["one", "three", "two"]);
        assert!(containers_on(&root.path().join("none"), Some("calico")).unwrap().is_empty());
    }
}
