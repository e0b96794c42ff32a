//! Rollouts: who begins when, what is done on an agent, what becomes of failures, and what operators command.

mod turns;

use std::time::Duration;

use super::script::{Script, asked, killed, launch, not_ready, state};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const STABLE: Duration = Duration::from_secs(10);
const SOAK: Duration = Duration::from_mins(1);
const NODE: TaskType = TaskType::CalicoNode;

/// Settings under which `task_type` is launched with something else, and fetched before.
fn changed(mut settings: Settings, types: &[TaskType], version: u32) -> Settings {
    let spec_of_fetch = || Spec::new(Goal::Finished, Needs { cpus: 100, mem: 64_000 }, "prefetch".into());
    settings.specs.entry(TaskType::Prefetch).or_insert_with(spec_of_fetch);
    for task_type in types.iter().chain(&[TaskType::Prefetch]) {
        let spec = settings.specs.get_mut(task_type).unwrap();
        spec.target = TargetHash::from(format!("version {version} of {task_type}"));
    }
    with_definitions(settings)
}

/// All that may be launched can be launched again later.
fn with_definitions(mut settings: Settings) -> Settings {
    let define = |(task_type, spec): (&TaskType, &Spec)| {
        let (goal, needs, template) = (spec.goal, spec.needs, spec.target.to_string());
        (spec.target.clone(), Definition { task_type: *task_type, goal, needs, template })
    };
    settings.rollout.definitions = settings.specs.iter().map(define).collect();
    settings
}

fn rollout(edit: impl FnOnce(&mut Rollout)) -> Settings {
    // The few agents of a test are many of them.
    let mut settings = Settings { mass_failure: Share::Percent(100), ..settings() };
    settings.rollout.max_agents = Share::Number(1);
    edit(&mut settings.rollout);
    with_definitions(settings)
}

/// Everything is installed on `hosts`; then the scheduler is started with another target of `types`.
fn updating(settings: &Settings, hosts: &[&str], types: &[TaskType]) -> Script {
    let mut script = Script::with_agents(settings.clone(), hosts);
    for host in hosts {
        script.install(host);
    }
    assert_eq!(script.core.view().update.status, Status::Complete);
    script.restart_with(changed(settings.clone(), types, 2));
    script.resumes(hosts);
    script.tells(hosts);
    script
}

impl Script {
    /// The master tells of the tasks that there are.
    fn tells(&mut self, hosts: &[&str]) {
        for host in hosts {
            let key = AgentKey::from(format!("{host}:5051"));
            let tasks: Vec<TaskId> = self.stored.agents[&key].live().map(|(task, _)| task.clone()).collect();
            for task in &tasks {
                self.update(host, task, script::ready());
            }
        }
    }

    fn under_way(&self) -> Vec<&str> {
        let agents = self.stored.agents.values().filter(|agent| agent.holds().is_some());
        agents.map(|agent| &*agent.key.0).collect()
    }

    fn task(&self, host: &str, task_type: TaskType) -> TaskId {
        let key = AgentKey::from(format!("{host}:5051"));
        self.stored.agents[&key].tasks[&task_type].phase.live().unwrap().0.clone()
    }

    fn target(&self, host: &str, task_type: TaskType) -> String {
        let key = AgentKey::from(format!("{host}:5051"));
        self.stored.agents[&key].tasks[&task_type].target.as_ref().unwrap().to_string()
    }

    /// Brings calico-node of `host` to its new target, and waits until the agent is done.
    fn replaces_node(&mut self, host: &str) {
        assert_eq!(self.under_way(), [format!("{host}:5051")]);
        let old = self.task(host, NODE);
        let fetch = self.launches(host, TaskType::Prefetch);
        assert_eq!(self.phase(host, NODE).and_then(Phase::live).map(|(task, _)| task), Some(&old));
        let frame = self.finished(host, &fetch);
        assert_eq!(killed(&frame), std::slice::from_ref(&old));
        self.failed(host, &old, "Command terminated with signal Terminated");
        let new = self.launches(host, NODE);
        self.ready(host, &new);
        assert_eq!(self.under_way(), [format!("{host}:5051")], "its place is held until it is stable");
        self.wait(STABLE);
        assert_eq!(self.target(host, NODE), "version 2 of calico-node");
    }

    fn command(
        &mut self,
        plan: Plan,
        verb: Verb,
        phase: Option<TaskType>,
        host: Option<&str>,
    ) -> Result<String, String> {
        let agent = host.map(|host| AgentKey::from(format!("{host}:5051")));
        self.send(Input::Command(Command { plan, verb, phase, agent })).answer.unwrap()
    }

