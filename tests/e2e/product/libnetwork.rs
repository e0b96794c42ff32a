//! Docker's containers on the network: libnetwork and docker-network by hand, beside what the scheduler installs.

use std::process::Output;
use std::time::{Duration, Instant};

use cluster::probe::{Probe, ProbeHandle, ProbeTask};
use cluster::{Cluster, Host, product};
use serde_json::json;

use crate::history::framework;
use crate::{deployed, up, wait};

/// Where the installer is put on a host.
const INSTALLER: &str = "/opt/calico-installer";
/// How long a container may take that waits for its network: Docker tries a plugin for 15 s.
const LIMIT: Duration = Duration::from_mins(1);
const NETWORK: &str = "--network-name=calico";
const POOL: &str = "--network-pool-cidr=192.168.0.0/16";

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The output of a command that must succeed.
fn run(host: &Host<'_>, words: &[&str]) -> String {
    let output = host.exec(words).unwrap();
    assert!(output.status.success(), "{words:?} on {}: {}", host.name(), text(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The exit code of the installer, and what it said.
fn installer(host: &Host<'_>, words: &[&str]) -> (i32, String) {
    let output = host.exec(&[&[INSTALLER], words].concat()).unwrap();
    (output.status.code().unwrap(), text(&output))
}

/// Gives dockerd a cluster store, as docker-cluster-store does, and fetches the installer.
fn prepare(cluster: &Cluster, host: &Host<'_>) {
    let config = json!({
        "cluster-store": format!("etcd://{}", cluster.etcd_endpoint().trim_start_matches("http://")),
        "cluster-advertise": format!("{}:2376", host.address()),
    });
    run(host, &["sh", "-c", "echo \"$0\" >/etc/docker/daemon.json", &config.to_string()]);
    run(host, &["systemctl", "restart", "docker.service"]);
    let artifact = cluster.artifact("calico-installer").unwrap();
    run(host, &["curl", "-sSfo", INSTALLER, artifact.split('#').next().unwrap()]);
    run(host, &["chmod", "+x", INSTALLER]);
}

/// `libnetwork run` as a unit, so that its process is known.
fn start_libnetwork(cluster: &Cluster, host: &Host<'_>) {
    let image = format!("--libnetwork-image={}", cluster.libnetwork_image());
    let endpoints = format!("--etcd-endpoints={}", cluster.etcd_endpoint());
    let unit = ["systemd-run", "--unit=libnetwork", INSTALLER, "libnetwork", "run"];
    let flags = [&*image, &endpoints, "--libnetwork-cpus=0.1", "--libnetwork-mem=128"];
    run(host, &[&unit[..], &flags].concat());
}

fn ready(host: &Host<'_>) {
    let mut said = String::new();
    let started = Instant::now();
    while started.elapsed() < LIMIT {
        let (code, answer) = installer(host, &["libnetwork", "check", "--ready"]);
        if code == 0 {
            assert_eq!(installer(host, &["libnetwork", "check", "--live"]).0, 0);
            return;
        }
        said = answer;
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("libnetwork on {} is not ready: {said}\n{}", host.name(), journal(host));
}

fn journal(host: &Host<'_>) -> String {
    run(host, &["journalctl", "--no-pager", "-u", "libnetwork.service"])
}

/// The process of `libnetwork run`.
fn supervisor(host: &Host<'_>) -> String {
    run(host, &["systemctl", "show", "--value", "-p", "MainPID", "libnetwork.service"])
}

fn container(host: &Host<'_>, name: &str, format: &str) -> String {
    run(host, &["docker", "inspect", "--format", format, name])
}

/// Starts a container that does nothing, and does not listen to SIGTERM, with the host's own programs in it.
fn start_container(cluster: &Cluster, host: &Host<'_>, name: &str) -> String {
    let image = cluster.node_image();
    let docker = ["docker", "run", "-d", "--name", name, "--net=calico", "--restart=always"];
    let folders = ["-v=/usr:/usr:ro", "-v=/usr/lib:/lib:ro", "-v=/usr/lib64:/lib64:ro"];
    let program = ["--entrypoint=/usr/bin/sleep", &*image, "infinity"];
    run(host, &[&docker[..], &folders, &program].concat());
    address(host, name)
}

fn address(host: &Host<'_>, name: &str) -> String {
    let address = container(host, name, "{{.NetworkSettings.Networks.calico.IPAddress}}");
    assert!(address.starts_with("192.168."), "{name} has {address:?}");
    address
}

fn reaches(host: &Host<'_>, name: &str, address: &str) {
    run(host, &["docker", "exec", name, "/usr/bin/ping", "-c1", "-W5", address]);
}

/// A Mesos task on the network that reaches `addresses`, and then stays.
fn task(probe: &Probe, host: &Host<'_>, addresses: &[&str]) -> (ProbeHandle, String) {
    let command =
        format!("for ip in {}; do ping -c1 -W5 $ip || exit 1; done; sleep 1000", addresses.join(" "));
    let (hostname, network) = (host.address().to_string(), Some("calico".to_owned()));
    let task = probe.launch(ProbeTask { hostname, network, command, ..ProbeTask::default() });
    let own = task.wait_running(LIMIT).unwrap()[0].to_string();
    let reached = |output: String| (output.matches("1 received").count() == addresses.len()).then_some(());
    wait("the task to reach the containers", LIMIT, || reached(task.stdout().ok()?));
    (task, own)
}

#[test]
fn docker_containers_get_addresses_and_come_back_when_docker_restarts() {
    let (_lock, cluster) = up("e2e-libnet");
    let hosts = cluster.hosts().unwrap();
    let (first, second) = (&hosts[0], &hosts[1]);
    for host in [first, second] {
        prepare(&cluster, host);
    }
    // Before calico-node is there, libnetwork says what it waits for.
    let image = format!("--libnetwork-image={}", cluster.libnetwork_image());
    let endpoints = format!("--etcd-endpoints={}", cluster.etcd_endpoint());
    let flags = [&*image, &endpoints, "--libnetwork-cpus=0.1", "--libnetwork-mem=128"];
    let early = installer(first, &[&["libnetwork", "run"], &flags[..]].concat());
    assert!(early.0 == 69 && early.1.contains("calico-node has not run"), "{early:?}");
    let network = ["docker-network", "apply", NETWORK, POOL];
    let early = installer(first, &network);
    assert!(early.0 == 69 && early.1.contains("libnetwork"), "{early:?}");

    let scheduler = product::install(&cluster, &json!({})).unwrap();
    deployed(&scheduler, 3);
    let other_name = installer(first, &[&["libnetwork", "run", "--node-name=other"], &flags[..]].concat());
    assert!(other_name.0 == 78 && other_name.1.contains("--node-name"), "{other_name:?}");
    for host in [first, second] {
        let image = format!("--image={}", cluster.libnetwork_image());
        assert_eq!(installer(host, &["prefetch", &image]).0, 0);
        start_libnetwork(&cluster, host);
    }
    [first, second].into_iter().for_each(ready);
    limits(first);
    one_network(first, second);

    // To and from Docker containers and Mesos tasks, on one host and across.
    let (here, there) =
        (start_container(&cluster, first, "here"), start_container(&cluster, second, "there"));
    assert_ne!(here, there);
    reaches(first, "here", &there);
    let probe = Probe::connect(&cluster.master_urls()[0]).unwrap();
    let (_task, own) = task(&probe, second, &[&here, &there]);
    reaches(first, "here", &own);
    reaches(second, "there", &own);

    docker_restarts(&cluster, first, &own);
    reaches(second, "there", &address(first, "here"));
    deployed(&scheduler, 3);
    supervisor_restarts(&cluster, first);
    reaches(first, "here", &there);

    undone(first, second);
    stopped_and_strange(&cluster, first);
}

/// The container's limits are the task's.
fn limits(host: &Host<'_>) {
    let limits = container(
        host,
        "calico-libnetwork",
        "{{.HostConfig.Memory}} {{.HostConfig.CpuShares}} {{index .Config.Labels \"calico-dcos.task\"}}",
    );
    assert_eq!(limits, format!("{} 102 libnetwork", 128 << 20));
}

/// Both hosts make it at the same moment; one is left, and it is the same for both.
fn one_network(first: &Host<'_>, second: &Host<'_>) {
    let check = ["docker-network", "check", NETWORK, POOL];
    let missing = installer(first, &check);
    assert!(missing.0 == 1 && missing.1.contains("it is missing"), "{missing:?}");
    std::thread::scope(|scope| {
        let both = [first, second]
            .map(|host| scope.spawn(|| installer(host, &["docker-network", "apply", NETWORK, POOL])));
        for (code, said) in both.map(|host| host.join().unwrap()) {
            assert_eq!(code, 0, "{said}");
        }
    });
    let listed = ["docker", "network", "ls", "--quiet", "--filter=name=calico"];
    let ids = [first, second].map(|host| run(host, &listed));
    assert!(ids[0] == ids[1] && ids[0].lines().count() == 1, "{ids:?}");
    let again = installer(second, &["docker-network", "apply", NETWORK, POOL]);
    assert!(again.0 == 0 && again.1.contains("nothing to do"), "{again:?}");
    assert_eq!(installer(first, &check).0, 0);
    let different = ["docker-network", "apply", NETWORK, "--network-pool-cidr=10.0.0.0/8"];
    let different = installer(first, &different);
    assert!(different.0 == 78 && different.1.contains("192.168.0.0/16"), "{different:?}");
    let no_pool = ["docker-network", "apply", "--network-name=other", "--network-pool-cidr=10.0.0.0/8"];
    let no_pool = installer(first, &no_pool);
    assert!(no_pool.0 == 75 && no_pool.1.contains("must be the CIDR of"), "{no_pool:?}");
}

/// dockerd is restarted under both services: no task ends, and containers come back, on the network too.
fn docker_restarts(cluster: &Cluster, host: &Host<'_>, other: &str) {
    let running = || {
        let mut tasks: Vec<_> = framework(cluster).tasks.into_iter().map(|it| (it.id, it.state)).collect();
        tasks.sort_unstable();
        tasks
    };
    let (before, pid) = (running(), supervisor(host));
    let started = Instant::now();
    // With its socket: else whoever asks has systemd start it again.
    run(host, &["systemctl", "stop", "docker.socket", "docker.service"]);
    let stopped = started.elapsed();
    assert_eq!(installer(host, &["libnetwork", "check", "--live"]).0, 0, "it is waited for");
    assert_eq!(installer(host, &["libnetwork", "check", "--ready"]).0, 1);
    run(host, &["systemctl", "start", "docker.service"]);
    let answers = started.elapsed();
    wait("the container to be back", LIMIT, || {
        let ping = ["docker", "exec", "here", "/usr/bin/ping", "-c1", "-W5", other];
        host.exec(&ping).unwrap().status.success().then_some(())
    });
    let back = started.elapsed();
    ready(host);
    let felix = || installer(host, &["node", "check", "--ready"]).0 == 0;
    wait("calico-node to be ready", LIMIT, || felix().then_some(()));
    eprintln!(
        "dockerd stopped in {stopped:?}, answered after {answers:?}, a container on the network was back after \
         {back:?}, both services were ready after {:?}",
        started.elapsed()
    );
    assert_eq!(supervisor(host), pid, "the supervisor ended: {}", journal(host));
    assert_eq!(running(), before, "a task ended or was launched");
    assert!(journal(host).contains("runs already with this configuration"), "{}", journal(host));
}

/// Its container goes on under the next one.
fn supervisor_restarts(cluster: &Cluster, host: &Host<'_>) {
    let id = container(host, "calico-libnetwork", "{{.Id}} {{.State.StartedAt}}");
    run(host, &["kill", "-9", &supervisor(host)]);
    wait("the unit to end", LIMIT, || {
        let state = host.exec(&["systemctl", "is-active", "libnetwork.service"]).unwrap();
        (!state.status.success()).then_some(())
    });
    run(host, &["systemctl", "reset-failed", "libnetwork.service"]);
    start_libnetwork(cluster, host);
    let adopted = || journal(host).matches("runs already with this configuration").count() >= 2;
    wait("the container to be adopted", LIMIT, || adopted().then_some(()));
    assert_eq!(container(host, "calico-libnetwork", "{{.Id}} {{.State.StartedAt}}"), id);
}

/// The network is removed when nobody uses it.
fn undone(first: &Host<'_>, second: &Host<'_>) {
    let undo = ["docker-network", "undo", NETWORK];
    let used = installer(first, &undo);
    assert_eq!(used.0, 75, "{used:?}");
    for name in ["here", "there"] {
        assert!(used.1.contains(name), "{used:?}");
    }
    run(first, &["docker", "rm", "-f", "here"]);
    let used = installer(first, &undo);
    assert!(used.0 == 75 && used.1.contains("there"), "containers of other hosts count: {used:?}");
    run(second, &["docker", "rm", "-f", "there"]);
    let gone = installer(first, &undo);
    assert!(gone.0 == 0 && gone.1.contains("removed Docker's network"), "{gone:?}");
    let again = installer(second, &undo);
    assert!(again.0 == 0 && again.1.contains("nothing to take back"), "{again:?}");
}

/// SIGTERM ends the container, and leaves no socket that dockerd would try; a stranger's container is not touched.
fn stopped_and_strange(cluster: &Cluster, host: &Host<'_>) {
    run(host, &["systemctl", "stop", "libnetwork.service"]);
    assert_eq!(run(host, &["docker", "ps", "-aq", "--filter=name=calico-libnetwork"]), "");
    assert_eq!(run(host, &["ls", "/run/docker/plugins"]), "");
    let image = cluster.libnetwork_image();
    run(host, &["docker", "create", "--name=calico-libnetwork", &image]);
    let image = format!("--libnetwork-image={image}");
    let endpoints = format!("--etcd-endpoints={}", cluster.etcd_endpoint());
    let flags = [&*image, &endpoints, "--libnetwork-cpus=0.1", "--libnetwork-mem=128"];
    let refused = installer(host, &[&["libnetwork", "run"], &flags[..]].concat());
    assert!(refused.0 == 78 && refused.1.contains("not ours"), "{refused:?}");
    assert_ne!(run(host, &["docker", "ps", "-aq", "--filter=name=calico-libnetwork"]), "");
}
