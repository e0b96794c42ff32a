//! What a failure leads to.

use std::time::Duration;

use super::script::{Script, acknowledged, launch, not_ready, state};
use super::*;

/// How long the slot of `task_type` on agent `a` is left alone from now on.
fn backoff(script: &Script, task_type: TaskType) -> Duration {
    match script.phase("a", task_type) {
        Some(Phase::Backoff { until }) => until.since(script.now),
        other => panic!("no backoff but {other:?}"),
    }
}

/// Agent `a` with the cluster's task done.
fn initialised() -> Script {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.reaches("a", TaskType::ClusterInit);
    script
}

#[test]
fn the_wait_doubles_with_each_failure_up_to_its_limit() {
    let mut script = initialised();
    for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        let proxy = script.launches("a", TaskType::EtcdProxy);
        script.failed("a", &proxy, "Command exited with status 69");
        assert_eq!(backoff(&script, TaskType::EtcdProxy), Duration::from_secs(expected));
        let refused = script.declines("a");
        assert!(refused <= Duration::from_secs(expected), "the offer is away when its turn comes");
        script.wait(Duration::from_secs(expected));
    }
}

#[test]
fn what_ran_long_enough_starts_counting_anew() {
    let mut script = initialised();
    for _ in 0..4 {
        let proxy = script.launches("a", TaskType::EtcdProxy);
        script.failed("a", &proxy, "Command exited with status 1");
        script.wait(Duration::from_secs(10));
    }
    // Not yet stable.
    let proxy = script.reaches("a", TaskType::EtcdProxy);
    script.wait(Duration::from_secs(299));
    script.failed("a", &proxy, "Command exited with status 1");
    assert_eq!(backoff(&script, TaskType::EtcdProxy), Duration::from_secs(16));
    script.wait(Duration::from_secs(16));

    let proxy = script.reaches("a", TaskType::EtcdProxy);
    script.wait(Duration::from_mins(5));
    script.failed("a", &proxy, "Command exited with status 1");
    assert_eq!(backoff(&script, TaskType::EtcdProxy), Duration::from_secs(1));
}

#[test]
fn a_stable_service_that_is_not_ready_just_before_it_dies_was_stable() {
    let mut script = initialised();
    for _ in 0..4 {
        let proxy = script.launches("a", TaskType::EtcdProxy);
        script.failed("a", &proxy, "Command exited with status 1");
        script.wait(Duration::from_secs(10));
    }
    let proxy = script.reaches("a", TaskType::EtcdProxy);
    script.wait(Duration::from_hours(1));
    script.reports("a", &proxy, not_ready());
    script.wait(Duration::from_secs(10));
    script.failed("a", &proxy, "Command terminated with signal Killed");
    assert_eq!(backoff(&script, TaskType::EtcdProxy), Duration::from_secs(1));
}

#[test]
fn an_install_that_is_done_forgets_its_failures() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let init = script.launches("a", TaskType::ClusterInit);
    script.failed("a", &init, "Command exited with status 75");
    script.wait(Duration::from_secs(1));
    script.reaches("a", TaskType::ClusterInit);
    let record = &script.stored.cluster.tasks[&TaskType::ClusterInit];
    assert_eq!((record.failures, &record.failure), (0, &None));
}

#[test]
fn a_service_that_ends_by_itself_has_failed() {
    let mut script = initialised();
    let proxy = script.reaches("a", TaskType::EtcdProxy);
    script.finished("a", &proxy);
    assert_eq!(script.step("etcd-proxy.a:5051"), (Status::Delayed, "it ended by itself".into()));
    script.wait(Duration::from_secs(1));
    script.launches("a", TaskType::EtcdProxy);
}

