//! Task types of the cluster in a rollout.

use super::*;

const INIT: TaskType = TaskType::ClusterInit;

#[test]
fn what_fails_for_the_cluster_halts_before_any_agent_begins_and_going_on_tries_it_again() {
    let settings = rollout(|rollout| rollout.max_attempts = 2);
    let mut script = updating(&settings, &["a", "b"], &[INIT, NODE]);
    for _ in 0..2 {
        let waits = "waits for the task types of the cluster";
        assert_eq!(script.core.view().rollout.held.as_deref(), Some(waits));
        let init = script.launches("a", INIT);
        script.failed("a", &init, "Command exited with status 69");
        script.wait(2 * SECOND);
    }
    let view = script.core.view();
    let halted = view.rollout.held.unwrap();
    assert!(halted.starts_with("halted: cluster-init failed 2 times in a row"), "{halted}");
    assert!(halted.contains("status 69"), "{halted}");
    assert_eq!((view.update.status, script.under_way()), (Status::Error, vec![]));
    // It is not tried any more, and another scheduler knows that.
    script.restart();
    script.resumes(&["a", "b"]);
    script.tells(&["a", "b"]);
    script.wait(Duration::from_mins(30));
    script.declines("a");
    script.command(Plan::Update, Verb::Continue, None, None).unwrap();
    script.reaches("a", INIT);
    script.wait(SECOND);
    script.replaces_node("a");
}

#[test]
fn a_first_install_tries_it_for_ever() {
    let settings = rollout(|rollout| rollout.max_attempts = 1);
    let mut script = Script::with_agents(settings.clone(), &["a"]);
    for settings in [changed(settings.clone(), &[INIT], 2), changed(settings, &[INIT], 3)] {
        for _ in 0..3 {
            let init = script.launches("a", INIT);
            script.failed("a", &init, "Command exited with status 69");
            script.wait(Duration::from_mins(5));
        }
        assert_eq!(script.core.view().rollout.held, None);
        script.restart_with(settings);
        script.resumes(&["a"]);
    }
}

#[test]
fn where_rollouts_go_back_the_cluster_gets_what_it_had_as_well() {
    let mut script = updating(&going_back(|_| ()), &["a", "b"], &[INIT, NODE]);
    let init = script.launches("a", INIT);
    script.failed("a", &init, "Command exited with status 78");
    let view = script.core.view();
    let why = view.rollout.given_up.unwrap();
    assert!(why.starts_with("cluster-init: ") && why.contains("status 78"), "{why}");
    assert_eq!(launch(&script.offer("a")).unwrap().target.to_string(), "target of cluster-init");
}

#[test]
fn a_service_that_was_ended_gets_its_successor_whatever_the_cluster_waits_for() {
    let settings = rollout(|rollout| rollout.max_attempts = 2);
    let mut script = updating(&settings, &["a", "b"], &[NODE]);
    script.reaches("a", TaskType::Prefetch);
    let old = script.task("a", NODE);
    script.failed("a", &old, "Command terminated with signal Terminated");
    script.restart_with(changed(settings, &[INIT, NODE], 3));
    script.resumes(&["a", "b"]);
    script.tells(&["a", "b"]);
    let init = script.launches("b", INIT);
    // What is done no more is waited for by all others: they are seen anew.
    script.reaches("a", NODE);
    assert_eq!(script.target("a", NODE), "version 3 of calico-node");
    script.failed("b", &init, "Command exited with status 78");
    assert!(script.core.view().rollout.held.is_some_and(|why| why.starts_with("halted: cluster-init")));
    // What dies meanwhile comes back.
    let node = script.task("a", NODE);
    script.failed("a", &node, "Command terminated with signal Killed");
    script.wait(SECOND);
    script.reaches("a", NODE);
    // Another configuration ends that.
    let mut other = changed(rollout(|rollout| rollout.max_attempts = 2), &[NODE], 4);
    other.specs.get_mut(&INIT).unwrap().target = "version 3 of cluster-init".into();
    script.restart_with(with_definitions(other));
    script.resumes(&["a", "b"]);
    script.tells(&["a", "b"]);
    script.reaches("b", INIT);
    assert_eq!(script.core.view().rollout.number, 4);
}

#[test]
fn a_rollout_of_what_is_done_once_is_complete_with_that() {
    let mut script = updating(&rollout(|_| ()), &["a"], &[INIT]);
    script.wait(SECOND);
    assert!(!script.stored.cluster.rollout.complete);
    script.reaches("a", INIT);
    script.wait(SECOND);
    assert!(script.stored.cluster.rollout.complete);
}

#[test]
fn a_service_is_not_ended_before_the_cluster_has_what_its_successor_waits_for() {
    let settings = rollout(|rollout| rollout.max_attempts = 1);
    let mut script = updating(&settings, &["a"], &[NODE]);
    script.launches("a", TaskType::Prefetch);
    script.restart_with(changed(settings, &[INIT, NODE], 3));
    script.resumes(&["a"]);
    script.tells(&["a"]);
    let init = script.launches("a", INIT);
    let fetch = script.task("a", TaskType::Prefetch);
    script.finished("a", &fetch);
    script.reaches("a", TaskType::Prefetch);
    assert!(
        script.core.view().agents[0].reason.contains("waits for cluster-init"),
        "{:?}",
        script.agent_view("a")
    );
    // That is not the agent's time.
    script.wait(Duration::from_mins(14));
    let frame = script.finished("a", &init);
    assert_eq!(killed(&frame).len(), 1);
    script.wait(Duration::from_mins(2));
    assert_eq!(script.under_way(), ["a:5051"]);
}

#[test]
fn why_the_cluster_s_task_has_failed_is_told_when_its_last_words_come() {
    let mut script = updating(&going_back(|_| ()), &["a"], &[INIT, NODE]);
    let init = script.launches("a", INIT);
    script.failed("a", &init, "Command exited with status 78");
    script.launches("a", INIT);
    let text = "the pool overlaps another one".to_owned();
    script.send(Input::Output { slot: Slot::Cluster(INIT), task: init, text });
    let why = script.core.view().rollout.given_up.unwrap();
    assert!(why.ends_with("the pool overlaps another one"), "{why}");
}

#[test]
fn what_was_done_once_and_has_vanished_is_put_back_and_takes_no_update_back() {
    let settings = rollout(|rollout| rollout.max_attempts = 1);
    let mut script = installed(&settings, &["a", "b"]);
    script.command(Plan::Update, Verb::Stop, None, None).unwrap();
    script.restart_with(changed(settings, &[NODE], 2));
    script.resumes(&["a", "b"]);
    script.tells(&["a", "b"]);
    script.wait(Duration::from_hours(2));
    let look = script.launches("b", TaskType::Cni);
    script.finished("b", &look);
    let look = script.launches("b", INIT);
    script.failed("b", &look, "Command exited with status 1");
    for _ in 0..2 {
        script.wait(Duration::from_mins(1));
        let init = script.launches("b", INIT);
        script.failed("b", &init, "Command exited with status 69");
    }
    assert_eq!(script.core.view().rollout.held.as_deref(), Some("stopped by an operator"));
}
