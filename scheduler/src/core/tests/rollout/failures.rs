//! What becomes of a rollout in which agents fail: it halts, or goes back.

use super::*;

#[test]
fn a_canary_that_fails_halts_the_rollout_with_its_reason_and_its_old_services_go_on() {
    let settings = rollout(|rollout| (rollout.max_attempts, rollout.max_failures) = (2, 5));
    let mut script = updating(&settings, &["a", "b"], &[NODE, TaskType::EtcdProxy]);
    for attempt in 1..=2 {
        let fetch = script.launches("a", TaskType::Prefetch);
        script.failed("a", &fetch, "Command exited with status 75");
        assert_eq!(script.under_way().len(), usize::from(attempt < 2));
        // Its sandbox is read after that.
        let slot = Slot::Agent(AgentKey::from("a:5051"), TaskType::Prefetch);
        let text = format!("no such image, {attempt}");
        script.send(Input::Output { slot, task: fetch, text });
        script.wait(2 * SECOND);
    }
    let view = script.core.view();
    let halted = view.rollout.held.unwrap();
    assert!(halted.contains("canary a:5051") && halted.contains("prefetch failed 2 times"), "{halted}");
    assert!(halted.ends_with("(to be tried again): no such image, 2"), "{halted}");
    let place = script.agent_view("a").rollout.unwrap();
    assert!(place.failure.is_some_and(|why| halted.ends_with(&why)), "{halted}");
    assert_eq!((view.update.status, view.rollout.failed.len()), (Status::Error, 1));
    assert!(
        view.update.errors.iter().any(|error| error.contains("rollout.max-attempts")),
        "{:?}",
        view.update
    );
    script.wait(Duration::from_hours(1));
    assert_eq!(script.under_way(), [""; 0]);
    // What runs there is what was there, and comes back as that.
    let node = script.task("a", NODE);
    script.failed("a", &node, "Command terminated with signal Killed");
    script.wait(SECOND);
    let again = launch(&script.offer("a")).unwrap();
    assert_eq!(again.target.to_string(), "target of calico-node");
    script.ready("a", &again.task);

    // The operator has mended it.
    script.command(Plan::Update, Verb::Retry, None, Some("a")).unwrap();
    assert_eq!(script.under_way(), ["a:5051"]);
    script.reaches("a", TaskType::Prefetch);
    assert_eq!(script.core.view().rollout.failed.len(), 0);
}

#[test]
fn another_target_begins_with_those_that_have_failed() {
    let settings = rollout(|rollout| rollout.max_attempts = 1);
    let mut script = updating(&settings, &["a", "b"], &[NODE]);
    let fetch = script.launches("a", TaskType::Prefetch);
    script.failed("a", &fetch, "Command exited with status 78");
    assert_eq!(script.update_status(), Status::Error);
    script.restart_with(changed(settings, &[NODE], 3));
    script.resumes(&["a", "b"]);
    script.tells(&["a", "b"]);
    assert_eq!(script.under_way(), ["a:5051"]);
    assert_eq!(script.core.view().rollout.number, 3);
}

#[test]
fn an_agent_that_is_lost_with_its_place_keeps_it_for_its_time_and_has_failed_then() {
    let mut script = updating(&rollout(|_| ()), &["a", "b"], &[NODE]);
    script.launches("a", TaskType::Prefetch);
    script.agents(&["b"]);
    script.wait(Duration::from_mins(14));
    assert_eq!(script.under_way(), ["a:5051"]);
    script.wait(Duration::from_mins(1));
    assert_eq!(script.under_way(), [""; 0]);
    let halted = script.core.view().rollout.held.unwrap();
    assert!(halted.contains("rollout.agent-timeout") && halted.contains("is away"), "{halted}");
}

#[test]
fn an_agent_that_has_failed_with_its_last_step_stays_failed() {
    let settings = rollout(|rollout| (rollout.max_attempts, rollout.max_failures) = (1, 5));
    let mut script = updating(&settings, &["a", "b"], &[NODE]);
    let old = script.task("a", NODE);
    script.reaches("a", TaskType::Prefetch);
    script.failed("a", &old, "Command terminated with signal Terminated");
    let new = script.launches("a", NODE);
    script.failed("a", &new, "Command exited with status 69");
    script.wait(SECOND);
    // Nothing there has another target, and it is not well with it.
    assert_eq!(script.core.view().rollout.failed, ["a:5051".into()]);
    assert_eq!(script.update_status(), Status::Error);
}

