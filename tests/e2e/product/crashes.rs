//! The scheduler is killed at any moment of an install.

use std::time::Duration;

use cluster::api::Plan;
use cluster::product;
use serde_json::json;

use crate::history::framework;
use crate::watch::Watch;
use crate::{INSTALL, ORDER, deployed, up, wait};

/// Whether any step of a phase has one of these statuses.
fn any(plan: &Plan, phase: &str, statuses: &[&str]) -> bool {
    let phase = plan.phases.iter().find(|found| found.name == phase);
    phase.is_some_and(|phase| phase.steps.iter().any(|step| statuses.contains(&step.status.as_str())))
}

type Moment = (&'static str, fn(&Plan) -> bool);

/// Five moments spread over an install.
const MOMENTS: [Moment; 5] = [
    ("the pool is being made", |plan| any(plan, "cluster-init", &["STARTING", "COMPLETE"])),
    ("a proxy is launched", |plan| any(plan, "etcd-proxy", &["STARTING", "STARTED", "COMPLETE"])),
    ("a proxy is ready", |plan| any(plan, "etcd-proxy", &["COMPLETE"])),
    ("a plugin is installed", |plan| any(plan, "cni", &["COMPLETE"])),
    ("a node runs", |plan| any(plan, "calico-node", &["STARTED", "COMPLETE"])),
];

#[test]
fn a_scheduler_that_is_killed_at_five_moments_launches_nothing_twice_and_completes() {
    let (_lock, cluster) = up("e2e-crash");
    let mut scheduler = product::install(&cluster, &json!({})).unwrap();
    let watch = Watch::start(&cluster, &scheduler);
    let mut ids = Vec::new();
    for (what, reached) in MOMENTS {
        let (_, plan) =
            wait(what, INSTALL, || scheduler.api().deploy().ok().filter(|(_, plan)| reached(plan)));
        eprintln!("killed when {what}: {}", plan.summary());
        assert!(!ids.is_empty() || !any(&plan, "cni", &["COMPLETE"]), "too late for the first moment");
        ids.push(framework(&cluster).id);
        scheduler.process().kill().unwrap();
        scheduler.restart().unwrap();
        scheduler.api().wait_alive(Duration::from_secs(20)).unwrap();
    }
    deployed(&scheduler, 3);
    // It is silent while it is dead, and says nothing wrong before and after.
    let watched = watch.end_after_silence();
    assert!(watched.ended().iter().all(|task| task.state == "TASK_FINISHED"), "{watched:#?}");

    let seen = framework(&cluster);
    ids.push(scheduler.api().framework_id().unwrap());
    assert!(ids.iter().all(|id| *id == seen.id), "framework IDs: {ids:?}");
    for host in cluster.hosts().unwrap() {
        let agent = host.agent_id().unwrap();
        for name in ORDER {
            let goal = if name == "cni" { "TASK_FINISHED" } else { "TASK_RUNNING" };
            assert_eq!(seen.only(&agent, name).state, goal, "{seen:#?}");
        }
    }
    assert_eq!(seen.tasks.iter().filter(|task| task.name == "cluster-init").count(), 1, "{seen:#?}");
}
