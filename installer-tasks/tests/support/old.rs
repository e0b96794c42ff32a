//! A host of Mesos 0.28, of DC/OS 1.7 or of plain Mesos: a root directory of its own, an agent that loads its modules from
//! there when it starts, as strictly as Mesos does, and a systemd that starts it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::systemd::{Service, Systemd};
use super::{Documents, Snapshot, artifact, installer, serve_changing, snapshot};

/// How its agent is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// By DC/OS 1.7.
    DcOs,
    /// By Mesos' packages: `mesos-init-wrapper slave`.
    Packages,
    /// By hand, with variables of `/etc/default/mesos-slave`.
    Defaults,
    /// By hand, with its unit alone.
    Bare,
}

/// What an agent does wrong when it is started with our modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// Nothing.
    Nothing,
    /// It gets another ID.
    OtherId,
    /// It does not register.
    Unregistered,
    /// Its flags do not have them.
    Deaf,
    /// It ends: the library is for another Mesos.
    Dead,
}

/// Our modules.
pub const MODULES: [&str; 2] = ["com_mesosphere_mesos_NetworkIsolator", "com_mesosphere_mesos_NetworkHook"];

/// DC/OS' files are a package's, to which links lead.
pub const DCOS_PACKAGE: &str = "opt/mesosphere/packages/dcos-config--setup_9c1f/etc";

/// `mesos-slave-common` of DC/OS 1.7.
pub const DCOS_COMMON: &str = "MESOS_MASTER=zk://leader.mesos:2181/mesos
MESOS_CONTAINERIZERS=docker,mesos
MESOS_LOG_DIR=/var/log/mesos
MESOS_MODULES=file:///opt/mesosphere/etc/mesos-slave-modules.json
MESOS_CONTAINER_LOGGER=org_apache_mesos_LogrotateContainerLogger
MESOS_ISOLATION=cgroups/cpu,cgroups/mem,posix/disk,com_mesosphere_StatsIsolatorModule
MESOS_WORK_DIR=/var/lib/mesos/slave
MESOS_SLAVE_SUBSYSTEMS=cpu,memory
MESOS_EXECUTOR_ENVIRONMENT_VARIABLES=file:///opt/mesosphere/etc/mesos-executor-environment.json
MESOS_EXECUTOR_REGISTRATION_TIMEOUT=10mins
MESOS_CGROUPS_ENABLE_CFS=true
MESOS_HOSTNAME_LOOKUP=false
GLOG_drop_log_memory=false
MESOS_HOOKS=com_mesosphere_StatsEnvHook
";

/// `mesos-slave-modules.json` of DC/OS 1.7.
pub const DCOS_MODULES: &str = r#"{
  "libraries": [
    {
      "file": "/opt/mesosphere/lib/liblogrotate_container_logger.so",
      "modules": [
        {
          "name": "org_apache_mesos_LogrotateContainerLogger",
          "parameters": [
            {"key": "launcher_dir", "value": "/opt/mesosphere/active/mesos/libexec/mesos/"}
          ]
        }
      ]
    },
    {
      "file": "/opt/mesosphere/lib/libstats-slave.so",
      "modules": [
        {"name": "com_mesosphere_StatsIsolatorModule"},
        {"name": "com_mesosphere_StatsEnvHook"}
      ]
    }
  ]
}
"#;

/// Directories of the machine that a shell on the host needs.
const OF_THE_MACHINE: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib64", "dev", "proc"];

/// The host; all of it ends when this is dropped.
pub struct Old {
    /// How it is set up.
    pub kind: Kind,
    /// All of its files are below here.
    pub root: tempfile::TempDir,
    /// Its systemd.
    pub systemd: Systemd,
    /// What its agent answers.
    pub documents: Documents,
    /// What its agent does wrong.
    pub wrong: Arc<Mutex<Wrong>>,
    /// Its agent's URL.
    pub agent: String,
    boot: Arc<dyn Fn() + Send + Sync>,
    scratch: tempfile::TempDir,
    namespace: Child,
}

impl Drop for Old {
    fn drop(&mut self) {
        let _ = self.namespace.kill();
        let _ = self.namespace.wait();
    }
}

impl Old {
    /// A host with an agent of Mesos 0.28.
    pub fn new(kind: Kind) -> Self {
        Self::with(kind, "0.28.1", |_| {})
    }

