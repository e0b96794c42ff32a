//! Agents that join, leave, move, and are rebuilt.

use std::time::Duration;

use super::script::{Script, acknowledged, launch, ready, state};
use super::*;

#[test]
fn a_rebuilt_agent_starts_anew() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let node = script.install("a").pop().unwrap();
    script.wait(Duration::from_mins(1));
    let frame = script.send(Input::Agents(vec![agent("a", "S-new")]));
    let what = "a:5051 was rebuilt: S-a is now S-new".to_owned();
    assert!(frame.decisions.contains(&Decision::AgentSeen { what }));
    assert!(frame.effects.contains(&Effect::Revive), "offers were suppressed: {frame:?}");
    assert_eq!(script.phase("a", TaskType::CalicoNode), None);

    // What the master says of the old registration no longer matters.
    let frame = script.update("a", &node, state(TaskState::Gone));
    assert_eq!(frame, Frame::default());
    script.launches("new", TaskType::EtcdProxy);
}

#[test]
fn an_agent_that_moves_keeps_its_progress() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let node = script.install("a").pop().unwrap();
    let frame = script.send(Input::Agents(vec![agent("b", "S-a")]));
    let what = "a:5051 is now at b:5051".to_owned();
    assert!(frame.decisions.contains(&Decision::AgentSeen { what }));
    assert_eq!(script.stored.agents.len(), 1);
    assert_eq!(script.agent_view("b").status, Status::Complete);
    assert!(script.ready("a", &node).changes.is_empty());
    script.failed("a", &node, "Command exited with status 1");
    assert!(matches!(script.phase("b", TaskType::CalicoNode), Some(Phase::Backoff { .. })));
}

#[test]
fn agents_that_swap_addresses_keep_their_progress() {
    let mut script = Script::with_agents(settings(), &["a", "b"]);
    let node = script.install("a").pop().unwrap();
    let proxy = script.reaches("b", TaskType::EtcdProxy);
    script.send(Input::Agents(vec![agent("a", "S-b"), agent("b", "S-a")]));
    assert_eq!(script.stored.agents.len(), 2);
    assert!(script.agent_view("a").tasks[0].task_id == Some(proxy));
    assert!(script.agent_view("b").tasks[2].task_id == Some(node));
    assert_eq!(script.agent_view("b").status, Status::Complete);
}

#[test]
fn a_moved_agent_whose_offers_stay_away_gets_them_back_when_it_needs_one() {
    let mut script = Script::with_agents(settings(), &["a", "b"]);
    let node = script.install("a").pop().unwrap();
    script.declines("a");
    script.send(Input::Agents(vec![agent("c", "S-a"), agent("b", "S-b")]));
    script.wait(Duration::from_secs(10));
    let frame = script.failed("a", &node, "Command exited with status 1");
    assert!(frame.effects.contains(&Effect::Revive));
}

#[test]
fn an_agent_that_is_away_is_left_alone_and_goes_on_when_it_is_back() {
    let mut script = Script::with_agents(settings(), &["a", "b"]);
    script.reaches("a", TaskType::ClusterInit);
    script.reaches("a", TaskType::EtcdProxy);
    let frame = script.agents(&["b"]);
    assert!(frame.decisions.contains(&Decision::AgentAbsent { what: "a:5051".into() }));
    assert!(frame.changes.is_empty());
    assert_eq!(script.agents(&["b"]).decisions, [], "said once");
    let view = script.agent_view("a");
    assert_eq!((view.presence, view.reason.as_str()), ("absent", "the agent is away"));
    assert_eq!(script.declines("a"), Duration::from_hours(1));
    // The plan is of the agents that are there.
    let phase = &script.core.view().deploy.phases[1];
    assert_eq!(phase.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(), ["b:5051"]);

    script.agents(&["a", "b"]);
    script.launches("a", TaskType::Cni);
}

#[test]
fn an_agent_that_is_listed_and_not_connected_is_away() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.send(Input::Agents(vec![Agent { active: false, ..agent("a", "S-a") }]));
    assert_eq!(script.agent_view("a").presence, "absent");
    script.declines("a");
}

#[test]
fn a_registration_that_has_ended_does_not_hide_the_one_that_took_its_address() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.install("a");
    let old = Agent { active: false, ..agent("a", "S-old") };
    for list in [vec![old.clone(), agent("a", "S-a")], vec![agent("a", "S-a"), old]] {
        let frame = script.send(Input::Agents(list));
        assert_eq!(frame, Frame::default());
        assert_eq!(script.agent_view("a").status, Status::Complete);
        assert_eq!(script.agent_view("a").presence, "active");
    }
}

#[test]
fn excluded_agents_get_nothing() {
    let mut settings = settings();
    settings.exclude = vec![Selector("a".into())];
    settings.only = vec![Selector("a".into()), Selector("b".into())];
    let mut script = Script::with_agents(settings, &["a", "b", "c"]);
    for (host, reason) in [("a", "excluded by agents.exclude (a)"), ("c", "not selected by agents.only")] {
        assert_eq!(script.declines(host), Duration::from_hours(1));
        let view = script.agent_view(host);
        assert_eq!((view.presence, view.reason.as_str()), ("excluded", reason));
    }
    script.install("b");
    assert_eq!(script.core.view().deploy.status, Status::Complete);
}

#[test]
fn a_failure_asks_for_the_inventory_and_an_error_ends_it() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let frame = script.send(Input::Event(Event::Failure(Some("S-a".into()))));
    assert_eq!(frame.effects, [Effect::RefreshInventory]);
    assert_eq!(script.send(Input::Event(Event::Rescind("O1".into()))), Frame::default());
    let frame = script.send(Input::Event(Event::Error("Framework has been removed".into())));
    assert_eq!(frame.effects, [Effect::Abort("Framework has been removed".into())]);
    assert!(frame.changes.is_empty(), "nothing is forgotten");
}

#[test]
fn an_inventory_that_says_nothing_new_changes_nothing() {
    let mut script = Script::with_agents(settings(), &["a", "b"]);
    assert_eq!(script.agents(&["a", "b"]), Frame::default());
    assert_eq!(script.agents(&["b", "a"]), Frame::default());
}

#[test]
fn a_new_version_of_an_agent_leaves_its_tasks_and_offers_as_they_are() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let node = script.install("a").pop().unwrap();
    let newer = Agent { version: "1.11.1".into(), ..agent("a", "S-a") };
    let frame = script.send(Input::Agents(vec![newer]));
    assert_eq!((frame.changes.len(), frame.effects.len()), (1, 0));
    let frame = script.reports("a", &node, ready());
    assert!(acknowledged(&frame) && launch(&frame).is_none());
    // Nothing waits: a subscription suppresses at once.
    assert!(script.subscribed().effects.contains(&Effect::Suppress));
}
