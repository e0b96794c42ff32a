//! The local cluster itself, on this machine: what it offers, and that nothing of it is ever left behind.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod machine;

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cluster::{Cluster, Host, HostKind, Lock, Progress, Signal, Spec, get_json, test_lock};
use machine::Snapshot;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cluster");

/// Holds the machine for one test, without what an earlier, killed run of it left.
fn machine_for(names: &[&str]) -> (Lock, Snapshot) {
    let lock = test_lock().unwrap();
    for name in names {
        Cluster::remove(name).unwrap();
    }
    (lock, Snapshot::take(names))
}

fn assert_nothing_is_left(names: &[&str], before: &Snapshot) {
    // A network namespace that nobody uses any more takes the kernel a moment.
    let started = Instant::now();
    let mut left = Snapshot::take(names).since(before);
    while !left.is_empty() && started.elapsed() < Duration::from_secs(3) {
        thread::sleep(Duration::from_millis(100));
        left = Snapshot::take(names).since(before);
    }
    assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
}

fn up(name: &str, agents: u8) -> Cluster {
    Cluster::up(&Spec { name: name.to_owned(), agents, ..Spec::default() }, &Progress::stderr()).unwrap()
}

fn agents_of(cluster: &Cluster) -> Vec<serde_json::Value> {
    let slaves = get_json(&format!("{}/slaves", cluster.master_urls()[0])).unwrap();
    slaves["slaves"].as_array().unwrap().clone()
}

fn text(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn hosts_run_commands_keep_their_agent_over_power_cycles_and_are_joined_by_others() {
    let name = "t-cluster-use";
    let (_lock, before) = machine_for(&[name]);
    let cluster = up(name, 2);
    let hosts = cluster.hosts().unwrap();
    assert_eq!(hosts.iter().map(Host::kind).collect::<Vec<_>>(), [HostKind::DcOs, HostKind::Public]);

    let first = cluster.host("host1").unwrap();
    assert_eq!(text(&first.exec(&["hostname"]).unwrap()), "t-cluster-use-host1");
    assert_eq!(first.exec(&["sh", "-c", "exit 7"]).unwrap().status.code(), Some(7));
    assert_eq!(
        text(&first.exec(&["systemctl", "is-active", first.agent_unit(), "docker"]).unwrap()),
        "active\nactive"
    );
    assert!(
        text(&first.exec(&["ping", "-c1", "-W2", &hosts[1].address().to_string()]).unwrap())
            .contains("1 received")
    );

    let public =
        agents_of(&cluster).into_iter().find(|agent| agent["attributes"]["public_ip"] == "true").unwrap();
    assert_eq!(public["hostname"], hosts[1].address().to_string());
    assert!(public["reserved_resources"]["slave_public"]["cpus"].as_f64().unwrap() > 0.0);

    let id = first.agent_id().unwrap();
    first.power_off().unwrap();
    assert!(first.exec(&["true"]).unwrap_err().to_string().contains("powered off"));
    assert!(!first.is_on().unwrap());
    first.power_on().unwrap();
    assert_eq!(first.agent_id().unwrap(), id, "an orderly power cycle keeps the agent's ID");
    first.unplug().unwrap();
    first.power_on().unwrap();
    assert_eq!(first.agent_id().unwrap(), id, "a power failure keeps the agent's ID");

    let added = cluster.add_host().unwrap();
    assert_eq!(added.name(), "t-cluster-use-host3");
    assert_eq!(agents_of(&cluster).len(), 3);

    cluster.down().unwrap();
    assert_nothing_is_left(&[name], &before);
}

#[test]
fn processes_and_artifacts_are_served_in_the_clusters_network() {
    let name = "t-cluster-serve";
    let (_lock, before) = machine_for(&[name]);
    let cluster = up(name, 1);
    let host = cluster.host("1").unwrap();

    cluster.set_artifact("etcd", b"not a program").unwrap();
    let artifact = cluster.artifact("etcd").unwrap();
    let (url, hash) = artifact.split_once("#sha256=").unwrap();
    let served = text(&host.exec(&["sh", "-c", &format!("curl -sf {url} | sha256sum")]).unwrap());
    assert_eq!(served.split_whitespace().next(), Some(hash));
    let error = cluster.artifact("nothing").unwrap_err().to_string();
    assert!(error.contains("'nothing'") && error.contains("etcd"), "{error}");
    let outside =
        format!("curl -s -o /dev/null -w '%{{http_code}}' http://{}/..%2fcluster.json", cluster.registry());
    assert_eq!(text(&host.exec(&["sh", "-c", &outside]).unwrap()), "404", "only the artifacts are served");

    let mut program = Command::new("sh");
    program.args(["-c", "echo $GREETING; ip -o -4 address; exec sleep 1000"]).env("GREETING", "good morning");
    let process = cluster.spawn("sleeper", &program).unwrap();
    assert!(cluster.spawn("sleeper", &program).is_err(), "one process has the name");
    let started = Instant::now();
    while !process.log().unwrap().contains("10.87.") && started.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_millis(20));
    }
    let log = process.log().unwrap();
    assert!(log.contains("good morning") && log.contains(&cluster.services_address().to_string()), "{log}");
    process.signal(Signal::TERM).unwrap();
    process.wait_gone(Duration::from_secs(5)).unwrap();

    let mut child = cluster.command(Command::new("sh").args(["-c", "exit 4"])).unwrap();
    assert_eq!(child.status().unwrap().code(), Some(4));

    drop(cluster);
    assert_nothing_is_left(&[name], &before);
}

