//! Two schedulers share their state in etcd: one leads, the other takes over.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::marathon::Scheduler;
use cluster::{Cluster, Signal, get_json, product};
use serde_json::json;

use crate::history::{Framework, framework};
use crate::watch::Watch;
use crate::{INSTALL, ORDER, deployed, up, wait};

/// A lease lasts 12 s.
const TAKE_OVER: Duration = Duration::from_secs(40);

fn scheduler<'c>(cluster: &'c Cluster, name: &str) -> Scheduler<'c> {
    let etcd = cluster.etcd_endpoint();
    let state = format!("etcd://{}/state", etcd.trim_start_matches("http://"));
    let app = product::app(cluster, &json!({"service": {"state": state}})).unwrap();
    let scheduler = Scheduler::launch(cluster, name, &app).unwrap();
    scheduler.api().wait_alive(Duration::from_secs(20)).unwrap();
    scheduler
}

/// What the API of one that waits says.
fn standby(scheduler: &Scheduler<'_>) -> Option<String> {
    let (status, body) = scheduler.api().get("/v1/plans/deploy").ok()?;
    let reason = body["error"].as_str().filter(|reason| status == 503 && reason.starts_with("standby: "))?;
    Some(reason.to_owned())
}

fn waits_for(waiting: &Scheduler<'_>, leading: &Scheduler<'_>) {
    let leader = format!(":{}, process", leading.api().address().port());
    wait("one that waits, and says for whom", TAKE_OVER, || {
        standby(waiting).filter(|reason| reason.contains(&leader) && reason.ends_with("leads"))
    });
    assert_eq!(waiting.api().get("/v1/health/live").unwrap().0, 200);
}

fn ids(framework: &Framework) -> Vec<&str> {
    framework.tasks.iter().map(|task| task.id.as_str()).collect()
}

/// How many calls of each kind the master has had of our framework, by its own count; without questions about tasks, which
/// change nothing.
fn calls(cluster: &Cluster, framework: &str) -> BTreeMap<String, f64> {
    let metrics = get_json(&format!("{}/metrics/snapshot", cluster.master_urls()[0])).unwrap();
    let of_calls = format!("/{framework}/calls/");
    let count = |(name, value): (&String, &serde_json::Value)| {
        let kind = name.split_once(&of_calls)?.1;
        Some((kind.to_owned(), value.as_f64()?)).filter(|(kind, _)| kind != "reconcile")
    };
    metrics.as_object().unwrap().iter().filter_map(count).collect()
}

#[test]
fn a_second_scheduler_takes_over_from_one_that_is_killed_and_from_one_that_is_frozen() {
    let (_lock, cluster) = up("e2e-leader");
    let mut first = scheduler(&cluster, "first");
    let second = scheduler(&cluster, "second");
    waits_for(&second, &first);
    let watch = Watch::start(&cluster, &second);

    // Killed in the middle of the install.
    wait("a first plugin", INSTALL, || {
        let (_, plan) = first.api().deploy().ok()?;
        let phase = plan.phases.into_iter().find(|phase| phase.name == "cni")?;
        phase.steps.iter().any(|step| step.status == "COMPLETE").then_some(())
    });
    let before = framework(&cluster).id;
    first.process().kill().unwrap();
    wait("the second one to lead", TAKE_OVER, || second.api().deploy().ok());
    deployed(&second, 3);
    let seen = framework(&cluster);
    assert_eq!(seen.id, before);
    assert_eq!(second.api().framework_id().unwrap(), before);
    for host in cluster.hosts().unwrap() {
        let agent = host.agent_id().unwrap();
        for name in ORDER {
            let goal = if name == "cni" { "TASK_FINISHED" } else { "TASK_RUNNING" };
            assert_eq!(seen.only(&agent, name).state, goal, "{seen:#?}");
        }
    }
    assert_eq!(seen.tasks.iter().filter(|task| task.name == "cluster-init").count(), 1, "{seen:#?}");

    // The second one had nothing to say before it led.
    let watched = watch.end_after_silence();
    assert!(watched.ended().iter().all(|task| task.state == "TASK_FINISHED"), "{watched:#?}");

    // Frozen past its lease, and continued when the other one leads.
    first.restart().unwrap();
    waits_for(&first, &second);
    let watch = Watch::start(&cluster, &first);
    let suppressed = || calls(&cluster, &seen.id)["suppress"];
    wait("the second one to want no offers", INSTALL, || (suppressed() > 0.0).then_some(()));
    let before = suppressed();
    second.process().signal(Signal::STOP).unwrap();
    wait("the first one to lead", TAKE_OVER, || first.api().deploy().ok());
    deployed(&first, 3);
    // From then on it has no reason to call the master.
    wait("the first one to want no offers", INSTALL, || (suppressed() > before).then_some(()));
    let subscribed = first.process().log().unwrap().matches("subscribed").count();
    let before = calls(&cluster, &seen.id);
    assert!(before["subscribe"] >= 3.0, "{before:?}");
    second.process().signal(Signal::CONT).unwrap();
    second.process().wait_gone(Duration::from_secs(20)).unwrap();
    let log = second.process().log().unwrap();
    assert!(log.contains("another scheduler has taken over"), "{log}");
    assert_eq!(log.matches(" subscribed ").count(), 1, "it has subscribed again:\n{log}");
    // As long as a war over the subscription would take to be seen.
    std::thread::sleep(Duration::from_secs(5));
    let log = first.process().log().unwrap();
    assert_eq!(log.matches("subscribed").count(), subscribed, "it was thrown out:\n{log}");
    deployed(&first, 3);
    let after = framework(&cluster);
    assert_eq!((after.id.as_str(), ids(&after)), (seen.id.as_str(), ids(&seen)), "something was launched");
    assert_eq!(calls(&cluster, &seen.id), before, "the master was called by one that does not lead");
    let watched = watch.end_after_silence();
    assert!(watched.launched().is_empty() && watched.ended().is_empty(), "{watched:#?}");
}
