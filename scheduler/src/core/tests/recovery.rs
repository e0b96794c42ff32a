//! Services that were ready before and are launched again: how many at a time, and when that is held.

use std::time::Duration;

use super::script::{Script, killed, launch, not_ready, state};
use super::*;

const HELD: Duration = Duration::from_secs(10);

/// Hosts with Calico on each, and the task of each one's calico-node.
fn installed(settings: Settings, number: usize) -> (Script, Vec<String>, Vec<TaskId>) {
    let hosts: Vec<String> = (0..number).map(|n| format!("h{n:02}")).collect();
    let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let mut script = Script::with_agents(settings, &names);
    let nodes = names.iter().map(|host| script.install(host).pop().unwrap()).collect();
    (script, hosts, nodes)
}

fn listed(script: &mut Script, hosts: &[String]) -> Frame {
    let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
    script.agents(&names)
}

fn limits(max_recoveries: Share, mass_failure: Share) -> Settings {
    Settings { max_recoveries, mass_failure, ..settings() }
}

fn fails(script: &mut Script, host: &str, task: &TaskId) {
    script.failed(host, task, "Command exited with status 1");
}

#[test]
fn so_many_recoveries_as_the_limit_says_are_under_way_and_the_next_begins_when_one_has_ended() {
    let (mut script, hosts, nodes) = installed(limits(Share::Percent(20), Share::Percent(100)), 10);
    for n in 0..4 {
        fails(&mut script, &hosts[n], &nodes[n]);
    }
    script.wait(Duration::from_secs(1));
    let first = script.launches(&hosts[0], TaskType::CalicoNode);
    let second = script.launches(&hosts[1], TaskType::CalicoNode);
    assert_eq!(script.declines(&hosts[2]), HELD);
    let reason = "calico-node is held: recovery.max-concurrent; 2 of 2 recoveries at a time are under way";
    assert_eq!(script.agent_view(&hosts[2]).reason, reason);

    // Counted from what is stored: a new scheduler does not begin at none.
    script.restart();
    script.subscribed();
    listed(&mut script, &hosts);
    assert_eq!(script.core.view().recovery.under_way, 2);
    assert_eq!(script.declines(&hosts[2]), HELD);
    script.reports(&hosts[0], &first, not_ready());
    assert_eq!(script.declines(&hosts[2]), HELD, "not ready yet");
    script.ready(&hosts[0], &first);
    script.launches(&hosts[2], TaskType::CalicoNode);
    assert_eq!(script.declines(&hosts[3]), HELD);
    fails(&mut script, &hosts[1], &second);
    script.launches(&hosts[3], TaskType::CalicoNode);
    assert!(script.declines(&hosts[1]) < HELD, "its backoff is 2 s");
}

#[test]
fn a_recovery_that_takes_too_long_no_longer_counts_also_not_over_a_restart() {
    let (mut script, hosts, nodes) = installed(limits(Share::Number(1), Share::Percent(100)), 3);
    for n in 0..3 {
        fails(&mut script, &hosts[n], &nodes[n]);
    }
    script.wait(Duration::from_secs(1));
    let first = script.launches(&hosts[0], TaskType::CalicoNode);
    script.reports(&hosts[0], &first, not_ready());
    script.wait(Duration::from_secs(299));
    assert_eq!(script.declines(&hosts[1]), HELD);
    script.wait(Duration::from_secs(1));
    let second = script.launches(&hosts[1], TaskType::CalicoNode);
    script.reports(&hosts[0], &first, state(TaskState::Starting));
    assert_eq!(script.core.view().recovery.under_way, 1);
    script.update(&hosts[1], &second, state(TaskState::Unreachable));
    script.wait(Duration::from_mins(5));
    script.restart();
    script.subscribed();
    listed(&mut script, &hosts);
    script.launches(&hosts[2], TaskType::CalicoNode);
}

#[test]
fn first_installs_are_no_recoveries_nor_is_what_never_was_ready() {
    let hosts = ["a", "b", "c", "d"];
    let mut script = Script::with_agents(limits(Share::Number(1), Share::Number(1)), &hosts);
    script.reaches("a", TaskType::ClusterInit);
    for _ in 0..2 {
        let proxies = hosts.map(|host| script.launches(host, TaskType::EtcdProxy));
        for (host, proxy) in hosts.iter().zip(&proxies) {
            script.reports(host, proxy, not_ready());
            fails(&mut script, host, proxy);
        }
        script.wait(Duration::from_secs(10));
    }
    let recovery = script.core.view().recovery;
    assert_eq!((recovery.under_way, recovery.agents_down, recovery.held), (0, 0, None));
}