#[test]
fn not_permitted_and_cannot_work_are_held_and_say_why() {
    for (status, meaning) in [(77, "not permitted"), (78, "the configuration or this host cannot work")] {
        let mut script = initialised();
        let proxy = script.launches("a", TaskType::EtcdProxy);
        let message = format!("Command exited with status {status}");
        let frame = script.failed("a", &proxy, &message);
        assert!(acknowledged(&frame));
        let slot = Slot::Agent("a:5051".into(), TaskType::EtcdProxy);
        let read = Effect::ReadOutput { slot: slot.clone(), task: proxy.clone(), agent: "S-a".into() };
        assert!(frame.effects.contains(&read), "{frame:?}");

        script.wait(Duration::from_hours(48));
        assert_eq!(script.declines("a"), Duration::from_hours(1));
        let reason = format!("{message} ({meaning})");
        assert_eq!(script.step("etcd-proxy.a:5051"), (Status::Error, reason.clone()));
        assert_eq!(script.agent_view("a").reason, format!("etcd-proxy: {reason}"));
        assert_eq!(script.agent_view("a").status, Status::Error);
        let plan = script.core.view().deploy;
        assert_eq!(plan.status, Status::Error);
        assert_eq!(plan.errors, [format!("etcd-proxy.a:5051: {reason}")]);

        // What the task wrote says more, and stays over a restart.
        let text = "no such file: /etc/cni\n".to_owned();
        script.send(Input::Output { slot, task: proxy, text });
        script.restart();
        script.agents(&["a"]);
        assert_eq!(script.step("etcd-proxy.a:5051").1, format!("{reason}: no such file: /etc/cni"));
    }
}

#[test]
fn output_is_added_once_and_only_to_a_failure() {
    let mut script = initialised();
    let proxy = script.launches("a", TaskType::EtcdProxy);
    let slot = Slot::Agent("a:5051".into(), TaskType::EtcdProxy);
    let output = Input::Output { slot, task: proxy.clone(), text: " port 2379 is taken ".into() };
    assert_eq!(script.send(output.clone()), Frame::default());
    script.failed("a", &proxy, "Command exited with status 1");
    assert_eq!(script.send(output.clone()).changes.len(), 1);
    assert_eq!(script.send(output.clone()), Frame::default());
    let reason = "Command exited with status 1: port 2379 is taken";
    assert_eq!(script.step("etcd-proxy.a:5051"), (Status::Delayed, reason.into()));
    assert_eq!(script.agent_view("a").reason, reason);

    // It is of interest until the goal is reached.
    script.wait(Duration::from_secs(1));
    let proxy = script.launches("a", TaskType::EtcdProxy);
    assert_eq!(script.step("etcd-proxy.a:5051").1, format!("launched; before: {reason}"));
    script.ready("a", &proxy);
    assert_eq!(script.step("etcd-proxy.a:5051"), (Status::Complete, "ready".into()));
    assert_eq!(script.send(output), Frame::default());
}

#[test]
fn output_that_comes_late_is_not_taken_for_a_later_failures() {
    let mut script = initialised();
    let first = script.launches("a", TaskType::EtcdProxy);
    script.failed("a", &first, "Command exited with status 1");
    script.wait(Duration::from_secs(1));
    let second = script.launches("a", TaskType::EtcdProxy);
    script.failed("a", &second, "Command exited with status 69");
    let slot = Slot::Agent("a:5051".into(), TaskType::EtcdProxy);
    let output = |task: &TaskId| Input::Output { slot: slot.clone(), task: task.clone(), text: "why".into() };
    assert_eq!(script.send(output(&first)), Frame::default());
    assert_eq!(script.send(output(&second)).changes.len(), 1);
}

#[test]
fn the_end_of_a_task_whose_type_is_no_longer_configured_is_stored() {
    let mut script = initialised();
    let proxy = script.reaches("a", TaskType::EtcdProxy);
    let mut fewer = settings();
    fewer.specs.remove(&TaskType::EtcdProxy);
    script.restart_with(fewer);
    script.subscribed();
    script.agents(&["a"]);
    assert_eq!(script.ready("a", &proxy).changes, [], "left alone");
    let frame = script.failed("a", &proxy, "Command exited with status 1");
    assert!(acknowledged(&frame));
    assert!(matches!(script.phase("a", TaskType::EtcdProxy), Some(Phase::Backoff { .. })));
    script.launches("a", TaskType::Cni);
}

#[test]
fn a_clock_that_is_set_back_delays_no_deadline_by_more_than_twice_its_time() {
    let mut script = initialised();
    let proxy = script.launches("a", TaskType::EtcdProxy);
    script.failed("a", &proxy, "Command exited with status 1");
    script.now = Timestamp(script.now.0 - 900_000);
    script.declines("a");
    script.wait(Duration::from_secs(2));
    script.launches("a", TaskType::EtcdProxy);
}