#[test]
fn the_images_of_calico_are_pulled_and_run() {
    let name = "t-cluster-image";
    let (_lock, before) = machine_for(&[name]);
    cluster::programs::find("calico-node").unwrap();
    let cluster = up(name, 1);
    let host = cluster.host("1").unwrap();
    for image in [cluster.node_image(), cluster.libnetwork_image()] {
        text(&host.exec(&["docker", "pull", "--quiet", &image]).unwrap());
        let create =
            ["docker", "create", "--privileged", "--memory=64m", "--network=host", &image, "--version"];
        let id = text(&host.exec(&create).unwrap());
        let run = host.exec(&["docker", "start", "--attach", &id]).unwrap();
        assert!(!String::from_utf8_lossy(&run.stderr).contains("OCI runtime"), "{run:?}");
        let status = text(&host.exec(&["docker", "inspect", "--format={{.State.Status}}", &id]).unwrap());
        assert_eq!(status, "exited", "the program was started and came to its end");
    }
    cluster.down().unwrap();
    assert_nothing_is_left(&[name], &before);
}

#[test]
fn two_clusters_live_side_by_side() {
    let names = ["t-cluster-a", "t-cluster-b"];
    let (_lock, before) = machine_for(&names);
    let (first, second) = (up(names[0], 1), up(names[1], 1));
    assert_ne!(first.services_address(), second.services_address());
    assert_eq!((agents_of(&first).len(), agents_of(&second).len()), (1, 1));
    let other = second.host("1").unwrap().address().to_string();
    let ping = first.host("1").unwrap().exec(&["ping", "-c1", "-W1", &other]).unwrap();
    assert!(!ping.status.success(), "there is no way from one to the other");
    let error =
        Cluster::up(&Spec { name: names[1].to_owned(), ..Spec::default() }, &Progress::silent()).unwrap_err();
    assert!(error.to_string().contains("already up"), "{error}");
    first.down().unwrap();
    assert_eq!(text(&second.host("1").unwrap().exec(&["hostname"]).unwrap()), "t-cluster-b-host1");
    second.down().unwrap();
    assert_nothing_is_left(&names, &before);
}

#[test]
fn three_masters_elect_another_leader() {
    let name = "t-cluster-zk";
    let (_lock, before) = machine_for(&[name]);
    let spec = Spec { name: name.to_owned(), agents: 1, masters: 3, ..Spec::default() };
    let cluster = Cluster::up(&spec, &Progress::stderr()).unwrap();
    assert!(cluster.mesos_master().starts_with("zk://"));
    let leads = |url: &String| {
        let metrics = get_json(&format!("{url}/metrics/snapshot")).unwrap_or_default();
        metrics["master/elected"].as_f64() == Some(1.0)
    };
    let who_leads = |what: &str| {
        let started = Instant::now();
        loop {
            if let Some(leader) = cluster.master_urls().iter().position(leads) {
                return leader;
            }
            assert!(started.elapsed() < Duration::from_secs(40), "{what}");
            thread::sleep(Duration::from_millis(200));
        }
    };
    // A master answers some moments late while the machine is busy: it is asked again.
    let process = format!("master-{}", who_leads("no master leads") + 1);
    cluster.process(&process).unwrap().kill().unwrap();
    who_leads("no other master leads");
    cluster.start_service(&process).unwrap();
    assert!(cluster.process(&process).unwrap().is_running());
    cluster.down().unwrap();
    assert_nothing_is_left(&[name], &before);
}