#[test]
fn in_a_mass_failure_one_is_let_through_and_twice_as_many_with_each_that_succeeds() {
    let (mut script, hosts, nodes) = installed(limits(Share::Percent(50), Share::Percent(20)), 20);
    let mut frames = Vec::new();
    for n in 0..20 {
        frames.push(script.failed(&hosts[n], &nodes[n], "Command exited with status 1"));
    }
    let what = "5 of 20 agents are down (recovery.mass-failure: more than 4)".to_owned();
    let said = |frame: &Frame| frame.decisions.contains(&Decision::MassFailure { what: what.clone() });
    assert_eq!(frames.iter().position(said), Some(4));
    let recovery = script.core.view().recovery;
    assert_eq!((recovery.agents_down, recovery.at_most, recovery.held_since), (20, 1, Some(script.now)));
    let held = serde_json::to_value(recovery).unwrap();
    assert_eq!(held["held"], "mass failure: 20 of 20 agents are down (recovery.mass-failure: more than 4)");
    assert_eq!(held["held_since"], "1970-01-01T00:16:40Z");

    script.wait(Duration::from_secs(10));
    let first = script.launches(&hosts[0], TaskType::CalicoNode);
    assert_eq!(script.declines(&hosts[1]), HELD);
    let reason = "calico-node is held: mass failure, 20 of 20 agents are down (recovery.mass-failure: more than 4); \
                  1 of 1 recoveries at a time are under way";
    assert_eq!(script.agent_view(&hosts[1]).reason, reason);
    script.ready(&hosts[0], &first);
    let [second, third] = [1, 2].map(|n| script.launches(&hosts[n], TaskType::CalicoNode));
    script.declines(&hosts[3]);
    script.ready(&hosts[1], &second);
    // Four, of which one is under way.
    let more = [3, 4, 5].map(|n| script.launches(&hosts[n], TaskType::CalicoNode));
    script.declines(&hosts[6]);
    // One fails: one at a time again.
    fails(&mut script, &hosts[2], &third);
    script.ready(&hosts[3], &more[0]);
    script.declines(&hosts[6]);
    fails(&mut script, &hosts[4], &more[1]);
    script.ready(&hosts[5], &more[2]);
    let offered = |script: &mut Script| {
        let frames = hosts[6..].iter().map(|host| (host, script.offer(host)));
        let launched = frames.filter_map(|(host, frame)| Some((host, launch(&frame)?.task)));
        launched.collect::<Vec<_>>()
    };
    let mut open = offered(&mut script);
    assert_eq!(open.len(), 2, "after one that succeeded");

    // It ends when few enough are down, and then the ordinary limit holds.
    while let Some((host, task)) = open.pop() {
        script.ready(host, &task);
        open.extend(offered(&mut script));
    }
    assert_eq!(script.core.view().recovery.held, None);
    assert_eq!(script.core.view().recovery.agents_down, 2);
    assert_eq!(script.core.view().recovery.at_most, 10);
}

#[test]
fn an_outage_that_makes_services_unready_ends_none_and_holds_the_recovery_of_others_until_it_ends() {
    let (mut script, hosts, nodes) = installed(limits(Share::Percent(50), Share::Percent(20)), 10);
    for (host, node) in hosts.iter().zip(&nodes).skip(2) {
        let frame = script.reports(host, node, not_ready());
        assert!(killed(&frame).is_empty() && launch(&frame).is_none());
    }
    for n in 0..2 {
        fails(&mut script, &hosts[n], &nodes[n]);
    }
    script.wait(Duration::from_secs(1));
    // One is tried, does not become ready, and stands in for all until it has taken too long.
    let probe = script.launches(&hosts[0], TaskType::CalicoNode);
    script.reports(&hosts[0], &probe, not_ready());
    script.wait(Duration::from_secs(299));
    assert_eq!(script.declines(&hosts[1]), HELD);
    script.wait(Duration::from_secs(1));
    let second = script.launches(&hosts[1], TaskType::CalicoNode);

    let mut frames = Vec::new();
    for (host, node) in hosts.iter().zip(&nodes).skip(2) {
        frames.push(script.ready(host, node));
    }
    let ended =
        |frame: &Frame| frame.decisions.iter().any(|d| matches!(d, Decision::MassFailureEnded { .. }));
    assert!(frames.iter().any(ended));
    script.ready(&hosts[0], &probe);
    script.ready(&hosts[1], &second);
    assert_eq!(script.core.view().deploy.status, Status::Complete);
}

