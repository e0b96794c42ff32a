//! A stand-in for Marathon: runs one rendered app as a process in a cluster's network, strictly.
//!
//! It does what Marathon and the agent do for our scheduler: fetches the app's URIs into a sandbox, gives the
//! process its environment and a port, and nothing else. What it does not know in an app it refuses.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use crate::api::Api;
use crate::cluster::Cluster;
use crate::error::{Context as _, Error, Result};
use crate::http;
use crate::running::Process;

/// The first port of an agent's range, as Marathon gives them out.
const PORT: u16 = 31_000;

/// The parts of an app that concern how it is run; any other is refused.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct App {
    id: String,
    cmd: String,
    instances: u32,
    env: BTreeMap<String, String>,
    fetch: Vec<Fetch>,
    port_definitions: Vec<Value>,
    health_checks: Vec<HealthCheck>,
    container: Container,
    networks: Vec<Value>,
    #[serde(rename = "user")]
    _user: String,
    #[serde(rename = "cpus")]
    _cpus: f64,
    #[serde(rename = "mem")]
    _mem: f64,
    #[serde(rename = "requirePorts")]
    _require_ports: bool,
    #[serde(rename = "upgradeStrategy")]
    _upgrade_strategy: Value,
    #[serde(rename = "labels")]
    _labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fetch {
    uri: String,
    dest_path: String,
    executable: bool,
    extract: bool,
    #[serde(rename = "cache")]
    _cache: bool,
}

#[derive(Debug, Deserialize)]
struct Container {
    r#type: String,
}

#[derive(Debug, Deserialize)]
struct HealthCheck {
    path: String,
}

/// The scheduler, as Marathon runs it.
#[derive(Debug)]
pub struct Scheduler<'c> {
    cluster: &'c Cluster,
    name: String,
    app: App,
    /// Its process; another one after each restart.
    process: Process,
    api: Api,
}

impl<'c> Scheduler<'c> {
    /// Runs a rendered app in `cluster`. `name` names the process and its log.
    pub fn launch(cluster: &'c Cluster, name: &str, app: &Value) -> Result<Self> {
        let app = check(app)?;
        let port = PORT + u16::try_from(cluster.processes()?.len()).unwrap_or_default();
        let address = SocketAddrV4::new(cluster.services_address(), port);
        let api = Api::new(SocketAddr::V4(address), &app.health_checks[0].path);
        let process = start(cluster, name, &app, address)?;
        Ok(Self { cluster, name: name.to_owned(), app, process, api })
    }

    /// Its API.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Starts it again after its process has ended, on the same port.
    pub fn restart(&mut self) -> Result<()> {
        let SocketAddr::V4(address) = self.api.address() else {
            return Err(Error::Invalid("a cluster has IPv4 addresses".to_owned()));
        };
        self.process = start(self.cluster, &self.name, &self.app, address)?;
        Ok(())
    }

    /// Starts it again with other variables; an empty value removes one.
    pub fn restart_with(&mut self, changes: &[(&str, &str)]) -> Result<()> {
        for (name, value) in changes {
            if value.is_empty() {
                self.app.env.remove(*name);
            } else {
                self.app.env.insert((*name).to_owned(), (*value).to_owned());
            }
        }
        self.restart()
    }
}

fn check(app: &Value) -> Result<App> {
    let refused = |reason: String| Error::Invalid(format!("Marathon's stand-in refuses the app: {reason}"));
    let app: App = serde_json::from_value(app.clone()).map_err(|error| refused(error.to_string()))?;
    if app.instances != 1 {
        return Err(refused(format!("{} instances; a scheduler has one", app.instances)));
    }
    if app.container.r#type != "MESOS" {
        return Err(refused(format!(
            "container type {}; a Docker restart would end it",
            app.container.r#type
        )));
    }
    if app.port_definitions.len() != 1 || app.health_checks.len() != 1 || app.networks.len() != 1 {
        return Err(refused("it must have one port, one network and one health check".to_owned()));
    }
    if let Some(fetch) = app.fetch.iter().find(|fetch| fetch.extract || fetch.dest_path.contains('/')) {
        return Err(refused(format!("{}: archives and folders are not supported", fetch.uri)));
    }
    Ok(app)
}

