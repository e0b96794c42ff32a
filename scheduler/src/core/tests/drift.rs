//! Whether what was installed is still there: when that is looked at, and what follows.

use std::time::Duration;

use super::script::*;
use super::*;

const CHANGES: &str = "Command exited with status 1";
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// The frame's one look.
fn look(frame: &Frame) -> Option<Launch> {
    let launch = launch(frame)?;
    assert!(launch.only_looks, "{launch:?} does more than look");
    Some(launch)
}

impl Script {
    /// Agents on which everything is installed, and no offers are wanted.
    fn installed(settings: Settings, hosts: &[&str]) -> Self {
        let mut script = Self::with_agents(settings, hosts);
        for host in hosts {
            script.install(host);
        }
        script.wait(Duration::from_secs(11));
        assert_eq!(script.core.view().deploy.status, Status::Complete);
        script
    }

    /// Sends an offer of `host` and expects a look at `task_type`.
    fn looks(&mut self, host: &str, task_type: TaskType) -> TaskId {
        let frame = self.offer(host);
        let launch = look(&frame).unwrap_or_else(|| panic!("{task_type} is not looked at: {frame:?}"));
        assert_eq!((launch.task_type, launch.may_restart), (task_type, false));
        launch.task
    }

    /// A new round; all of `hosts` are found whole.
    fn looks_at_all(&mut self, hosts: &[&str]) {
        self.wait(HOUR);
        for (n, host) in hosts.iter().enumerate() {
            let task = self.looks(host, TaskType::Cni);
            self.finished(host, &task);
            if n == 0 {
                let task = self.looks(host, TaskType::ClusterInit);
                self.finished(host, &task);
            }
        }
    }

    fn recovery(&self) -> PlanView {
        self.core.view().repair
    }
}

fn wants_offers(frame: &Frame) -> bool {
    frame.effects.contains(&Effect::Revive)
}

#[test]
fn all_is_looked_at_once_in_an_interval_and_offers_are_wanted_for_that_alone() {
    let mut script = Script::installed(settings(), &["a", "b"]);
    assert!(!wants_offers(&script.wait(Duration::from_mins(58))));
    assert!(wants_offers(&script.wait(2 * MINUTE)));
    let before = script.stored.clone();
    let task = script.looks("a", TaskType::Cni);
    assert!(script.phase("a", TaskType::Cni).unwrap().is_checked());
    let view = script.core.view();
    assert_eq!((view.deploy.status, view.repair.status), (Status::Complete, Status::Complete));
    let cni = view.agents[0].tasks.iter().find(|task| task.task_type == TaskType::Cni).unwrap();
    assert_eq!(cni.task_id, None, "what looks is not the step's task");
    assert_eq!(script.reports("a", &task, state(TaskState::Running)).changes, [], "it says nothing new");
    assert_eq!(script.declines("a"), Duration::from_secs(1), "the next is looked at after it");
    let frame = script.finished("a", &task);
    assert_eq!((frame.changes.len(), acknowledged(&frame)), (1, true));
    let task = script.looks("a", TaskType::ClusterInit);
    script.finished("a", &task);
    assert_eq!(script.declines("a"), HOUR);
    let task = script.looks("b", TaskType::Cni);
    let end = script.finished("b", &task);
    assert!(end.effects.contains(&Effect::Suppress));
    assert_eq!(script.core.view().deploy.status, Status::Complete);
    assert_eq!(
        script.phase("a", TaskType::Cni),
        before.task(&Slot::Agent("a:5051".into(), TaskType::Cni)).map(|r| &r.phase)
    );
    for _ in 0..58 {
        let frame = script.wait(MINUTE);
        assert_eq!((frame.changes.len(), wants_offers(&frame)), (0, false));
    }
    assert!(wants_offers(&script.wait(2 * MINUTE)));
}

