//! The two clusters: a host that is plain, and a public one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cluster::Cluster;
use fake_master::{AgentRef, AgentSpec, Resources, Script, Server, Settings, World};
use mesos_v1::{Resource, TimeInfo, Unavailability, resource, value};

/// When a machine goes down for maintenance, in nanoseconds since the epoch.
pub const MAINTENANCE: i64 = 2_000_000_000_000_000_000;

/// What is not done over the master's HTTP.
pub trait Target {
    /// `host:port` of the leading master.
    fn master(&self) -> String;
    /// The hostname of an agent: 0 is the plain one, 1 the public one.
    fn hostname(&self, agent: usize) -> String;
    /// Starts the agent's process, or ends it.
    fn set_running(&self, agent: usize, running: bool);
    /// Schedules maintenance of the agent's machine, or ends it.
    fn set_maintenance(&self, agent: usize, scheduled: bool);
    /// Lets packets pass between the agent's host and all others, or drops them.
    fn set_reachable(&self, agent: usize, reachable: bool);
    /// The agent's process forgets who it was, and starts anew.
    fn rebuild(&self, agent: usize);
    /// The master dies, and another one leads at its address.
    fn fail_over(&self);
}

/// A real cluster.
pub struct Real(Cluster);

impl Real {
    pub fn new(cluster: Cluster) -> Self {
        Self(cluster)
    }
}

impl Target for Real {
    fn master(&self) -> String {
        self.0.master_urls()[0].trim_start_matches("http://").to_owned()
    }

    fn hostname(&self, agent: usize) -> String {
        self.0.hosts().unwrap()[agent].address().to_string()
    }

    fn set_running(&self, agent: usize, running: bool) {
        let host = &self.0.hosts().unwrap()[agent];
        let verb = if running { "start" } else { "stop" };
        assert!(host.exec(&["systemctl", verb, host.agent_unit()]).unwrap().status.success());
    }

    fn set_maintenance(&self, agent: usize, scheduled: bool) {
        let address = self.hostname(agent);
        let window = serde_json::json!({
            "machine_ids": [{"hostname": address, "ip": address}],
            "unavailability": {"start": {"nanoseconds": MAINTENANCE}},
        });
        let windows = if scheduled { vec![window] } else { vec![] };
        let schedule = serde_json::json!({ "windows": windows }).to_string();
        let url = format!("http://{}/maintenance/schedule", self.master());
        let posted =
            std::process::Command::new("curl").args(["-sSf", "-d", &schedule, &url]).output().unwrap();
        assert!(posted.status.success(), "{posted:?}");
    }

    fn set_reachable(&self, agent: usize, reachable: bool) {
        let host = &self.0.hosts().unwrap()[agent];
        if reachable { host.reconnect() } else { host.cut_off() }.unwrap();
    }

    fn rebuild(&self, agent: usize) {
        let host = &self.0.hosts().unwrap()[agent];
        let unit = host.agent_unit();
        let forget =
            format!("systemctl stop {unit} && rm -r /var/lib/mesos/slave/meta && systemctl start {unit}");
        assert!(host.exec(&["sh", "-c", &forget]).unwrap().status.success());
    }

    fn fail_over(&self) {
        self.0.process("master-1").unwrap().kill().unwrap();
        self.0.start_service("master-1").unwrap();
    }
}

/// The fake one, over HTTP as well.
pub struct Fake {
    server: Server,
    _runtime: tokio::runtime::Runtime,
}

impl Fake {
    pub fn start() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        // As the real cluster is set up.
        let settings = Settings {
            allocation_interval: Duration::from_millis(200),
            registration: Duration::from_millis(200),
            ping_interval: Duration::from_secs(2),
            ping_timeouts: 4,
            ..Settings::default()
        };
        let mut world = World::new(now, 1, settings);
        let resources = |ports: &[(u64, u64)]| {
            let range = ports.iter().map(|(begin, end)| value::Range { begin: *begin, end: *end }).collect();
            let ports = Resource {
                name: "ports".into(),
                r#type: value::Type::Ranges.into(),
                ranges: Some(value::Ranges { range }),
                ..Default::default()
            };
            let none: std::sync::Arc<[resource::ReservationInfo]> = std::sync::Arc::from([]);
            let mut all = Resources::of(4.0, 4096.0).with("disk", 8192.0, &none);
            all.add(&Resources::of_messages([&ports]).unwrap());
            all
        };
        let private = [(1025, 2180), (2182, 3887), (3889, 5049), (5052, 8079), (8082, 8180), (8182, 32_000)];
        let public = [(1, 21), (23, 5050), (5052, 32_000)];
        world.add_agent(AgentSpec::new("10.0.0.1").with_resources(resources(&private)));
        let second =
            AgentSpec::new("10.0.0.2").with_resources(resources(&public).statically_reserved("slave_public"));
        world.add_agent(second.with_attribute("public_ip", "true"));
        // What the commands of the scenarios do.
        world.set_scripts(|task, _| {
            let command =
                task.command.as_ref().and_then(|command| command.value.as_deref()).unwrap_or_default();
            let script = match command.strip_prefix("sleep 3; exit ") {
                Some(code) => Script::exits(Duration::from_secs(3), code.parse().unwrap()),
                None => Script::default(),
            };
            Script { ready: task.check.is_some().then(|| Duration::from_secs(1)), ..script }
        });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(Server::start(world)).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        Self { server, _runtime: runtime }
    }
}

impl Target for Fake {
    fn master(&self) -> String {
        self.server.authority.clone()
    }

    fn hostname(&self, agent: usize) -> String {
        self.server.with(|world| world.spec(AgentRef::nth(agent)).hostname.to_string())
    }

    fn set_running(&self, agent: usize, running: bool) {
        let agent = AgentRef::nth(agent);
        self.server.with(|world| if running { world.start_agent(agent) } else { world.stop_agent(agent) });
    }

    fn set_maintenance(&self, agent: usize, scheduled: bool) {
        let start = TimeInfo { nanoseconds: MAINTENANCE };
        let unavailability = scheduled.then_some(Unavailability { start, duration: None });
        self.server.with(|world| world.set_unavailability(AgentRef::nth(agent), unavailability));
    }

    fn set_reachable(&self, agent: usize, reachable: bool) {
        let agent = AgentRef::nth(agent);
        self.server.with(
            |world| {
                if reachable { world.heal_agent(agent) } else { world.partition_agent(agent) }
            },
        );
    }

    fn rebuild(&self, agent: usize) {
        let agent = AgentRef::nth(agent);
        self.server.with(|world| {
            world.rebuild_agent(agent);
            world.start_agent(agent);
        });
    }

    fn fail_over(&self) {
        self.server.with(World::elect_master);
    }
}