#[test]
fn a_canary_that_dies_in_the_pause_after_it_begins_that_anew_and_one_that_cannot_live_halts() {
    let settings = rollout(|rollout| rollout.max_attempts = 2);
    let mut script = updating(&settings, &["a", "b"], &[NODE]);
    script.replaces_node("a");
    script.wait(SOAK / 2);
    let node = script.task("a", NODE);
    script.failed("a", &node, "Command terminated with signal Killed");
    script.wait(SOAK);
    assert_eq!((script.under_way(), script.core.view().rollout.stage), (vec![], "soak"));
    assert!(script.core.view().rollout.held.unwrap().contains("a canary is not well"));
    script.reaches("a", NODE);
    script.wait(SOAK / 2);
    assert_eq!(script.under_way(), [""; 0], "not all of the pause since it is well again");
    let node = script.task("a", NODE);
    script.failed("a", &node, "Command exited with status 1");
    script.wait(Duration::from_mins(1));
    let node = script.launches("a", NODE);
    script.failed("a", &node, "Command exited with status 1");
    script.wait(SECOND);
    let halted = script.core.view().rollout.held.unwrap();
    assert!(halted.contains("the canary a:5051 has failed after it was done: calico-node"), "{halted}");
    script.wait(Duration::from_hours(1));
    assert_eq!(script.under_way(), [""; 0]);
    script.command(Plan::Update, Verb::Continue, None, None).unwrap();
    assert_eq!(script.under_way(), ["b:5051"]);
}

#[test]
fn a_canary_that_is_at_work_again_begins_the_pause_after_it_anew() {
    let mut script = updating(&rollout(|_| ()), &["a", "b"], &[NODE]);
    script.replaces_node("a");
    script.command(Plan::Update, Verb::Restart, Some(TaskType::Cni), Some("a")).unwrap();
    script.wait(SOAK);
    assert_eq!(script.under_way(), ["a:5051"]);
    script.reaches("a", TaskType::Cni);
    script.wait(STABLE);
    script.wait(SOAK.saturating_sub(SECOND));
    assert_eq!(script.under_way(), [""; 0]);
    script.wait(2 * SECOND);
    assert_eq!(script.under_way(), ["b:5051"]);
}

#[test]
fn a_canary_that_goes_away_after_it_was_done_holds_nobody_up() {
    let mut script = updating(&rollout(|_| ()), &["a", "b"], &[NODE]);
    script.replaces_node("a");
    let node = script.task("a", NODE);
    script.failed("a", &node, "Command terminated with signal Killed");
    script.agents(&["b"]);
    script.wait(SECOND);
    script.wait(SOAK);
    script.wait(SECOND);
    assert_eq!(script.under_way(), ["b:5051"]);
}

#[test]
fn nobody_s_time_passes_without_a_master_nor_while_its_host_is_drained() {
    let mut script = updating(&rollout(|_| ()), &["a", "b"], &[NODE]);
    script.launches("a", TaskType::Prefetch);
    script.send(Input::Disconnected);
    script.wait(Duration::from_hours(1));
    script.resumes(&["a", "b"]);
    script.wait(Duration::from_mins(14));
    assert_eq!(script.under_way(), ["a:5051"]);
    let standing = |agent: Agent| Agent { standing: Standing::Deactivated, ..agent };
    let agents = vec![standing(agent("a", "S-a")), agent("b", "S-b")];
    script.send(Input::Agents(agents));
    script.wait(Duration::from_hours(2));
    assert_eq!((script.under_way(), script.core.view().rollout.failed.len()), (vec!["a:5051"], 0));
}

#[test]
fn nobody_s_time_passes_while_nothing_is_decided() {
    let mut script = updating(&rollout(|_| ()), &["a", "b"], &[NODE]);
    script.launches("a", TaskType::Prefetch);
    script.wait(Duration::from_mins(5));
    // The clock was set, or state could not be stored for a while.
    script.now = script.now.after(Duration::from_hours(1));
    script.send(Input::Unattended);
    script.wait(Duration::from_mins(14));
    assert_eq!(script.under_way(), ["a:5051"]);
    script.wait(Duration::from_mins(1));
    let halted = script.core.view().rollout.held.unwrap();
    assert!(halted.starts_with("halted") && halted.contains("rollout.agent-timeout"), "{halted}");
}