    /// A host with an agent of a version, prepared before that is started.
    pub fn with(kind: Kind, version: &str, prepare: impl Fn(&Path)) -> Self {
        // In memory: it is thrown away a hundred times, and what a power cut leaves is not looked at here.
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        let scratch = tempfile::tempdir().unwrap();
        for directory in
            OF_THE_MACHINE.iter().chain(&["mnt", "scratch", "etc/default", "etc/systemd/system", "var/lib"])
        {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        fs::create_dir_all(scratch.path().join("local/sbin")).unwrap();
        let service = set_up(kind, root.path());
        prepare(root.path());
        let documents: Documents = Arc::default();
        let agent = format!("http://{}", serve_changing(Arc::clone(&documents)));
        let wrong = Arc::new(Mutex::new(Wrong::Nothing));
        let boot: Arc<dyn Fn() + Send + Sync> = {
            let (root, documents, wrong) =
                (root.path().to_owned(), Arc::clone(&documents), Arc::clone(&wrong));
            let version = version.to_owned();
            Arc::new(move || boot(kind, &root, &documents, &version, *wrong.lock().unwrap()))
        };
        boot();
        let (name, service) = service;
        let on_start = Arc::clone(&boot);
        let systemd = Systemd::start(scratch.path(), name, service, Box::new(move || on_start()));
        let namespace = namespace(root.path(), scratch.path());
        let host = Self { kind, root, systemd, documents, wrong, agent, boot, scratch, namespace };
        assert!(host.flag("isolation").is_some(), "{:?}", start(kind, host.root.path()));
        host
    }

    /// A place below the root.
    pub fn path(&self, place: &str) -> PathBuf {
        self.root.path().join(place)
    }

    /// A place for a log, which is no part of the host.
    pub fn log(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    /// A place that the host sees as `/scratch`, and that is no part of it.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A program with these words, on the host.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin");
        let bus = self.systemd.address.replace(self.scratch.path().to_str().unwrap(), "/scratch");
        command.env("DBUS_SYSTEM_BUS_ADDRESS", bus);
        command
            .args(["--target", &self.namespace.id().to_string(), "--mount", "--root", "--wd=/", "--"])
            .args(words);
        command
    }

    /// `calico-installer WORDS`.
    pub fn installer(&self, words: &[&str]) -> Command {
        self.command(&[&["/mnt/calico-installer"], words].concat())
    }

    /// `net-modules VERB`, with a library and a program of this content.
    pub fn step(&self, verb: &str, library: &str, program: &str, more: &[&str]) -> Command {
        let on_host = |name: &str, content: &str| {
            artifact(&self.scratch(name), content.as_bytes())
                .replace(self.scratch.path().to_str().unwrap(), "/scratch")
        };
        let library = on_host("libmesos_network_isolator.so", library);
        let program = on_host("calico_mesos", program);
        let words = ["net-modules", verb, "--mesos-agent", &self.agent, "--mesos-patience", "1"];
        let artifacts = ["--artifacts-net-modules", &library, "--artifacts-calico-mesos", &program];
        let etcd = ["--etcd-endpoints", "http://10.0.0.1:2379"];
        let etcd = if more.contains(&"--etcd-endpoints") { &[][..] } else { &etcd };
        self.installer(&[&words[..], &artifacts, etcd, more].concat())
    }

    /// The same with the usual content, run.
    pub fn run(&self, verb: &str, more: &[&str]) -> Output {
        self.step(verb, "library", "program", more).output().unwrap()
    }

    /// `net-modules undo`.
    pub fn undo_command(&self, more: &[&str]) -> Command {
        let words = ["net-modules", "undo", "--mesos-agent", &self.agent, "--mesos-patience", "1"];
        self.installer(&[&words[..], more].concat())
    }

    /// The same, run.
    pub fn undo(&self, more: &[&str]) -> Output {
        self.undo_command(more).output().unwrap()
    }

    /// All of its files.
    pub fn snapshot(&self) -> Snapshot {
        snapshot(self.root.path())
    }

    /// The text of a file.
    pub fn text(&self, place: &str) -> String {
        fs::read_to_string(self.path(place)).unwrap_or_else(|error| panic!("{place}: {error}"))
    }

    /// A flag that its agent has now; `None` also when it does not run.
    pub fn flag(&self, name: &str) -> Option<String> {
        let documents = self.documents.lock().unwrap();
        let flags: Value = serde_json::from_str(documents.get("/flags")?).unwrap();
        flags["flags"][name].as_str().map(ToOwned::to_owned)
    }

    /// Whether its agent has loaded our modules.
    pub fn has_modules(&self) -> bool {
        ["isolation", "hooks"].iter().zip(MODULES).all(|(flag, module)| {
            self.flag(flag).is_some_and(|list| list.split(',').any(|name| name == module))
        })
    }

    /// Its agent is started again, by no installer.
    pub fn start_agent_again(&self) {
        (self.boot)();
    }

    /// When its agent was started.
    pub fn started(&self) -> SystemTime {
        let state: Value = serde_json::from_str(&self.documents.lock().unwrap()["/state"]).unwrap();
        UNIX_EPOCH + Duration::from_secs_f64(state["start_time"].as_f64().unwrap())
    }

    /// Whether an agent that was started now would run, or why not.
    pub fn would_start(&self) -> Result<(), String> {
        start(self.kind, self.root.path()).map(drop)
    }

    /// The address of etcd that an agent started now would give to what it runs.
    pub fn authority(&self) -> Option<String> {
        start(self.kind, self.root.path()).unwrap().get("ETCD_AUTHORITY").cloned()
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

/// Files as the platform has them, and the agent's unit.
fn set_up(kind: Kind, root: &Path) -> (&'static str, Service) {
    let write = |place: &str, text: &str| {
        let path = root.join(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let service = |exec: &str, environment_files: &[&str], kill_mode: &str| Service {
        exec: exec.split(' ').map(ToOwned::to_owned).collect(),
        environment_files: environment_files.iter().map(ToString::to_string).collect(),
        kill_mode: kill_mode.to_owned(),
        ..Service::default()
    };
    match kind {
        Kind::DcOs => {
            write(&format!("{DCOS_PACKAGE}/mesos-slave-common"), DCOS_COMMON);
            write(&format!("{DCOS_PACKAGE}/mesos-slave-modules.json"), DCOS_MODULES);
            fs::create_dir_all(root.join("opt/mesosphere/etc")).unwrap();
            for name in ["mesos-slave-common", "mesos-slave-modules.json"] {
                symlink(format!("/{DCOS_PACKAGE}/{name}"), root.join("opt/mesosphere/etc").join(name))
                    .unwrap();
            }
            for library in ["liblogrotate_container_logger.so", "libstats-slave.so"] {
                write(&format!("opt/mesosphere/lib/{library}"), "ELF");
            }
            let files = [
                "/opt/mesosphere/environment",
                "/opt/mesosphere/etc/mesos-slave-common",
                "/var/lib/dcos/mesos-slave-common",
                "/var/lib/dcos/mesos-resources",
            ];
            let exec = "/opt/mesosphere/packages/mesos--bcd3/bin/mesos-slave";
            ("dcos-mesos-slave.service", service(exec, &files, "control-group"))
        }
        Kind::Packages => {
            write("etc/mesos-slave/work_dir", "/var/lib/mesos\n");
            write("etc/default/mesos-slave", "MASTER=`cat /etc/mesos/zk`\n");
            ("mesos-slave.service", service("/usr/bin/mesos-init-wrapper slave", &[], "process"))
        }
        Kind::Defaults => {
            write(
                "etc/default/mesos-slave",
                "# by hand\nMESOS_WORK_DIR=/var/lib/mesos\nMESOS_ISOLATION=cgroups/cpu",
            );
            (
                "mesos-slave.service",
                service("/usr/sbin/mesos-slave", &["/etc/default/mesos-slave"], "process"),
            )
        }
        Kind::Bare => ("mesos-slave.service", service("/usr/sbin/mesos-slave", &[], "process")),
    }
}

/// A process whose root is the host's.
fn namespace(root: &Path, scratch: &Path) -> Child {
    // What is the machine's can be read there, not written.
    let script = format!(
        "for it in {}; do mount --rbind /$it \"$1/$it\"; case $it in dev|proc) ;; *) mount -o remount,bind,ro \"$1/$it\" ;; esac; \
         done; mount --bind \"$2\" \"$1/scratch\"; mount --bind \"$2/local\" \"$1/usr/local\"; mount --bind \"$3\" \"$1/mnt\"; \
         echo there; exec chroot \"$1\" sleep infinity",
        OF_THE_MACHINE.join(" ")
    );
    let program = PathBuf::from(installer().get_program());
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--mount", "sh", "-ec", &script, "sh"])
        .arg(root)
        .arg(scratch)
        .arg(program.parent().unwrap());
    let mut child = unshare.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "there\n", "mounting takes root");
    // It is there when it has become `sleep`, in its root.
    let root_of_child = format!("/proc/{}/root", child.id());
    while fs::read_link(&root_of_child).is_ok_and(|link| link == Path::new("/")) {
        std::thread::yield_now();
    }
    child
}

/// What an agent is started with: flags, and variables that are none of Mesos'.
type Started = BTreeMap<String, String>;

/// The agent starts, as Mesos does: it says no to what it cannot load.
fn start(kind: Kind, root: &Path) -> Result<Started, String> {
    let read = |place: &str| fs::read_to_string(root.join(place)).unwrap_or_default();
    let mut started = Started::from([("isolation".to_owned(), "posix/cpu,posix/mem".to_owned())]);
    let files: &[&str] = match kind {
        Kind::DcOs => &[&format!("{DCOS_PACKAGE}/mesos-slave-common"), "var/lib/dcos/mesos-slave-common"],
        Kind::Packages | Kind::Defaults => &["etc/default/mesos-slave"],
        Kind::Bare => &["etc/systemd/system/mesos-slave.service.d/calico-dcos.conf"],
    };
    for line in files.iter().map(|file| read(file)).collect::<Vec<_>>().join("\n").lines() {
        let line = line.strip_prefix("Environment=").unwrap_or(line).trim_matches('"');
        let Some((name, value)) = line.split_once('=') else { continue };
        let name = name.strip_prefix("MESOS_").map_or(name.to_owned(), str::to_lowercase);
        started.insert(name, value.trim_matches('"').to_owned());
    }
    if kind == Kind::Packages {
        for entry in fs::read_dir(root.join("etc/mesos-slave")).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if !name.starts_with('.') {
                started.insert(name, fs::read_to_string(entry.path()).unwrap().trim_end().to_owned());
            }
        }
    }
    let mut modules = Vec::new();
    if let Some(file) = started.get("modules").cloned() {
        let place = file.strip_prefix("file:///").ok_or(format!("modules {file}"))?;
        let place = place.replace("opt/mesosphere/etc", DCOS_PACKAGE);
        let text = fs::read_to_string(root.join(&place)).map_err(|error| format!("{place}: {error}"))?;
        let value: Value = serde_json::from_str(&text).map_err(|error| format!("{place}: {error}"))?;
        for library in value["libraries"].as_array().ok_or("no libraries")? {
            let file = library["file"].as_str().ok_or("a library without a file")?;
            if !root.join(file.trim_start_matches('/')).is_file() {
                return Err(format!("{file} is not there"));
            }
            for module in library["modules"].as_array().into_iter().flatten() {
                let name = module["name"].as_str().ok_or("a module without a name")?.to_owned();
                if modules.contains(&name) {
                    return Err(format!("{name} twice"));
                }
                modules.push(name);
                for parameter in module["parameters"].as_array().into_iter().flatten() {
                    let (key, value) =
                        (parameter["key"].as_str().unwrap(), parameter["value"].as_str().unwrap());
                    let program = root.join(value.trim_start_matches('/'));
                    let runs =
                        || fs::metadata(&program).is_ok_and(|it| it.permissions().mode() & 0o111 == 0o111);
                    if key.ends_with("_command") && !runs() {
                        return Err(format!("{value} cannot be run"));
                    }
                }
            }
        }
        started.insert("modules".to_owned(), value.to_string());
    }
    let own = ["posix/", "cgroups/", "filesystem/", "namespaces/"];
    let isolators =
        started["isolation"].split(',').filter(|name| !own.iter().any(|own| name.starts_with(own)));
    let hooks = started.get("hooks").map(String::as_str).unwrap_or_default();
    for name in isolators.chain(hooks.split(',').filter(|name| !name.is_empty())) {
        if !modules.iter().any(|module| module == name) {
            return Err(format!("{name} is in no library"));
        }
    }
    Ok(started)
}

fn boot(kind: Kind, root: &Path, documents: &Documents, version: &str, wrong: Wrong) {
    let started = start(kind, root);
    let mut documents = documents.lock().unwrap();
    documents.clear();
    let Ok(mut flags) = started else { return };
    let wrong = if flags["isolation"].contains(MODULES[0]) { wrong } else { Wrong::Nothing };
    match wrong {
        Wrong::Dead => return,
        Wrong::Deaf => flags
            .extend([("isolation", "posix/cpu"), ("hooks", "")].map(|(k, v)| (k.to_owned(), v.to_owned()))),
        _ => {}
    }
    flags.remove("ETCD_AUTHORITY");
    flags.insert("systemd_enable_support".to_owned(), (kind == Kind::DcOs).to_string());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let id = if wrong == Wrong::OtherId { "S2" } else { "S1" };
    let registered = f64::from(u8::from(wrong != Wrong::Unregistered));
    let state = json!({ "id": id, "pid": "slave(1)@10.0.0.11:5051", "start_time": now, "frameworks": [] });
    documents.extend([
        ("/version", json!({ "version": version, "git_sha": "x" }).to_string()),
        ("/flags", json!({ "flags": flags }).to_string()),
        ("/state", state.to_string()),
        ("/metrics/snapshot", json!({ "slave/registered": registered }).to_string()),
    ]);
}
