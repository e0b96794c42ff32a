//! Docker's containers in a default install: they get addresses, and nobody is hurt; and where Docker must be restarted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster::probe::{Probe, ProbeHandle, ProbeTask};
use cluster::{Cluster, Host, product, proof};
use serde_json::{Value, json};

use crate::history::framework;
use crate::survival::{moments, property, read};
use crate::watch::Watch;
use crate::{INSTALL, deployed, libnetwork, operator, up_with_a_short_settle, wait};

/// Counts ten times a second: milliseconds since the epoch.
pub const COUNT: &str = "while :; do date +%s%3N; sleep 0.1; done";
/// Where the container's count is on its host.
pub const COUNTED: &str = "/run/counter/count";
/// The longest pause that a counter may make, in milliseconds: a busy machine makes some.
const PAUSE: u64 = 5_000;
/// Where the installer is put on a host.
const INSTALLER: &str = "/opt/calico-installer";

pub fn sh(host: &Host<'_>, script: &str) -> String {
    let output = host.exec(&["sh", "-ec", script]).unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} on {}: {said}{wrong}", host.name());
    said.trim().to_owned()
}

/// When dockerd and the Mesos agent were started, in microseconds of the clock that all hosts share.
fn started(host: &Host<'_>) -> [String; 2] {
    ["docker.service", host.agent_unit()].map(|unit| property(host, unit, "ExecMainStartTimestampMonotonic"))
}

/// A container that an operator had before, on the host's network. The host's own programs are mounted into an image that
/// is there.
pub fn workload(cluster: &Cluster, host: &Host<'_>) {
    let folders = "-v /usr:/usr:ro -v /usr/lib:/lib:ro -v /usr/lib64:/lib64:ro -v /run/counter:/run/counter";
    let image = cluster.node_image();
    let script = format!(
        "mkdir -p /run/counter && docker run -d --name counter --net=host {folders} --entrypoint=/usr/bin/dash {image} \
         -c 'export PATH=/usr/bin; {COUNT}' && docker logs counter"
    );
    sh(host, &script.replace("done'", &format!("done >{COUNTED}'")));
}

/// All that may be another after an install that is taken back, byte by byte.
pub(crate) fn look(host: &Host<'_>) -> Vec<String> {
    let script = "cd /; folders=$(ls -d etc opt usr/local usr/libexec usr/lib/cni lib/modules run/docker/plugins var/lib/calico* \
                  var/log/calico run/calico 2>/dev/null || true); find $folders -printf '%p %y %m %U %G %l\\n' | sort; \
                  find $folders -xdev -type f -size -9M -print0 | sort -z | xargs -0 sha256sum";
    sh(host, script).lines().map(ToOwned::to_owned).collect()
}

/// What counts on one host, through all that is done.
struct Counters<'a> {
    host: &'a Host<'a>,
    task: ProbeHandle,
    container: String,
}

impl<'a> Counters<'a> {
    fn start(cluster: &Cluster, host: &'a Host<'a>, probe: &Probe) -> Self {
        workload(cluster, host);
        let hostname = host.address().to_string();
        let task = probe.launch(ProbeTask { hostname, command: COUNT.to_owned(), ..ProbeTask::default() });
        Self { host, task, container: Self::container(host) }
    }

    fn container(host: &Host<'_>) -> String {
        sh(
            host,
            "docker inspect -f '{{.Id}} {{.State.StartedAt}} {{.State.Running}} {{.RestartCount}}' counter",
        )
    }

    /// Both count beyond now.
    fn wait_counting(&self) {
        let now = clock();
        self.task.wait_running(INSTALL).unwrap();
        wait("the container to count", INSTALL, || (*read(self.host, COUNTED).last()? > now).then_some(()));
        wait("the task to count", INSTALL, || (*self.moments()?.last()? > now).then_some(()));
    }

    fn moments(&self) -> Option<Vec<u64>> {
        Some(moments(&self.task.stdout().ok()?))
    }

    /// Nothing was interrupted in any phase, each with when it began, in milliseconds; says for how long each stood still.
    fn check(&self, phases: &[(&str, u64)]) {
        self.wait_counting();
        assert_eq!(Self::container(self.host), self.container, "the container was interrupted");
        let (container, task) = (read(self.host, COUNTED), self.moments().unwrap());
        for (index, (name, from)) in phases.iter().enumerate() {
            let to = phases.get(index + 1).map_or(u64::MAX, |next| next.1);
            let longest = |counted: &[u64]| {
                let within = counted.windows(2).filter(|pair| pair[1] > *from && pair[0] < to);
                within.map(|pair| pair[1] - pair[0]).max().unwrap()
            };
            let (container, task) = (longest(&container), longest(&task));
            eprintln!(
                "{}: {name}: longest pause of a container {container} ms, of a task {task} ms",
                self.host.name()
            );
            assert!(container < PAUSE && task < PAUSE, "{name} interrupted them");
        }
    }
}