    fn update_status(&self) -> Status {
        self.core.view().update.status
    }
}

#[test]
fn a_canary_goes_first_then_a_pause_then_the_others_one_after_the_other_and_our_own_last() {
    let settings = rollout(|rollout| rollout.own_host = Some("a".into()));
    let mut script = updating(&settings, &["a", "b", "c"], &[NODE]);
    assert_eq!(script.update_status(), Status::InProgress);
    script.replaces_node("b");
    let view = script.core.view().rollout;
    assert_eq!((view.stage, view.canaries.len(), view.waiting), ("soak", 1, 2));
    assert_eq!((script.under_way(), script.update_status()), (vec![], Status::Waiting));
    script.wait(SOAK.checked_sub(SECOND).unwrap());
    assert_eq!(script.under_way(), [""; 0]);
    script.wait(SECOND);
    script.replaces_node("c");
    script.replaces_node("a");
    assert_eq!((script.update_status(), script.core.view().rollout.stage), (Status::Complete, "complete"));
    for host in ["a", "b", "c"] {
        assert_eq!(script.target(host, TaskType::EtcdProxy), "target of etcd-proxy");
    }
    script.restart();
    script.resumes(&["a", "b", "c"]);
    script.tells(&["a", "b", "c"]);
    script.wait(SOAK);
    assert_eq!((script.under_way(), script.update_status()), (vec![], Status::Complete));
}

#[test]
fn a_scheduler_that_dies_at_any_step_goes_on_where_it_was() {
    let mut script = updating(&rollout(|_| ()), &["a"], &[NODE]);
    let again = |script: &mut Script| {
        script.restart();
        script.resumes(&["a"]);
        assert_eq!(script.under_way(), ["a:5051"]);
    };
    again(&mut script);
    // Before the agents are known nobody can say that all is done.
    script.restart();
    let view = script.core.view();
    assert_eq!((view.rollout.stage, view.update.status), ("unknown", Status::Pending));
    again(&mut script);
    let (old, fetch) = (script.task("a", NODE), script.launches("a", TaskType::Prefetch));
    again(&mut script);
    script.finished("a", &fetch);
    // The kill was stored, and may not have been sent.
    again(&mut script);
    assert_eq!(killed(&script.wait(SECOND)), std::slice::from_ref(&old));
    script.failed("a", &old, "Command terminated with signal Terminated");
    again(&mut script);
    let new = script.launches("a", NODE);
    again(&mut script);
    script.ready("a", &new);
    again(&mut script);
    script.wait(STABLE);
    assert_eq!((script.under_way(), script.update_status()), (vec![], Status::Complete));
}

#[test]
fn what_dies_before_its_turn_comes_back_as_it_was_and_what_joins_gets_the_new_target() {
    let mut script = updating(&rollout(|_| ()), &["a", "b"], &[NODE, TaskType::EtcdProxy]);
    let node = script.task("b", NODE);
    script.failed("b", &node, "Command terminated with signal Killed");
    script.wait(SECOND);
    let frame = script.offer("b");
    let again = launch(&frame).unwrap();
    assert_eq!(again.target.to_string(), "target of calico-node");
    script.ready("b", &again.task);
    script.agents(&["a", "b", "c"]);
    let frame = script.offer("c");
    assert_eq!(launch(&frame).unwrap().target.to_string(), "version 2 of etcd-proxy");
    // Another scheduler knows the old target, too.
    let proxy = script.task("b", TaskType::EtcdProxy);
    script.restart();
    script.resumes(&["a", "b", "c"]);
    script.failed("b", &proxy, "Command terminated with signal Killed");
    script.wait(SECOND);
    assert_eq!(launch(&script.offer("b")).unwrap().target.to_string(), "target of etcd-proxy");
}

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
fn the_time_of_a_step_begins_with_it_and_not_with_the_place() {
    let mut script = updating(&rollout(|_| ()), &["a"], &[NODE]);
    let (old, fetch) = (script.task("a", NODE), script.launches("a", TaskType::Prefetch));
    script.wait(Duration::from_mins(10));
    script.finished("a", &fetch);
    script.failed("a", &old, "Command terminated with signal Terminated");
    let new = script.launches("a", NODE);
    script.reports("a", &new, not_ready());
    script.wait(Duration::from_mins(10));
    script.ready("a", &new);
    // All is done, and it is away for a moment before that is believed.
    script.agents(&[]);
    script.wait(SECOND);
    assert_eq!(script.under_way(), ["a:5051"]);
    script.agents(&["a"]);
    script.tells(&["a"]);
    script.wait(STABLE);
    assert_eq!((script.under_way(), script.update_status()), (vec![], Status::Complete));
}

