//! The etcd that holds the state (and Calico's data) goes away, while something breaks.

use std::time::{Duration, Instant};

use cluster::marathon::Scheduler;
use cluster::{Signal, product};
use serde_json::{Value, json};

use crate::history::{Framework, framework};
use crate::{INSTALL, deployed, up, wait};

fn health(scheduler: &Scheduler<'_>) -> Option<(u16, Value)> {
    let (status, health) = scheduler.api().get("/v1/health").ok()?;
    // Marathon kills it for nothing of this.
    assert_eq!(scheduler.api().get("/v1/health/live").unwrap().0, 200);
    Some((status, health))
}

/// Waits until its health says that the store is away.
fn missing(scheduler: &Scheduler<'_>) {
    let health = wait("health to say that etcd is away", Duration::from_secs(60), || {
        let (status, health) = health(scheduler)?;
        (status == 503 && health["store"]["away_for"].as_f64().is_some()).then_some(health)
    });
    let reasons = health["reasons"].to_string();
    assert!(reasons.contains("etcd://") && reasons.contains("nothing is launched or ended"), "{health:#}");
}

/// Waits until all is well, and everything is there.
fn well(scheduler: &Scheduler<'_>) {
    deployed(scheduler, 3);
    wait("health to say that all is well", INSTALL, || {
        let (status, health) = health(scheduler)?;
        let complete = health["agents"] == json!({"COMPLETE": 3});
        (status == 200 && health["leadership"]["leads"] == true && complete).then_some(())
    });
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
    let before = framework(&cluster);
    let host = cluster.host("host1").unwrap();
    let agent = host.agent_id().unwrap();

    // Stopped for a minute, and a node dies meanwhile.
    let stopped = Instant::now();
    cluster.process("etcd").unwrap().signal(Signal::STOP).unwrap();
    wait("a supervisor to kill", Duration::from_secs(20), || {
        let killed = host.exec(&["pkill", "-9", "-f", "calico-installer node run"]).unwrap();
        killed.status.success().then_some(())
    });
    wait("the node to be gone", Duration::from_secs(30), || {
        (framework(&cluster).only(&agent, "calico-node").state == "TASK_FAILED").then_some(())
    });
    missing(&scheduler);
    std::thread::sleep(Duration::from_mins(1).saturating_sub(stopped.elapsed()));
    assert_eq!(ids(&framework(&cluster)), ids(&before), "something was launched that is not stored");
    cluster.process("etcd").unwrap().signal(Signal::CONT).unwrap();
    wait("the node to be launched again", INSTALL, || {
        let seen = framework(&cluster);
        let nodes = seen.of(&agent, "calico-node");
        (nodes.len() == 2 && nodes[1].state == "TASK_RUNNING").then_some(())
    });
    well(&scheduler);
    let between = framework(&cluster);
    let new: Vec<&str> = ids(&between).into_iter().filter(|id| !ids(&before).contains(id)).collect();
    assert_eq!(new.len(), 1, "{between:#?}");

    // Killed, and started again on what it had.
    cluster.process("etcd").unwrap().kill().unwrap();
    missing(&scheduler);
    cluster.start_service("etcd").unwrap();
    well(&scheduler);
    let after = framework(&cluster);
    assert_eq!((after.id.as_str(), ids(&after)), (before.id.as_str(), ids(&between)));
    for task in &after.tasks {
        let dead = before.only(&agent, "calico-node").id == task.id;
        let lost = ["TASK_FAILED", "TASK_KILLED", "TASK_LOST"].contains(&task.state.as_str());
        assert_eq!(lost, dead, "{task:#?}");
    }
    let (status, history) = scheduler.api().get("/v1/history").unwrap();
    let failed = |entry: &Value| entry["what"] == "failed" && entry["type"] == "calico-node";
    assert!(status == 200 && history.as_array().unwrap().iter().any(failed), "{history:#}");
}
