//! Launches that may restart Docker or the Mesos agent: who gets a slot, for how long, and what becomes of it.

use std::time::Duration;

use super::script::{Script, declined, killed, launch, not_ready, state};
use super::*;

const STORE: TaskType = TaskType::DockerClusterStore;
const HELD: Duration = Duration::from_secs(10);
const STABLE: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_mins(15);

fn with(max_restarts: Share) -> Settings {
    // The few agents of a test are many of them.
    Settings { max_restarts, mass_failure: Share::Percent(100), ..docker_settings() }
}

/// `hosts` have all that comes before the store, and each store needs a restart.
fn waiting(settings: Settings, hosts: &[&str]) -> Script {
    let mut script = Script::with_agents(settings, hosts);
    script.reaches(hosts[0], TaskType::ClusterInit);
    for host in hosts {
        script.reaches(host, TaskType::EtcdProxy);
        script.needs_restart(host, STORE);
    }
    script
}

fn disallow(settings: &mut Settings) {
    let spec = settings.specs.get_mut(&STORE).unwrap();
    spec.restart = spec.restart.map(|restart| Restart { allowed: false, ..restart });
}

#[test]
fn one_agent_at_a_time_is_disrupted_and_the_next_when_it_is_healthy_for_a_while() {
    let mut script = waiting(with(Share::Number(1)), &["a", "b"]);
    let target = script.stored.agents[&"a:5051".into()].tasks[&STORE].target.clone();
    let frame = script.offer("a");
    let first = launch(&frame).unwrap();
    assert!(first.may_restart && first.task_type == STORE);
    assert!(frame.decisions.iter().any(|decision| matches!(decision, Decision::Disrupts { .. })));
    // Stored before the launch, with the launch, and under the same target.
    let [StateChange::Agent(stored)] = &frame.changes[..] else { panic!("{:?}", frame.changes) };
    assert!(stored.disrupted().is_some() && stored.tasks[&STORE].target == target);
    assert_eq!(script.slots(), ["a:5051"]);
    let since = script.agent_view("a").slot.unwrap().since;
    assert_eq!(since, script.now);
    assert_eq!(script.agent_view("a").slot.unwrap().until, since.after(TIMEOUT));
    let json = serde_json::to_value(script.agent_view("a")).unwrap();
    assert_eq!(json["slot"]["type"], "docker-cluster-store");
    assert_eq!(json["slot"]["since"], since.to_string());

    assert_eq!(script.declines("b"), HELD);
    let why = "docker-cluster-store waits to restart Docker: rollout.max-concurrent-restarts; 1 of 1 at a time are \
               under way (a:5051)";
    let view = script.agent_view("b");
    assert_eq!((view.reason.as_str(), view.waits_for_slot.as_deref()), (why, Some(why)));
    assert_eq!(script.step("docker-cluster-store.b:5051"), (Status::Pending, why.into()));

    let frame = script.finished("a", &first.task);
    assert!(frame.effects.contains(&Effect::RefreshInventory));
    script.wait(STABLE.saturating_sub(SECOND));
    assert_eq!(script.declines("b"), HELD, "not stable yet");
    let frame = script.wait(Duration::from_secs(1));
    assert!(frame.decisions.iter().any(|decision| matches!(decision, Decision::DisruptionEnded { .. })));
    assert_eq!(script.slots(), [""; 0]);
    script.disrupts("b", STORE);
    // What comes later on an agent does not wait for that.
    script.launches("a", TaskType::Cni);
}

