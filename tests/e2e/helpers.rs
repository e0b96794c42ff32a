//! The two helper programs of the agent, and the probe, on a real Mesos.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::thread::sleep;
use std::time::{Duration, Instant};

use cluster::probe::{Probe, ProbeHandle, ProbeTask};
use cluster::{Cluster, Host, HostKind, Progress, Spec, test_lock};
use mesos_v1::{
    CheckInfo, CommandInfo, HealthCheck, TaskState, check_info, command_info::Uri, health_check,
    task_status::Reason,
};

/// Generous: the machine may be busy.
const LIMIT: Duration = Duration::from_secs(30);

fn task(host: &Host, command: &str) -> ProbeTask {
    ProbeTask { hostname: host.address().to_string(), command: command.to_owned(), ..ProbeTask::default() }
}

fn ended(handle: &ProbeHandle) -> (TaskState, String) {
    let finished = handle.wait_finished(LIMIT).unwrap();
    (finished.state, finished.message)
}

fn shell(script: &str) -> CommandInfo {
    CommandInfo { value: Some(script.to_owned()), ..CommandInfo::default() }
}

/// Waits until the task's last status satisfies `test`.
fn wait_status(handle: &ProbeHandle, what: &str, test: impl Fn(&mesos_v1::TaskStatus) -> bool) {
    let started = Instant::now();
    while !handle.status().is_some_and(|status| test(&status)) {
        assert!(started.elapsed() < LIMIT, "not {what}: {:?}", handle.status());
        sleep(Duration::from_millis(50));
    }
}

/// Lines that the task writes, one every tenth of a second.
const COUNTER: &str = "i=0; while sleep 0.1; do i=$((i + 1)); echo $i; done";

#[test]
fn tasks_run_end_are_checked_and_outlive_their_agent_on_real_hosts() {
    let name = "t-helpers";
    let _lock = test_lock().unwrap();
    Cluster::remove(name).unwrap();
    let spec = Spec { name: name.to_owned(), agents: 2, ..Spec::default() };
    let cluster = Cluster::up(&spec, &Progress::stderr()).unwrap();
    let probe = Probe::connect(&cluster.master_urls()[0]).unwrap();
    let hosts = cluster.hosts().unwrap();
    assert_eq!(hosts.iter().map(Host::kind).collect::<Vec<_>>(), [HostKind::DcOs, HostKind::Public]);

    for host in &hosts {
        runs_to_its_end(&probe, host);
        is_killed(&probe, host);
    }
    outlives_its_agent(&probe, &hosts[0]);
    outlives_its_agent(&probe, &hosts[1]);
    is_checked(&probe, &hosts[0]);
    fetches(&probe, &hosts[0], &cluster);
    has_its_own_address(&probe, &hosts[0]);

    drop(probe);
    cluster.down().unwrap();
}

fn runs_to_its_end(probe: &Probe, host: &Host) {
    let good = probe.launch(task(host, "echo hello; sleep 0.5"));
    good.wait_running(LIMIT).unwrap();
    assert_eq!(ended(&good), (TaskState::TaskFinished, "Command exited with status 0".to_owned()));
    assert_eq!(good.stdout().unwrap(), "hello\n");
    let bad = probe.launch(task(host, "exit 3"));
    assert_eq!(ended(&bad), (TaskState::TaskFailed, "Command exited with status 3".to_owned()));
}

fn is_killed(probe: &Probe, host: &Host) {
    let handle = probe.launch(task(host, "trap '' TERM; echo ready; while :; do sleep 1; done"));
    handle.wait_running(LIMIT).unwrap();
    let started = Instant::now();
    while handle.stdout().unwrap() != "ready\n" {
        assert!(started.elapsed() < LIMIT, "the task does not write");
        sleep(Duration::from_millis(50));
    }
    handle.kill(Some(Duration::from_secs(1)));
    let killed = (TaskState::TaskKilled, "Command terminated with signal Killed".to_owned());
    assert_eq!(ended(&handle), killed);
}

/// The task goes on counting while the agent restarts, and can be killed by the new one.
fn outlives_its_agent(probe: &Probe, host: &Host) {
    let handle = probe.launch(task(host, COUNTER));
    handle.wait_running(LIMIT).unwrap();
    let agent = host.agent_id().unwrap();
    assert!(host.exec(&["systemctl", "restart", host.agent_unit()]).unwrap().status.success());
    // An agent whose executor is lost says so when it has registered again, which is what `stdout` waits for.
    let count = || handle.stdout().ok().and_then(|text| text.lines().last()?.parse::<u32>().ok());
    let started = Instant::now();
    let target = loop {
        assert!(started.elapsed() < LIMIT, "the agent does not come back");
        if let (Ok(id), Some(count)) = (host.agent_id(), count()) {
            assert_eq!(id, agent);
            break count + 50;
        }
        sleep(Duration::from_millis(50));
    };
    while count().is_none_or(|count| count < target) {
        assert!(started.elapsed() < LIMIT, "the task no longer counts");
        sleep(Duration::from_millis(50));
    }
    let status = handle.status().unwrap();
    assert_eq!(status.state(), TaskState::TaskRunning, "{status:?}");
    handle.kill(None);
    let killed = (TaskState::TaskKilled, "Command terminated with signal Terminated".to_owned());
    assert_eq!(ended(&handle), killed);
}