#[test]
fn what_has_vanished_is_put_back_as_a_recovery_and_told() {
    let mut script = Script::installed(settings(), &["a"]);
    script.wait(HOUR);
    let task = script.looks("a", TaskType::Cni);
    let frame = script.failed("a", &task, CHANGES);
    assert!(frame.decisions.iter().any(|d| matches!(d, Decision::Vanished { .. })));
    assert!(frame.effects.iter().any(|e| matches!(e, Effect::ReadOutput { .. })));
    let (slot, text) = (Slot::Agent("a:5051".into(), TaskType::Cni), "calico is missing".to_owned());
    script.send(Input::Output { slot: slot.clone(), task, text });
    let plan = script.recovery();
    let step = &plan.phases[0].steps[0];
    assert_eq!((plan.phases[0].name, step.status), ("cni", Status::Delayed));
    assert!(
        step.message.contains("it is no longer as it was installed")
            && step.message.ends_with("calico is missing")
    );
    assert_eq!(script.step("cni.a:5051").0, Status::Delayed, "the plan deploy shows what is");
    let put_back = script.launches("a", TaskType::Cni);
    let view = script.core.view();
    assert_eq!((view.recovery.under_way, view.recovery.agents_down), (1, 1));
    let frame = script.finished("a", &put_back);
    let told = frame.decisions.iter().find_map(|d| match d {
        Decision::PutBack { slot, what } => Some((slot.clone(), what.clone())),
        _ => None,
    });
    let (at, what) = told.unwrap();
    assert!(at == slot && what.ends_with("calico is missing"), "{what}");
    assert_eq!(script.recovery().phases, []);
    assert_eq!(script.core.view().deploy.status, Status::Complete);
    assert_eq!(script.core.view().recovery.under_way, 0);
}

#[test]
fn what_has_vanished_on_many_agents_is_put_back_within_the_limits() {
    let hosts = ["a", "b", "c", "d"];
    let settings = Settings { max_recoveries: Share::Number(2), ..settings() };
    let mut script = Script::installed(settings, &hosts);
    script.wait(HOUR);
    for host in hosts {
        let task = script.looks(host, TaskType::Cni);
        script.failed(host, &task, CHANGES);
    }
    assert!(script.core.view().recovery.held.is_some(), "4 of 4 agents are down");
    let first = script.launches("a", TaskType::Cni);
    assert_eq!(script.declines("b"), Duration::from_secs(10), "one in a mass failure");
    script.finished("a", &first);
    script.launches("b", TaskType::Cni);
    script.launches("c", TaskType::Cni);
    assert_eq!(script.declines("d"), Duration::from_secs(10), "recovery.max-concurrent");
}

#[test]
fn an_agent_that_registers_again_has_another_version_or_is_back_is_looked_at_at_once() {
    let mut script = Script::installed(settings(), &["a", "b"]);
    let again = |at| Agent { registered_again: Some(Timestamp(at)), ..agent("a", "S-a") };
    let newer = Agent { version: "1.11.1".into(), ..again(8) };
    let away = Agent { standing: Standing::Disconnected, ..newer.clone() };
    for (list, due) in [
        (again(7), true),
        (again(7), false),
        (again(8), true),
        // A master that was elected since.
        (agent("a", "S-a"), false),
        (again(8), false),
        (newer.clone(), true),
        (away, false),
        (newer.clone(), true),
    ] {
        let what = format!("{list:?}");
        script.now = script.now.after(Duration::from_secs(10));
        let frame = script.send(Input::Agents(vec![list, agent("b", "S-b")]));
        assert_eq!(wants_offers(&frame), due, "{what}");
        if due {
            assert_eq!(look(&script.offer("b")), None);
            let task = script.looks("a", TaskType::Cni);
            script.finished("a", &task);
            assert_eq!(script.declines("a"), HOUR);
        }
    }
    // Another scheduler knows what was seen.
    script.restart();
    script.subscribed();
    script.send(Input::Agents(vec![newer, agent("b", "S-b")]));
    assert_eq!(look(&script.offer("a")), None);
}

