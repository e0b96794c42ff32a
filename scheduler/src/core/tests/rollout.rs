//! Rollouts: who begins when, what is done on an agent, what becomes of failures, and what operators command.

mod cluster;
mod commands;
mod domains;
mod failures;
mod left_alone;
mod refused;
mod turns;
mod windows;

use std::time::Duration;

use super::script::{Script, asked, killed, launch, not_ready, state};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const STABLE: Duration = Duration::from_secs(10);
const SOAK: Duration = Duration::from_mins(1);
const NODE: TaskType = TaskType::CalicoNode;

/// Settings under which `task_type` is launched with something else, and fetched before.
fn changed(mut settings: Settings, types: &[TaskType], version: u32) -> Settings {
    fetching(&mut settings);
    for task_type in types.iter().chain(&[TaskType::Prefetch]) {
        let spec = settings.specs.get_mut(task_type).unwrap();
        spec.target = TargetHash::from(format!("version {version} of {task_type}"));
    }
    with_definitions(settings)
}

/// What services that are replaced need is fetched before.
fn fetching(settings: &mut Settings) {
    let spec = || Spec::new(Goal::Finished, Needs { cpus: 100, mem: 64_000 }, "prefetch".into());
    settings.specs.entry(TaskType::Prefetch).or_insert_with(spec);
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

/// Rollouts go back when they fail.
fn going_back(edit: impl FnOnce(&mut Rollout)) -> Settings {
    let mut settings = rollout(|rollout| {
        (rollout.on_failure, rollout.max_attempts) = (OnFailure::Rollback, 1);
        edit(rollout);
    });
    fetching(&mut settings);
    with_definitions(settings)
}

/// A cluster on whose agents everything is there.
fn installed(settings: &Settings, hosts: &[&str]) -> Script {
    let mut script = Script::with_agents(settings.clone(), hosts);
    for host in hosts {
        script.install(host);
    }
    script
}

/// Everything is installed on `hosts`; then the scheduler is started with another target of `types`.
fn updating(settings: &Settings, hosts: &[&str], types: &[TaskType]) -> Script {
    let mut script = installed(settings, hosts);
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
        let ended = |decision: &Decision| match decision {
            Decision::Rollout(news) => news.kind() == "ended" && !news.is_trouble(),
            _ => false,
        };
        assert!(frame.decisions.iter().any(ended), "{frame:?}");
        let is_alarming = |decision: &Decision| matches!(decision, Decision::Killed { .. });
        assert!(!frame.decisions.iter().any(is_alarming), "what is intended is no trouble: {frame:?}");
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
        let answer = self.send(Input::Command(Command { plan, verb, phase, agent })).answer.unwrap();
        answer.map_err(|why| why.to_string())
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
fn what_is_taken_back_with_a_restart_waits_for_that_and_has_it() {
    let restart = Restart { what: "the Mesos agent", option: "cni.allow-restart", allowed: true };
    let mut settings = rollout(|_| ());
    let mut script = installed(&settings, &["a"]);
    settings.specs.remove(&TaskType::Cni);
    let spec = Spec::new(Goal::Finished, Needs { cpus: 100, mem: 64_000 }, "undo of cni".into());
    settings.rollout.undo.insert(TaskType::Cni, Spec { restart: Some(restart), ..spec });
    script.restart_with(settings);
    script.resumes(&["a"]);
    script.tells(&["a"]);
    let undo = script.launches("a", TaskType::Cni);
    script.failed("a", &undo, "Command exited with status 79");
    script.wait(SECOND);
    assert_eq!(script.core.view().rollout.failed, []);
    let again = script.disrupts("a", TaskType::Cni);
    script.finished("a", &again);
    script.wait(2 * STABLE);
    assert_eq!((script.phase("a", TaskType::Cni), script.update_status()), (None, Status::Complete));
}

#[test]
fn so_many_agents_of_a_domain_are_under_way_and_no_more() {
    let settings = rollout(|rollout| {
        rollout.strategy = RolloutStrategy::Parallel;
        (rollout.max_agents, rollout.max_per_domain) = (Share::Number(3), Some(1));
        rollout.domain_attribute = Some("rack".into());
    });
    let hosts = ["a", "b", "c", "d"];
    let mut script = installed(&settings, &hosts);
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
