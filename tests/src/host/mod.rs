//! A host: a copy of the base image, booted with its own systemd by systemd-nspawn.

pub(crate) mod files;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use files::HostFiles;

use crate::cache::remove_tree;
use crate::cgroups::{Group, Hierarchies};
use crate::cluster::Cluster;
use crate::command::{command, ip, run, wait_until};
use crate::error::{Context, Error, Result};
use crate::network::BRIDGE;
use crate::paths::{Paths, create_folder};
use crate::process::{self, Identity};
use crate::spec::HostKind;
use crate::state::HostState;
use crate::{http, mounts};

/// How long a host may take to boot, until its agent is registered.
const BOOT: Duration = Duration::from_secs(90);
/// How long its services may take to stop.
const POWER_OFF: Duration = Duration::from_secs(20);
/// SIGRTMIN+4: systemd powers the host off. The C library numbers real-time signals from 34.
const POWER_OFF_SIGNAL: i32 = 34 + 4;

/// One agent host of a cluster.
#[derive(Debug, Clone)]
pub struct Host<'a> {
    cluster: &'a Cluster,
    number: u8,
    name: String,
    address: Ipv4Addr,
    kind: HostKind,
}

impl<'a> Host<'a> {
    pub(crate) fn new(cluster: &'a Cluster, state: &HostState) -> Self {
        Self {
            cluster,
            number: state.number,
            name: state.name.clone(),
            address: state.address,
            kind: state.kind,
        }
    }

    /// Its name: `CLUSTER-host1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address, which is also the name under which Mesos knows it. The agent listens on port 5051.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// How it is set up.
    pub fn kind(&self) -> HostKind {
        self.kind
    }

