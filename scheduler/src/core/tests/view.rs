//! What operators see.

use std::time::Duration;

use super::script::{Script, not_ready, state};
use super::*;

fn phases(script: &Script) -> Vec<(&'static str, Status)> {
    script.core.view().deploy.phases.iter().map(|phase| (phase.name, phase.status)).collect()
}

#[test]
fn a_step_goes_through_its_statuses() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.reaches("a", TaskType::ClusterInit);
    let status = |script: &Script| script.step("etcd-proxy.a:5051");
    assert_eq!(status(&script), (Status::Pending, String::new()));
    let proxy = script.launches("a", TaskType::EtcdProxy);
    assert_eq!(status(&script), (Status::Starting, "launched".into()));
    script.reports("a", &proxy, state(TaskState::Starting));
    assert_eq!(status(&script), (Status::Starting, "starting".into()));
    script.reports("a", &proxy, not_ready());
    assert_eq!(status(&script), (Status::Started, "not ready".into()));
    script.ready("a", &proxy);
    assert_eq!(status(&script), (Status::Complete, "ready".into()));
    script.failed("a", &proxy, "Command exited with status 69");
    let reason = "Command exited with status 69 (a service that it needs is not there)";
    assert_eq!(status(&script), (Status::Delayed, reason.into()));
    script.wait(Duration::from_secs(1));
    let proxy = script.launches("a", TaskType::EtcdProxy);
    script.failed("a", &proxy, "Command exited with status 77");
    assert_eq!(status(&script), (Status::Error, "Command exited with status 77 (not permitted)".into()));
}

#[test]
fn phases_and_the_plan_sum_up_their_steps() {
    let mut script = Script::new(settings());
    assert_eq!(script.core.view().deploy.status, Status::Pending, "before the first inventory");
    script.subscribed();
    script.agents(&["a", "b"]);
    let pending = Status::Pending;
    let all =
        [("cluster-init", pending), ("etcd-proxy", pending), ("cni", pending), ("calico-node", pending)];
    assert_eq!(phases(&script), all);
    assert_eq!(script.core.view().deploy.status, pending);

    script.install("a");
    let progress = Status::InProgress;
    let all = [
        ("cluster-init", Status::Complete),
        ("etcd-proxy", progress),
        ("cni", progress),
        ("calico-node", progress),
    ];
    assert_eq!(phases(&script), all);
    assert_eq!(script.core.view().deploy.status, progress);

    let proxy = script.launches("b", TaskType::EtcdProxy);
    script.failed("b", &proxy, "Command exited with status 78");
    assert_eq!(phases(&script)[1], ("etcd-proxy", Status::Error));
    assert_eq!(script.core.view().deploy.status, Status::Error);
}

#[test]
fn a_task_that_is_disabled_is_no_step_and_one_that_does_not_fit_is_skipped() {
    let mut settings = settings();
    settings.specs.get_mut(&TaskType::EtcdProxy).unwrap().enabled = false;
    let mut script = Script::new(settings);
    script.subscribed();
    script.send(Input::Agents(vec![Agent { version: "1.1.0".into(), ..agent("a", "S-a") }]));
    let plan = script.core.view().deploy;
    let steps =
        plan.phases.iter().flat_map(|p| &p.steps).map(|step| (step.id.as_str(), step.message.as_str()));
    let skipped = "skipped: needs Mesos 1.2 or later, the agent has '1.1.0'";
    let expect = [("cluster-init.cluster-init", ""), ("cni.a:5051", skipped), ("calico-node.a:5051", "")];
    assert_eq!(steps.collect::<Vec<_>>(), expect);
}

#[test]
fn a_cluster_without_agents_still_has_its_own_task_to_do() {
    let mut script = Script::with_agents(settings(), &[]);
    assert_eq!(script.core.view().deploy.status, Status::InProgress);
    assert_eq!(script.core.view().framework_id, Some("F".into()));
    script.wait(Duration::from_secs(1));
}
