//! What operators command.

use super::*;

/// The master is told so often to end a task that is to end.
const KILL_AGAIN: Duration = Duration::from_secs(30);

#[test]
fn nothing_begins_while_the_plan_is_paused_or_stopped_and_what_has_begun_is_finished() {
    let mut script = updating(&rollout(|r| r.strategy = RolloutStrategy::Serial), &["a", "b"], &[NODE]);
    script.command(Plan::Update, Verb::Pause, None, None).unwrap();
    script.declines("a");
    assert_eq!(script.update_status(), Status::Waiting);
    script.restart();
    script.resumes(&["a", "b"]);
    script.declines("a");
    script.command(Plan::Update, Verb::Resume, None, None).unwrap();
    script.command(Plan::Update, Verb::Stop, None, None).unwrap();
    script.replaces_node("a");
    assert_eq!((script.under_way(), script.update_status()), (vec![], Status::Waiting));
    script.command(Plan::Update, Verb::Start, None, None).unwrap();
    script.replaces_node("b");
    assert_eq!(script.update_status(), Status::Complete);
}

#[test]
fn a_paused_plan_keeps_no_service_dead_and_one_that_is_stopped_stays_so_with_another_target() {
    let settings = rollout(|rollout| rollout.strategy = RolloutStrategy::Serial);
    let mut script = updating(&settings, &["a", "b"], &[NODE]);
    script.command(Plan::Update, Verb::Pause, None, None).unwrap();
    let proxy = script.task("a", TaskType::EtcdProxy);
    script.failed("a", &proxy, "Command terminated with signal Killed");
    script.wait(2 * SECOND);
    let again = launch(&script.offer("a")).unwrap();
    assert_eq!(again.task_type, TaskType::EtcdProxy);

    script.command(Plan::Update, Verb::Stop, None, None).unwrap();
    script.command(Plan::Update, Verb::Resume, None, None).unwrap();
    script.command(Plan::Update, Verb::Stop, None, None).unwrap_err();
    script.restart_with(changed(settings, &[NODE], 3));
    script.resumes(&["a", "b"]);
    script.tells(&["b"]);
    assert!(script.core.view().rollout.held.unwrap().contains("stopped"));
}

#[test]
fn the_pause_after_the_canaries_ends_when_the_operator_says_so() {
    let mut script = updating(&rollout(|_| ()), &["a", "b"], &[NODE]);
    script.replaces_node("a");
    assert_eq!(script.under_way(), [""; 0]);
    script.command(Plan::Update, Verb::Continue, None, None).unwrap();
    script.replaces_node("b");
}

#[test]
fn steps_are_left_out_forced_and_done_again_as_operators_say() {
    let settings = rollout(|rollout| rollout.strategy = RolloutStrategy::Parallel);
    let mut script = updating(&settings, &["a", "b"], &[NODE]);
    assert_eq!(script.under_way(), ["a:5051"]);
    script.command(Plan::Update, Verb::ForceComplete, Some(NODE), Some("b")).unwrap();
    script.replaces_node("a");
    assert_eq!((script.under_way(), script.update_status()), (vec![], Status::Complete));
    assert_eq!(script.target("b", NODE), "target of calico-node");
    let refused = script.command(Plan::Update, Verb::Restart, None, None).unwrap_err();
    assert!(refused.contains("needs a phase"), "{refused}");
    let refused = script.command(Plan::Update, Verb::Skip, None, Some("z")).unwrap_err();
    assert!(refused.contains("z:5051"), "{refused}");

    // Complete or not, it is done again.
    let old = script.task("a", NODE);
    script.command(Plan::Update, Verb::Restart, Some(NODE), Some("a")).unwrap();
    assert_eq!(script.under_way(), ["a:5051"]);
    let frame = script.wait(SECOND);
    assert!(killed(&frame).is_empty(), "it was ended before");
    script.failed("a", &old, "Command terminated with signal Terminated");
    let new = script.launches("a", NODE);
    script.ready("a", &new);
    script.wait(STABLE);
    assert_eq!(script.under_way(), [""; 0]);
}

#[test]
fn the_others_follow_a_canary_that_has_failed_when_the_operator_says_so() {
    let settings = rollout(|rollout| rollout.max_attempts = 1);
    let mut script = updating(&settings, &["a", "b"], &[NODE]);
    let fetch = script.launches("a", TaskType::Prefetch);
    script.failed("a", &fetch, "Command exited with status 78");
    script.wait(2 * SOAK);
    assert_eq!((script.under_way(), script.core.view().rollout.stage), (vec![], "canary"));
    script.command(Plan::Update, Verb::Continue, None, None).unwrap();
    script.wait(SOAK);
    script.replaces_node("b");
}