#[test]
fn agents_that_went_away_count_for_a_while() {
    let (mut script, hosts, nodes) = installed(limits(Share::Percent(50), Share::Percent(20)), 10);
    listed(&mut script, &hosts[3..]);
    assert_eq!(script.core.view().recovery.held_since, Some(script.now));
    for n in 3..5 {
        fails(&mut script, &hosts[n], &nodes[n]);
    }
    script.wait(Duration::from_secs(1));
    script.launches(&hosts[3], TaskType::CalicoNode);
    assert_eq!(script.declines(&hosts[4]), HELD);
    // Still so after a restart, and no longer when the others would be back if they came back.
    script.restart();
    script.subscribed();
    listed(&mut script, &hosts[3..]);
    assert_eq!(script.declines(&hosts[4]), HELD);
    script.wait(Duration::from_mins(10));
    let recovery = script.core.view().recovery;
    assert_eq!((recovery.agents_down, recovery.agents), (2, 7));
    script.wait(Duration::from_secs(1));
    script.launches(&hosts[4], TaskType::CalicoNode);
}

#[test]
fn what_is_held_gets_its_offer_when_offers_were_suppressed() {
    let (mut script, hosts, nodes) = installed(limits(Share::Number(1), Share::Percent(100)), 3);
    script.wait(Duration::from_secs(10));
    fails(&mut script, &hosts[0], &nodes[0]);
    let frame = script.failed(&hosts[1], &nodes[1], "Command exited with status 1");
    assert!(!frame.effects.contains(&Effect::Suppress));
    script.wait(Duration::from_secs(1));
    let first = script.launches(&hosts[0], TaskType::CalicoNode);
    script.declines(&hosts[1]);
    let frame = script.ready(&hosts[0], &first);
    assert!(!frame.effects.contains(&Effect::Suppress), "another still wants one");
    script.reaches(&hosts[1], TaskType::CalicoNode);
}

#[test]
fn a_recovery_that_was_stored_in_the_future_counts_from_now_on() {
    let (mut script, hosts, nodes) = installed(limits(Share::Number(1), Share::Percent(100)), 2);
    script.now = script.now.after(Duration::from_hours(1000));
    for n in 0..2 {
        fails(&mut script, &hosts[n], &nodes[n]);
    }
    script.wait(Duration::from_secs(1));
    script.launches(&hosts[0], TaskType::CalicoNode);
    script.restart();
    script.now = Timestamp(2_000_000);
    script.subscribed();
    listed(&mut script, &hosts);
    assert_eq!(script.declines(&hosts[1]), HELD);
    script.wait(Duration::from_mins(5));
    // Nor does its backoff, which ends in a month's time, keep it.
    script.launches(&hosts[1], TaskType::CalicoNode);
}

#[test]
fn state_of_an_earlier_version_is_read() {
    let (script, ..) = installed(settings(), 1);
    let mut stored = serde_json::to_value(&script.stored).unwrap();
    let tasks = stored["agents"]["h00:5051"]["tasks"].as_object_mut().unwrap();
    for task in tasks.values_mut() {
        task.as_object_mut().unwrap().remove("reached");
    }
    let read: State = serde_json::from_value(stored).unwrap();
    let slot = Slot::Agent("h00:5051".into(), TaskType::CalicoNode);
    let node = read.task(&slot).unwrap().phase.live().unwrap().0.clone();
    let mut core = Core::new(settings(), read);
    let failed = Update { task: node, agent: Some("S-h00".into()), ..state(TaskState::Failed) };
    core.handle(script.now, Input::Event(Event::Update(failed)));
    assert!(core.state().task(&slot).unwrap().reached, "it was ready when it failed");
}