#[test]
fn an_agent_without_a_place_that_goes_away_is_no_failure() {
    let mut script = updating(&rollout(|_| ()), &["a", "b"], &[NODE]);
    script.agents(&["a"]);
    script.replaces_node("a");
    script.wait(Duration::from_mins(20));
    assert_eq!(script.update_status(), Status::Complete);
    // Back, it has its turn.
    script.agents(&["a", "b"]);
    script.tells(&["b"]);
    script.replaces_node("b");
    assert_eq!(script.update_status(), Status::Complete);
}

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
fn a_task_type_that_is_no_longer_wanted_is_ended_and_taken_back_if_the_operator_says_so() {
    let mut settings = rollout(|_| ());
    let mut script = Script::with_agents(settings.clone(), &["a"]);
    script.install("a");
    let (node, before) = (script.task("a", NODE), script.stored.clone());
    settings.specs.remove(&NODE);
    settings.specs.remove(&TaskType::Cni);
    script.restart_with(settings.clone());
    script.resumes(&["a"]);
    assert_eq!(killed(&script.wait(SECOND)), []);
    script.failed("a", &node, "Command terminated with signal Terminated");
    script.wait(STABLE);
    assert_eq!(script.phase("a", NODE), None);
    assert!(script.phase("a", TaskType::Cni).is_some(), "it is still on the host");
    assert_eq!(script.update_status(), Status::Complete);

    // The same with what takes back.
    for task_type in [NODE, TaskType::Cni] {
        let target = TargetHash::from(format!("undo of {task_type}"));
        let spec = Spec::new(Goal::Finished, Needs { cpus: 100, mem: 64_000 }, target);
        settings.rollout.undo.insert(task_type, spec);
    }
    let mut script = Script::with_agents(settings.clone(), &[]);
    script.stored = before;
    script.restart();
    script.resumes(&["a"]);
    script.failed("a", &node, "Command terminated with signal Terminated");
    for task_type in [NODE, TaskType::Cni] {
        let undo = script.launches("a", task_type);
        assert_eq!(script.target("a", task_type), format!("undo of {task_type}"));
        script.finished("a", &undo);
    }
    script.wait(STABLE);
    assert_eq!((script.phase("a", NODE), script.phase("a", TaskType::Cni)), (None, None));
    assert_eq!(script.update_status(), Status::Complete);
}

#[test]
fn a_change_that_is_not_safe_is_refused_and_all_stay_as_they_are_until_it_is_allowed() {
    let name = |settings: &mut Settings, name: &str| {
        settings.rollout.guarded.insert("network.name".into(), name.into());
    };
    let mut settings = rollout(|_| ());
    name(&mut settings, "calico");
    let mut script = Script::with_agents(settings.clone(), &["a"]);
    script.install("a");
    let mut other = changed(settings, &[NODE], 2);
    name(&mut other, "blue");
    script.restart_with(other.clone());
    script.resumes(&["a"]);
    script.tells(&["a"]);
    let view = script.core.view();
    assert_eq!((view.update.status, view.rollout.number), (Status::Error, 1));
    assert!(view.update.errors[0].contains("rollout.allow-unsafe"), "{:?}", view.update.errors);
    // What dies and what joins gets what the others have.
    let node = script.task("a", NODE);
    script.failed("a", &node, "Command terminated with signal Killed");
    script.wait(SECOND);
    assert_eq!(launch(&script.offer("a")).unwrap().target.to_string(), "target of calico-node");
    other.rollout.allow_unsafe.insert("network.name".into());
    script.restart_with(other);
    script.resumes(&["a"]);
    assert_eq!(script.core.view().rollout.number, 2);
}

#[test]
fn so_many_agents_of_a_domain_are_under_way_and_no_more() {
    let settings = rollout(|rollout| {
        rollout.strategy = RolloutStrategy::Parallel;
        (rollout.max_agents, rollout.max_per_domain) = (Share::Number(3), Some(1));
        rollout.domain_attribute = Some("rack".into());
    });
    let hosts = ["a", "b", "c", "d"];
    let mut script = Script::with_agents(settings.clone(), &hosts);
    for host in hosts {
        script.install(host);
    }
    script.restart_with(changed(settings, &[NODE], 2));
    script.subscribed();
    let racks = ["rack:1", "rack:1", "rack:2", "floor:1"];
    let agents = hosts
        .iter()
        .zip(racks)
        .map(|(host, rack)| Agent { attributes: vec![rack.to_owned()], ..agent(host, &format!("S-{host}")) });
    script.send(Input::Agents(agents.collect()));
    assert_eq!(script.under_way(), ["a:5051", "c:5051", "d:5051"]);
    let left = script.core.view().rollout;
    assert_eq!((left.under_way, left.waiting), (3, 1));
}

