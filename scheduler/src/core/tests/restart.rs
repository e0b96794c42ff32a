//! A new scheduler process goes on from what is stored.

use std::time::Duration;

use super::script::{Script, acknowledged, asked, killed, ready, state};
use super::*;

#[test]
fn a_restart_kills_and_launches_nothing_whatever_comes_first() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let tasks = script.install("a");
    let (proxy, node) = (&tasks[1], &tasks[3]);
    script.restart();

    // Updates before the subscription's other answers, and offers before the inventory.
    for task in [proxy, node] {
        let frame = script.ready("a", task);
        assert_eq!((killed(&frame), acknowledged(&frame)), (vec![], true));
    }
    let frame = script.subscribed();
    assert_eq!(
        (asked(&frame), frame.changes),
        (None, vec![]),
        "all are asked for when their agents are known"
    );
    script.declines("a");
    for task in [proxy, node] {
        assert_eq!(script.update("a", task, ready()), Frame::default());
    }
    let frame = script.agents(&["a"]);
    let effects: Vec<&Effect> =
        frame.effects.iter().filter(|effect| !matches!(effect, Effect::Reconcile(_))).collect();
    assert_eq!((frame.changes, effects), (vec![], vec![&Effect::Suppress]));
    assert_eq!(script.core.view().deploy.status, Status::Complete);
}

#[test]
fn a_restart_goes_on_in_the_middle_of_an_install() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.reaches("a", TaskType::ClusterInit);
    let proxy = script.launches("a", TaskType::EtcdProxy);
    script.restart();
    script.subscribed();
    script.agents(&["a"]);
    script.declines("a");
    script.ready("a", &proxy);
    script.launches("a", TaskType::Cni);
}

#[test]
fn a_launch_that_was_stored_and_not_sent_is_found_out() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let lost = script.launches("a", TaskType::ClusterInit);
    script.restart();
    assert_eq!(asked(&script.subscribed()), None);
    assert_eq!(asked(&script.agents(&["a"])), Some(vec![]));
    assert_eq!(asked(&script.wait(Duration::from_secs(5))), Some(vec![lost.clone()]), "it is left out");
    script.update("a", &lost, state(TaskState::Gone));
    script.wait(Duration::from_secs(1));
    let again = script.launches("a", TaskType::ClusterInit);
    assert_ne!(again, lost);
}

#[test]
fn tasks_are_asked_about_by_name_when_the_list_of_agents_does_not_come() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let init = script.launches("a", TaskType::ClusterInit);
    script.restart();
    assert_eq!(asked(&script.subscribed()), None);
    assert_eq!(asked(&script.wait(Duration::from_secs(4))), None);
    assert_eq!(asked(&script.wait(Duration::from_secs(1))), Some(vec![init]));
}

#[test]
fn failures_and_what_is_held_stay_over_a_restart() {
    let mut script = Script::with_agents(settings(), &["a", "b"]);
    script.reaches("a", TaskType::ClusterInit);
    for wait in [1, 2, 4] {
        let proxy = script.launches("a", TaskType::EtcdProxy);
        script.failed("a", &proxy, "Command exited with status 69");
        script.restart();
        script.subscribed();
        script.agents(&["a", "b"]);
        script.declines("a");
        script.wait(Duration::from_secs(wait));
    }
    let proxy = script.launches("b", TaskType::EtcdProxy);
    script.failed("b", &proxy, "Command exited with status 78");
    script.restart();
    script.subscribed();
    script.agents(&["a", "b"]);
    assert_eq!(script.declines("b"), Duration::from_hours(1));
    assert_eq!(script.step("etcd-proxy.b:5051").0, Status::Error);
}

#[test]
fn the_framework_id_is_stored_once() {
    let mut script = Script::new(settings());
    assert_eq!(script.subscribed().changes, [StateChange::Framework { id: "F".into() }]);
    script.restart();
    assert_eq!(script.subscribed().changes, []);
    assert_eq!(script.core.state().framework_id, Some("F".into()));
}

#[test]
fn other_settings_show_what_was_launched_with_the_old_ones() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.install("a");
    let mut other = settings();
    other.specs.get_mut(&TaskType::CalicoNode).unwrap().target = "another".into();
    script.restart_with(other);
    let outdated: Vec<bool> = script.agent_view("a").tasks.iter().map(|task| task.outdated).collect();
    assert_eq!(outdated, [false, false, true]);
}