#[test]
fn who_was_well_must_be_so_anew_when_nothing_was_decided_for_a_while() {
    let mut script = updating(&rollout(|_| ()), &["a", "b"], &[NODE]);
    script.replaces_node("a");
    script.wait(SECOND);
    script.now = script.now.after(Duration::from_hours(1));
    script.send(Input::Unattended);
    assert_eq!(script.under_way(), [""; 0], "not all of the pause is over");
    script.wait(SOAK);
    script.wait(SECOND);
    assert_eq!(script.under_way(), ["b:5051"]);
}

#[test]
fn what_was_ordered_on_all_agents_ends_with_the_first_that_fails() {
    let settings = rollout(|rollout| {
        rollout.strategy = RolloutStrategy::Serial;
        rollout.max_attempts = 1;
    });
    let mut script = installed(&settings, &["a", "b", "c"]);
    script.command(Plan::Update, Verb::Restart, Some(NODE), None).unwrap();
    assert_eq!(script.under_way(), ["a:5051"]);
    let old = script.task("a", NODE);
    script.wait(SECOND);
    script.failed("a", &old, "Command terminated with signal Terminated");
    let new = script.launches("a", NODE);
    script.failed("a", &new, "Command exited with status 78");
    script.wait(Duration::from_hours(1));
    let halted = script.core.view().rollout.held.unwrap();
    assert!(halted.contains("ordered on 2 other agents is not begun"), "{halted}");
    assert_eq!(script.under_way(), [""; 0]);
    // What is ordered after that is done.
    script.command(Plan::Update, Verb::Restart, Some(NODE), Some("b")).unwrap();
    assert_eq!(script.under_way(), ["b:5051"]);
}

#[test]
fn what_is_left_out_where_it_has_failed_is_a_failure_no_more() {
    let settings = rollout(|rollout| (rollout.max_attempts, rollout.max_failures) = (1, 5));
    let mut script = updating(&settings, &["a"], &[NODE]);
    let old = script.task("a", NODE);
    script.reaches("a", TaskType::Prefetch);
    script.failed("a", &old, "Command terminated with signal Terminated");
    let new = script.launches("a", NODE);
    script.failed("a", &new, "Command exited with status 78");
    script.wait(SECOND);
    assert_eq!(script.core.view().rollout.failed, ["a:5051".into()]);
    script.command(Plan::Update, Verb::Skip, Some(NODE), Some("a")).unwrap();
    script.command(Plan::Update, Verb::Continue, None, None).unwrap();
    script.wait(SECOND);
    assert_eq!(script.core.view().rollout.failed, []);
    assert!(script.stored.cluster.rollout.complete);
}

impl Script {
    /// The node of `host`, which has its place, is replaced by what fails.
    fn fails_with_its_node(&mut self, host: &str) -> TaskId {
        self.reaches(host, TaskType::Prefetch);
        let old = self.task(host, NODE);
        self.failed(host, &old, "Command terminated with signal Terminated");
        let new = self.launches(host, NODE);
        self.failed(host, &new, "Command exited with status 69");
        new
    }

    /// Brings calico-node of `host`, which has its place, to a target.
    fn comes_to(&mut self, host: &str, target: &str) {
        if self.phase(host, NODE).unwrap().live().is_some() {
            let wanted = &self.stored.cluster.rollout.targets[&TaskType::Prefetch];
            let agent = &self.stored.agents[&AgentKey::from(format!("{host}:5051"))];
            let fetched = agent.tasks.get(&TaskType::Prefetch).and_then(|record| record.target.as_ref());
            if fetched != Some(wanted) {
                self.reaches(host, TaskType::Prefetch);
            }
            let old = self.task(host, NODE);
            self.failed(host, &old, "Command terminated with signal Terminated");
        }
        self.reaches(host, NODE);
        assert_eq!(self.target(host, NODE), target);
        self.wait(STABLE);
    }

    fn stage(&self) -> &'static str {
        self.core.view().rollout.stage
    }
}

