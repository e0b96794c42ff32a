//! The product on a real cluster: what an operator sees of an install, and what survives.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../../installer-tasks/tests/support/kill.rs"]
#[expect(dead_code, clippy::expect_used, reason = "not all of it is needed here; it is a test, too")]
mod kill;
#[path = "../machine/mod.rs"]
mod machine;

mod artifacts;
mod crashes;
mod docker;
mod docker_crashes;
mod docker_store;
mod draining;
mod etcd_outage;
mod full;
mod history;
mod install;
mod leadership;
mod libnetwork;
mod masters;
mod offers;
mod operator;
mod options;
mod pages;
mod partition;
mod plain;
mod rebuilt;
mod recovery;
mod refusals;
mod rollouts;
mod stores;
mod survival;
mod watch;

use std::time::Duration;

use cluster::marathon::Scheduler;
use cluster::{Cluster, Lock, Progress, Spec, product, test_lock};
use serde_json::json;

/// An install on three agents takes some ten seconds; a busy machine is given its time.
const INSTALL: Duration = Duration::from_secs(150);
/// The task types of an agent, in their order.
const ORDER: [&str; 3] = ["etcd-proxy", "cni", "calico-node"];

/// The machine's lock, and a cluster of three agents of its own.
fn up(name: &str) -> (Lock, Cluster) {
    let lock = test_lock().unwrap();
    let spec = Spec { name: name.to_owned(), ..Spec::default() };
    (lock, Cluster::up(&spec, &Progress::stderr()).unwrap())
}

/// The same, where `docker-cluster-store` watches Docker for a second after a change, and not for five.
fn up_with_a_short_settle(name: &str) -> (Lock, Cluster) {
    let lock = test_lock().unwrap();
    // Every flag of the installer is a variable, too.
    let of_tasks = json!({
        "CALICO_DOCKER_SETTLE": "1", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    });
    let agent_env = [("MESOS_EXECUTOR_ENVIRONMENT_VARIABLES".to_owned(), of_tasks.to_string())].into();
    let spec = Spec { name: name.to_owned(), agent_env, ..Spec::default() };
    (lock, Cluster::up(&spec, &Progress::stderr()).unwrap())
}

/// Installs the product and waits until it is on all agents.
fn installed(cluster: &Cluster) -> Scheduler<'_> {
    let scheduler = product::install(cluster, &json!({})).unwrap();
    deployed(&scheduler, cluster.hosts().unwrap().len());
    scheduler
}

/// Waits for the plan; what the scheduler wrote explains it when it does not come.
fn deployed(scheduler: &Scheduler<'_>, agents: usize) {
    if let Err(error) = scheduler.api().wait_deployed(agents, INSTALL) {
        panic!("{error}\nthe scheduler wrote:\n{}", scheduler.process().log().unwrap());
    }
}

/// Waits until `condition` gives something; `what` says what was waited for.
fn wait<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = std::time::Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(started.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