    /// The systemd unit of its Mesos agent.
    pub fn agent_unit(&self) -> &'static str {
        files::agent_unit(self.kind)
    }

    /// Whether it is powered on.
    pub fn is_on(&self) -> Result<bool> {
        Ok(self.init()?.is_some())
    }

    /// Its root folder as the machine sees it, also while it is powered off; without what the host itself mounted.
    pub fn root(&self) -> PathBuf {
        self.cluster.paths().mount_point(&self.short_name())
    }

    /// The process, as the machine counts them, whose namespaces are the host's: for what must enter them by itself.
    pub fn pid(&self) -> Result<u32> {
        let init = self.init()?.ok_or_else(|| Error::PoweredOff(self.name.clone()))?;
        Ok(init.pid)
    }

    /// Runs a command in the host to its end.
    pub fn exec<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Result<Output> {
        let mut command = self.command(words)?;
        command.output().context(|| format!("cannot run {} in {}", crate::command::text(&command), self.name))
    }

    /// A command in the host, to be run as the caller likes; what it starts ends with the host.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Result<Command> {
        let pid = self.pid()?.to_string();
        // Below cgroup v2 only the lowest groups may have processes, so these have one of their own.
        let group = Hierarchies::mounted()?.create(&format!("{}/exec", self.group_path()))?;
        let enter = ["nsenter", "-t", &pid, "-m", "-u", "-i", "-n", "-p", "-C", "--", "env", "-i"];
        let env = [
            "HOME=/root",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL=C.UTF-8",
        ];
        let mut command = process::joined(&group, enter.into_iter().chain(env));
        command.args(words);
        Ok(command)
    }

    /// What its systemd journal holds.
    pub fn journal(&self) -> Result<String> {
        let folder = self.root().join("var/log/journal");
        let output = if self.is_on()? {
            self.exec(&["journalctl", "--no-pager", "--quiet"])?
        } else {
            run(command("journalctl", ["--no-pager", "--quiet", "--directory"]).arg(folder))?
        };
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Powers it off as a shutdown does: its services are stopped.
    pub fn power_off(&self) -> Result<()> {
        if let Some(init) = self.init()? {
            // rustix has no safe way to name a real-time signal.
            run(&mut command("sh", ["-c", &format!("kill -{POWER_OFF_SIGNAL} {}", init.pid)]))?;
        }
        if let Some(supervisor) = self.supervisor()? {
            // One that hangs is ended all the same.
            let _ = supervisor.wait_gone(POWER_OFF);
        }
        self.unplug()
    }

    /// Ends it at once, as when the power fails.
    pub fn unplug(&self) -> Result<()> {
        let group = self.group()?;
        group.kill()?;
        group.remove()?;
        remove_traces(&self.name, &self.root());
        self.remove_interface();
        self.cluster.change_host(self.number, |host| host.supervisor = None)
    }

    /// Cuts it off the network, as a switch does that drops its packets: its own processes go on, and no connection is
    /// told.
    pub fn cut_off(&self) -> Result<()> {
        self.set_port("0")
    }

    /// Ends `cut_off`.
    pub fn reconnect(&self) -> Result<()> {
        self.set_port("3")
    }

    /// Replaces it by a new machine at the same address, as when the old one broke: nothing that was on it is left.
    pub fn rebuild(&self) -> Result<()> {
        self.unplug()?;
        // The root is still mounted where the disk is.
        remove_tree(&self.root())?;
        remove_tree(&self.cluster.paths().disks.join(self.short_name()))?;
        self.cluster.start_host(self)?;
        self.wait_ready()
    }

    /// Powers it on, and waits until its dockerd answers and its agent is registered.
    pub fn power_on(&self) -> Result<()> {
        if !self.is_on()? {
            self.boot()?;
        }
        self.wait_ready()
    }

    /// The ID that the master gave to its agent, or why there is none.
    pub fn agent_id(&self) -> Result<String> {
        let state = http::get_json(&format!("http://{}/state", self.agent()))?;
        Ok(state["id"].as_str().unwrap_or_default().to_owned())
    }

    /// Makes its files.
    pub(crate) fn make(&self, base: &Path, files: &HostFiles<'_>) -> Result<()> {
        let root = self.root();
        mounts::overlay(base, &self.cluster.paths().disks.join(self.short_name()), &root)?;
        for folder in files.folders() {
            create_folder(&root.join(&folder[1..]))?;
        }
        for file in files.files() {
            let path = root.join(&file.path[1..]);
            create_parent(&path)?;
            fs::write(&path, &file.content).at("write", &path)?;
            if file.program {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).at("make executable", &path)?;
            }
        }
        for (path, target) in files.links() {
            let path = root.join(&path[1..]);
            create_parent(&path)?;
            symlink(target, &path).at("write", &path)?;
        }
        Ok(())
    }

    /// Starts it.
    pub(crate) fn boot(&self) -> Result<()> {
        let paths = self.cluster.paths();
        let group = Hierarchies::mounted()?.create(&self.group_path())?;
        let mut nspawn =
            command("systemd-nspawn", ["--quiet", "--boot", "--settings=no", "--register=no", "--keep-unit"]);
        nspawn
            .arg(format!("--directory={}", self.root().display()))
            .arg(format!("--machine={}", self.name))
            .arg(format!("--network-bridge={BRIDGE}"))
            .arg(format!("--bind-ro={}:/opt/mesos", self.cluster.mesos().display()))
            .arg(format!("--bind-ro={}:/opt/mesos-helpers", paths.helpers().display()))
            .args(["--capability=all", "--system-call-filter=add_key keyctl bpf"])
            .args(["--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe"]);
        let supervisor = process::detach(
            &group,
            &paths.log(&self.short_name()),
            &process::in_netns(&paths.netns, &nspawn),
        )?;
        self.cluster.change_host(self.number, |host| host.supervisor = Some(supervisor))
    }

    /// Waits until its dockerd answers and its agent is registered.
    pub(crate) fn wait_ready(&self) -> Result<()> {
        wait_until(&format!("the start of {}", self.name), BOOT, || {
            let supervisor = self.supervisor()?;
            if supervisor.is_none_or(|supervisor| !supervisor.is_alive()) {
                return Err(self.console_says("ended"));
            }
            Ok(self.docker_answers()?.and_then(|()| self.agent_is_registered()))
        })
    }

    fn docker_answers(&self) -> Result<Result<(), String>> {
        let Some(init) = self.init()? else { return Ok(Err("it has not booted yet".to_owned())) };
        let socket = format!("/proc/{}/root/run/docker.sock", init.pid);
        Ok(http::get_unix(Path::new(&socket), "/_ping")
            .map(|_| ())
            .map_err(|error| format!("dockerd: {error}")))
    }

    fn agent_is_registered(&self) -> Result<(), String> {
        let url = format!("http://{}/metrics/snapshot", self.agent());
        let metrics = http::get_json(&url).map_err(|error| error.to_string())?;
        let registered = metrics["slave/registered"].as_f64().is_some_and(|value| value > 0.0);
        if registered { Ok(()) } else { Err("its agent is not registered".to_owned()) }
    }

    fn console_says(&self, status: &str) -> Error {
        let log = fs::read_to_string(self.cluster.paths().log(&self.short_name())).unwrap_or_default();
        Error::Command {
            command: format!("systemd-nspawn --machine={}", self.name),
            status: status.to_owned(),
            output: crate::command::last_lines(&log, 15),
        }
    }

    fn agent(&self) -> SocketAddr {
        SocketAddr::from((self.address, 5051))
    }

    /// Its systemd-nspawn, if one was started.
    fn supervisor(&self) -> Result<Option<Identity>> {
        Ok(self.cluster.host_state(self.number)?.supervisor)
    }

    /// The first process of the host, once it has its own namespaces.
    fn init(&self) -> Result<Option<Identity>> {
        let Some(supervisor) = self.supervisor()?.filter(|supervisor| supervisor.is_alive()) else {
            return Ok(None);
        };
        Ok(supervisor.children().into_iter().filter(|pid| is_init(*pid)).find_map(Identity::of))
    }

    /// A port of a bridge without the spanning tree protocol is in the state that it is told: 0 drops all, 3 forwards.
    fn set_port(&self, state: &str) -> Result<()> {
        let words = ["-n", self.cluster.name(), "link", "set", "dev", &self.port(), "state", state];
        run(&mut command("bridge", words)).map(|_| ())
    }

    /// Its interface in the cluster's namespace. The kernel knows a long name as another one of the same interface.
    fn port(&self) -> String {
        format!("vb-{}", self.name)
    }

    /// The kernel takes its time to remove the interface of a host that is gone, and the next start wants its name.
    fn remove_interface(&self) {
        // One that is gone already is what is wanted.
        let _ = ip(&format!("-n {} link delete dev {}", self.cluster.name(), self.port()));
    }

    fn short_name(&self) -> String {
        short_name(self.number)
    }

    fn group_path(&self) -> String {
        format!("{}/{}", self.cluster.name(), self.short_name())
    }

    fn group(&self) -> Result<Group> {
        Ok(Hierarchies::mounted()?.group(&self.group_path()))
    }
}

/// The name of a host within its cluster.
pub(crate) fn short_name(number: u8) -> String {
    format!("host{number}")
}

/// What systemd-nspawn leaves when it is killed.
pub(crate) fn remove_traces(machine: &str, root: &Path) {
    use std::os::unix::fs::MetadataExt;
    let folder = Path::new("/run/systemd/nspawn");
    for kind in ["propagate", "unix-export"] {
        let trace = folder.join(kind).join(machine);
        let _ = mounts::unmount_below(&trace);
        let _ = fs::remove_dir_all(trace);
    }
    if let Ok(root) = fs::metadata(root) {
        let _ = fs::remove_file(folder.join(format!("locks/inode-{}:{}", root.dev(), root.ino())));
    }
}

/// Whether a process is the first of a PID namespace and runs systemd already.
fn is_init(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let first = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .is_some_and(|ids| ids.trim_end().ends_with("\t1"));
    first && status.starts_with("Name:\tsystemd\n")
}

fn create_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), create_folder)
}

/// The paths of a cluster, for code that has only its name.
pub(crate) fn roots(paths: &Paths) -> PathBuf {
    paths.run.join("roots")
}