/// Milliseconds of the clock that all hosts share.
fn clock() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Each Mesos agent is started anew.
fn restart_agents(hosts: &[Host<'_>]) {
    let before: Vec<_> = hosts
        .iter()
        .map(|host| {
            let seen = (host.agent_id().unwrap(), property(host, host.agent_unit(), "MainPID"));
            sh(host, &format!("systemctl restart {}", host.agent_unit()));
            seen
        })
        .collect();
    for (host, (id, pid)) in hosts.iter().zip(before) {
        wait("the agent to be registered again", INSTALL, || {
            (host.agent_id().ok()? == id && property(host, host.agent_unit(), "MainPID") != pid).then_some(())
        });
    }
}

#[test]
fn a_default_install_gives_docker_containers_addresses_interrupts_nothing_and_comes_out_whole() {
    let (_lock, cluster) = up_with_a_short_settle("e2e-docker");
    let hosts = cluster.hosts().unwrap();
    for host in &hosts {
        let artifact = cluster.artifact("calico-installer").unwrap();
        let uri = artifact.split('#').next().unwrap();
        sh(host, &format!("curl -sSfo {INSTALLER} {uri} && chmod +x {INSTALLER}"));
    }
    let probe = Probe::connect(&cluster.master_urls()[0]).unwrap();
    let counters: Vec<_> = hosts.iter().map(|host| Counters::start(&cluster, host, &probe)).collect();
    counters.iter().for_each(Counters::wait_counting);
    let (before, files): (Vec<_>, Vec<_>) = hosts.iter().map(|host| (started(host), look(host))).unzip();
    let restarts = |part: usize| {
        let counted = hosts.iter().zip(&before);
        counted.filter(|(host, before)| started(host)[part] != before[part]).count()
    };

    let mut phases = vec![("install", clock())];
    let mut scheduler = product::install(&cluster, &product::with_docker(&json!({}))).unwrap();
    let watch = Watch::start(&cluster, &scheduler);
    deployed(&scheduler, 3);
    let (docker, agents) = (restarts(0), restarts(1));
    eprintln!(
        "restarts in a default install of {} agents: Docker {docker}, Mesos agent {agents}",
        hosts.len()
    );
    assert_eq!((docker, agents), (0, 0));
    let store = sh(&hosts[0], "cat /etc/docker/daemon.json");
    assert!(store.contains("etcd://127.0.0.1:2379"), "Docker reaches etcd through the proxy: {store}");
    let mut proofs = 0;
    proof::prove_docker(&cluster, "calico", |_| proofs += 1).unwrap();
    assert_eq!(proofs, 9);

    phases.push(("scheduler failover", clock()));
    scheduler.process().kill().unwrap();
    scheduler.restart().unwrap();
    scheduler.api().wait_alive(Duration::from_secs(20)).unwrap();
    phases.push(("agent restart", clock()));
    restart_agents(&hosts);
    deployed(&scheduler, 3);
    let seen = watch.end_after_silence();
    assert!(seen.ended().iter().all(|task| task.state == "TASK_FINISHED"), "{seen:#?}");
    assert_eq!(framework(&cluster).running().len(), 9, "a proxy, a node and a plugin on each host");
    for it in &counters {
        it.check(&phases);
    }

    // What happens to Docker on the first host ends the container there: it does not count any more.
    libnetwork::containers_go_through_what_happens_to_docker(&cluster, &scheduler);

    // The framework is removed; on the last host its supervisors were killed, and left their containers.
    phases = vec![("undo", clock())];
    scheduler.process().kill().unwrap();
    sh(&hosts[2], r"kill -9 $(pgrep -xf '\./calico-installer (node|libnetwork) run .*')");
    operator::teardown(&cluster, &framework(&cluster).id);
    let ours = "docker ps -aq --filter label=calico-dcos.task";
    for host in &hosts[..2] {
        wait("the end of our containers", INSTALL, || sh(host, ours).is_empty().then_some(()));
    }
    let stranger = libnetwork::a_stranger_has_the_name(&cluster, &hosts[0]);
    for (host, files) in hosts.iter().zip(&files) {
        let said = sh(host, &format!("{INSTALLER} undo --all --mesos-agent http://{}:5051", host.address()));
        let removed = said.contains("removed the container calico-node")
            && said.contains("container calico-libnetwork");
        assert_eq!(removed, host.name() == hosts[2].name(), "{said}");
        assert_eq!(sh(host, ours), "");
        let now = look(host);
        let differs: Vec<_> = now
            .iter()
            .filter(|it| !files.contains(it))
            .chain(files.iter().filter(|it| !now.contains(it)))
            .collect();
        assert!(differs.is_empty(), "{}: {differs:#?}\n{said}", host.name());
    }
    assert_eq!(sh(&hosts[0], "docker inspect -f '{{.Id}}' calico-libnetwork"), stranger);
    for it in &counters[1..] {
        it.check(&phases);
    }
    assert_eq!(restarts(0), 1, "of the first host alone");
}

/// What the API says of each agent.
fn agents(scheduler: &cluster::marathon::Scheduler<'_>) -> Option<Vec<Value>> {
    let (status, body) = scheduler.api().get("/v1/agents").ok()?;
    Some(body.as_array().filter(|_| status == 200)?.clone())
}

#[test]
fn agents_whose_docker_must_be_restarted_wait_for_permission_and_then_take_turns() {
    let (_lock, cluster) = up_with_a_short_settle("e2e-turns");
    let hosts = cluster.hosts().unwrap();
    // Another store: Docker takes one of its own by a restart only.
    for host in &hosts {
        let etcd = cluster.etcd_endpoint().replace("http://", "etcd://");
        let config = json!({
            "cluster-store": format!("{etcd}/before"), "cluster-advertise": format!("{}:2376", host.address()),
        });
        sh(host, &format!("echo '{config}' >/etc/docker/daemon.json && systemctl restart docker.service"));
    }
    let before: BTreeMap<String, [String; 2]> =
        hosts.iter().map(|host| (host.name().to_owned(), started(host))).collect();
    let options = json!({"docker": {"enable": true, "replace-store": true}, "rollout": {"stability": "1s"}});
    let mut scheduler = product::install(&cluster, &options).unwrap();
    wait("all agents to wait for permission", INSTALL, || {
        let waits = |agent: &Value| {
            agent["status"] == "WAITING"
                && agent["reason"].as_str().is_some_and(|reason| reason.contains("docker.allow-restart"))
        };
        agents(&scheduler).filter(|agents| agents.len() == 3 && agents.iter().all(waits))
    });
    assert!(hosts.iter().all(|host| started(host)[0] == before[host.name()][0]), "Docker was restarted");

    // From outside: which dockerds run, all the time; and by the API, who has a slot.
    let (done, most_down, most_slots) =
        (AtomicBool::new(false), AtomicMost::default(), AtomicMost::default());
    scheduler.process().kill().unwrap();
    scheduler.restart_with(&[("CALICO_DOCKER_ALLOW_RESTART", "true")]).unwrap();
    scheduler.api().wait_alive(Duration::from_secs(20)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Whoever asks for its API waits for a Docker that comes back: its unit says it at once.
            let runs = ["systemctl", "is-active", "--quiet", "docker.service"];
            while !done.load(Ordering::Relaxed) {
                let down = hosts.iter().filter(|host| !host.exec(&runs).unwrap().status.success()).count();
                most_down.see(down);
                let slots = agents(&scheduler).unwrap_or_default();
                most_slots.see(slots.iter().filter(|agent| agent["slot"].is_object()).count());
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let outcome = scheduler.api().wait_deployed(3, 2 * INSTALL);
        done.store(true, Ordering::Relaxed);
        if let Err(error) = outcome {
            panic!("{error}\n{}", scheduler.process().log().unwrap());
        }
    });
    assert_eq!((most_down.get(), most_slots.get()), (1, 1), "more than one at a time, or none was seen");
    let mut times: Vec<u64> = Vec::new();
    for host in &hosts {
        assert_eq!(property(host, "docker.service", "NRestarts"), "0");
        let [docker, agent] = started(host);
        assert_eq!(agent, before[host.name()][1], "the Mesos agent was restarted");
        assert_ne!(docker, before[host.name()][0], "Docker was not restarted on {}", host.name());
        times.push(docker.parse().unwrap());
    }
    eprintln!("Docker was restarted at {times:?} µs, one after the other");
    // All have the same store now.
    let network = sh(&hosts[0], "docker network create -d overlay seen");
    for host in &hosts {
        assert_eq!(sh(host, "docker network ls -q --no-trunc -f name=seen"), network);
    }
}

/// The most that was seen.
#[derive(Default)]
struct AtomicMost(std::sync::atomic::AtomicUsize);

impl AtomicMost {
    fn see(&self, number: usize) {
        self.0.fetch_max(number, Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