#[test]
fn without_permission_the_agent_waits_says_so_and_goes_on_when_it_is_given() {
    let mut settings = with(Share::Number(1));
    disallow(&mut settings);
    let mut script = waiting(settings, &["a"]);
    let why = "docker-cluster-store waits: Command exited with status 79 (a restart is needed and not allowed); set \
               docker.allow-restart to true to have Docker restarted, a few agents at a time";
    let waits = |script: &mut Script| {
        let view = script.agent_view("a");
        assert_eq!((view.status, view.reason.as_str()), (Status::Waiting, why));
        assert_eq!(script.step("docker-cluster-store.a:5051"), (Status::Waiting, why.into()));
        let plan = script.core.view().deploy;
        assert_eq!((plan.status, plan.errors.len()), (Status::Waiting, 0));
        assert!(script.declines("a") >= Duration::from_mins(1), "it is tried again for nothing");
    };
    waits(&mut script);
    let quiet = script.wait(Duration::from_secs(5));
    assert!(quiet.effects.is_empty() || quiet.effects == [Effect::Suppress], "{quiet:?}");

    // All is there on another, and what waits behind the step that waits is not under way.
    script.agents(&["a", "b"]);
    for task_type in [TaskType::EtcdProxy, STORE, TaskType::Cni, TaskType::CalicoNode, TaskType::Libnetwork] {
        script.reaches("b", task_type);
    }
    script.reaches("b", TaskType::DockerNetwork);
    let plan = script.core.view().deploy;
    let cni = plan.phases.iter().find(|phase| phase.name == TaskType::Cni.name()).unwrap();
    assert_eq!((plan.status, cni.status), (Status::Waiting, Status::InProgress));
    script.agents(&["a"]);

    script.restart();
    script.resumes(&["a"]);
    waits(&mut script);

    script.restart_with(with(Share::Number(1)));
    script.resumes(&["a"]);
    script.disrupts("a", STORE);
}

#[test]
fn another_target_is_launched_without_permission_first() {
    let mut script = waiting(with(Share::Number(1)), &["a"]);
    let task = script.disrupts("a", STORE);
    script.failed("a", &task, "Command exited with status 69");
    let mut changed = with(Share::Number(1));
    changed.specs.get_mut(&STORE).unwrap().target = TargetHash("another".into());
    script.restart_with(changed);
    script.resumes(&["a"]);
    script.wait(Duration::from_secs(1));
    script.needs_restart("a", STORE);
    // It has the slot still.
    let task = script.disrupts("a", STORE);
    script.finished("a", &task);
    script.wait(STABLE);
    assert_eq!(script.slots(), [""; 0]);
}

#[test]
fn the_slot_is_held_over_failovers_and_never_given_twice() {
    let mut script = waiting(with(Share::Number(1)), &["a", "b"]);
    let task = script.disrupts("a", STORE);
    for _ in 0..3 {
        script.restart();
        script.resumes(&["a", "b"]);
        assert_eq!(script.declines("b"), HELD);
        assert_eq!(script.slots(), ["a:5051"]);
    }
    script.finished("a", &task);
    // How long it was healthy for is seen anew.
    script.wait(STABLE / 2);
    script.restart();
    script.resumes(&["a", "b"]);
    script.wait(STABLE / 2);
    assert_eq!(script.declines("b"), HELD);
    script.wait(STABLE / 2);
    script.disrupts("b", STORE);
}

#[test]
fn a_launch_that_was_stored_and_not_sent_keeps_its_slot_and_is_made_again() {
    let mut script = waiting(with(Share::Number(1)), &["a", "b"]);
    let lost = script.disrupts("a", STORE);
    script.restart();
    script.resumes(&["a", "b"]);
    script.update("a", &lost, state(TaskState::Gone));
    assert_eq!(script.declines("b"), HELD);
    script.wait(Duration::from_secs(1));
    assert_ne!(script.disrupts("a", STORE), lost);
}

