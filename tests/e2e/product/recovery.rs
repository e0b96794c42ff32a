//! What breaks comes back, and what joins gets Calico, without a hand.

use std::time::Duration;

use cluster::{Cluster, proof};

use crate::history::{Task, framework};
use crate::{INSTALL, deployed, installed, up, wait};

/// The node tasks of an agent, the oldest first.
fn nodes(cluster: &Cluster, agent: &str) -> Vec<Task> {
    framework(cluster).of(agent, "calico-node").into_iter().cloned().collect()
}

#[test]
fn a_killed_node_an_unplugged_host_and_a_fourth_agent_are_served() {
    let (_lock, cluster) = up("e2e-recovery");
    let scheduler = installed(&cluster);

    // A node task that is killed three times comes back after waits that grow.
    let host = cluster.host("host1").unwrap();
    let agent = host.agent_id().unwrap();
    for kill in 1..=3 {
        // The shell checks the installer first.
        wait("a supervisor to kill", Duration::from_secs(20), || {
            let killed = host.exec(&["pkill", "-9", "-f", "calico-installer node run"]).unwrap();
            killed.status.success().then_some(())
        });
        wait("the node task to be launched again", INSTALL, || {
            let all = nodes(&cluster, &agent);
            (all.len() == kill + 1 && all[kill].state == "TASK_RUNNING").then_some(())
        });
    }
    let all = nodes(&cluster, &agent);
    let waits: Vec<f64> = all
        .windows(2)
        .map(|pair| pair[1].states[0].1 - pair[0].since("TASK_FAILED").expect("it was killed"))
        .collect();
    assert!(waits[0] >= 1.0 && waits[1] >= 2.0 && waits[2] >= 4.0, "waited {waits:?} s");
    deployed(&scheduler, 3);
    let task = scheduler.api().agent(&format!("{}:5051", host.address())).unwrap();
    assert_eq!(task.task("calico-node").unwrap().failures, 3);

    // A host whose power fails recovers when it is back.
    let host = cluster.host("host2").unwrap();
    let agent = host.agent_id().unwrap();
    let before = nodes(&cluster, &agent);
    host.unplug().unwrap();
    host.power_on().unwrap();
    wait("the node to be launched on the host that is back", INSTALL, || {
        (nodes(&cluster, &agent).len() > before.len()).then_some(())
    });
    deployed(&scheduler, 3);

    // When all is done, no offers come; a new agent is served all the same.
    wait("the end of offers", INSTALL, || (framework(&cluster).offers == 0).then_some(()));
    cluster.add_host().unwrap();
    deployed(&scheduler, 4);
    proof::prove(&cluster, "calico", |proof| eprintln!("{proof}")).unwrap();
}
