//! The etcd that holds the state (and Calico's data) goes away, while something breaks.

use std::time::{Duration, Instant};

use cluster::marathon::Scheduler;
use cluster::{Signal, product};
use serde_json::{Value, json};

use crate::history::{Framework, framework};
use crate::watch::Watch;
use crate::{INSTALL, deployed, up, wait};

fn health(scheduler: &Scheduler<'_>) -> (u16, Value) {
    // Marathon kills it for nothing of this.
    assert_eq!(scheduler.api().get("/v1/health/live").unwrap().0, 200);
    scheduler.api().get("/v1/health").unwrap()
}

/// Waits until its health says that the store is away, and which.
fn missing(scheduler: &Scheduler<'_>, state: &str) {
    let health = wait("health to say that etcd is away", INSTALL, || {
        let (status, health) = health(scheduler);
        (status == 503 && health["store"]["away_for"].is_number()).then_some(health)
    });
    let said = |reason: &Value| {
        let reason = reason.as_str().unwrap();
        reason.starts_with("the store is away for ") && reason.contains(state)
    };
    assert!(health["reasons"].as_array().unwrap().iter().any(said), "{health:#}");
    eprintln!("health said: {}", health["reasons"]);
}

/// Waits until all is well, and everything is there.
fn well(scheduler: &Scheduler<'_>) {
    deployed(scheduler, 3);
    let mut last = Value::Null;
    let started = Instant::now();
    // While something is stored it does not tell of the agents.
    while last["healthy"] != true || last["agents"] != json!({"COMPLETE": 3}) {
        assert!(started.elapsed() < INSTALL, "it is not healthy again: {last:#}");
        std::thread::sleep(Duration::from_millis(50));
        let (status, health) = health(scheduler);
        assert_eq!(status == 200, health["healthy"] == true, "{health:#}");
        last = health;
    }
    assert_eq!(last["reasons"], json!([]), "{last:#}");
    assert!(last["leadership"]["leads"] == true && last["store"]["away_for"].is_null(), "{last:#}");
}

/// How many failures of nodes the history tells of.
fn failures(scheduler: &Scheduler<'_>) -> usize {
    let (status, history) = scheduler.api().get("/v1/history").unwrap();
    assert_eq!(status, 200, "{history:#}");
    let failed = |entry: &&Value| entry["what"] == "failed" && entry["type"] == "calico-node";
    history.as_array().unwrap().iter().filter(failed).count()
}

fn ids(framework: &Framework) -> Vec<&str> {
    framework.tasks.iter().map(|task| task.id.as_str()).collect()
}

#[test]
fn an_etcd_that_is_away_and_one_that_is_killed_cost_no_task_and_health_tells() {
    let (_lock, cluster) = up("e2e-etcd");
    let state = format!("etcd://{}/state", cluster.etcd_endpoint().trim_start_matches("http://"));
    let scheduler = product::install(&cluster, &json!({"service": {"state": state}})).unwrap();
    well(&scheduler);
    let (before, failed) = (framework(&cluster), failures(&scheduler));
    let host = cluster.host("host1").unwrap();
    let agent = host.agent_id().unwrap();
    let dead = before.only(&agent, "calico-node").id.clone();
    let watch = Watch::start(&cluster, &scheduler);

    // Stopped for a minute, five leases, and a node dies meanwhile.
    let etcd = cluster.process("etcd").unwrap();
    let stopped = Instant::now();
    etcd.signal(Signal::STOP).unwrap();
    let killed = host.exec(&["pkill", "-9", "-f", "calico-installer node run"]).unwrap();
    assert!(killed.status.success(), "{killed:?}");
    wait("the node to be gone", INSTALL, || {
        (framework(&cluster).only(&agent, "calico-node").state == "TASK_FAILED").then_some(())
    });
    missing(&scheduler, &state);
    std::thread::sleep(Duration::from_mins(1).saturating_sub(stopped.elapsed()));
    missing(&scheduler, &state);
    assert_eq!(ids(&framework(&cluster)), ids(&before), "something was launched that is not stored");
    etcd.signal(Signal::CONT).unwrap();
    wait("the node to be launched again", INSTALL, || {
        let seen = framework(&cluster);
        let nodes = seen.of(&agent, "calico-node");
        (nodes.len() == 2 && nodes[1].state == "TASK_RUNNING").then_some(())
    });
    eprintln!("launched again {:?} after etcd was stopped", stopped.elapsed());
    well(&scheduler);

    // Killed, and started again on what it had.
    etcd.kill().unwrap();
    missing(&scheduler, &state);
    cluster.start_service("etcd").unwrap();
    well(&scheduler);

    // It does not lead all the time, and has nothing to show then.
    let seen = watch.end_after_silence();
    let ended: Vec<&str> = seen.ended().iter().map(|task| task.id.as_str()).collect();
    assert_eq!(ended, [dead.as_str()], "{seen:#?}");
    let after = framework(&cluster);
    let again = after.of(&agent, "calico-node")[1];
    let launched: Vec<&str> = seen.launched().iter().map(|task| task.id.as_str()).collect();
    assert_eq!((launched, again.state.as_str()), (vec![again.id.as_str()], "TASK_RUNNING"), "{seen:#?}");
    assert_eq!((&after.id, after.doing().count()), (&before.id, before.doing().count() + 1), "{after:#?}");
    // What was decided, and not stored before leadership was lost, is decided again, and told again.
    let told = failures(&scheduler) - failed;
    assert!((1..=2).contains(&told), "{told} failures are told");
}