#[test]
fn what_an_operator_has_left_out_has_its_turn_when_that_is_taken_back_after_its_agents() {
    let settings = rollout(|rollout| rollout.strategy = RolloutStrategy::Parallel);
    let mut script = updating(&settings, &["a", "b"], &[NODE]);
    script.command(Plan::Update, Verb::Skip, Some(NODE), Some("b")).unwrap();
    script.replaces_node("a");
    assert_eq!((script.under_way(), script.update_status()), (vec![], Status::Complete));
    script.command(Plan::Update, Verb::Unskip, Some(NODE), Some("b")).unwrap();
    script.replaces_node("b");
    assert_eq!((script.under_way(), script.update_status()), (vec![], Status::Complete));
}

#[test]
fn what_its_host_cannot_have_is_tried_again_once_when_an_operator_orders_it() {
    let settings = rollout(|rollout| rollout.strategy = RolloutStrategy::Parallel);
    let mut script = Script::with_agents(settings, &["a"]);
    script.reaches("a", TaskType::ClusterInit);
    script.reaches("a", TaskType::EtcdProxy);
    let cni = script.launches("a", TaskType::Cni);
    script.failed("a", &cni, "Command exited with status 80");
    script.reaches("a", NODE);
    script.wait(SECOND);
    script.command(Plan::Update, Verb::Restart, Some(TaskType::Cni), Some("a")).unwrap();
    assert_eq!(script.under_way(), ["a:5051"]);
    let cni = script.launches("a", TaskType::Cni);
    script.failed("a", &cni, "Command exited with status 80");
    for _ in 0..3 {
        script.wait(STABLE);
        assert_eq!(script.under_way(), [""; 0]);
    }
}

#[test]
fn a_restart_of_a_phase_an_agent_or_a_step_does_that_again_and_nothing_else() {
    let settings = rollout(|rollout| rollout.strategy = RolloutStrategy::Parallel);
    let mut script = installed(&settings, &["a", "b"]);
    let again = |script: &mut Script, host: &str, types: &[TaskType]| {
        assert_eq!(script.under_way(), [format!("{host}:5051")]);
        for task_type in types {
            if matches!(script.phase(host, *task_type), Some(Phase::Active { .. })) {
                let old = script.task(host, *task_type);
                script.failed(host, &old, "Command terminated with signal Terminated");
            }
            script.reaches(host, *task_type);
        }
        script.declines(host);
        script.wait(STABLE);
    };
    let said = script.command(Plan::Update, Verb::Restart, Some(NODE), None).unwrap();
    assert_eq!(said, "restart: calico-node on all agents, 2 steps");
    again(&mut script, "a", &[NODE]);
    again(&mut script, "b", &[NODE]);
    assert_eq!((script.under_way(), script.update_status()), (vec![], Status::Complete));
    let said = script.command(Plan::Update, Verb::Restart, None, Some("b")).unwrap();
    assert_eq!(said, "restart: all task types on b:5051, 3 steps");
    again(&mut script, "b", &[TaskType::EtcdProxy, TaskType::Cni, NODE]);
    script.command(Plan::Update, Verb::Restart, Some(TaskType::Cni), Some("a")).unwrap();
    again(&mut script, "a", &[TaskType::Cni]);
    assert_eq!((script.under_way(), script.update_status()), (vec![], Status::Complete));
}

#[test]
fn an_agent_that_is_away_is_forgotten_at_once_and_one_that_is_there_is_not() {
    let mut script = Script::with_agents(rollout(|_| ()), &["a", "b"]);
    script.install("a");
    let refused = script.command(Plan::Deploy, Verb::Forget, None, Some("a")).unwrap_err();
    assert!(refused.contains("a:5051 is in the master's list"), "{refused}");
    let refused = script.command(Plan::Deploy, Verb::Forget, None, None).unwrap_err();
    assert!(refused.contains("needs an agent"), "{refused}");
    script.agents(&["a"]);
    let said = script.command(Plan::Deploy, Verb::Forget, None, Some("b")).unwrap();
    assert_eq!(said, "forget: b:5051");
    assert_eq!(script.stored.agents.len(), 1);
    let refused = script.command(Plan::Deploy, Verb::Forget, None, Some("b")).unwrap_err();
    assert!(refused.contains("no agent 'b:5051' is known"), "{refused}");
}

