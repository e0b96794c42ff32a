//! A fresh install.

use std::thread;
use std::time::{Duration, Instant};

use cluster::{Cluster, proof};

use crate::history::{Task, framework};
use crate::machine::Snapshot;
use crate::{INSTALL, ORDER, installed, up, wait};

#[test]
fn every_agent_gets_calico_in_order_and_tasks_have_addresses_of_their_own() {
    let name = "e2e-install";
    Cluster::remove(name).unwrap();
    let before = Snapshot::take(&[name]);
    let (lock, cluster) = up(name);
    let scheduler = installed(&cluster);

    // All goals, as the API has them and as the master does.
    let (status, plan) = scheduler.api().deploy().unwrap();
    assert_eq!((status, plan.status.as_str(), plan.errors.len()), (200, "COMPLETE", 0));
    let seen = framework(&cluster);
    assert_eq!(scheduler.api().framework_id().unwrap(), seen.id);

    // The order on each agent, by the master's times: each begins after the one before has reached its goal.
    let init: Vec<_> = seen.tasks.iter().filter(|task| task.name == "cluster-init").collect();
    assert_eq!(init.len(), 1);
    let pool_made = init[0].since("TASK_FINISHED").unwrap();
    for host in cluster.hosts().unwrap() {
        let agent = host.agent_id().unwrap();
        let [proxy, cni, node] = ORDER.map(|name| seen.only(&agent, name));
        let starts = |task: &Task| task.since("TASK_STARTING").unwrap();
        let name = host.name();
        assert!(
            proxy.since("TASK_RUNNING").unwrap() <= starts(cni),
            "cni before etcd-proxy on {name}: {seen:#?}"
        );
        assert!(
            cni.since("TASK_FINISHED").unwrap() <= starts(node),
            "calico-node before cni on {name}: {seen:#?}"
        );
        assert!(pool_made <= starts(node), "calico-node before the pool on {name}: {seen:#?}");
        assert_eq!((proxy.state.as_str(), node.state.as_str()), ("TASK_RUNNING", "TASK_RUNNING"));
    }
    // When all is done, no offers are wanted.
    wait("the end of offers", INSTALL, || (framework(&cluster).offers == 0).then_some(()));

    let mut proofs = 0;
    proof::prove(&cluster, "calico", |_| proofs += 1).unwrap();
    assert_eq!(proofs, 6);

    cluster.down().unwrap();
    let started = Instant::now();
    loop {
        let left = Snapshot::take(&[name]).since(&before);
        if left.is_empty() {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(5), "left behind:\n{}", left.join("\n"));
        thread::sleep(Duration::from_millis(100));
    }
    drop(lock);
}
