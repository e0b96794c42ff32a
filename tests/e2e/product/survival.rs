//! What a restart of the Mesos agent does to our tasks and the workloads': nothing.

use std::time::{Duration, Instant};

use cluster::marathon::Scheduler;
use cluster::probe::{Probe, ProbeTask};
use cluster::{Cluster, Host};

use crate::history::framework;
use crate::{installed, up, wait};

/// Counts what is read through the etcd proxy, a line a read: milliseconds since the epoch.
const READER: &str = "while :; do curl -s -m 1 http://127.0.0.1:2379/health | grep -q true && date +%s%3N; sleep 0.1; done >/run/reads";
/// The name of a task that looks whether the CNI plugins are there.
const LOOKS: &str = "cni-check";
/// The longest pause that a counter may make, in milliseconds: a busy machine makes some, but nothing stood still for
/// as long as it takes an agent to come back.
const PAUSE: u64 = 10_000;

/// The moments at the beginning of each line.
pub fn moments(text: &str) -> Vec<u64> {
    text.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect()
}

pub fn read(host: &Host<'_>, path: &str) -> Vec<u64> {
    moments(&String::from_utf8_lossy(&host.exec(&["cat", path]).unwrap().stdout))
}

pub fn longest_pause(moments: &[u64]) -> u64 {
    moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
}

pub fn property(host: &Host<'_>, unit: &str, name: &str) -> String {
    let output = host.exec(&["systemctl", "show", "--value", "-p", name, unit]).unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn tasks_and_what_they_count_survive_a_restart_of_every_agent() {
    let (_lock, cluster) = up("e2e-agent");
    let mut scheduler = installed(&cluster);
    let probe = Probe::connect(&cluster.master_urls()[0]).unwrap();
    let hosts = cluster.hosts().unwrap();
    let counters: Vec<_> = hosts
        .iter()
        .map(|host| {
            let command = "while :; do date +%s%3N; sleep 0.1; done".to_owned();
            let (hostname, network) = (host.address().to_string(), Some("calico".to_owned()));
            probe.launch(ProbeTask { hostname, network, command, ..ProbeTask::default() })
        })
        .collect();
    for (host, counter) in hosts.iter().zip(&counters) {
        counter.wait_running(Duration::from_secs(30)).unwrap();
        let run = ["systemd-run", "--unit=reader", "sh", "-c", READER];
        assert!(host.exec(&run).unwrap().status.success());
        wait("a first read through the proxy", Duration::from_secs(10), || {
            (read(host, "/run/reads").len() > 5).then_some(())
        });
    }
    let before = framework(&cluster);
    for host in &hosts {
        let (id, unit) = (host.agent_id().unwrap(), host.agent_unit());
        let pid = property(host, unit, "MainPID");
        assert!(host.exec(&["systemctl", "restart", unit]).unwrap().status.success());
        wait("the agent to be registered again", Duration::from_mins(1), || {
            (host.agent_id().ok()? == id && property(host, unit, "MainPID") != pid).then_some(())
        });
    }
    // Long enough for an executor that is lost to be noticed, and for every counter to go on.
    let goes_on = |host: &Host<'_>| read(host, "/run/reads").last().copied().unwrap_or_default();
    let target: Vec<u64> = hosts.iter().map(|host| goes_on(host) + 8000).collect();
    for (host, target) in hosts.iter().zip(target) {
        wait("the counters to go on", Duration::from_mins(1), || (goes_on(host) > target).then_some(()));
    }

    // They have registered again, so what is installed there is looked at.
    for host in &hosts {
        wait("the agent to be looked at", Duration::from_mins(1), || {
            let framework = framework(&cluster);
            let looks = framework.of(&host.agent_id().unwrap(), LOOKS);
            let is_over = !looks.is_empty() && looks.iter().all(|task| task.state == "TASK_FINISHED");
            is_over.then_some(())
        });
    }
    let after = framework(&cluster);
    assert_eq!(before.running(), after.running(), "{after:#?}");
    assert_eq!(before.doing().count(), after.doing().count(), "something was launched: {after:#?}");
    for (host, counter) in hosts.iter().zip(&counters) {
        let reads = longest_pause(&read(host, "/run/reads"));
        let beats = longest_pause(&read(host, "/var/log/calico/heartbeat"));
        let counted = longest_pause(&moments(&counter.stdout().unwrap()));
        eprintln!(
            "{}: longest pause of the proxy {reads} ms, the node {beats} ms, a task {counted} ms",
            host.name()
        );
        assert!(reads < PAUSE && beats < PAUSE && counted < PAUSE);
    }
    scheduler.api().wait_deployed(3, Duration::from_secs(10)).unwrap();
    vanished_plugins_are_put_back_in_the_next_round(&cluster, &hosts[0], &mut scheduler);
    let put_back = framework(&cluster);
    assert_eq!(after.running(), put_back.running(), "a service was ended or launched: {put_back:#?}");
    assert_eq!(
        after.doing().count() + 1,
        put_back.doing().count(),
        "more was done than to put it back: {put_back:#?}"
    );
}

/// As an upgrade of DC/OS would, someone empties a folder of plugins.
fn vanished_plugins_are_put_back_in_the_next_round(
    cluster: &Cluster,
    host: &Host<'_>,
    scheduler: &mut Scheduler<'_>,
) {
    let find =
        "find / -xdev -name calico-ipam -path '*cni*' -not -path '*/slave*' -not -path '*/artifacts/*'";
    let found = host.exec(&["sh", "-c", find]).unwrap();
    let plugin = String::from_utf8(found.stdout).unwrap().trim().to_owned();
    assert_eq!(plugin.lines().count(), 1, "{plugin}");
    let (folder, _) = plugin.rsplit_once('/').unwrap();
    let wipe = format!("rm {folder}/calico {plugin}");
    assert!(host.exec(&["sh", "-c", &wipe]).unwrap().status.success());
    scheduler.process().kill().unwrap();
    scheduler.restart_with(&[("CALICO_VERIFY_INTERVAL", "10s")]).unwrap();
    let began = Instant::now();
    wait("the plugins to be there again", Duration::from_mins(1), || {
        host.exec(&["test", "-x", &plugin]).unwrap().status.success().then_some(())
    });
    eprintln!("{}: vanished plugins were put back after {:?}", host.name(), began.elapsed());
    scheduler.api().wait_deployed(3, Duration::from_secs(30)).unwrap();
    let entry = wait("the history to tell of it", Duration::from_secs(10), || {
        let (_, history) = scheduler.api().get("/v1/history").ok()?;
        let mut entries = history.as_array()?.iter().filter(|entry| entry["what"] == "put-back");
        entries.next().cloned()
    });
    let text = entry["text"].as_str().unwrap();
    assert_eq!(
        (&entry["type"], entry["agent"].as_str()),
        (&"cni".into(), Some(&*format!("{}:5051", host.address())))
    );
    assert!(text.contains(&plugin), "{entry}");
    // A busy machine makes services not ready now and then.
    wait("nothing to be recovered", Duration::from_secs(30), || {
        (scheduler.api().get("/v1/plans/recovery").ok()?.0 == 200).then_some(())
    });
    wait("the end of offers", Duration::from_secs(30), || (framework(cluster).offers == 0).then_some(()));
}