const BEFORE: &str = "target of calico-node";

#[test]
fn a_rollout_that_fails_goes_back_one_agent_after_the_other_without_a_pause() {
    let settings = going_back(|rollout| rollout.strategy = RolloutStrategy::Parallel);
    let mut script = updating(&settings, &["a", "b", "c"], &[NODE]);
    script.replaces_node("a");
    script.fails_with_its_node("b");
    let view = script.core.view();
    assert_eq!((view.rollout.stage, view.update.status), ("rolling-back", Status::Error));
    let why = view.rollout.given_up.unwrap();
    assert!(why.contains("b:5051") && why.contains("status 69"), "{why}");
    assert!(view.update.errors[0].starts_with("rollout 2 was given up"), "{:?}", view.update.errors);
    // What has failed goes first; what was updated follows, and what was not reached stays as it is.
    assert_eq!(script.under_way(), ["b:5051"]);
    script.comes_to("b", BEFORE);
    assert_eq!(script.under_way(), ["a:5051"]);
    script.comes_to("a", BEFORE);
    assert_eq!((script.under_way(), script.stage()), (vec![], "rolled-back"));
    assert_eq!((script.target("c", NODE), script.update_status()), (BEFORE.to_owned(), Status::Error));

    // The operator wants the same still: it is not begun anew.
    script.restart();
    script.resumes(&["a", "b", "c"]);
    script.tells(&["a", "b", "c"]);
    script.wait(SOAK);
    assert_eq!((script.under_way(), script.stage()), (vec![], "rolled-back"));
    let node = script.task("c", NODE);
    script.failed("c", &node, "Command terminated with signal Killed");
    script.wait(SECOND);
    script.reaches("c", NODE);
    assert_eq!(script.target("c", NODE), BEFORE);
    // What joins gets what the others have.
    script.agents(&["a", "b", "c", "d"]);
    for task_type in [TaskType::EtcdProxy, TaskType::Cni, NODE] {
        script.reaches("d", task_type);
    }
    assert_eq!(script.target("d", NODE), BEFORE);
}

#[test]
fn who_goes_back_needs_no_canary_and_no_pause_after_it() {
    let mut script = updating(&going_back(|_| ()), &["a", "b"], &[NODE]);
    script.replaces_node("a");
    script.wait(SOAK);
    script.fails_with_its_node("b");
    script.comes_to("b", BEFORE);
    assert_eq!(script.under_way(), ["a:5051"]);
    script.comes_to("a", BEFORE);
    assert_eq!((script.under_way(), script.stage()), (vec![], "rolled-back"));
}

#[test]
fn why_it_goes_back_has_the_last_words_that_come_when_the_next_launch_is_made() {
    let settings = going_back(|_| ());
    let mut script = updating(&settings, &["a", "b"], &[NODE]);
    let node = script.fails_with_its_node("a");
    script.launches("a", NODE);
    let slot = Slot::Agent(AgentKey::from("a:5051"), NODE);
    script.send(Input::Output { slot, task: node, text: "no such file".into() });
    let why = script.core.view().rollout.given_up.unwrap();
    assert!(why.contains("exited with status 69 (") && why.ends_with("): no such file"), "{why}");
}

#[test]
fn a_scheduler_that_dies_while_it_goes_back_goes_on_with_that() {
    let settings = going_back(|_| ());
    let mut script = updating(&settings, &["a", "b"], &[NODE]);
    script.fails_with_its_node("a");
    script.restart();
    script.resumes(&["a", "b"]);
    script.tells(&["b"]);
    assert_eq!((script.under_way(), script.stage()), (vec!["a:5051"], "rolling-back"));
    script.comes_to("a", BEFORE);
    assert_eq!((script.under_way(), script.stage()), (vec![], "rolled-back"));
}

#[test]
fn what_fails_while_it_goes_back_halts_that() {
    let settings = going_back(|_| ());
    let mut script = updating(&settings, &["a", "b"], &[NODE]);
    script.fails_with_its_node("a");
    let again = script.launches("a", NODE);
    script.failed("a", &again, "Command exited with status 75");
    let view = script.core.view();
    assert_eq!((view.rollout.stage, script.under_way()), ("rolling-back", vec![]));
    assert!(view.rollout.held.is_some_and(|why| why.starts_with("halted") && why.contains("status 75")));
    script.command(Plan::Update, Verb::Retry, None, Some("a")).unwrap();
    script.command(Plan::Update, Verb::Continue, None, None).unwrap();
    script.comes_to("a", BEFORE);
    assert_eq!(script.stage(), "rolled-back");
}

