//! `cni` on directories of its own, with an agent that answers as Mesos does.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;

use super::{Snapshot, artifact, installer, serve, snapshot, tree};

/// Directories of an agent, and the agent itself.
pub struct Rig {
    /// All of it is below here.
    pub root: tempfile::TempDir,
    /// The agent's URL.
    pub agent: String,
    documents: HashMap<&'static str, String>,
    plugins: Vec<String>,
}

impl Rig {
    /// An agent of Mesos 1.11 with one directory of plugins.
    pub fn new() -> Self {
        Self::with("1.11.0", &["plugins"])
    }

    /// An agent of a Mesos version, with directories below the root as its search list.
    pub fn with(version: &str, plugins: &[&str]) -> Self {
        // In memory: it is thrown away a hundred times, and what a power cut leaves is not looked at here.
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        for directory in plugins.iter().chain(&["etc/net.d", "run/isolators/network/cni"]) {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let at = |place: &str| root.path().join(place).display().to_string();
        let search: Vec<String> = plugins.iter().map(|place| at(place)).collect();
        let flags = json!({ "flags": {
            "network_cni_plugins_dir": search.join(":"),
            "network_cni_config_dir": at("etc/net.d"),
            "network_cni_root_dir_persist": "false",
            "runtime_dir": at("run"),
            "work_dir": at("work"),
            "launcher_dir": at("launcher"),
        }});
        let containers = json!([{ "container_id": "c-1", "executor_id": "web.1", "framework_id": "marathon", "status": {} }]);
        let documents = HashMap::from([
            ("/version", json!({ "version": version, "git_sha": "x" }).to_string()),
            ("/flags", flags.to_string()),
            ("/containers", containers.to_string()),
        ]);
        let agent = format!("http://{}", serve(documents.clone()));
        Self { root, agent, documents, plugins: plugins.iter().map(|&place| place.to_owned()).collect() }
    }

    /// What the agent answers.
    pub fn documents(&self) -> &HashMap<&'static str, String> {
        &self.documents
    }

    /// A place below the root.
    pub fn path(&self, place: &str) -> PathBuf {
        self.root.path().join(place)
    }

    /// The network's configuration.
    pub fn config(&self) -> PathBuf {
        self.path("etc/net.d/calico.conf")
    }

    /// `cni VERB`, run.
    pub fn run(&self, verb: &str, plugin: &str, more: &[&str]) -> Output {
        self.command(verb, plugin).args(more).output().unwrap()
    }

    /// `cni VERB`, with an artifact `calico` of this content.
    pub fn command(&self, verb: &str, plugin: &str) -> Command {
        let calico = artifact(&self.path("calico"), plugin.as_bytes());
        let ipam = artifact(&self.path("calico-ipam"), b"ipam");
        let mut command = installer();
        command
            .args([
                "cni",
                verb,
                "--network-name",
                "calico",
                "--mesos-agent",
                &self.agent,
                "--node-name",
                "host-1",
            ])
            .args(["--etcd-endpoints", "http://10.0.0.1:2379", "--artifacts-cni", &calico])
            .args(["--artifacts-cni-ipam", &ipam, "--state-dir"])
            .arg(self.path("state"));
        command
    }

    /// `cni apply`.
    pub fn apply(&self, plugin: &str) -> Output {
        self.run("apply", plugin, &[])
    }

    /// `cni undo`.
    pub fn undo(&self, more: &[&str]) -> Output {
        self.undo_command().args(more).output().unwrap()
    }

    /// `cni undo`, to be run.
    pub fn undo_command(&self) -> Command {
        let mut command = installer();
        command
            .args(["cni", "undo", "--network-name", "calico", "--mesos-agent", &self.agent, "--state-dir"])
            .arg(self.path("state"));
        command
    }

    /// Everything below the root but the artifacts, with all that is compared of it.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = snapshot(self.root.path());
        snapshot.retain(|path, _| !["calico", "calico-ipam"].map(Path::new).contains(&path.as_path()));
        snapshot
    }

    /// What is in the directories that the agent uses.
    pub fn installed(&self) -> Vec<PathBuf> {
        let plugins = self.plugins.iter().flat_map(|place| tree(&self.path(place)));
        plugins.chain(tree(&self.path("etc"))).collect()
    }
}
