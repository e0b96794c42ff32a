//! A cluster: brought up, looked at, changed, taken down.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use sha2::{Digest, Sha256};

use crate::artifact_server as server;
use crate::cgroups::Hierarchies;
use crate::error::{Context, Error, Result};
use crate::host::files::HostFiles;
use crate::host::{self, Host};
use crate::lock::{self, Lock};
use crate::network::{self, Subnet};
use crate::paths::{self, Paths, create_folder, write_atomically};
use crate::process::{self, Identity};
use crate::progress::Progress;
use crate::running::Process;
use crate::services;
use crate::spec::{HostKind, MOST_HOSTS, Spec, check_name};
use crate::state::{self, HostState, State};
use crate::{base_image, capabilities, mesos_build, preflight, programs, teardown};

/// A cluster that is up. One that `up` made is taken down when this is dropped, unless `keep` was called.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    paths: Paths,
    subnet: Subnet,
    spec: Spec,
    mesos: PathBuf,
    base: PathBuf,
    owned: bool,
}

impl Cluster {
    /// Brings a cluster up and waits until all of it works. What is left of an earlier one of this name, whose
    /// process ended without taking it down, is removed first.
    pub fn up(spec: &Spec, progress: &Progress) -> Result<Self> {
        spec.check()?;
        preflight::check()?;
        let lock = lock::of_cluster(&spec.name)?;
        if let Ok(Some(state)) = state::load(&spec.name)
            && state.in_use()
        {
            return Err(Error::AlreadyUp(spec.name.clone()));
        }
        teardown::remove(&spec.name)?;
        let (base, mesos) = build_caches(progress)?;
        let subnet = begin(spec, &base, &mesos)?;
        let cluster = Self {
            name: spec.name.clone(),
            paths: Paths::of(&spec.name),
            subnet,
            spec: spec.clone(),
            mesos,
            base,
            owned: true,
        };
        match cluster.start(progress, &lock) {
            Ok(()) => Ok(cluster),
            Err(error) => {
                progress.line(format_args!(
                    "taking down what was begun; its logs are in {}",
                    cluster.keep_logs().display()
                ));
                cluster.forget();
                teardown::remove(&spec.name)?;
                Err(error)
            }
        }
    }

    /// Builds what all clusters share, so that `up` takes seconds. Fine when it is there. Gives the folder of the base
    /// image, whose programs tests may use.
    pub fn prepare(progress: &Progress) -> Result<PathBuf> {
        preflight::check()?;
        build_caches(progress).map(|(base, _)| base)
    }

    /// A cluster that another process brought up; it stays when this is dropped.
    pub fn attach(name: &str) -> Result<Self> {
        check_name(name)?;
        let state =
            state::load(name)?.filter(|state| state.ready).ok_or_else(|| Error::NotUp(name.to_owned()))?;
        Ok(Self {
            name: name.to_owned(),
            paths: Paths::of(name),
            subnet: Subnet(state.subnet),
            spec: state.spec,
            mesos: state.mesos,
            base: state.base,
            owned: false,
        })
    }

    /// Takes a cluster down, whatever is left of it. Fine when there is nothing.
    pub fn remove(name: &str) -> Result<()> {
        check_name(name)?;
        let _lock = lock::of_cluster(name)?;
        teardown::remove(name)
    }

