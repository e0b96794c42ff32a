//! An agent that cannot be reached for a while: nothing of it is killed, and nothing is launched instead.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::probe::{Probe, ProbeTask};
use cluster::{Cluster, Progress, Spec, proof, test_lock};

use crate::history::{framework, on_agent};
use crate::watch::Watch;
use crate::{INSTALL, deployed, installed, wait};

/// How long Mesos waits for an agent: 4 pings of 2 s, and not 5 of 15.
fn short_pings() -> BTreeMap<String, String> {
    let settings = [("MESOS_AGENT_PING_TIMEOUT", "2secs"), ("MESOS_MAX_AGENT_PING_TIMEOUTS", "4")];
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

#[test]
fn an_agent_that_is_cut_off_comes_back_with_the_tasks_and_addresses_that_it_had() {
    let _lock = test_lock().unwrap();
    let spec = Spec { name: "e2e-cut".to_owned(), agents: 2, master_env: short_pings(), ..Spec::default() };
    let cluster = Cluster::up(&spec, &Progress::stderr()).unwrap();
    let scheduler = installed(&cluster);
    let hosts = cluster.hosts().unwrap();
    let probe = Probe::connect(&cluster.master_urls()[0]).unwrap();
    // A workload on each host: the one that is cut off keeps its address, and is reached at it afterwards.
    let workloads: Vec<_> = hosts
        .iter()
        .map(|host| {
            probe.launch(ProbeTask {
                hostname: host.address().to_string(),
                network: Some("calico".to_owned()),
                command: "ip -4 -o addr show dev eth0; while :; do sleep 1; done".to_owned(),
                ..ProbeTask::default()
            })
        })
        .collect();
    let addresses: Vec<_> =
        workloads.iter().map(|task| task.wait_running(Duration::from_mins(1)).unwrap()).collect();
    let before = framework(&cluster);
    assert_eq!(before.running().len(), 4, "{before:#?}");

    let watch = Watch::start(&cluster, &scheduler);
    let host = &hosts[1];
    let (name, agent) = (format!("{}:5051", host.address()), host.agent_id().unwrap());
    host.cut_off().unwrap();
    let unreachable = |task: &&crate::history::Task| task.state == "TASK_UNREACHABLE" && task.agent == agent;
    wait("the master to give the agent up", INSTALL, || {
        (framework(&cluster).tasks.iter().filter(unreachable).count() == 2).then_some(())
    });
    let said = wait("our word of it", INSTALL, || {
        let said = scheduler.api().agent(&name).ok()?;
        let services = ["etcd-proxy", "calico-node"].map(|name| said.task(name).unwrap().reason.clone());
        (said.presence == "absent" && services == ["unreachable", "unreachable"]).then_some(said)
    });
    assert_eq!(said.reason, "the agent is away");
    // The other one has not heard a word of it.
    deployed(&scheduler, 1);
    assert!(on_agent(&name).is_none(), "it is not cut off");

    host.reconnect().unwrap();
    wait("the agent to be taken in again", INSTALL, || {
        (framework(&cluster).running() == before.running()).then_some(())
    });
    deployed(&scheduler, 2);
    let seen = watch.end();
    assert!(seen.launched().is_empty() && seen.ended().is_empty(), "{seen:#?}");
    assert_eq!(host.agent_id().unwrap(), agent);
    let after = framework(&cluster);
    // What was there is looked at; nothing else is launched.
    assert_eq!(
        (after.running(), after.doing().count()),
        (before.running(), before.doing().count()),
        "{after:#?}"
    );

    // The workloads are where they were, see each other, and new ones work.
    for (task, addresses) in workloads.iter().zip(&addresses) {
        assert_eq!(task.wait_running(Duration::from_mins(1)).unwrap(), *addresses);
    }
    let ping = format!("ping -c 1 -W 5 {} && ping -c 1 -W 5 {}", addresses[0][0], addresses[1][0]);
    for host in &hosts {
        let client = probe.launch(ProbeTask {
            hostname: host.address().to_string(),
            network: Some("calico".to_owned()),
            command: ping.clone(),
            ..ProbeTask::default()
        });
        let end = client.wait_finished(INSTALL).unwrap();
        assert_eq!(end.message, "Command exited with status 0", "{}", client.stdout().unwrap());
    }
    proof::prove(&cluster, "calico", |proof| eprintln!("{proof}")).unwrap();
}
