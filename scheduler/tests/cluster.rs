//! The whole process, on the fake master with thousands of agents, in real time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use fake_master::{AgentRef, AgentSpec, Script, Server, Settings, World};
use http_body_util::Full;
use mesos_v1::http::Connection;
use mesos_v1::{TaskState, master};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const AGENTS: usize = 1000;
/// Generous: other tests run beside it.
const LIMIT: Duration = Duration::from_secs(100);

/// A scheduler's process. It ends with the test.
struct Scheduler {
    child: Child,
    api: String,
    log: tempfile::NamedTempFile,
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Scheduler {
    fn start(master: &str, state: &Path, options: &[(&str, &str)]) -> Self {
        Self::started(Command::new(env!("CARGO_BIN_EXE_calico-scheduler")), master, state, options)
    }

    /// With a table of host names of its own, in the place of the machine's.
    fn start_with_names(hosts: &Path, master: &str, state: &Path) -> Self {
        let mut command = Command::new("/usr/bin/unshare");
        let script = "mount --bind \"$0\" /etc/hosts && exec \"$1\"";
        command.args(["--mount", "/bin/sh", "-c", script]).arg(hosts);
        command.arg(env!("CARGO_BIN_EXE_calico-scheduler"));
        Self::started(command, master, state, &[])
    }

    fn started(mut command: Command, master: &str, state: &Path, options: &[(&str, &str)]) -> Self {
        let artifact = format!("http://10.255.0.1/x#sha256={}", "ab".repeat(32));
        let log = tempfile::NamedTempFile::new().unwrap();
        let child = command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CALICO_SERVICE_API_LISTEN", "127.0.0.1:0")
            .env("CALICO_SERVICE_STATE", format!("file:{}", state.display()))
            .env("CALICO_MESOS_MASTER", master)
            .env("CALICO_ETCD_ENDPOINTS", "http://10.255.0.1:2379")
            .env("CALICO_NODE_IMAGE", "10.255.0.1/calico/node:v3.14.0")
            .env("CALICO_LIBNETWORK_IMAGE", "10.255.0.1/calico/libnetwork-plugin:v1.1.3")
            // There are more than Docker's store is set up for by default.
            .env("CALICO_DOCKER_MAX_AGENTS", "5000")
            .envs(
                ["INSTALLER", "ETCD", "CNI", "CNI_IPAM", "CALICOCTL"]
                    .map(|name| (format!("CALICO_ARTIFACTS_{name}"), artifact.clone())),
            )
            .envs(options.iter().copied())
            .stdin(Stdio::null())
            .stderr(log.reopen().unwrap())
            .spawn()
            .unwrap();
        Self { child, api: String::new(), log }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// The status code and the body of the API's answer.
    async fn get(&mut self, path: &str) -> (u16, serde_json::Value) {
        while self.api.is_empty() {
            let log = BufReader::new(self.log.reopen().unwrap());
            let line = log.lines().map_while(Result::ok).find(|line| line.contains("the API listens"));
            if let Some((_, address)) = line.as_deref().and_then(|line| line.split_once("address=")) {
                address.trim().clone_into(&mut self.api);
            }
            assert!(self.child.try_wait().unwrap().is_none(), "{}", self.said());
            sleep(Duration::from_millis(20)).await;
        }
        let mut connection = Connection::open(&self.api, LIMIT).await.unwrap();
        let request = http::Request::get(path).body(Full::<Bytes>::default()).unwrap();
        let response = connection.send(request, LIMIT).await.unwrap();
        let status = response.status.as_u16();
        let body = response.bytes(usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn complete(&mut self, what: &str) {
        let started = Instant::now();
        loop {
            let (status, plan) = self.get("/v1/plans/deploy").await;
            if status == 200 {
                return eprintln!("{what}: {:.1} s", started.elapsed().as_secs_f64());
            }
            assert!(started.elapsed() < LIMIT, "{what}: {status} {}\n{}", plan["status"], self.said());
            sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_agents_are_installed_in_seconds_and_a_restart_changes_nothing() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut world = World::new(now, 1, Settings::default());
    world.add_agents(AgentSpec::many(AGENTS));
    // Some are public.
    world.add_agents((0..10).map(|n| AgentSpec::new(&format!("10.200.0.{n}")).reserved("slave_public")));
    world.set_scripts(|task, _| {
        let soon = Duration::from_millis(100);
        let script = if task.check.is_some() { Script::service(soon) } else { Script::exits(soon, 0) };
        Script { start: Duration::from_millis(20), ..script }
    });
    let leader = Server::start(world).await.unwrap();
    let follower = Server::following(Some(&leader.authority)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.json");

    // Through a master that does not lead.
    let mut scheduler = Scheduler::start(&follower.authority, &state, &[]);
    scheduler.complete("installed").await;
    // As the master has it: who its tasks run as, and for how long it may be away.
    let registered = |world: &mut World| {
        let call =
            master::Call { r#type: Some(master::call::Type::GetFrameworks.into()), ..Default::default() };
        let known = world.operator(&call).unwrap().get_frameworks.unwrap();
        let info = known.frameworks.into_iter().next().unwrap().framework_info;
        (info.user.clone(), info.failover_timeout(), info.checkpoint())
    };
    assert_eq!(leader.with(registered), ("root".to_owned(), 604_800.0, true));
    let (_, agents) = scheduler.get("/v1/agents").await;
    assert_eq!(agents.as_array().unwrap().len(), AGENTS + 10);
    // On each the services run: the proxy, calico-node and libnetwork.
    let running = |world: &mut World| {
        let running = |agent| world.tasks_on(agent).filter(|(_, state)| *state == TaskState::TaskRunning);
        (0..world.agents())
            .map(|n| running(AgentRef::nth(n)).map(|(task, _)| task.to_owned()).collect())
            .collect()
    };
    let before: Vec<Vec<String>> = leader.with(running);
    assert!(before.iter().all(|tasks| tasks.len() == 3), "{before:?}");

    drop(scheduler);
    let options = [("CALICO_SERVICE_FAILOVER_TIMEOUT", "200h")];
    let mut scheduler = Scheduler::start(&follower.authority, &state, &options);
    scheduler.complete("again after a kill").await;
    assert_eq!(leader.with(running), before);
    let longer = ("root".to_owned(), 720_000.0, true);
    assert_eq!(leader.with(registered), longer, "each subscription says it");

    // The master dies, and the next one knows only what the agents tell it.
    leader.with(World::elect_master);
    scheduler.complete("again after a master's failover").await;
    let framework = scheduler.get("/v1/state/frameworkId").await.1[0].as_str().unwrap().to_owned();
    let started = Instant::now();
    while leader.with(|world| world.master_tasks(&framework).len()) < 3 * before.len() {
        assert!(started.elapsed() < LIMIT, "{}", scheduler.said());
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(leader.with(running), before);
    // The new master hears it from the subscription, and from nobody else.
    while leader.with(registered) != longer {
        assert!(started.elapsed() < LIMIT, "{:?}", leader.with(registered));
        sleep(Duration::from_millis(100)).await;
    }
}

/// Passes on to `to` what comes to `at`, for as long as it lives.
async fn forward(at: &str, to: &str) -> JoinSet<()> {
    let listener = TcpListener::bind(at).await.unwrap();
    let to = to.to_owned();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(&to).await.unwrap();
            connections.spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    tasks
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: a table of host names of its own"]
async fn a_name_that_leads_elsewhere_later_is_followed() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let master = Server::start(World::new(now, 1, Settings::default())).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (hosts, state) = (folder.path().join("hosts"), folder.path().join("state.json"));
    // One master at a time is reached, at the same port of another address.
    let (_, port) = master.authority.rsplit_once(':').unwrap();
    let first = forward(&format!("127.0.0.2:{port}"), &master.authority).await;
    std::fs::write(&hosts, "127.0.0.2 masters.test\n").unwrap();
    let mut scheduler = Scheduler::start_with_names(&hosts, &format!("masters.test:{port}"), &state);
    let subscribed = async |scheduler: &mut Scheduler, wanted: bool| {
        let started = Instant::now();
        loop {
            let (_, health) = scheduler.get("/v1/health").await;
            if health["subscription"].is_object() && health["subscription"]["master"].is_string() == wanted {
                return health;
            }
            assert!(started.elapsed() < LIMIT, "{health:#}\n{}", scheduler.said());
            sleep(Duration::from_millis(50)).await;
        }
    };
    subscribed(&mut scheduler, true).await;

    drop(first);
    let health = subscribed(&mut scheduler, false).await;
    let error = health["subscription"]["error"].as_str().unwrap();
    assert!(error.contains("mesos.master") || error.contains("event stream"), "{error}");
    let _second = forward(&format!("127.0.0.3:{port}"), &master.authority).await;
    std::fs::write(&hosts, "127.0.0.3 masters.test\n").unwrap();
    subscribed(&mut scheduler, true).await;
}