#[test]
fn an_agent_that_registers_again_while_it_is_looked_at_is_looked_at_again() {
    let mut script = Script::installed(settings(), &["a"]);
    script.wait(HOUR);
    let task = script.looks("a", TaskType::Cni);
    let again = Agent { registered_again: Some(Timestamp(7)), ..agent("a", "S-a") };
    script.send(Input::Agents(vec![again]));
    script.finished("a", &task);
    script.wait(MINUTE);
    let looks: Vec<TaskType> = (0..2)
        .map(|_| {
            let launch = look(&script.offer("a")).unwrap();
            script.finished("a", &launch.task);
            launch.task_type
        })
        .collect();
    assert_eq!(looks, [TaskType::Cni, TaskType::ClusterInit]);
}

#[test]
fn a_look_that_cannot_tell_changes_nothing_and_is_tried_again_a_few_times() {
    let mut script = Script::installed(settings(), &["a"]);
    script.wait(HOUR);
    for n in 1..=3 {
        let task = script.looks("a", TaskType::Cni);
        let frame = script.failed("a", &task, "Command exited with status 69");
        assert!(frame.decisions.iter().any(|d| matches!(d, Decision::Unchecked { .. })));
        let (slot, text) = (Slot::Agent("a:5051".into(), TaskType::Cni), "no etcd".to_owned());
        script.send(Input::Output { slot, task, text });
        let (status, message) = script.step("cni.a:5051");
        assert_eq!(status, Status::Complete);
        assert!(
            message.starts_with("done; whether it is whole could not be told: ")
                && message.ends_with("no etcd")
        );
        if n < 3 {
            assert_eq!(script.declines("a"), HOUR);
            script.wait(MINUTE);
        }
    }
    // What is the cluster's, too.
    let task = script.looks("a", TaskType::ClusterInit);
    script.failed("a", &task, "Command exited with status 69");
    assert_eq!(script.declines("a"), HOUR);
    script.wait(MINUTE);
    let task = script.looks("a", TaskType::ClusterInit);
    script.finished("a", &task);
    script.wait(10 * MINUTE);
    assert_eq!(look(&script.offer("a")), None, "not before the next round");
    script.wait(HOUR);
    let task = script.looks("a", TaskType::Cni);
    script.finished("a", &task);
    assert_eq!(script.step("cni.a:5051").1, "done");
}

#[test]
fn what_takes_a_restart_waits_for_the_permission_and_for_a_slot() {
    let mut wary = docker_settings();
    let restart = |settings: &mut Settings, allowed| {
        let spec = settings.specs.get_mut(&TaskType::DockerClusterStore).unwrap();
        spec.restart = spec.restart.map(|restart| Restart { allowed, ..restart });
    };
    restart(&mut wary, false);
    let mut script = Script::installed(wary, &["a"]);
    script.wait(HOUR);
    let task = script.looks("a", TaskType::DockerClusterStore);
    script.failed("a", &task, "Command exited with status 79");
    assert_eq!(script.step("docker-cluster-store.a:5051").0, Status::Waiting);
    assert_eq!(script.core.view().recovery.agents_down, 0, "it waits for an operator, maybe for long");
    script.restart_with(docker_settings());
    script.resumes(&["a"]);
    let task = script.disrupts("a", TaskType::DockerClusterStore);
    assert_eq!(script.slots(), ["a:5051"]);
    script.finished("a", &task);
    script.wait(Duration::from_secs(11));
    assert_eq!(script.slots(), [""; 0]);
    assert_eq!(script.core.view().deploy.status, Status::Complete);
}

#[test]
fn nothing_is_looked_at_where_nothing_may_be_launched_something_is_missing_or_a_rollout_is() {
    let mut script = Script::installed(settings(), &["a", "b"]);
    let drains = Agent { standing: Standing::Draining { since: None }, ..agent("a", "S-a") };
    script.send(Input::Agents(vec![drains, agent("b", "S-b")]));
    let node =
        script.stored.agents[&"b:5051".into()].tasks[&TaskType::CalicoNode].phase.live().unwrap().0.clone();
    script.update("b", &node, not_ready());
    script.wait(HOUR);
    for host in ["a", "b"] {
        assert_eq!(look(&script.offer(host)), None, "{host}");
    }
    script.ready("b", &node);
    script.wait(Duration::from_secs(5));
    let task = script.looks("b", TaskType::Cni);

    // A place waits for the look.
    let mut changed = settings();
    changed.rollout.strategy = RolloutStrategy::Parallel;
    changed.specs.get_mut(&TaskType::CalicoNode).unwrap().target = "another".into();
    script.restart_with(changed);
    script.resumes(&["b"]);
    script.wait(Duration::from_secs(5));
    let holds = |script: &Script| script.stored.agents[&"b:5051".into()].holds().is_some();
    assert!(!holds(&script));
    script.finished("b", &task);
    assert!(holds(&script));
    script.wait(2 * HOUR);
    assert_eq!(look(&script.offer("b")), None);
}