#[test]
fn a_task_of_the_cluster_on_a_lost_agent_is_done_by_another() {
    let mut script = Script::with_agents(settings(), &["a", "b"]);
    let init = script.launches("a", TaskType::ClusterInit);
    script.update("a", &init, state(TaskState::Unreachable));
    script.agents(&["b"]);
    script.wait(Duration::from_secs(1));
    script.launches("b", TaskType::ClusterInit);
}

#[test]
fn a_task_on_a_partitioned_agent_is_neither_relaunched_nor_killed() {
    let mut script = initialised();
    let proxy = script.reaches("a", TaskType::EtcdProxy);
    script.update("a", &proxy, state(TaskState::Unreachable));
    assert_eq!(script.step("etcd-proxy.a:5051"), (Status::Started, "unreachable".into()));
    script.wait(Duration::from_hours(1));
    script.declines("a");
    script.ready("a", &proxy);
    assert_eq!(script.step("etcd-proxy.a:5051"), (Status::Complete, "ready".into()));
    script.launches("a", TaskType::Cni);
}

#[test]
fn what_is_held_is_tried_again_when_its_configuration_has_changed_and_not_before() {
    let mut script = initialised();
    for status in [77, 78, 79] {
        let proxy = script.launches("a", TaskType::EtcdProxy);
        script.failed("a", &proxy, &format!("Command exited with status {status}"));
        script.restart();
        script.subscribed();
        script.agents(&["a"]);
        assert!(script.declines("a") >= Duration::from_mins(1), "{status} is tried again for nothing");

        let mut changed = settings();
        let spec = changed.specs.get_mut(&TaskType::EtcdProxy).unwrap();
        spec.target = TargetHash::from(format!("changed after {status}"));
        script.restart_with(changed);
        script.subscribed();
        script.agents(&["a"]);
    }
    // The new configuration starts with no failures.
    let proxy = script.launches("a", TaskType::EtcdProxy);
    script.failed("a", &proxy, "Command exited with status 69");
    assert_eq!(backoff(&script, TaskType::EtcdProxy), Duration::from_secs(1));
}

/// A reason that Mesos gives when an offer was rescinded while the launch was on its way.
fn dropped() -> Update {
    Update { message: "Task launched with invalid offers".into(), ..state(TaskState::Dropped) }
}

#[test]
fn a_launch_that_never_ran_is_made_again_at_once_and_no_failure() {
    let mut script = initialised();
    let lost = script.launches("a", TaskType::EtcdProxy);
    let frame = script.update("a", &lost, dropped());
    assert!(frame.effects.is_empty(), "there is no sandbox to read: {frame:?}");
    let slot = Slot::Agent("a:5051".into(), TaskType::EtcdProxy);
    let reason = "Task launched with invalid offers".to_owned();
    assert_eq!(frame.decisions, [Decision::Dropped { slot, reason }]);
    let status = (Status::Delayed, "the launch was dropped: Task launched with invalid offers".to_owned());
    assert_eq!(script.step("etcd-proxy.a:5051"), status);
    assert_eq!(script.agent_view("a").tasks[0].failures, 0);
    script.reaches("a", TaskType::EtcdProxy);
}

#[test]
fn launches_that_are_dropped_again_and_again_are_failures_with_their_wait() {
    let mut script = initialised();
    for _ in 0..3 {
        let lost = script.launches("a", TaskType::EtcdProxy);
        script.update("a", &lost, dropped());
    }
    for expected in [1, 2, 4] {
        let lost = script.launches("a", TaskType::EtcdProxy);
        script.update("a", &lost, dropped());
        assert_eq!(backoff(&script, TaskType::EtcdProxy), Duration::from_secs(expected));
        script.declines("a");
        script.wait(Duration::from_secs(expected));
    }
    // One that was heard of ends the row.
    let proxy = script.launches("a", TaskType::EtcdProxy);
    script.reports("a", &proxy, state(TaskState::Starting));
    script.failed("a", &proxy, "Command exited with status 1");
    assert_eq!(backoff(&script, TaskType::EtcdProxy), Duration::from_secs(8));
    script.wait(Duration::from_secs(8));
    let lost = script.launches("a", TaskType::EtcdProxy);
    script.update("a", &lost, dropped());
    assert_eq!(backoff(&script, TaskType::EtcdProxy), Duration::ZERO);
}