#[test]
fn a_percentage_is_of_the_agents_rounded_down_and_at_least_one() {
    let hosts: Vec<String> = (0..10).map(|n| format!("h{n}")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    for (percent, most) in [(5, 1), (25, 2), (30, 3)] {
        let mut script = waiting(with(Share::Percent(percent)), &hosts);
        for host in &hosts[..most] {
            script.disrupts(host, STORE);
        }
        assert_eq!(script.declines(hosts[most]), HELD, "{percent}%");
        assert_eq!(script.slots().len(), most);
    }
}

#[test]
fn many_offers_at_once_do_not_take_more_slots_than_there_are() {
    let mut script = waiting(with(Share::Number(2)), &["a", "b", "c", "d"]);
    let offers = ["a", "b", "c", "d"].map(|host| script.make_offer(host, plenty()));
    let frame = script.send(Input::Event(Event::Offers(offers.into())));
    let launches = frame.effects.iter().filter(|effect| matches!(effect, Effect::Launch(_)));
    assert_eq!(launches.count(), 2);
    assert_eq!(script.slots(), ["a:5051", "b:5051"]);
}

/// `a` is installed but for its store, as one that had no Docker so far; `b` needs a restart too.
fn updated() -> (Script, TaskId) {
    let mut script = Script::with_agents(with(Share::Number(1)), &["a", "b"]);
    let node = script.install("a")[4].clone();
    assert_eq!(node.task_type(), Some(TaskType::CalicoNode));
    let mut state = script.stored.clone();
    let mut record = AgentRecord::clone(&state.agents[&"a:5051".into()]);
    record.tasks.remove(&STORE);
    record.settled = 0;
    state.apply(StateChange::Agent(Arc::new(record)));
    script.stored = state;
    script.restart();
    script.resumes(&["a", "b"]);
    script.needs_restart("a", STORE);
    script.reaches("b", TaskType::EtcdProxy);
    script.needs_restart("b", STORE);
    (script, node)
}

#[test]
fn a_slot_is_held_until_all_that_was_ready_before_is_ready_again() {
    let (mut script, node) = updated();
    let task = script.disrupts("a", STORE);
    let frame = script.reports("a", &node, not_ready());
    assert_eq!(killed(&frame), []);
    script.finished("a", &task);
    script.wait(Duration::from_mins(2));
    assert_eq!(script.declines("b"), HELD, "calico-node is not ready");
    script.ready("a", &node);
    script.wait(STABLE / 2);
    script.reports("a", &node, not_ready());
    script.ready("a", &node);
    script.wait(STABLE / 2);
    assert_eq!(script.declines("b"), HELD, "it was not ready all the time");
    script.wait(STABLE / 2);
    script.disrupts("b", STORE);
}

#[test]
fn what_is_down_because_of_a_restart_of_ours_is_no_recovery_and_no_mass_failure() {
    let (mut script, node) = updated();
    let mut settings = with(Share::Number(1));
    settings.mass_failure = Share::Number(1);
    settings.max_recoveries = Share::Number(1);
    script.restart_with(settings);
    script.resumes(&["a", "b"]);
    let task = script.disrupts("a", STORE);
    script.failed("a", &node, "Command exited with status 1");
    let view = script.core.view().recovery;
    assert_eq!((view.agents_down, view.under_way), (0, 0));
    script.finished("a", &task);
    script.wait(Duration::from_secs(1));
    let node = script.launches("a", TaskType::CalicoNode);
    assert_eq!(script.core.view().recovery.under_way, 0);
    script.ready("a", &node);
    script.wait(STABLE);
    assert_eq!(script.slots(), [""; 0]);
}

#[test]
fn a_service_is_recovered_while_its_agent_waits_for_a_slot_or_for_permission() {
    let (mut script, node) = updated();
    script.disrupts("b", STORE);
    script.failed("a", &node, "Command exited with status 1");
    script.wait(Duration::from_secs(1));
    let node = script.launches("a", TaskType::CalicoNode);
    script.ready("a", &node);
    assert_eq!(script.declines("a"), HELD);

    let mut settings = with(Share::Number(1));
    disallow(&mut settings);
    script.restart_with(settings);
    script.resumes(&["a", "b"]);
    script.failed("a", &node, "Command exited with status 1");
    script.wait(Duration::from_secs(2));
    script.launches("a", TaskType::CalicoNode);
}

#[test]
fn a_disruptive_launch_that_fails_is_tried_again_with_its_slot_whatever_it_says() {
    let mut script = waiting(with(Share::Number(1)), &["a", "b"]);
    for (n, status) in [69, 78, 79, 1].into_iter().enumerate() {
        let task = script.disrupts("a", STORE);
        script.failed("a", &task, &format!("Command exited with status {status}"));
        assert_eq!(script.slots(), ["a:5051"]);
        assert!(script.declines("a") > Duration::ZERO, "no backoff");
        assert_eq!(script.declines("b"), HELD);
        script.wait(Duration::from_secs(1 << n));
    }
    let task = script.disrupts("a", STORE);
    script.finished("a", &task);
    script.wait(STABLE);
    script.disrupts("b", STORE);
}

#[test]
fn a_launch_that_finds_at_last_that_its_host_cannot_have_it_frees_its_slot() {
    let mut script = waiting(with(Share::Number(1)), &["a", "b"]);
    let task = script.disrupts("a", STORE);
    script.failed("a", &task, "Command exited with status 80");
    script.wait(STABLE);
    script.disrupts("b", STORE);
    script.launches("a", TaskType::Cni);
}

#[test]
fn a_task_that_is_back_after_its_end_was_told_may_still_restart_what_it_might() {
    let mut script = waiting(with(Share::Number(1)), &["a"]);
    let task = script.disrupts("a", STORE);
    script.failed("a", &task, "Reconciliation: Latest task state");
    script.update("a", &task, state(TaskState::Starting));
    assert!(matches!(script.phase("a", STORE), Some(Phase::Active { .. })));
    // As long as it has its slot, nothing that it says needs an operator.
    script.failed("a", &task, "Command exited with status 77");
    assert!(matches!(script.phase("a", STORE), Some(Phase::Backoff { .. })));
    assert_eq!(script.slots(), ["a:5051"]);
}

#[test]
fn nobody_is_given_up_while_a_new_master_waits_for_it() {
    let mut script = waiting(with(Share::Number(1)), &["a", "b"]);
    let task = script.disrupts("a", STORE);
    script.finished("a", &task);
    script.wait(SECOND);
    script.send(Input::Disconnected);
    script.subscribed();
    let recovering = Agent { standing: Standing::Recovering, ..agent("a", "S-a") };
    script.send(Input::Agents(vec![recovering, agent("b", "S-b")]));
    script.wait(TIMEOUT);
    assert_eq!(script.slots(), ["a:5051"]);
    // It has registered, and is healthy as it was.
    script.agents(&["a", "b"]);
    script.wait(STABLE);
    assert_eq!(script.slots(), [""; 0]);
    assert_eq!(script.agent_view("a").status, Status::InProgress);
    script.disrupts("b", STORE);
}

#[test]
fn an_agent_lost_with_its_slot_keeps_it_for_the_timeout_and_is_held_then() {
    let mut script = waiting(with(Share::Number(1)), &["a", "b"]);
    let task = script.disrupts("a", STORE);
    script.update("a", &task, state(TaskState::Unreachable));
    script.agents(&["b"]);
    script.wait(TIMEOUT.saturating_sub(SECOND));
    assert_eq!(script.declines("b"), HELD);
    script.restart();
    script.resumes(&["b"]);
    // What has happened without a scheduler is yet to be told.
    script.wait(TIMEOUT.saturating_sub(SECOND));
    assert_eq!(script.declines("b"), HELD);
    let frame = script.wait(2 * SECOND);
    assert!(frame.decisions.iter().any(|decision| matches!(decision, Decision::DisruptionFailed { .. })));
    assert_eq!(script.slots(), [""; 0]);
    script.disrupts("b", STORE);

    // It is back: its task has failed meanwhile.
    script.agents(&["a", "b"]);
    script.failed("a", &task, "Command exited with status 1");
    assert!(matches!(script.phase("a", STORE), Some(Phase::Held { .. })));
    let view = script.agent_view("a");
    assert_eq!(view.status, Status::Error);
    let why = "the agent was not healthy within rollout.agent-timeout (15m): the agent is away";
    assert!(view.reason.contains(why), "{}", view.reason);
    script.wait(Duration::from_hours(1));
    assert!(script.declines("a") >= Duration::from_mins(1));

    // The operator acts.
    let mut changed = with(Share::Number(1));
    changed.specs.get_mut(&STORE).unwrap().target = TargetHash("another".into());
    script.restart_with(changed);
    script.resumes(&["a", "b"]);
    let launch = launch(&script.offer("a")).unwrap();
    assert!(!launch.may_restart && launch.task_type == STORE);
    script.finished("a", &launch.task);
    script.launches("a", TaskType::Cni);
}

#[test]
fn an_agent_that_is_not_healthy_in_time_is_held_and_one_that_is_later_goes_on() {
    let (mut script, node) = updated();
    let task = script.disrupts("a", STORE);
    script.finished("a", &task);
    script.reports("a", &node, not_ready());
    script.wait(TIMEOUT);
    let view = script.agent_view("a");
    assert!(view.slot.is_none() && view.status == Status::Error, "{view:?}");
    assert!(view.reason.ends_with("(15m): calico-node is not ready"), "{}", view.reason);
    let errors = script.core.view().deploy.errors;
    assert!(errors.len() == 1 && errors[0].starts_with("docker-cluster-store.a:5051: "), "{errors:?}");
    script.disrupts("b", STORE);
    script.restart();
    script.resumes(&["a", "b"]);
    assert_eq!(script.agent_view("a").status, Status::Error);

    // There is nothing left to be done for the operator.
    script.ready("a", &node);
    script.wait(STABLE);
    assert_eq!(script.agent_view("a").status, Status::Complete);
}

#[test]
fn a_rebuilt_agent_begins_anew_and_the_slot_of_the_old_one_lasts_until_its_time_is_over() {
    let mut script = waiting(with(Share::Number(1)), &["a", "b"]);
    let task = script.disrupts("a", STORE);
    script.failed("a", &task, "Command exited with status 1");
    let Some(Phase::Active { task: proxy, .. }) = script.phase("a", TaskType::EtcdProxy).cloned() else {
        panic!("no proxy")
    };
    script.send(Input::Agents(vec![agent("a", "S-a2"), agent("b", "S-b")]));
    script.update("a", &proxy, state(TaskState::Gone));
    assert_eq!(script.slots(), ["a:5051@S-a"]);
    assert_eq!(script.agent_view("a").slot, None);
    assert_eq!(script.declines("b"), HELD);
    script.wait(TIMEOUT);
    assert_eq!(script.slots(), [""; 0]);
    assert!(!script.stored.agents.contains_key(&"a:5051@S-a".into()), "it is still kept");
    script.disrupts("b", STORE);
}

#[test]
fn nothing_is_disrupted_in_a_mass_failure_where_an_agent_drains_or_goes_down() {
    let settings = Settings { mass_failure: Share::Number(1), ..with(Share::Number(3)) };
    let mut script = Script::with_agents(settings, &["a", "b", "c"]);
    script.reaches("a", TaskType::ClusterInit);
    let proxies = ["a", "b", "c"].map(|host| script.reaches(host, TaskType::EtcdProxy));
    script.needs_restart("a", STORE);
    for (host, proxy) in ["b", "c"].iter().zip(&proxies[1..]) {
        script.reports(host, proxy, not_ready());
    }
    assert_eq!(script.declines("a"), HELD);
    let waits = script.agent_view("a").waits_for_slot.unwrap();
    assert!(waits.contains("mass failure, 2 of 3 agents are down"), "{waits}");
    for (host, proxy) in ["b", "c"].iter().zip(&proxies[1..]) {
        script.ready(host, proxy);
    }

    let window = Unavailability { start: script.now.after(Duration::from_mins(10)), duration: None };
    let offer = Offer { unavailability: Some(window), ..script.make_offer("a", plenty()) };
    let frame = script.send(Input::Event(Event::Offers(vec![offer])));
    assert!(launch(&frame).is_none() && declined(&frame).is_some());

    let drains = Agent { standing: Standing::Draining { since: None }, ..agent("a", "S-a") };
    script.send(Input::Agents(vec![drains, agent("b", "S-b"), agent("c", "S-c")]));
    script.declines("a");
    script.agents(&["a", "b", "c"]);
    script.disrupts("a", STORE);
}

#[test]
fn one_agent_is_not_disrupted_twice_at_the_same_time() {
    let mut script = waiting(with(Share::Number(5)), &["a", "b"]);
    let task = script.disrupts("a", STORE);
    script.finished("a", &task);
    script.needs_restart("a", TaskType::Cni);
    assert_eq!(script.declines("a"), HELD);
    let waits = script.agent_view("a").waits_for_slot.unwrap();
    assert!(waits.ends_with("the agent is not healthy yet after docker-cluster-store"), "{waits}");
    script.wait(STABLE);
    script.disrupts("a", TaskType::Cni);
}

#[test]
fn a_permission_that_is_taken_back_ends_the_disruption_when_the_host_says_that_it_waits() {
    let mut script = waiting(with(Share::Number(1)), &["a", "b"]);
    let task = script.disrupts("a", STORE);
    script.failed("a", &task, "Command exited with status 75");
    let mut settings = with(Share::Number(1));
    disallow(&mut settings);
    script.restart_with(settings);
    script.resumes(&["a", "b"]);
    script.wait(Duration::from_secs(1));
    script.needs_restart("a", STORE);
    assert_eq!(script.agent_view("a").status, Status::Waiting);
    script.wait(STABLE);
    assert_eq!(script.slots(), [""; 0]);
}

#[test]
fn a_host_that_was_away_is_asked_again_whether_it_needs_a_restart() {
    let mut settings = with(Share::Number(1));
    disallow(&mut settings);
    let mut script = waiting(settings, &["a", "b"]);
    script.agents(&["b"]);
    script.agents(&["a", "b"]);
    let store = script.launches("a", STORE);
    script.finished("a", &store);
}

#[test]
fn a_type_that_never_restarts_anything_is_held_when_it_says_that_it_needs_to() {
    let mut script = Script::with_agents(with(Share::Number(1)), &["a"]);
    let init = script.launches("a", TaskType::ClusterInit);
    script.failed("a", &init, "Command exited with status 79");
    assert_eq!(script.step("cluster-init.cluster-init").0, Status::Error);
}

#[test]
fn a_slot_that_was_taken_before_a_clock_was_set_back_is_given_up_in_its_time() {
    let mut script = waiting(with(Share::Number(1)), &["a", "b"]);
    let now = script.now;
    script.now = now.after(Duration::from_hours(1000));
    script.disrupts("a", STORE);
    script.restart();
    script.now = now;
    script.resumes(&["a", "b"]);
    script.wait(TIMEOUT + SECOND);
    assert_eq!(script.slots(), [""; 0]);
}

#[test]
fn nothing_is_restarted_while_no_window_is_open() {
    let mut settings = with(Share::Number(1));
    settings.rollout.windows = "daily 22:00-23:00".parse().unwrap();
    let mut script = waiting(settings, &["a"]);
    script.declines("a");
    assert_eq!(script.slots(), [""; 0]);
    let (_, why) = script.step("docker-cluster-store.a:5051");
    assert!(why.contains("no window of rollout.windows is open"), "{why}");
    let until_open = 22 * 60 * 60 * 1000 - script.now.0 % (24 * 60 * 60 * 1000);
    script.wait(Duration::from_millis(until_open));
    script.disrupts("a", STORE);
}