#[test]
fn what_was_given_up_is_tried_again_when_the_operator_says_so() {
    let settings = going_back(|_| ());
    let mut script = updating(&settings, &["a", "b"], &[NODE]);
    script.fails_with_its_node("a");
    script.comes_to("a", BEFORE);
    let refused = script.command(Plan::Update, Verb::Start, None, None).unwrap_err();
    assert!(refused.contains("'restart' the plan"), "{refused}");
    let said = script.command(Plan::Update, Verb::Restart, None, None).unwrap();
    assert_eq!(said, "restart: the plan update, as rollout 4");
    assert_eq!((script.under_way(), script.stage()), (vec!["a:5051"], "canary"));
    script.comes_to("a", "version 2 of calico-node");
    script.wait(SOAK);
    script.comes_to("b", "version 2 of calico-node");
    assert_eq!((script.stage(), script.update_status()), ("complete", Status::Complete));
    // Where that fails in turn, it goes back to what has worked, not to what was tried last.
    script.restart_with(changed(settings, &[NODE], 3));
    script.resumes(&["a", "b"]);
    script.tells(&["a", "b"]);
    script.fails_with_its_node("a");
    script.comes_to("a", "version 2 of calico-node");
}

#[test]
fn another_configuration_ends_it_that_a_rollout_has_gone_back() {
    let settings = going_back(|_| ());
    for (next, changes) in [(settings.clone(), false), (changed(settings.clone(), &[NODE], 3), true)] {
        let mut script = updating(&settings, &["a", "b"], &[NODE]);
        script.fails_with_its_node("a");
        script.restart_with(next);
        script.resumes(&["a", "b"]);
        script.tells(&["b"]);
        let view = script.core.view();
        assert_eq!((view.rollout.number, view.rollout.given_up), (4, None));
        script.comes_to("a", if changes { "version 3 of calico-node" } else { BEFORE });
        script.wait(SOAK);
        if changes {
            script.comes_to("b", "version 3 of calico-node");
        }
        assert_eq!((script.stage(), script.update_status()), ("complete", Status::Complete));
    }
}

#[test]
fn agents_that_are_late_together_make_it_go_back_once() {
    let settings = going_back(|rollout| {
        (rollout.strategy, rollout.max_agents) = (RolloutStrategy::Parallel, Share::Number(2));
    });
    let mut script = updating(&settings, &["a", "b"], &[NODE]);
    assert_eq!(script.under_way().len(), 2);
    script.agents(&[]);
    script.wait(Duration::from_mins(15));
    let view = script.core.view().rollout;
    assert_eq!((view.number, view.stage), (3, "rolling-back"));
    assert_eq!((script.under_way(), view.held), (vec!["b:5051"], None));
}

#[test]
fn what_came_to_no_end_is_not_gone_back_to() {
    let mut settings = rollout(|rollout| rollout.max_attempts = 1);
    let mut script = updating(&settings, &["a", "b"], &[NODE]);
    script.fails_with_its_node("a");
    assert!(script.core.view().rollout.held.is_some());
    settings.rollout.on_failure = OnFailure::Rollback;
    script.restart_with(changed(settings, &[NODE], 3));
    script.resumes(&["a", "b"]);
    script.tells(&["b"]);
    let new = script.launches("a", NODE);
    script.failed("a", &new, "Command exited with status 69");
    assert_eq!(script.stage(), "rolling-back");
    script.comes_to("a", BEFORE);

    // Nor is anything that nobody knows any more.
    let mut script = updating(&going_back(|_| ()), &["a"], &[NODE]);
    script.stored.cluster.rollout.before = None;
    script.restart();
    script.resumes(&["a"]);
    script.tells(&["a"]);
    script.fails_with_its_node("a");
    let halted = script.core.view().rollout.held.unwrap();
    assert!(halted.contains("cannot be rolled back, for there is no earlier target"), "{halted}");
}