#[test]
fn a_retry_makes_what_waits_go_on_at_once() {
    let mut script = Script::with_agents(rollout(|_| ()), &["a", "b"]);
    let init = script.launches("a", TaskType::ClusterInit);
    script.failed("a", &init, "Command exited with status 78");
    let refused = script.command(Plan::Deploy, Verb::Retry, None, Some("a")).unwrap_err();
    assert!(refused.contains("'retry' changes nothing"), "{refused}");
    script.command(Plan::Deploy, Verb::Retry, Some(TaskType::ClusterInit), None).unwrap();
    script.reaches("a", TaskType::ClusterInit);
    for host in ["a", "b"] {
        let proxy = script.launches(host, TaskType::EtcdProxy);
        script.failed(host, &proxy, "Command exited with status 77");
        script.declines(host);
    }
    // One step, then all that wait.
    script.command(Plan::Deploy, Verb::Retry, Some(TaskType::EtcdProxy), Some("a")).unwrap();
    script.reaches("a", TaskType::EtcdProxy);
    script.declines("b");
    let said = script.command(Plan::Deploy, Verb::Retry, None, None).unwrap();
    assert_eq!(said, "retry: all task types on all agents, 1 step");
    script.reaches("b", TaskType::EtcdProxy);
}

#[test]
fn a_restart_that_has_failed_is_tried_again_with_a_place_and_not_before_there_is_one() {
    let settings = rollout(|rollout| {
        (rollout.max_attempts, rollout.max_failures) = (1, 5);
        rollout.strategy = RolloutStrategy::Parallel;
    });
    let mut script = installed(&settings, &["a", "b"]);
    script.command(Plan::Update, Verb::Restart, Some(NODE), Some("a")).unwrap();
    let old = script.task("a", NODE);
    script.failed("a", &old, "Command terminated with signal Terminated");
    let new = script.launches("a", NODE);
    script.failed("a", &new, "Command exited with status 69");
    assert_eq!(script.core.view().rollout.failed, ["a:5051".into()]);

    // The only place is another's.
    script.command(Plan::Update, Verb::Restart, Some(NODE), Some("b")).unwrap();
    script.command(Plan::Update, Verb::Retry, None, Some("a")).unwrap();
    assert_eq!(script.under_way(), ["b:5051"]);
    script.declines("a");
    assert!(script.agent_view("a").reason.contains("waits for the agent's turn"));
    // What dies there by itself comes back all the same.
    let proxy = script.task("a", TaskType::EtcdProxy);
    script.failed("a", &proxy, "Command terminated with signal Killed");
    script.wait(SECOND);
    script.reaches("a", TaskType::EtcdProxy);
    script.declines("a");
    let old = script.task("b", NODE);
    script.failed("b", &old, "Command terminated with signal Terminated");
    script.reaches("b", NODE);
    script.wait(STABLE);
    assert_eq!(script.under_way(), ["a:5051"]);
    script.reaches("a", NODE);
    script.wait(STABLE);
    assert_eq!((script.under_way(), script.update_status()), (vec![], Status::Complete));
}

#[test]
fn a_command_that_changes_nothing_says_why() {
    let mut script = Script::with_agents(rollout(|_| ()), &["a"]);
    script.install("a");
    let commanded = script.stored.clone();
    for (plan, verb, phase, why) in [
        (Plan::Update, Verb::Start, None, "the plan update is neither held nor paused"),
        (Plan::Update, Verb::Continue, None, "the plan update is neither held nor paused"),
        (Plan::Recovery, Verb::Resume, None, "the plan recovery is not paused"),
        (Plan::Deploy, Verb::Stop, None, "deploy can be paused and resumed"),
        (Plan::Update, Verb::Pause, Some(NODE), "leave out phase and step"),
        (Plan::Update, Verb::Restart, None, "needs a phase"),
        (Plan::Update, Verb::Skip, None, "needs a phase"),
        (Plan::Update, Verb::Skip, Some(TaskType::ClusterInit), "that run on each agent"),
        (Plan::Update, Verb::Restart, Some(TaskType::Libnetwork), "libnetwork is not configured"),
        (Plan::Update, Verb::Unskip, Some(NODE), "no step of calico-node on all agents is such"),
        (Plan::Update, Verb::Retry, None, "no step of all task types on all agents is such"),
    ] {
        let said = script.command(plan, verb, phase, None).unwrap_err();
        assert!(said.contains(why), "{}: {said}", verb.name());
    }
    assert_eq!(script.stored, commanded);
    script.command(Plan::Recovery, Verb::Pause, None, None).unwrap();
    let said = script.command(Plan::Recovery, Verb::Pause, None, None).unwrap_err();
    assert!(said.contains("the plan recovery is paused already"), "{said}");
}