#[test]
fn a_failure_says_nothing_of_tasks_and_their_updates_come_before_or_after_it() {
    for failure_first in [true, false] {
        let mut script = initialised();
        let proxy = script.reaches("a", TaskType::EtcdProxy);
        let failure = |script: &mut Script| {
            let frame = script.send(Input::Event(Event::Failure(Some("S-a".into()))));
            assert_eq!((frame.changes, frame.effects), (vec![], vec![Effect::RefreshInventory]));
        };
        if failure_first {
            failure(&mut script);
            assert_eq!(script.step("etcd-proxy.a:5051"), (Status::Complete, "ready".into()));
        }
        script.update("a", &proxy, state(TaskState::Unreachable));
        if !failure_first {
            failure(&mut script);
        }
        assert_eq!(script.step("etcd-proxy.a:5051"), (Status::Started, "unreachable".into()));
        script.ready("a", &proxy);
        script.launches("a", TaskType::Cni);
    }
}

#[test]
fn an_offer_that_is_rescinded_before_or_after_its_launch_was_dropped_costs_nothing() {
    for rescind_first in [true, false] {
        let mut script = initialised();
        let frame = script.offer("a");
        let launch = launch(&frame).unwrap();
        let rescind = Input::Event(Event::Rescind(launch.offer.clone()));
        if rescind_first {
            assert_eq!(script.send(rescind.clone()), Frame::default());
        }
        script.update("a", &launch.task, dropped());
        if !rescind_first {
            assert_eq!(script.send(rescind), Frame::default());
        }
        script.reaches("a", TaskType::EtcdProxy);
        assert_eq!(script.agent_view("a").tasks[0].failures, 0);
    }
}

#[test]
fn an_end_that_the_master_told_first_is_what_the_agent_says_of_it_later() {
    const LATEST: &str = "Reconciliation: Latest task state";
    let told = |words: &str| {
        let mut script = initialised();
        let proxy = script.reaches("a", TaskType::EtcdProxy);
        // The scheduler was away when it died: it asks, and the master answers before the agent says it again.
        script.restart();
        script.resumes(&["a"]);
        script.update("a", &proxy, Update { message: LATEST.into(), ..state(TaskState::Failed) });
        let before = script.agent_view("a").reason;
        assert!(before.contains("does not say how") && !before.contains("Latest"), "{before}");
        let slot = Slot::Agent("a:5051".into(), TaskType::EtcdProxy);
        script.send(Input::Output { slot, task: proxy.clone(), text: "address in use".into() });
        let frame = script.failed("a", &proxy, words);
        assert!(acknowledged(&frame));
        (script, proxy)
    };
    let (script, _) = told("Command exited with status 69");
    let reason = script.agent_view("a").reason;
    assert!(reason.contains("status 69 (a service") && reason.ends_with(": address in use"), "{reason}");
    assert!(matches!(script.phase("a", TaskType::EtcdProxy), Some(Phase::Backoff { .. })));
    // What it says counts.
    let (mut script, proxy) = told("Command exited with status 78");
    assert!(matches!(script.phase("a", TaskType::EtcdProxy), Some(Phase::Held { .. })));
    // Once.
    script.failed("a", &proxy, "Command exited with status 69");
    assert!(matches!(script.phase("a", TaskType::EtcdProxy), Some(Phase::Held { .. })));
}

#[test]
fn what_an_agent_says_of_an_earlier_launch_is_not_said_of_the_next() {
    let mut script = initialised();
    let proxy = script.reaches("a", TaskType::EtcdProxy);
    let latest = "Reconciliation: Latest task state";
    script.update("a", &proxy, Update { message: latest.into(), ..state(TaskState::Failed) });
    script.wait(Duration::from_secs(1));
    let again = script.launches("a", TaskType::EtcdProxy);
    script.failed("a", &again, "Command terminated with signal Killed");
    script.failed("a", &proxy, "Command exited with status 78");
    assert!(matches!(script.phase("a", TaskType::EtcdProxy), Some(Phase::Backoff { .. })));
    assert!(script.agent_view("a").reason.contains("signal Killed"));
}