fn is_checked(probe: &Probe, host: &Host) {
    let sick = probe.launch(ProbeTask {
        health_check: Some(HealthCheck {
            r#type: Some(health_check::Type::Command.into()),
            command: Some(shell("test ! -e ill")),
            delay_seconds: Some(0.0),
            interval_seconds: Some(0.1),
            grace_period_seconds: Some(0.0),
            consecutive_failures: Some(2),
            ..HealthCheck::default()
        }),
        ..task(host, "sleep 1; touch ill; sleep 60")
    });
    wait_status(&sick, "healthy", |status| status.healthy == Some(true));
    assert_eq!(ended(&sick).0, TaskState::TaskKilled);
    assert_eq!(sick.status().unwrap().healthy, Some(false));

    let unready = probe.launch(ProbeTask {
        check: Some(CheckInfo {
            r#type: Some(check_info::Type::Command.into()),
            command: Some(check_info::Command { command: shell("exit 4") }),
            delay_seconds: Some(0.0),
            interval_seconds: Some(0.1),
            ..CheckInfo::default()
        }),
        ..task(host, "sleep 60")
    });
    wait_status(&unready, "checked", |status| {
        status.reason() == Reason::TaskCheckStatusUpdated
            && status.check_status.and_then(|check| check.command?.exit_code) == Some(4)
    });
    unready.kill(None);
    assert_eq!(ended(&unready).0, TaskState::TaskKilled);
}

fn fetches(probe: &Probe, host: &Host, cluster: &Cluster) {
    let uri = |value: &str| Uri { value: value.to_owned(), ..Uri::default() };
    cluster.set_artifact("probe-tool", b"#!/bin/sh\necho fetched\n").unwrap();
    let artifact = cluster.artifact("probe-tool").unwrap();
    let address = artifact.split('#').next().unwrap();
    let copied = host.exec(&["sh", "-c", "printf '#!/bin/sh\\necho cached\\n' > /opt/cached-tool"]).unwrap();
    assert!(copied.status.success());
    // The second time the agent takes the file from its cache. Only local files: this build of
    // libmesos cannot ask an HTTP server for a size.
    let cases = [
        (address, false, "fetched"),
        ("/opt/cached-tool", true, "cached"),
        ("/opt/cached-tool", true, "cached"),
    ];
    for (address, cache, output) in cases {
        let tool = Uri {
            executable: Some(true),
            cache: Some(cache),
            output_file: Some("bin/tool".to_owned()),
            ..uri(address)
        };
        let fetched = probe.launch(ProbeTask { uris: vec![tool], ..task(host, "bin/tool") });
        let (state, message) = ended(&fetched);
        assert_eq!(state, TaskState::TaskFinished, "{message}: {:?}", fetched.stderr());
        assert_eq!(fetched.stdout().unwrap(), format!("{output}\n"));
    }
    let absent = probe.launch(ProbeTask { uris: vec![uri("/no/such/file")], ..task(host, "true") });
    let (state, message) = ended(&absent);
    assert_eq!(state, TaskState::TaskFailed);
    assert!(message.contains("Failed to fetch all URIs"), "{message}");
    assert!(absent.stderr().unwrap().contains("cannot read /no/such/file"));
}

/// A CNI network of Debian's own plugins: the executor reaches its agent from there.
fn has_its_own_address(probe: &Probe, host: &Host) {
    let configuration = r#"{"cniVersion": "0.2.0", "name": "probe", "type": "bridge", "bridge": "probe0",
        "isGateway": true, "ipMasq": true,
        "ipam": {"type": "host-local", "subnet": "10.99.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}"#;
    let put = host.exec(&["sh", "-c", "echo \"$0\" > /tmp/probe.conf", configuration]).unwrap();
    assert!(put.status.success());
    // The folders of DC/OS; the configuration last, in one step, as the agent may read it at any time.
    let script = "cp /usr/lib/cni/bridge /usr/lib/cni/host-local /opt/mesosphere/active/cni/ &&
        cp /tmp/probe.conf /opt/mesosphere/etc/dcos/probe.conf &&
        mv /opt/mesosphere/etc/dcos/probe.conf /opt/mesosphere/etc/dcos/network/cni/";
    assert!(host.exec(&["sh", "-c", script]).unwrap().status.success());
    let handle = probe.launch(ProbeTask { network: Some("probe".to_owned()), ..task(host, COUNTER) });
    let addresses = handle.wait_running(LIMIT).unwrap();
    assert!(addresses[0].to_string().starts_with("10.99.0."), "{addresses:?}");
    handle.kill(None);
    assert_eq!(ended(&handle).0, TaskState::TaskKilled);
}
