//! Docker's containers in a default install: they get addresses, and nobody is hurt; and where Docker must be restarted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster::probe::{Probe, ProbeTask};
use cluster::{Cluster, Host, product, proof};
use serde_json::{Value, json};

use crate::history::framework;
use crate::survival::{longest_pause, moments, property, read};
use crate::watch::Watch;
use crate::{INSTALL, deployed, up, wait};

/// Counts ten times a second: milliseconds since the epoch.
const COUNT: &str = "while :; do date +%s%3N; sleep 0.1; done";
/// Where the container's count is on its host.
const COUNTED: &str = "/run/counter/count";
/// The longest pause that a counter may make, in milliseconds: a busy machine makes some.
const PAUSE: u64 = 10_000;

fn sh(host: &Host<'_>, script: &str) -> String {
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
fn workload(cluster: &Cluster, host: &Host<'_>) {
    let folders = "-v /usr:/usr:ro -v /usr/lib:/lib:ro -v /usr/lib64:/lib64:ro -v /run/counter:/run/counter";
    let image = cluster.node_image();
    let script = format!(
        "mkdir -p /run/counter && docker run -d --name counter --net=host {folders} --entrypoint=/usr/bin/dash {image} \
         -c 'export PATH=/usr/bin; {COUNT}' && docker logs counter"
    );
    sh(host, &script.replace("done'", &format!("done >{COUNTED}'")));
}

#[test]
fn a_default_install_gives_docker_containers_addresses_and_interrupts_nothing() {
    let (_lock, cluster) = up("e2e-docker");
    let hosts = cluster.hosts().unwrap();
    let probe = Probe::connect(&cluster.master_urls()[0]).unwrap();
    let tasks: Vec<_> = hosts
        .iter()
        .map(|host| {
            workload(&cluster, host);
            let hostname = host.address().to_string();
            probe.launch(ProbeTask { hostname, command: COUNT.to_owned(), ..ProbeTask::default() })
        })
        .collect();
    for (host, task) in hosts.iter().zip(&tasks) {
        task.wait_running(INSTALL).unwrap();
        wait("the container to count", INSTALL, || (read(host, COUNTED).len() > 5).then_some(()));
    }
    let before: Vec<_> = hosts.iter().map(started).collect();

    // The install.
    let mut scheduler = product::install(&cluster, &product::with_docker(&json!({}))).unwrap();
    let watch = Watch::start(&cluster, &scheduler);
    deployed(&scheduler, 3);
    let mut proofs = 0;
    proof::prove_docker(&cluster, "calico", |_| proofs += 1).unwrap();
    assert_eq!(proofs, 9);
    let restarts = |part: usize| {
        let counted = hosts.iter().zip(&before);
        counted.filter(|(host, before)| started(host)[part] != before[part]).count()
    };
    let (docker, agents) = (restarts(0), restarts(1));
    eprintln!(
        "restarts in a default install of {} agents: Docker {docker}, Mesos agent {agents}",
        hosts.len()
    );
    assert_eq!((docker, agents), (0, 0));

    // A scheduler's failover, and a restart of each agent.
    scheduler.process().kill().unwrap();
    scheduler.restart().unwrap();
    scheduler.api().wait_alive(Duration::from_secs(20)).unwrap();
    for host in &hosts {
        let (id, pid) = (host.agent_id().unwrap(), property(host, host.agent_unit(), "MainPID"));
        sh(host, &format!("systemctl restart {}", host.agent_unit()));
        wait("the agent to be registered again", INSTALL, || {
            (host.agent_id().ok()? == id && property(host, host.agent_unit(), "MainPID") != pid).then_some(())
        });
    }
    deployed(&scheduler, 3);
    let seen = watch.end_after_silence();
    assert!(seen.ended().iter().all(|task| task.state == "TASK_FINISHED"), "{seen:#?}");
    let running = framework(&cluster).tasks.into_iter().filter(|task| task.state == "TASK_RUNNING").count();
    assert_eq!(running, 9, "a proxy, a node and a plugin on each host");

    // Docker's store is taken back, while everything runs.
    let store = ["docker-cluster-store", "undo"];
    for host in &hosts {
        let artifact = cluster.artifact("calico-installer").unwrap();
        let uri = artifact.split('#').next().unwrap();
        sh(host, &format!("curl -sSfo /opt/calico-installer {uri} && chmod +x /opt/calico-installer"));
        sh(host, &format!("/opt/calico-installer {}", store.join(" ")));
    }
    assert_eq!(restarts(0), 0, "Docker was restarted");
    for (host, task) in hosts.iter().zip(&tasks) {
        let last = *read(host, COUNTED).last().unwrap();
        wait("the container to go on", INSTALL, || {
            (*read(host, COUNTED).last()? > last + 1000).then_some(())
        });
        let container = longest_pause(&read(host, COUNTED));
        let counted = longest_pause(&moments(&task.stdout().unwrap()));
        eprintln!("{}: longest pause of a container {container} ms, of a task {counted} ms", host.name());
        assert!(container < PAUSE && counted < PAUSE);
        assert_eq!(sh(host, "docker inspect -f '{{.RestartCount}} {{.State.Running}}' counter"), "0 true");
    }
}

/// What the API says of each agent.
fn agents(scheduler: &cluster::marathon::Scheduler<'_>) -> Option<Vec<Value>> {
    let (status, body) = scheduler.api().get("/v1/agents").ok()?;
    Some(body.as_array().filter(|_| status == 200)?.clone())
}

#[test]
fn agents_whose_docker_must_be_restarted_wait_for_permission_and_then_take_turns() {
    let (_lock, cluster) = up("e2e-turns");
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
    let options = json!({"docker": {"replace-store": true}});
    let mut scheduler = product::install(&cluster, &product::with_docker(&options)).unwrap();
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
    proof::prove_docker(&cluster, "calico", |_| ()).unwrap();
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
