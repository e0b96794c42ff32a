//! Docker's containers on the network, and what becomes of them and of both services when dockerd, the plugin or its
//! supervisor ends: stories of the install in `docker.rs`.

use std::process::Output;
use std::time::{Duration, Instant};

use cluster::marathon::Scheduler;
use cluster::probe::{Probe, ProbeHandle, ProbeTask};
use cluster::{Cluster, Host};

use crate::history::framework;
use crate::survival::property;
use crate::{deployed, wait};

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
    panic!("libnetwork on {} is not ready: {said}", host.name());
}

/// The process of the task `libnetwork`.
fn supervisor(host: &Host<'_>) -> String {
    let exact = ["pgrep", "-xf", r"\./calico-installer libnetwork run .*"];
    wait("the supervisor's process", LIMIT, || {
        let found = String::from_utf8(host.exec(&exact).unwrap().stdout).unwrap().trim().to_owned();
        (!found.is_empty() && !found.contains(char::is_whitespace)).then_some(found)
    })
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

/// On an install with everything in it, whose network nobody uses; `/opt/calico-installer` is there.
pub(crate) fn containers_go_through_what_happens_to_docker(cluster: &Cluster, scheduler: &Scheduler<'_>) {
    let hosts = cluster.hosts().unwrap();
    let (first, second) = (&hosts[0], &hosts[1]);
    let image = format!("--libnetwork-image={}", cluster.libnetwork_image());
    assert_eq!(installer(first, &["prefetch", &image.replace("--libnetwork-image", "--image")]).0, 0);
    assert_eq!(run_by_hand(cluster, first, &["--node-name=other"]).0, 78, "calico-node has another name");
    limits(first);
    let removed = installer(first, &["docker-network", "undo", NETWORK]);
    assert!(removed.0 == 0 && removed.1.contains("removed Docker's network"), "{removed:?}");
    one_network(first, second);

    // To and from Docker containers and Mesos tasks, on one host and across.
    let (here, there) = (start_container(cluster, first, "here"), start_container(cluster, second, "there"));
    assert_ne!(here, there);
    reaches(first, "here", &there);
    let probe = Probe::connect(&cluster.master_urls()[0]).unwrap();
    let (task, own) = task(&probe, second, &[&here, &there]);
    reaches(first, "here", &own);
    reaches(second, "there", &own);

    docker_restarts(cluster, first, &own);
    reaches(second, "there", &address(first, "here"));
    deployed(scheduler, hosts.len());
    docker_is_killed(cluster, first, Some("here"));
    reaches(first, "here", &there);
    its_supervisor_is_killed(cluster, scheduler, first);
    reaches(first, "here", &there);

    drop((task, probe));
    undone(first, second);
    docker_is_killed(cluster, first, None);
    the_plugin_ends(cluster, scheduler, first);
}

/// `libnetwork run`, which is to end by itself.
fn run_by_hand(cluster: &Cluster, host: &Host<'_>, more: &[&str]) -> (i32, String) {
    let image = format!("--libnetwork-image={}", cluster.libnetwork_image());
    let endpoints = format!("--etcd-endpoints={}", cluster.etcd_endpoint());
    let flags = ["libnetwork", "run", &image, &endpoints, "--libnetwork-cpus=0.1", "--libnetwork-mem=128"];
    installer(host, &[&flags[..], more].concat())
}

/// The containers' limits are the tasks'.
fn limits(host: &Host<'_>) {
    let node = container(host, "calico-node", "{{.HostConfig.Memory}} {{.HostConfig.CpuShares}}");
    assert_eq!(node, format!("{} 205", 256 << 20), "calico-node.cpus and calico-node.mem");
    let limits = container(
        host,
        "calico-libnetwork",
        "{{.HostConfig.Memory}} {{.HostConfig.CpuShares}} {{index .Config.Labels \"calico-dcos.task\"}}",
    );
    assert_eq!(limits, format!("{} 102 libnetwork", 128 << 20));
    let policy = container(host, "calico-libnetwork", "{{.HostConfig.RestartPolicy.Name}} {{.RestartCount}}");
    assert_eq!(policy, "unless-stopped 0");
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

/// The framework's tasks that run, and what they are.
fn tasks(cluster: &Cluster) -> Vec<(String, String)> {
    let framework = framework(cluster);
    let mut tasks: Vec<_> = framework.doing().map(|it| (it.id.clone(), it.state.clone())).collect();
    tasks.sort_unstable();
    tasks
}

fn both_ready(host: &Host<'_>) {
    ready(host);
    let felix = || installer(host, &["node", "check", "--ready"]).0 == 0;
    wait("calico-node to be ready", LIMIT, || felix().then_some(()));
}

/// dockerd is restarted under both services: no task ends, and containers come back, on the network too.
fn docker_restarts(cluster: &Cluster, host: &Host<'_>, other: &str) {
    let (before, pid) = (tasks(cluster), supervisor(host));
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
    both_ready(host);
    eprintln!(
        "dockerd stopped in {stopped:?}, answered after {answers:?}, a container on the network was back after \
         {back:?}, both services were ready after {:?}",
        started.elapsed()
    );
    assert_eq!((supervisor(host), tasks(cluster)), (pid, before), "a task ended or was launched");
}

/// dockerd is killed, and started again by systemd: no task ends. With `live-restore` no container notices, of which one
/// is on the network; without it both services are up again.
fn docker_is_killed(cluster: &Cluster, host: &Host<'_>, lives: Option<&str>) {
    let (before, pid) = (tasks(cluster), supervisor(host));
    let edit = |script: &str| {
        run(host, &["sed", "-i", script, "/etc/docker/daemon.json"]);
        run(host, &["systemctl", "reload", "docker.service"]);
    };
    let live_restore = || run(host, &["docker", "info", "--format", "{{.LiveRestoreEnabled}}"]);
    if lives.is_some() {
        edit("1s/^{/{\"live-restore\":true,/");
        wait("live-restore", LIMIT, || (live_restore() == "true").then_some(()));
    }
    let all: Vec<_> = lives.into_iter().chain(["calico-node", "calico-libnetwork"]).collect();
    let started = || all.iter().map(|name| container(host, name, "{{.State.StartedAt}}")).collect::<Vec<_>>();
    let since = started();
    let dockerd = || property(host, "docker.service", "MainPID");
    let killed = dockerd();
    // systemd gives a service up that is started too often within a minute, whoever asked for it.
    run(host, &["systemctl", "reset-failed", "docker.service"]);
    run(host, &["kill", "-9", &killed]);
    wait("another dockerd", LIMIT, || {
        let now = dockerd();
        (now != "0" && now != killed && host.exec(&["docker", "ps"]).unwrap().status.success()).then_some(())
    });
    both_ready(host);
    if lives.is_some() {
        assert_eq!(started(), since, "containers noticed it");
        // Without a word on it, Docker would leave it as it is.
        edit("1s/\"live-restore\":true,/\"live-restore\":false,/");
        wait("no live-restore", LIMIT, || (live_restore() == "false").then_some(()));
        edit("1s/\"live-restore\":false,//");
    } else {
        assert!(started().iter().zip(&since).all(|(now, before)| now != before), "they were started again");
    }
    assert_eq!((supervisor(host), tasks(cluster)), (pid, before), "a task ended or was launched");
}

/// Its task is launched again, and its container goes on under the next one.
fn its_supervisor_is_killed(cluster: &Cluster, scheduler: &Scheduler<'_>, host: &Host<'_>) {
    let look = || container(host, "calico-libnetwork", "{{.Id}} {{.State.StartedAt}}");
    let (before, pid) = (look(), supervisor(host));
    run(host, &["kill", "-9", &pid]);
    wait("another supervisor", LIMIT, || (supervisor(host) != pid).then_some(()));
    deployed(scheduler, cluster.hosts().unwrap().len());
    assert_eq!(look(), before);
}

/// It ends by itself: that is its task's end, and dockerd does not start it again besides.
fn the_plugin_ends(cluster: &Cluster, scheduler: &Scheduler<'_>, host: &Host<'_>) {
    let (before, pid) = (container(host, "calico-libnetwork", "{{.Id}}"), supervisor(host));
    run(host, &["kill", "-9", &container(host, "calico-libnetwork", "{{.State.Pid}}")]);
    wait("another supervisor", LIMIT, || (supervisor(host) != pid).then_some(()));
    deployed(scheduler, cluster.hosts().unwrap().len());
    assert_ne!(container(host, "calico-libnetwork", "{{.Id}}"), before);
    assert_eq!(container(host, "calico-libnetwork", "{{.RestartCount}}"), "0");
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

/// With our tasks gone, on a host where something else has the container's name: that is refused, and left alone.
pub(crate) fn a_stranger_has_the_name(cluster: &Cluster, host: &Host<'_>) -> String {
    run(host, &["docker", "create", "--name=calico-libnetwork", &cluster.libnetwork_image()]);
    let refused = run_by_hand(cluster, host, &[]);
    assert!(refused.0 == 78 && refused.1.contains("not ours"), "{refused:?}");
    container(host, "calico-libnetwork", "{{.Id}}")
}