    /// Takes down every cluster whose process ended without doing so; the result is their names.
    pub fn remove_abandoned() -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for name in state::names()? {
            let in_use = || state::load(&name).ok().flatten().is_some_and(|state| state.in_use());
            // One that is being brought up or taken down is somebody's.
            let Ok(_lock) = lock::of_cluster(&name) else { continue };
            if !in_use() {
                teardown::remove(&name)?;
                removed.push(name);
            }
        }
        Ok(removed)
    }

    /// Takes this cluster down and says when that failed, which dropping cannot.
    pub fn down(self) -> Result<()> {
        let name = self.name.clone();
        self.forget();
        Self::remove(&name)
    }

    /// Leaves the cluster running when this is dropped and when this process ends.
    pub fn keep(&mut self) -> Result<()> {
        self.owned = false;
        state::change(&self.name, |state| state.owner = None)
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address of etcd, the first master and the artifact server.
    pub fn services_address(&self) -> Ipv4Addr {
        self.subnet.services()
    }

    /// The address of the machine itself in the cluster's network.
    pub fn machine_address(&self) -> Ipv4Addr {
        self.subnet.machine()
    }

    /// `http://address:5050` of every master.
    pub fn master_urls(&self) -> Vec<String> {
        let masters = 1..=self.spec.masters;
        masters
            .map(|number| format!("http://{}:{}", self.subnet.master(number), services::MASTER_PORT))
            .collect()
    }

    /// Where a framework finds the leading master: `host:port`, or `zk://…/mesos` when there are three.
    pub fn mesos_master(&self) -> String {
        services::leader(&self.spec, self.subnet)
    }

    /// `http://address:2379` of etcd.
    pub fn etcd_endpoint(&self) -> String {
        services::etcd_endpoint(self.subnet)
    }

    /// `address:8080` of the artifact server, as a Docker registry is named.
    pub fn registry(&self) -> String {
        format!("{}:{}", self.subnet.services(), server::PORT)
    }

    /// The image `calico/node` in the cluster's registry.
    pub fn node_image(&self) -> String {
        self.image(&server::NODE_IMAGE)
    }

    /// The image of another version of `calico/node` there.
    pub fn next_node_image(&self) -> String {
        self.image(&server::NEXT_NODE_IMAGE)
    }

    /// An image of `calico/node` there that ends at once, with an error.
    pub fn broken_node_image(&self) -> String {
        self.image(&server::BROKEN_NODE_IMAGE)
    }

    /// The image `calico/libnetwork-plugin` in the cluster's registry.
    pub fn libnetwork_image(&self) -> String {
        self.image(&server::LIBNETWORK_IMAGE)
    }

    fn image(&self, image: &server::ServedImage) -> String {
        format!("{}/{}:{}", self.registry(), image.repository, image.tag)
    }

    /// State, logs and artifacts.
    pub fn run_dir(&self) -> &Path {
        &self.paths.run
    }

    /// Names an artifact that the server has: `http://…/NAME#sha256=HEX`; `installer` is `calico-installer`.
    pub fn artifact(&self, name: &str) -> Result<String> {
        let name = if name == "installer" { "calico-installer" } else { name };
        let path = self.paths.artifacts().join(name);
        let content = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let entries = fs::read_dir(self.paths.artifacts()).into_iter().flatten().flatten();
                let mut known: Vec<_> =
                    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
                known.sort();
                return Err(unknown("artifact", name, &known));
            }
            result => result.at("read", &path)?,
        };
        Ok(format!("http://{}/{name}#sha256={}", self.registry(), hex::encode(Sha256::digest(&content))))
    }

    /// Puts another content under an artifact's name, as a corrupt one. The image keeps the program it has.
    pub fn set_artifact(&self, name: &str, content: &[u8]) -> Result<()> {
        write_atomically(&self.paths.artifacts().join(name), content)
    }

    /// All hosts, by number.
    pub fn hosts(&self) -> Result<Vec<Host<'_>>> {
        Ok(self.state()?.hosts.iter().map(|host| Host::new(self, host)).collect())
    }

    /// A host by name (`NAME-host1`, `host1` or `1`) or address.
    pub fn host(&self, name: &str) -> Result<Host<'_>> {
        let hosts = self.hosts()?;
        let known: Vec<String> = hosts.iter().map(|host| host.name().to_owned()).collect();
        let wanted = name.strip_prefix("host").unwrap_or(name);
        hosts
            .into_iter()
            .find(|host| {
                let number = host.name().rsplit_once("-host").map(|(_, number)| number);
                host.name() == name || number == Some(wanted) || host.address().to_string() == name
            })
            .ok_or_else(|| unknown("host", name, &known))
    }

    /// One more agent host, of plain Mesos; it is ready when this returns.
    pub fn add_host(&self) -> Result<Host<'_>> {
        let host = state::change(&self.name, |state| {
            let number = state.hosts.iter().map(|host| host.number).max().unwrap_or_default() + 1;
            (number <= MOST_HOSTS).then(|| {
                let host = self.new_host(number, HostKind::of_host(self.spec.platform, number, 0));
                state.hosts.push(host.clone());
                host
            })
        })?;
        let host = host.ok_or_else(|| Error::Invalid(format!("a cluster has at most {MOST_HOSTS} hosts")))?;
        let host = Host::new(self, &host);
        self.start_host(&host)?;
        host.wait_ready()?;
        Ok(host)
    }

    /// Starts a program in the cluster's network, in a session of its own, with its output in `logs/NAME.log`.
    /// It ends with the cluster at the latest, not with this process.
    pub fn spawn(&self, name: &str, program: &Command) -> Result<Process> {
        check_name(name)?;
        if self.process(name).is_ok_and(|process| process.is_running()) {
            return Err(Error::Invalid(format!(
                "process '{name}' runs already: kill it first, or take another name"
            )));
        }
        let group = Hierarchies::mounted()?.create(&services::process_group(&self.name, name))?;
        let log = self.paths.log(name);
        let identity = process::detach(&group, &log, &process::in_netns(&self.paths.netns, program))?;
        self.record(name, identity)?;
        Ok(Process::new(name, identity, log))
    }

    /// A program in the cluster's network, to be run as the caller likes: as a child whose exit status counts.
    pub fn command(&self, program: &Command) -> Result<Command> {
        let group = Hierarchies::mounted()?.create(&services::process_group(&self.name, "commands"))?;
        let inside = process::in_netns(&self.paths.netns, program);
        let mut command =
            process::joined(&group, std::iter::once(inside.get_program()).chain(inside.get_args()));
        process::copy_surroundings(program, &mut command);
        Ok(command)
    }

    /// A process by name: `etcd`, `zookeeper-1`…, `master-1`…, `artifacts`, or what was spawned.
    pub fn process(&self, name: &str) -> Result<Process> {
        let processes = self.state()?.processes;
        let identity = processes.get(name).copied();
        let identity = identity
            .ok_or_else(|| unknown("process", name, &processes.keys().cloned().collect::<Vec<_>>()))?;
        Ok(Process::new(name, identity, self.paths.log(name)))
    }

    /// The names of all processes.
    pub fn processes(&self) -> Result<Vec<String>> {
        Ok(self.state()?.processes.into_keys().collect())
    }

    /// Starts etcd, a ZooKeeper server or a master again that was killed, on the data that it had.
    pub fn start_service(&self, name: &str) -> Result<()> {
        let services = services::all(&self.spec, self.subnet);
        let known: Vec<String> = services.iter().map(|service| service.name.clone()).collect();
        let service = services.into_iter().find(|service| service.name == name);
        let service = service.ok_or_else(|| unknown("service", name, &known))?;
        let identity = service.start(&self.name)?;
        self.record(name, identity)?;
        service.wait_ready(&self.name, identity)
    }

    pub(crate) fn paths(&self) -> &Paths {
        &self.paths
    }

    pub(crate) fn mesos(&self) -> &Path {
        &self.mesos
    }

    pub(crate) fn host_state(&self, number: u8) -> Result<HostState> {
        let found = self.state()?.hosts.into_iter().find(|host| host.number == number);
        found.ok_or_else(|| unknown("host", &host::short_name(number), &[]))
    }

    pub(crate) fn change_host(&self, number: u8, change: impl FnOnce(&mut HostState)) -> Result<()> {
        state::change(&self.name, |state| {
            if let Some(host) = state.hosts.iter_mut().find(|host| host.number == number) {
                change(host);
            }
        })
    }

    fn state(&self) -> Result<State> {
        state::load(&self.name)?.ok_or_else(|| Error::NotUp(self.name.clone()))
    }

    fn record(&self, name: &str, identity: Identity) -> Result<()> {
        state::change(&self.name, |state| {
            state.processes.insert(name.to_owned(), identity);
        })
    }

    /// Drops this without taking the cluster down.
    fn forget(mut self) {
        self.owned = false;
    }

    fn new_host(&self, number: u8, kind: HostKind) -> HostState {
        let name = format!("{}-{}", self.name, host::short_name(number));
        HostState { number, name, address: self.subnet.host(number), kind, supervisor: None }
    }

    /// All that `up` does once the name and the addresses are written down.
    fn start(&self, progress: &Progress, lock: &Lock) -> Result<()> {
        network::create(&self.name, self.subnet, self.spec.masters, lock)?;
        self.put_programs(progress)?;
        let hosts: Vec<HostState> = (1..=self.spec.agents)
            .map(|number| {
                self.new_host(number, HostKind::of_host(self.spec.platform, number, self.spec.agents))
            })
            .collect();
        state::change(&self.name, |state| state.hosts.clone_from(&hosts))?;
        progress.line(format_args!("cluster {} on 10.87.{}.0/24", self.name, self.subnet.0));
        thread::scope(|scope| {
            let services = scope.spawn(|| self.start_services(progress));
            let hosts: Vec<_> = hosts
                .iter()
                .map(|host| {
                    scope.spawn(|| {
                        let host = Host::new(self, host);
                        self.start_host(&host)?;
                        host.wait_ready()?;
                        progress.line(format_args!("{} is ready at {}", host.name(), host.address()));
                        Ok(())
                    })
                })
                .collect();
            let results: Vec<Result<()>> = std::iter::once(services).chain(hosts).map(joined).collect();
            results.into_iter().collect::<Result<()>>()
        })?;
        state::change(&self.name, |state| state.ready = true)
    }

    /// Copies the logs to where they outlive the cluster, when something does not work; the result is the folder.
    pub fn keep_logs(&self) -> PathBuf {
        let folder = Path::new(paths::CACHE).join("failed").join(&self.name);
        let _ = fs::remove_dir_all(&folder);
        // Best effort: the reason for the failure is known already.
        let _ = fs::create_dir_all(&folder);
        for log in fs::read_dir(self.paths.logs()).into_iter().flatten().flatten() {
            let _ = fs::copy(log.path(), folder.join(log.file_name()));
        }
        for host in self.hosts().unwrap_or_default() {
            let journal = host.journal().unwrap_or_else(|error| error.to_string());
            let _ = fs::write(folder.join(format!("{}-journal.log", host.name())), journal);
        }
        folder
    }

    fn start_services(&self, progress: &Progress) -> Result<()> {
        self.start_artifact_server()?;
        services::make_root(&self.spec, &self.paths, &self.base, &self.mesos)?;
        let mut started = Vec::new();
        for service in services::all(&self.spec, self.subnet) {
            let identity = service.start(&self.name)?;
            self.record(&service.name, identity)?;
            started.push((service, identity));
        }
        for (service, identity) in started {
            service.wait_ready(&self.name, identity)?;
            progress.line(format_args!("{} is ready", service.name));
        }
        Ok(())
    }

    fn start_artifact_server(&self) -> Result<()> {
        let mut serve = Command::new(programs::find("cluster")?);
        serve.args(["serve", "--listen", &self.registry(), "--artifacts"]).arg(self.paths.artifacts());
        self.spawn("artifacts", &serve).map(|_| ())
    }

    pub(crate) fn start_host(&self, host: &Host<'_>) -> Result<()> {
        let missing = capabilities::missing();
        let files = HostFiles {
            name: host.name(),
            address: host.address(),
            gateway: self.subnet.services(),
            kind: host.kind(),
            master: &self.mesos_master(),
            registry: &self.registry(),
            agent_env: &self.spec.agent_env,
            v1_controllers: Hierarchies::mounted()?.has_v1_controllers(),
            missing_capabilities: &missing,
        };
        host.make(&self.base, &files)?;
        host.boot()
    }

    /// Copies the programs of this build: a later build changes nothing in a cluster that is up.
    fn put_programs(&self, progress: &Progress) -> Result<()> {
        let helpers = self.paths.helpers();
        create_folder(&helpers)?;
        let containerizer = helpers.join("mesos-containerizer");
        std::os::unix::fs::symlink("/opt/mesos/bin/mesos-containerizer", &containerizer)
            .at("write", &containerizer)?;
        let artifacts = self.paths.artifacts();
        process::install(&self.base.join("usr/bin/etcd"), &artifacts.join("etcd"))?;
        let wanted = programs::MESOS_HELPERS.map(|name| (name, &helpers)).into_iter();
        for (name, folder) in wanted.chain(programs::ARTIFACTS.map(|name| (name, &artifacts))) {
            match programs::find(name) {
                Ok(program) => process::install(&program, &folder.join(name))?,
                Err(error) => progress.line(format_args!("going on without {name}: {error}")),
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        if thread::panicking() {
            eprintln!("the logs of cluster {} are in {}", self.name, self.keep_logs().display());
        }
        if let Err(error) = Self::remove(&self.name) {
            eprintln!("{error}");
        }
    }
}

/// Base image and Mesos, both built at once when they are not there.
fn build_caches(progress: &Progress) -> Result<(PathBuf, PathBuf)> {
    thread::scope(|scope| {
        let mesos = scope.spawn(|| mesos_build::get(progress));
        let base = base_image::get(progress);
        Ok((base?, joined(mesos)?))
    })
}

/// Writes down that there will be a cluster, with addresses that nobody else has.
fn begin(spec: &Spec, base: &Path, mesos: &Path) -> Result<Subnet> {
    let _lock = lock::wait("subnets")?;
    let subnet = network::free_subnet()?;
    let paths = Paths::of(&spec.name);
    for folder in [&paths.run, &paths.disks, &paths.logs(), &paths.artifacts()] {
        create_folder(folder)?;
    }
    state::save(&State {
        spec: spec.clone(),
        ready: false,
        owner: Some(Identity::own()?),
        subnet: subnet.0,
        base: base.to_owned(),
        mesos: mesos.to_owned(),
        hosts: Vec::new(),
        processes: BTreeMap::new(),
    })?;
    // Under the same lock: the last cluster that goes unmounts the freezer.
    Hierarchies::with_freezer()?.create(&spec.name)?;
    Ok(subnet)
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn unknown(kind: &'static str, name: &str, known: &[String]) -> Error {
    Error::Unknown { kind, name: name.to_owned(), known: known.join(", ") }
}