fn start(cluster: &Cluster, name: &str, app: &App, address: SocketAddrV4) -> Result<Process> {
    let sandbox = cluster.run_dir().join("marathon").join(name);
    fs::create_dir_all(&sandbox).at("make", &sandbox)?;
    for fetch in &app.fetch {
        fetch_into(&sandbox, fetch)?;
    }
    let port = address.port().to_string();
    let given = [
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("HOST", address.ip().to_string()),
        ("PORT", port.clone()),
        ("PORT0", port.clone()),
        ("PORTS", port),
        ("MARATHON_APP_ID", format!("/{}", app.id)),
        ("MESOS_SANDBOX", sandbox.display().to_string()),
    ];
    let variables = given.iter().map(|(name, value)| format!("{name}={value}"));
    let variables = variables.chain(app.env.iter().map(|(name, value)| format!("{name}={value}")));
    let mut program = Command::new("/usr/bin/env");
    program.arg("-i").args(variables).args(["/bin/sh", "-c", &app.cmd]).current_dir(&sandbox);
    cluster.spawn(name, &program)
}

/// As Mesos' fetcher does; what follows `#` is no part of a request.
fn fetch_into(sandbox: &Path, fetch: &Fetch) -> Result<()> {
    let failed = |reason: String| Error::Invalid(format!("cannot fetch {}: {reason}", fetch.uri));
    let uri = fetch.uri.split('#').next().unwrap_or_default();
    let rest = uri.strip_prefix("http://").ok_or_else(|| failed("not an http:// URI".to_owned()))?;
    let (host, path) = rest.split_once('/').ok_or_else(|| failed("it has no path".to_owned()))?;
    let address: SocketAddr = host.parse().map_err(|_| failed(format!("'{host}' is not address:port")))?;
    let content = http::get(address, &format!("/{path}")).map_err(failed)?;
    // A running program cannot be written to: another file takes its name.
    let target: PathBuf = sandbox.join(&fetch.dest_path);
    let part = sandbox.join(format!("{}.part", fetch.dest_path));
    fs::write(&part, content).at("write", &part)?;
    let mode = if fetch.executable { 0o755 } else { 0o644 };
    fs::set_permissions(&part, fs::Permissions::from_mode(mode)).at("change", &part)?;
    fs::rename(&part, &target).at("write", &target)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered() -> Value {
        let names = ["calico-scheduler", "calico-installer", "etcd", "calico", "calico-ipam", "calicoctl"];
        let artifact = |name: &str| format!("http://10.0.0.9:8080/{name}#sha256={}", "ab".repeat(32));
        let artifacts = names.map(|name| (name.to_owned(), artifact(name))).into();
        let resources = calico_universe::Resources {
            artifacts,
            node_image: "calico/node:v3.14.0".to_owned(),
            libnetwork_image: "calico/libnetwork-plugin:v1.1.3".to_owned(),
        };
        let package = calico_universe::Package::embedded().filled(&resources).unwrap();
        package.render(&json!({"etcd": {"endpoints": "http://10.0.0.1:2379"}})).unwrap()
    }

    #[test]
    fn the_packages_app_is_one_that_it_runs() {
        let app = check(&rendered()).unwrap();
        assert_eq!(app.health_checks[0].path, "/v1/health/live");
    }

    #[test]
    fn what_it_does_not_know_is_refused() {
        for (name, value) in [
            ("residency", json!({})),
            ("instances", json!(2)),
            ("container", json!({"type": "DOCKER"})),
            ("env", json!({"A": 1})),
            ("healthChecks", json!([])),
        ] {
            let mut app = rendered();
            app[name] = value;
            let error = check(&app).unwrap_err().to_string();
            assert!(error.starts_with("Marathon's stand-in refuses the app"), "{name}: {error}");
        }
    }
}
