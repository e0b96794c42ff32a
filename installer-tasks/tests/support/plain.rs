//! A host of plain Mesos: folders of its own in the places of `/etc` and `/opt`, an agent that reads its settings there
//! when it starts, and a systemd that starts it.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::systemd::{Service, Systemd};
use super::{Documents, Snapshot, artifact, installer, serve_changing, snapshot};

/// How its agent is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// By `mesos-init-wrapper slave`.
    Wrapper,
    /// With variables of `/etc/default/mesos-agent`.
    Defaults,
    /// With variables of its unit alone.
    Bare,
}

/// What an agent does wrong when it is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// Nothing.
    Nothing,
    /// It gets another ID.
    OtherId,
    /// It does not register, as long as it has flags of CNI or a network.
    Unregistered,
    /// Its flags stay what they were.
    Deaf,
}

/// The host; all of it ends when this is dropped.
pub struct Plain {
    /// All of its files are below here.
    pub root: tempfile::TempDir,
    /// Its systemd.
    pub systemd: Systemd,
    /// What its agent answers.
    pub documents: Documents,
    /// What its agent does wrong.
    pub wrong: Arc<Mutex<Wrong>>,
    agent: String,
    scratch: tempfile::TempDir,
    namespace: Child,
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = self.namespace.kill();
        let _ = self.namespace.wait();
    }
}

impl Plain {
    /// A host whose agent has no CNI.
    pub fn new(start: Start) -> Self {
        Self::with(start, "1.11.0", &[])
    }

    /// A host with an agent of a version, which has these flags whatever its settings are.
    pub fn with(start: Start, version: &str, flags: &[(&str, &str)]) -> Self {
        // In memory: it is thrown away a hundred times, and what a power cut leaves is not looked at here.
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        let scratch = tempfile::tempdir().unwrap();
        for directory in
            ["etc/mesos-slave", "etc/default", "etc/systemd/system", "opt", "run/isolators/network/cni"]
        {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let named = flags.iter().filter(|(name, _)| name.starts_with("network_cni_"));
        for (_, directory) in named {
            fs::create_dir_all(root.path().join(directory.trim_start_matches('/'))).unwrap();
        }
        fs::write(root.path().join("etc/mesos-slave/work_dir"), "/var/lib/mesos\n").unwrap();
        fs::write(root.path().join("etc/default/mesos-agent"), "# by hand\nMESOS_WORK_DIR=/var/lib/mesos")
            .unwrap();
        let (name, exec, environment_files) = match start {
            Start::Wrapper => ("mesos-slave.service", "/usr/bin/mesos-init-wrapper slave", vec![]),
            Start::Defaults => {
                ("mesos-agent.service", "/usr/sbin/mesos-agent", vec!["/etc/default/mesos-agent"])
            }
            Start::Bare => ("mesos-agent.service", "/usr/sbin/mesos-agent", vec![]),
        };
        let documents: Documents = Arc::default();
        let agent = format!("http://{}", serve_changing(Arc::clone(&documents)));
        let wrong = Arc::new(Mutex::new(Wrong::Nothing));
        let boot = {
            let (root, documents, wrong) =
                (root.path().to_owned(), Arc::clone(&documents), Arc::clone(&wrong));
            let fixed: HashMap<String, String> =
                flags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let version = version.to_owned();
            move || boot(&root, &documents, &fixed, &version, *wrong.lock().unwrap())
        };
        boot();
        let service = Service {
            exec: exec.split(' ').map(ToOwned::to_owned).collect(),
            environment_files: environment_files.into_iter().map(ToOwned::to_owned).collect(),
            kill_mode: "process".to_owned(),
            ..Service::default()
        };
        let systemd = Systemd::start(scratch.path(), name, service, Box::new(boot));
        let namespace = namespace(root.path());
        Self { root, systemd, documents, wrong, agent, scratch, namespace }
    }

    /// A place below the root.
    pub fn path(&self, place: &str) -> PathBuf {
        self.root.path().join(place)
    }

    /// A place for a log, which is no part of the host.
    pub fn log(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    /// `calico-installer WORDS`, on the host: without another process, so that it can be traced.
    pub fn installer(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        let plain = installer();
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &self.systemd.address);
        command
            .args(["--target", &self.namespace.id().to_string(), "--mount", "--"])
            .arg(plain.get_program());
        command.args(words).args(["--mesos-agent", &self.agent, "--state-dir"]).arg(self.path("state"));
        command
    }

    /// `cni VERB`.
    pub fn command(&self, verb: &str, more: &[&str]) -> Command {
        let file = |name: &str| artifact(&self.scratch.path().join(name), name.as_bytes());
        let (calico, ipam) = (file("calico"), file("calico-ipam"));
        let words =
            ["cni", verb, "--network-name", "calico", "--node-name", "host-1", "--mesos-patience", "1"];
        let etcd = [
            "--etcd-endpoints",
            "http://10.0.0.1:2379",
            "--artifacts-cni",
            &calico,
            "--artifacts-cni-ipam",
            &ipam,
        ];
        self.installer(&[&words[..], &etcd, more].concat())
    }

    /// The same, run.
    pub fn run(&self, verb: &str, more: &[&str]) -> Output {
        self.command(verb, more).output().unwrap()
    }

    /// `cni undo`.
    pub fn undo_command(&self, more: &[&str]) -> Command {
        self.installer(
            &[&["cni", "undo", "--network-name", "calico", "--mesos-patience", "1"][..], more].concat(),
        )
    }

    /// The same, run.
    pub fn undo(&self, more: &[&str]) -> Output {
        self.undo_command(more).output().unwrap()
    }

    /// All of its files.
    pub fn snapshot(&self) -> Snapshot {
        snapshot(self.root.path())
    }

    /// A flag that its agent has now.
    pub fn flag(&self, name: &str) -> Option<String> {
        let flags: Value = serde_json::from_str(&self.documents.lock().unwrap()["/flags"]).unwrap();
        flags["flags"][name].as_str().map(ToOwned::to_owned)
    }

    /// What systemd was asked for since this was asked last.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.systemd.state.lock().unwrap().asked)
    }

