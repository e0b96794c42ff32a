//! systemd as it is seen on a bus: a bus of its own, on which this process is `org.freedesktop.systemd1`.

#![allow(
    clippy::unused_self,
    clippy::used_underscore_binding,
    reason = "the interfaces of the bus have their own form"
)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use tokio::runtime::Runtime;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedObjectPath, interface};

/// A service, and what a restart does.
#[derive(Debug, Clone, Default)]
pub struct Service {
    /// The words of its `ExecStart=`.
    pub exec: Vec<String>,
    /// From its `EnvironmentFile=`.
    pub environment_files: Vec<String>,
    /// Its `KillMode=`.
    pub kill_mode: String,
    /// Its main process; 0 when it does not run.
    pub pid: u32,
    /// Whether systemd knows it.
    pub loaded: bool,
}

/// What systemd was asked for, and knows.
#[derive(Debug, Default)]
pub struct State {
    /// By their names.
    pub services: HashMap<String, Service>,
    /// In their order: `reload`, `restart NAME`.
    pub asked: Vec<String>,
}

/// What a service does when it is started again.
pub type OnStart = Box<dyn Fn() + Send + Sync>;

/// The bus and systemd on it; both end when this is dropped.
pub struct Systemd {
    /// For `DBUS_SYSTEM_BUS_ADDRESS`.
    pub address: String,
    /// What it knows.
    pub state: Arc<Mutex<State>>,
    bus: Child,
    _connection: Connection,
    _runtime: Runtime,
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = self.bus.kill();
        let _ = self.bus.wait();
    }
}

impl Systemd {
    /// All services get this `KillMode=`.
    pub fn set_kill_mode(&self, kill_mode: &str) {
        for service in self.state.lock().unwrap().services.values_mut() {
            kill_mode.clone_into(&mut service.kill_mode);
        }
    }

    /// Starts it, with one service; the bus is in `directory`.
    pub fn start(directory: &Path, name: &str, service: Service, on_start: OnStart) -> Self {
        let config = directory.join("bus.conf");
        let socket = directory.join("bus");
        let text = format!(
            "<busconfig><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context=\"default\"><allow \
             send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>",
            socket.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut bus = Command::new("dbus-daemon")
            .args(["--nofork", "--nopidfile", "--print-address", "--config-file"])
            .arg(&config)
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon, which `make deps` installs");
        // It says where it is when it can be reached there.
        let mut address = String::new();
        BufReader::new(bus.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        let services = HashMap::from([(name.to_owned(), Service { loaded: true, pid: 4711, ..service })]);
        let state = Arc::new(Mutex::new(State { services, asked: Vec::new() }));
        // It answers while the test waits for a program.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let manager = Manager { state: Arc::clone(&state), on_start: Arc::new(on_start) };
        let connection = runtime.block_on(async {
            zbus::connection::Builder::address(address.as_str())
                .name("org.freedesktop.systemd1")
                .serve_at("/org/freedesktop/systemd1", manager)
                .build()
                .await
                .unwrap()
        });
        Self { address, state, bus, _connection: connection, _runtime: runtime }
    }
}

struct Manager {
    state: Arc<Mutex<State>>,
    on_start: Arc<OnStart>,
}

fn path_of(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("/org/freedesktop/systemd1/unit/{plain}")
}

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    fn subscribe(&self) {}

    async fn load_unit(&self, name: String, #[zbus(connection)] connection: &Connection) -> OwnedObjectPath {
        let path = path_of(&name);
        let service = self.state.lock().unwrap().services.get(&name).cloned().unwrap_or_default();
        let server = connection.object_server();
        let _ = server.remove::<LoadedUnit, _>(path.as_str()).await;
        let _ = server.remove::<LoadedService, _>(path.as_str()).await;
        server.at(path.as_str(), LoadedUnit(service.clone())).await.unwrap();
        server.at(path.as_str(), LoadedService(service)).await.unwrap();
        path.try_into().unwrap()
    }

    fn reset_failed_unit(&self, _name: String) {}

    fn reload(&self) {
        self.state.lock().unwrap().asked.push("reload".to_owned());
    }

    async fn restart_unit(
        &self,
        name: String,
        _mode: String,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> OwnedObjectPath {
        {
            let mut state = self.state.lock().unwrap();
            state.asked.push(format!("restart {name}"));
            state.services.get_mut(&name).unwrap().pid += 1;
        }
        (self.on_start)();
        let job: OwnedObjectPath = "/org/freedesktop/systemd1/job/7".try_into().unwrap();
        Self::job_removed(&emitter, 7, job.clone(), name, "done".to_owned()).await.unwrap();
        job
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: OwnedObjectPath,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;
}

struct LoadedUnit(Service);

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl LoadedUnit {
    #[zbus(property)]
    fn load_state(&self) -> &'static str {
        if self.0.loaded { "loaded" } else { "not-found" }
    }
    #[zbus(property)]
    fn active_state(&self) -> &'static str {
        if self.0.pid == 0 { "inactive" } else { "active" }
    }
    #[zbus(property)]
    fn fragment_path(&self) -> String {
        String::new()
    }
    #[zbus(property)]
    fn drop_in_paths(&self) -> Vec<String> {
        Vec::new()
    }
}

struct LoadedService(Service);

type Exec = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

#[interface(name = "org.freedesktop.systemd1.Service")]
impl LoadedService {
    #[zbus(property)]
    fn result(&self) -> &'static str {
        "success"
    }
    #[zbus(property, name = "MainPID")]
    fn main_pid(&self) -> u32 {
        self.0.pid
    }
    #[zbus(property)]
    fn exec_main_start_timestamp_monotonic(&self) -> u64 {
        u64::from(self.0.pid)
    }
    #[zbus(property)]
    fn exec_start(&self) -> Vec<Exec> {
        vec![(self.0.exec[0].clone(), self.0.exec.clone(), false, 0, 0, 0, 0, 0, 0, 0)]
    }
    #[zbus(property)]
    fn environment(&self) -> Vec<String> {
        Vec::new()
    }
    #[zbus(property)]
    fn environment_files(&self) -> Vec<(String, bool)> {
        self.0.environment_files.iter().map(|path| (path.clone(), true)).collect()
    }
    #[zbus(property)]
    fn kill_mode(&self) -> String {
        self.0.kill_mode.clone()
    }
}