#[test]
fn an_agent_without_room_is_passed_over_until_the_next_round() {
    let mut script = Script::installed(settings(), &["a", "b"]);
    script.wait(HOUR);
    let task = script.looks("b", TaskType::Cni);
    script.finished("b", &task);
    let task = script.looks("b", TaskType::ClusterInit);
    script.finished("b", &task);
    let frame = script.offer_of("a", vec![]);
    assert_eq!((launch(&frame), declined(&frame)), (None, Some(Duration::from_secs(5))));
    let frame = script.wait(MINUTE);
    assert!(frame.effects.contains(&Effect::Suppress), "{frame:?}");
    assert_eq!(look(&script.offer("a")), None);
    script.wait(HOUR);
    script.looks("a", TaskType::Cni);
}

#[test]
fn who_had_no_offer_for_want_of_a_subscription_is_not_passed_over() {
    let mut script = Script::installed(settings(), &["a"]);
    script.wait(HOUR);
    script.send(Input::Disconnected);
    script.wait(5 * MINUTE);
    script.resumes(&["a"]);
    script.wait(Duration::from_secs(5));
    script.looks("a", TaskType::Cni);
}

#[test]
fn an_agent_that_goes_away_while_it_is_looked_at_holds_no_round_up() {
    let mut script = Script::installed(settings(), &["a", "b"]);
    script.wait(HOUR);
    let lost = script.looks("a", TaskType::Cni);
    let task = script.looks("b", TaskType::Cni);
    script.finished("b", &task);
    let task = script.looks("b", TaskType::ClusterInit);
    script.finished("b", &task);
    script.update("a", &lost, state(TaskState::Unreachable));
    script.agents(&["b"]);
    script.wait(HOUR);
    script.looks("b", TaskType::Cni);
    // It is back, and so is what looks there.
    script.agents(&["a", "b"]);
    script.finished("a", &lost);
    script.wait(MINUTE);
    script.looks("a", TaskType::Cni);
}

#[test]
fn another_scheduler_goes_on_within_the_round() {
    let mut script = Script::installed(settings(), &["a", "b", "c"]);
    script.wait(HOUR);
    let task = script.looks("a", TaskType::Cni);
    script.finished("a", &task);
    let under_way = script.looks("b", TaskType::Cni);
    let round = script.stored.cluster.checks.clone();
    script.restart();
    script.resumes(&["a", "b", "c"]);
    script.wait(Duration::from_secs(5));
    assert_eq!(script.stored.cluster.checks, round, "no round begins for that");
    let task = script.looks("a", TaskType::ClusterInit);
    script.finished("a", &task);
    assert_eq!(look(&script.offer("a")), None, "it was looked at");
    assert_eq!(look(&script.offer("b")), None, "it is being looked at");
    script.finished("b", &under_way);
    script.looks("c", TaskType::Cni);
}

#[test]
fn a_part_of_the_agents_is_looked_at_at_a_time() {
    let names: Vec<String> = (0..30).map(|n| format!("h{n:02}")).collect();
    let hosts: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut script = Script::installed(settings(), &hosts);
    script.wait(HOUR);
    let due = |script: &mut Script| -> Vec<TaskId> {
        hosts.iter().filter_map(|host| look(&script.offer(host)).map(|launch| launch.task)).collect()
    };
    let first = due(&mut script);
    assert_eq!(first.len(), 10);
    assert_eq!(due(&mut script), []);
    script.finished("h00", &first[0]);
    let cluster = script.looks("h00", TaskType::ClusterInit);
    script.finished("h00", &cluster);
    assert_eq!(due(&mut script).len(), 1, "one is through");
}