#[test]
fn a_service_that_needs_more_than_before_is_not_ended_before_there_is_room_for_it() {
    let settings = rollout(|_| ());
    let mut script = Script::with_agents(settings.clone(), &["a"]);
    script.install("a");
    let mut bigger = changed(settings, &[NODE], 2);
    bigger.specs.get_mut(&NODE).unwrap().needs.mem = 256_000;
    script.restart_with(bigger);
    script.resumes(&["a"]);
    script.tells(&["a"]);
    script.reaches("a", TaskType::Prefetch);
    let small = vec![scalar("cpus", 100, None), scalar("mem", 100_000, None)];
    let frame = script.offer_of("a", small);
    assert_eq!(killed(&frame), []);
    let reason = script.agent_view("a").reason;
    assert!(reason.contains("calico-node needs mem 192"), "{reason}");
    let frame = script.offer("a");
    assert_eq!(killed(&frame).len(), 1);
    let _ = asked(&frame);
}

#[test]
fn a_service_that_is_replaced_is_no_failure_and_its_absence_no_recovery() {
    let mut script = updating(&rollout(|_| ()), &["a"], &[NODE]);
    let old = script.task("a", NODE);
    script.reaches("a", TaskType::Prefetch);
    // It says that it is running until it ends: it must end all the same.
    script.update("a", &old, script::ready());
    script.update("a", &old, not_ready());
    assert_eq!(killed(&script.wait(Duration::from_secs(30))), std::slice::from_ref(&old));
    let frame = script.reports("a", &old, state(TaskState::Gone));
    assert!(!frame.decisions.iter().any(|decision| matches!(decision, Decision::Failed { .. })), "{frame:?}");
    script.wait(SECOND);
    assert_eq!(script.core.view().recovery.agents_down, 0);
    let new = script.launches("a", NODE);
    assert_eq!(script.core.view().recovery.under_way, 0);
    script.wait(3 * SECOND);
    let frame = script.ready("a", &new);
    let gap = frame.decisions.iter().find_map(|decision| match decision {
        Decision::Rollout(RolloutNews::Replaced { gap, .. }) => Some(*gap),
        _ => None,
    });
    assert!(gap.is_some_and(|gap| gap >= 4 * SECOND && gap < 5 * SECOND), "{gap:?}");
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
fn an_install_that_was_begun_with_an_earlier_target_comes_to_the_present_one() {
    let settings = rollout(|rollout| rollout.strategy = RolloutStrategy::Serial);
    let mut script = Script::with_agents(settings.clone(), &["a"]);
    for task_type in [TaskType::ClusterInit, TaskType::EtcdProxy, TaskType::Cni] {
        script.reaches("a", task_type);
    }
    script.restart_with(changed(settings, &[TaskType::EtcdProxy], 2));
    script.resumes(&["a"]);
    script.tells(&["a"]);
    script.reaches("a", NODE);
    script.wait(SECOND);
    assert_eq!(script.under_way(), ["a:5051"]);
    script.reaches("a", TaskType::Prefetch);
    assert_eq!(script.target("a", TaskType::EtcdProxy), "target of etcd-proxy");
}

#[test]
fn what_goes_on_while_another_configuration_is_refused_is_fetched_and_taken_back_as_before() {
    let guarded = |name: &str| BTreeMap::from([("network.name".to_owned(), name.to_owned())]);
    let mut settings = rollout(|rollout| rollout.guarded = guarded("calico"));
    settings.rollout.strategy = RolloutStrategy::Serial;
    let mut script = updating(&settings, &["a"], &[NODE]);
    let mut refused = changed(settings, &[NODE], 3);
    refused.rollout.guarded = guarded("blue");
    script.restart_with(refused);
    script.resumes(&["a"]);
    script.tells(&["a"]);
    assert_eq!(script.core.view().rollout.refused.len(), 1);
    script.replaces_node("a");
}

#[test]
fn agents_of_a_state_from_before_there_were_rollouts_have_their_turn() {
    let settings = rollout(|_| ());
    let mut script = Script::with_agents(settings.clone(), &["a"]);
    script.install("a");
    // As its migration leaves it.
    (script.stored.cluster.rollout, script.stored.cluster.definitions) = Default::default();
    script.restart_with(changed(settings, &[NODE], 2));
    script.resumes(&["a"]);
    script.tells(&["a"]);
    script.replaces_node("a");
    assert_eq!(script.update_status(), Status::Complete);
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
