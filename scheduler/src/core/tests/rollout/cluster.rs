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
    let mut settings =
        rollout(|rollout| (rollout.on_failure, rollout.max_attempts) = (OnFailure::Rollback, 1));
    fetching(&mut settings);
    let settings = with_definitions(settings);
    let mut script = updating(&settings, &["a", "b"], &[INIT, NODE]);
    let init = script.launches("a", INIT);
    script.failed("a", &init, "Command exited with status 78");
    let view = script.core.view();
    let why = view.rollout.given_up.unwrap();
    assert!(why.starts_with("cluster-init: ") && why.contains("status 78"), "{why}");
    assert_eq!(launch(&script.offer("a")).unwrap().target.to_string(), "target of cluster-init");
}

#[test]
fn a_service_that_was_ended_gets_its_successor_whatever_the_cluster_waits_for() {
    let settings = rollout(|rollout| rollout.max_attempts = 1);
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
    // Another configuration ends that.
    let mut other = changed(rollout(|rollout| rollout.max_attempts = 1), &[NODE], 4);
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
