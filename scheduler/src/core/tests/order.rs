//! The order on an agent, and when a goal counts as reached.

use super::script::{Script, acknowledged, launch, not_ready, ready, state};
use super::*;

#[test]
fn an_agent_gets_its_task_types_one_after_the_other() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let init = script.launches("a", TaskType::ClusterInit);
    let proxy = script.launches("a", TaskType::EtcdProxy);
    script.declines("a");
    script.reports("a", &proxy, not_ready());
    script.declines("a");
    script.ready("a", &proxy);

    let cni = script.launches("a", TaskType::Cni);
    script.declines("a");
    script.reports("a", &cni, state(TaskState::Running));
    script.declines("a");
    script.finished("a", &cni);

    // calico-node waits for the task of the cluster too.
    assert_eq!(script.agent_view("a").reason, "calico-node waits for cluster-init");
    script.declines("a");
    script.finished("a", &init);
    let node = script.launches("a", TaskType::CalicoNode);
    script.ready("a", &node);
    assert_eq!(script.core.view().deploy.status, Status::Complete);
}

#[test]
fn the_task_of_the_cluster_runs_once_whoever_offers() {
    let mut script = Script::with_agents(settings(), &["a", "b"]);
    script.launches("a", TaskType::ClusterInit);
    script.launches("b", TaskType::EtcdProxy);
    script.launches("a", TaskType::EtcdProxy);
    script.declines("a");
    script.declines("b");
}

#[test]
fn agents_do_not_wait_for_each_other() {
    let mut script = Script::with_agents(settings(), &["a", "b"]);
    script.install("a");
    script.install("b");
    assert_eq!(script.core.view().deploy.status, Status::Complete);
}

#[test]
fn disabled_types_and_those_that_the_agent_is_too_old_for_are_left_out() {
    let mut settings = settings();
    settings.specs.get_mut(&TaskType::EtcdProxy).unwrap().enabled = false;
    let mut script = Script::new(settings);
    script.subscribed();
    script.send(Input::Agents(vec![Agent { version: "1.1.0".into(), ..agent("a", "S-a") }]));
    script.reaches("a", TaskType::ClusterInit);
    // cni is not for Mesos 1.1.
    script.reaches("a", TaskType::CalicoNode);
    assert_eq!(script.core.view().deploy.status, Status::Complete);
    let skipped =
        "etcd-proxy is skipped: disabled; cni is skipped: needs Mesos 1.2 or later, the agent has '1.1.0'";
    assert_eq!(script.agent_view("a").reason, skipped);

    // The agent is upgraded.
    script.send(Input::Agents(vec![Agent { version: "1.2.0".into(), ..agent("a", "S-a") }]));
    script.launches("a", TaskType::Cni);
}

#[test]
fn a_calico_node_does_not_wait_for_a_disabled_task_of_the_cluster() {
    let mut settings = settings();
    settings.specs.get_mut(&TaskType::ClusterInit).unwrap().enabled = false;
    let mut script = Script::with_agents(settings, &["a"]);
    script.reaches("a", TaskType::EtcdProxy);
    script.reaches("a", TaskType::Cni);
    script.launches("a", TaskType::CalicoNode);
}

#[test]
fn a_service_is_ready_when_its_check_passes_and_it_is_healthy() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.reaches("a", TaskType::ClusterInit);
    script.reaches("a", TaskType::EtcdProxy);
    script.reaches("a", TaskType::Cni);
    let node = script.launches("a", TaskType::CalicoNode);
    let status = |script: &Script| script.step("calico-node.a:5051").0;

    script.reports("a", &node, state(TaskState::Starting));
    assert_eq!(status(&script), Status::Starting);
    for not_yet in [
        state(TaskState::Running),
        Update { healthy: Some(true), ..state(TaskState::Running) },
        Update { check: CheckResult::Exited(0), ..state(TaskState::Running) },
        Update { check: CheckResult::Exited(1), ..ready() },
        Update { healthy: Some(false), ..ready() },
    ] {
        script.reports("a", &node, not_yet);
        assert_eq!(status(&script), Status::Started);
    }
    script.reports("a", &node, ready());
    assert_eq!(status(&script), Status::Complete);
    script.reports("a", &node, Update { check: CheckResult::Exited(1), ..ready() });
    assert_eq!(status(&script), Status::Started);
}

#[test]
fn a_launch_and_what_an_update_changes_are_in_the_frame_of_their_effect() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let frame = script.offer("a");
    let task = launch(&frame).unwrap().task;
    let [StateChange::Cluster(cluster)] = &frame.changes[..] else { panic!("{frame:?}") };
    let Phase::Launched { task: stored, .. } = &cluster.tasks[&TaskType::ClusterInit].phase else { panic!() };
    assert_eq!(*stored, task);

    let frame = script.finished("a", &task);
    let [StateChange::Cluster(cluster)] = &frame.changes[..] else { panic!("{frame:?}") };
    assert!(cluster.tasks[&TaskType::ClusterInit].phase.at_goal());
    assert!(acknowledged(&frame));
}

#[test]
fn an_update_that_says_nothing_new_stores_nothing_and_one_without_uuid_is_not_acknowledged() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.reaches("a", TaskType::ClusterInit);
    let proxy = script.reaches("a", TaskType::EtcdProxy);
    let again = script.ready("a", &proxy);
    assert_eq!(again.changes, []);
    assert!(acknowledged(&again));
    let reconciled = script.update("a", &proxy, ready());
    assert_eq!(reconciled, Frame::default());
}