    /// Frameworks that the agent tells of from now on, until it is started again.
    pub fn tell_of_frameworks(&self, frameworks: &Value) {
        let mut documents = self.documents.lock().unwrap();
        let mut state: Value = serde_json::from_str(&documents["/state"]).unwrap();
        state["frameworks"] = frameworks.clone();
        documents.insert("/state", state.to_string());
    }
}

/// A process in a mount namespace in which `/etc` and `/opt` are the root's.
fn namespace(root: &Path) -> Child {
    let script =
        "mount --bind \"$1/etc\" /etc; mount --bind \"$1/opt\" /opt; echo there; exec sleep infinity";
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-ec", script, "sh"]).arg(root);
    let mut child = unshare.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "there\n", "mounting takes root");
    child
}

/// The agent starts: it reads its settings as its unit has them, and registers.
fn boot(root: &Path, documents: &Documents, fixed: &HashMap<String, String>, version: &str, wrong: Wrong) {
    let read = |place: &str| fs::read_to_string(root.join(place)).unwrap_or_default();
    let mut flags = fixed.clone();
    for name in ["network_cni_plugins_dir", "network_cni_config_dir"] {
        let variable = format!("MESOS_{}=", name.to_uppercase());
        let of_file = read(&format!("etc/mesos-slave/{name}"));
        let lines = [
            read("etc/default/mesos-agent"),
            read("etc/systemd/system/mesos-agent.service.d/calico-dcos.conf"),
        ]
        .concat();
        let of_line = lines.lines().find_map(|line| {
            Some(
                line.trim_start_matches("Environment=\"")
                    .strip_prefix(&variable)?
                    .trim_matches('"')
                    .to_owned(),
            )
        });
        let value = of_line.unwrap_or_else(|| of_file.trim_end().to_owned());
        if !value.is_empty() && wrong != Wrong::Deaf {
            flags.insert(name.to_owned(), value);
        }
    }
    // As the real one, it does not start without the directory.
    let config = flags.get("network_cni_config_dir");
    let lives = config
        .is_none_or(|path| root.join(path.trim_start_matches('/')).is_dir() || Path::new(path).is_dir());
    let networks = config
        .map_or(0, |path| fs::read_dir(root.join(path.trim_start_matches('/'))).map_or(0, Iterator::count));
    let registered = wrong != Wrong::Unregistered || networks == 0;
    flags.insert("runtime_dir".to_owned(), root.join("run").display().to_string());
    flags.insert("systemd_enable_support".to_owned(), "false".to_owned());
    flags.insert("executor_reregistration_timeout".to_owned(), "500ms".to_owned());
    let mut documents = documents.lock().unwrap();
    documents.clear();
    if !lives {
        return;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let id = if wrong == Wrong::OtherId && networks > 0 { "S2" } else { "S1" };
    documents.extend([
        ("/version", json!({ "version": version }).to_string()),
        ("/flags", json!({ "flags": flags }).to_string()),
        ("/containers", "[]".to_owned()),
        ("/state", json!({ "id": id, "start_time": now, "frameworks": [] }).to_string()),
        ("/metrics/snapshot", json!({ "slave/registered": f64::from(u8::from(registered)) }).to_string()),
    ]);
}