#[test]
fn down_removes_all_after_everything_was_killed() {
    let name = "t-cluster-killed";
    let (_lock, before) = machine_for(&[name]);
    let mut cluster = up(name, 2);
    cluster.keep().unwrap();
    let host = cluster.host("1").unwrap();
    // A task's leftovers: a network namespace and a mount inside the host, and a process that ignores signals.
    text(&host.exec(&["sh", "-c", "ip netns add task; mkdir /mnt/x; mount -t tmpfs x /mnt/x"]).unwrap());
    text(&host.exec(&["sh", "-c", "(trap '' TERM HUP; exec setsid sleep 1000) >/dev/null 2>&1 &"]).unwrap());
    let state: serde_json::Value =
        serde_json::from_slice(&fs::read(cluster.run_dir().join("cluster.json")).unwrap()).unwrap();
    for process in cluster.processes().unwrap() {
        cluster.process(&process).unwrap().kill().unwrap();
    }
    for host in state["hosts"].as_array().unwrap() {
        let pid = host["supervisor"]["pid"].to_string();
        assert!(Command::new("sh").args(["-c", "kill -9 $0", &pid]).status().unwrap().success());
    }
    drop(cluster);
    Cluster::remove(name).unwrap();
    assert_nothing_is_left(&[name], &before);
    Cluster::remove(name).unwrap();
}

/// A name, and whether what is written down says that it has come.
type Moment = (&'static str, fn(&serde_json::Value) -> bool);

#[test]
fn down_removes_all_after_up_was_killed_at_any_moment() {
    let name = "t-cluster-up";
    let (_lock, before) = machine_for(&[name]);
    // Each of them as soon as it is written down, which is before it is done.
    let moments: [Moment; 5] = [
        ("there is a record", |_| true),
        ("hosts are known", |state| state["hosts"][0].is_object()),
        ("etcd is started", |state| state["processes"]["etcd"].is_object()),
        ("a host boots", |state| state["hosts"][0]["supervisor"].is_object()),
        ("a master is started and all hosts boot", |state| {
            let booting = state["hosts"]
                .as_array()
                .is_some_and(|hosts| hosts.iter().all(|host| host["supervisor"].is_object()));
            booting && state["processes"]["master-1"].is_object()
        }),
    ];
    for (moment, reached) in moments {
        let arguments = ["--name", name, "up", "--agents", "2"];
        let mut child = Command::new(PROGRAM).args(arguments).stderr(Stdio::null()).spawn().unwrap();
        wait_until_up_says(name, moment, reached);
        child.kill().unwrap();
        child.wait().unwrap();
        let down = Command::new(PROGRAM).args(["--name", name, "down"]).output().unwrap();
        assert!(down.status.success(), "killed when {moment}: {down:?}");
        assert_nothing_is_left(&[name], &before);
    }
}

/// Waits until what an `up` has written down is as wanted.
fn wait_until_up_says(name: &str, moment: &str, reached: impl Fn(&serde_json::Value) -> bool) {
    let started = Instant::now();
    let record = || {
        let text = fs::read_to_string(format!("/run/calico-dcos/{name}/cluster.json")).ok()?;
        serde_json::from_str::<serde_json::Value>(&text).ok()
    };
    while !record().is_some_and(|record| reached(&record)) {
        assert!(started.elapsed() < Duration::from_mins(1), "not within a minute: {moment}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_a_killed_up_left_is_replaced_and_a_killed_down_is_repeated() {
    let name = "t-cluster-again";
    let (_lock, before) = machine_for(&[name]);
    let arguments = ["--name", name, "up", "--agents", "1"];
    let mut child = Command::new(PROGRAM).args(arguments).stderr(Stdio::null()).spawn().unwrap();
    wait_until_up_says(name, "a host boots", |state| state["hosts"][0]["supervisor"].is_object());
    child.kill().unwrap();
    child.wait().unwrap();
    let mut cluster = up(name, 1);
    cluster.keep().unwrap();
    drop(cluster);
    for milliseconds in [5, 30, 100] {
        let mut down =
            Command::new(PROGRAM).args(["--name", name, "down"]).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(milliseconds));
        down.kill().unwrap();
        down.wait().unwrap();
    }
    Cluster::remove(name).unwrap();
    assert_nothing_is_left(&[name], &before);
}

#[test]
fn what_is_missing_is_told_at_once_and_nothing_is_changed() {
    let name = "t-cluster-poor";
    let (_lock, before) = machine_for(&[name]);
    let output =
        Command::new(PROGRAM).args(["--name", name, "up"]).env("PATH", "/nonexistent").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let told = String::from_utf8_lossy(&output.stderr);
    for program in ["systemd-nspawn", "nsenter", "'ip'"] {
        assert!(told.contains(program), "{told}");
    }
    assert_nothing_is_left(&[name], &before);
}