#[test]
fn an_agent_that_a_rollout_has_not_reached_is_looked_at_and_mended_as_it_was() {
    let mut script = Script::installed(settings(), &["a"]);
    let mut changed = settings();
    let spec = changed.specs.get_mut(&TaskType::Cni).unwrap();
    let definition = |spec: &Spec| Definition {
        task_type: TaskType::Cni,
        goal: spec.goal,
        needs: spec.needs,
        template: String::new(),
    };
    let old = (spec.target.clone(), definition(spec));
    spec.target = "another".into();
    let pause = Command { plan: Plan::Update, verb: Verb::Pause, phase: None, agent: None };
    script.send(Input::Command(pause));
    let mut cluster = script.stored.cluster.clone();
    cluster.definitions = Arc::new([old.clone()].into());
    script.stored.cluster = cluster;
    script.restart_with(changed);
    script.resumes(&["a"]);
    script.wait(HOUR);
    let launched = look(&script.offer("a")).unwrap();
    assert_eq!((launched.task_type, &launched.target), (TaskType::Cni, &old.0));
    script.failed("a", &launched.task, CHANGES);
    let put_back = launch(&script.offer("a")).unwrap();
    assert_eq!((put_back.target, put_back.only_looks), (old.0, false));
}

/// An agent on which everything is installed, `cni` by a task that nobody knew of: the store was restored from a backup.
fn installed_by_a_stranger() -> Script {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.reaches("a", TaskType::ClusterInit);
    script.reaches("a", TaskType::EtcdProxy);
    script.restart_with(Settings { doubtful: true, ..settings() });
    script.resumes(&["a"]);
    let stranger = TaskId::new(TaskType::Cni, &"a:5051".into(), Timestamp(7));
    script.reports("a", &stranger, state(TaskState::Running));
    script.wait(Duration::from_secs(20));
    script.finished("a", &stranger);
    script.reaches("a", TaskType::CalicoNode);
    script.wait(Duration::from_secs(11));
    assert_eq!(script.core.view().deploy.status, Status::Complete);
    assert_eq!(target_of_cni(&script), None);
    script
}

fn target_of_cni(script: &Script) -> Option<TargetHash> {
    let slot = Slot::Agent("a:5051".into(), TaskType::Cni);
    script.stored.task(&slot).and_then(|record| record.target.clone())
}

#[test]
fn an_install_that_was_found_running_is_held_to_what_the_operator_wants() {
    let wanted = settings().specs[&TaskType::Cni].target.clone();
    let mut script = installed_by_a_stranger();
    script.wait(HOUR);
    let launched = look(&script.offer("a")).unwrap();
    assert_eq!((launched.task_type, &launched.target), (TaskType::Cni, &wanted));
    script.finished("a", &launched.task);
    assert_eq!(target_of_cni(&script), Some(wanted.clone()));

    let mut script = installed_by_a_stranger();
    script.wait(HOUR);
    let looks = script.looks("a", TaskType::Cni);
    script.failed("a", &looks, CHANGES);
    let put_back = launch(&script.offer("a")).unwrap();
    assert_eq!((put_back.target, put_back.only_looks), (wanted, false));
}

#[test]
fn an_install_that_was_found_running_is_replaced_in_its_turn_and_not_by_a_look() {
    let mut script = installed_by_a_stranger();
    let mut changed = settings();
    changed.specs.get_mut(&TaskType::Cni).unwrap().target = "another".into();
    script.send(Input::Command(Command { plan: Plan::Update, verb: Verb::Pause, phase: None, agent: None }));
    script.restart_with(changed);
    script.resumes(&["a"]);
    script.wait(HOUR);
    let frame = script.offer("a");
    assert!(look(&frame).is_none_or(|launch| launch.task_type != TaskType::Cni), "{frame:?}");
}