#[test]
fn a_service_that_was_to_end_and_was_not_told_lives_on_where_an_operator_has_left_it_out() {
    let settings = rollout(|rollout| rollout.strategy = RolloutStrategy::Parallel);
    let mut script = updating(&settings, &["a"], &[NODE]);
    let old = script.task("a", NODE);
    let fetch = script.launches("a", TaskType::Prefetch);
    assert_eq!(killed(&script.finished("a", &fetch)), std::slice::from_ref(&old));
    script.command(Plan::Update, Verb::ForceComplete, Some(NODE), Some("a")).unwrap();
    assert_eq!(killed(&script.wait(2 * KILL_AGAIN)), [], "it may never have heard of it");
    assert_eq!((script.under_way(), script.task("a", NODE)), (vec![], old));
}

#[test]
fn a_service_that_was_to_end_lives_on_until_what_its_latest_successor_needs_is_fetched() {
    let settings = rollout(|rollout| rollout.strategy = RolloutStrategy::Parallel);
    let mut script = updating(&settings, &["a"], &[NODE]);
    let old = script.task("a", NODE);
    let fetch = script.launches("a", TaskType::Prefetch);
    assert_eq!(killed(&script.finished("a", &fetch)), std::slice::from_ref(&old));
    script.restart_with(changed(settings, &[NODE], 3));
    let frames = [script.subscribed(), script.agents(&["a"]), script.wait(2 * KILL_AGAIN)];
    assert_eq!(frames.iter().flat_map(killed).collect::<Vec<_>>(), []);
    script.tells(&["a"]);
    let fetch = script.launches("a", TaskType::Prefetch);
    script.finished("a", &fetch);
    assert_eq!(killed(&script.wait(SECOND)), std::slice::from_ref(&old));
    script.failed("a", &old, "Command terminated with signal Terminated");
    let new = script.launches("a", NODE);
    script.ready("a", &new);
    script.wait(STABLE);
    assert_eq!((script.under_way(), &*script.target("a", NODE)), (vec![], "version 3 of calico-node"));
}

#[test]
fn what_is_ordered_twice_changes_nothing() {
    let mut script = installed(&rollout(|_| ()), &["a", "b"]);
    for verb in [Verb::Skip, Verb::ForceComplete] {
        let said = script.command(Plan::Update, verb, Some(NODE), Some("a")).unwrap();
        assert_eq!(said, format!("{}: calico-node on a:5051, 1 step", verb.name()));
        let refused = script.command(Plan::Update, verb, Some(NODE), Some("a")).unwrap_err();
        assert!(refused.contains("changes nothing"), "{refused}");
        // Elsewhere it is new.
        let said = script.command(Plan::Update, verb, Some(NODE), None).unwrap();
        assert_eq!(said, format!("{}: calico-node on all agents, 1 step", verb.name()));
    }
}

#[test]
fn a_fetch_that_has_failed_is_tried_again_by_the_step_that_is_shown() {
    let settings = rollout(|rollout| (rollout.max_attempts, rollout.max_failures) = (1, 5));
    let mut script = updating(&settings, &["a", "b"], &[NODE]);
    let fetch = script.launches("a", TaskType::Prefetch);
    script.failed("a", &fetch, "Command exited with status 69");
    assert_eq!(script.core.view().rollout.failed, ["a:5051".into()]);
    let refused = script.command(Plan::Update, Verb::Retry, Some(TaskType::Prefetch), Some("b")).unwrap_err();
    assert!(refused.contains("changes nothing"), "{refused}");
    script.command(Plan::Update, Verb::Retry, Some(TaskType::Prefetch), Some("a")).unwrap();
    script.command(Plan::Update, Verb::Continue, None, None).unwrap();
    script.replaces_node("a");
}

#[test]
fn a_step_that_took_too_long_is_tried_again_by_itself() {
    let settings = rollout(|rollout| (rollout.canary_count, rollout.max_failures) = (1, 5));
    let mut script = updating(&settings, &["a", "b"], &[NODE]);
    let old = script.task("a", NODE);
    script.reaches("a", TaskType::Prefetch);
    script.failed("a", &old, "Command terminated with signal Terminated");
    let new = script.launches("a", NODE);
    script.reports("a", &new, not_ready());
    script.wait(Duration::from_mins(15));
    assert_eq!(script.core.view().rollout.failed, ["a:5051".into()]);
    // It is its step that is in error, and no other one.
    let refused = script.command(Plan::Update, Verb::Retry, Some(TaskType::Cni), Some("a")).unwrap_err();
    assert!(refused.contains("changes nothing"), "{refused}");
    script.command(Plan::Update, Verb::Retry, Some(NODE), Some("a")).unwrap();
    assert_eq!((script.core.view().rollout.failed.len(), script.under_way()), (0, vec!["a:5051"]));
}