#[test]
fn a_service_that_died_does_not_wait_for_what_cannot_be_put_back() {
    for status in [69, 78] {
        let mut script =
            Script::installed(Settings { max_recoveries: Share::Number(2), ..settings() }, &["a"]);
        let node = script.stored.agents[&"a:5051".into()].tasks[&TaskType::CalicoNode]
            .phase
            .live()
            .unwrap()
            .0
            .clone();
        script.wait(HOUR);
        let task = script.looks("a", TaskType::Cni);
        script.failed("a", &task, CHANGES);
        for _ in 0..4 {
            script.wait(MINUTE);
            if let Some(launch) = launch(&script.offer("a")) {
                script.failed("a", &launch.task, &format!("Command exited with status {status}"));
            }
        }
        script.failed("a", &node, "Command terminated with signal Killed");
        script.wait(Duration::from_secs(3));
        script.reaches("a", TaskType::CalicoNode);
    }
}

#[test]
fn a_look_that_hangs_is_ended_and_one_that_was_never_sent_is_found_out() {
    let mut script = Script::installed(settings(), &["a"]);
    script.wait(HOUR);
    let task = script.looks("a", TaskType::Cni);
    let frame = script.wait(MINUTE);
    assert!(asked(&frame).unwrap().contains(&task), "nothing was heard of it");
    script.update("a", &task, state(TaskState::Gone));
    script.wait(MINUTE);
    let task = script.looks("a", TaskType::Cni);
    script.update("a", &task, state(TaskState::Running));
    assert_eq!(killed(&script.wait(14 * MINUTE)), []);
    script.wait(MINUTE);
    let frame = script.update("a", &task, state(TaskState::Running));
    assert!(killed(&frame).contains(&task));
    script.failed("a", &task, "Command terminated with signal Killed");
    assert_eq!(script.step("cni.a:5051").0, Status::Complete);
}

#[test]
fn what_was_fetched_for_an_update_is_not_looked_at() {
    let mut script = Script::installed(settings(), &["a"]);
    let fetch = spec(TaskType::Prefetch);
    let record = TaskRecord::new(Phase::Done { at: script.now }, Some(fetch.target.clone()));
    let key = AgentKey::from("a:5051");
    let mut agent = AgentRecord::clone(&script.stored.agents[&key]);
    agent.tasks.insert(TaskType::Prefetch, record);
    script.stored.agents.insert(key, agent.into());
    let mut with_fetch = settings();
    with_fetch.specs.insert(TaskType::Prefetch, fetch);
    script.restart_with(with_fetch);
    script.resumes(&["a"]);
    script.looks_at_all(&["a"]);
    assert_eq!(look(&script.offer("a")), None);
}

#[test]
fn nothing_is_looked_at_where_the_operator_does_not_want_it() {
    let mut script = Script::installed(Settings { verify_interval: None, ..settings() }, &["a"]);
    script.wait(2 * HOUR);
    let again = Agent { registered_again: Some(Timestamp(7)), ..agent("a", "S-a") };
    assert!(!wants_offers(&script.send(Input::Agents(vec![again]))));
    assert_eq!(*script.stored.cluster.checks, Round::default());
    assert_eq!(look(&script.offer("a")), None);
}

#[test]
fn a_clock_that_was_set_back_is_no_reason_to_look_again_and_again_or_never() {
    let mut script = Script::installed(settings(), &["a"]);
    script.looks_at_all(&["a"]);
    let round = script.stored.cluster.checks.number;
    script.now = Timestamp(1000);
    script.restart();
    script.resumes(&["a"]);
    script.wait(Duration::from_secs(1));
    let Round { number, since } = *script.stored.cluster.checks;
    assert_eq!((number, since < script.now), (round + 1, true), "what was to come counts from now on");
    let task = script.looks("a", TaskType::Cni);
    script.finished("a", &task);
    let task = script.looks("a", TaskType::ClusterInit);
    script.finished("a", &task);
    script.wait(MINUTE);
    assert_eq!(look(&script.offer("a")), None);
    script.looks_at_all(&["a"]);
}
