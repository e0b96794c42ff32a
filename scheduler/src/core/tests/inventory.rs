//! Agents that join, leave, move, and are rebuilt.

use std::time::Duration;

use super::script::{Script, acknowledged, asked, declined, killed, launch, ready, state};
use super::*;

#[test]
fn a_rebuilt_agent_starts_anew() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let tasks = script.install("a");
    script.wait(Duration::from_mins(1));
    let frame = script.send(Input::Agents(vec![agent("a", "S-new")]));
    let what = "a:5051 was rebuilt: S-a is now S-new".to_owned();
    assert!(frame.decisions.contains(&Decision::AgentSeen { what }));
    assert!(frame.effects.contains(&Effect::Revive), "offers were suppressed: {frame:?}");
    assert_eq!(script.phase("a", TaskType::CalicoNode), None);

    // The old registration is kept until the master has said that nothing of it is left.
    assert_eq!(script.stored.agents.len(), 2);
    assert_eq!(script.core.view().agents.len(), 1);
    assert_eq!(asked(&script.wait(Duration::from_secs(1))), Some(vec![tasks[3].clone(), tasks[1].clone()]));
    for task in [&tasks[1], &tasks[3]] {
        let frame = script.update("a", task, state(TaskState::Gone));
        assert_eq!((frame.changes.len(), frame.effects, frame.decisions), (1, vec![], vec![]));
    }
    assert_eq!(script.stored.agents.keys().collect::<Vec<_>>(), [&AgentKey::from("a:5051")]);
    script.launches("new", TaskType::EtcdProxy);
}

#[test]
fn a_partitioned_agent_whose_address_another_has_by_now_keeps_its_tasks_when_it_is_back() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let tasks = script.install("a");
    script.update("a", &tasks[1], state(TaskState::Unreachable));
    script.update("a", &tasks[3], state(TaskState::Unreachable));
    script.agents(&[]);
    script.send(Input::Agents(vec![agent("a", "S-b")]));
    script.restart();
    script.subscribed();
    script.send(Input::Agents(vec![agent("a", "S-b")]));
    script.reaches("b", TaskType::EtcdProxy);

    // An offer that comes before the list shows it is for later.
    let frame = script.offer("a");
    assert_eq!(launch(&frame), None);
    assert!(frame.effects.contains(&Effect::RefreshInventory));
    script.send(Input::Agents(vec![agent("a", "S-b"), agent("c", "S-a")]));
    for task in [&tasks[1], &tasks[3]] {
        assert_eq!(killed(&script.ready("a", task)), []);
    }
    assert_eq!(script.agent_view("c").status, Status::Complete);
    assert_eq!(script.agent_view("c").presence, "active");
    assert_eq!(script.stored.agents.len(), 2);
    assert!(launch(&script.offer("a")).unwrap().only_looks, "it has registered again");
    script.launches("b", TaskType::Cni);
}

fn away(hours: u64) -> (Script, Vec<TaskId>) {
    let mut script = Script::with_agents(settings(), &["a", "b"]);
    let tasks = script.install("a");
    script.agents(&["b"]);
    script.wait(Duration::from_hours(hours));
    (script, tasks)
}

#[test]
fn an_agent_is_forgotten_when_it_was_away_for_long_enough_and_the_list_still_does_not_name_it() {
    let (mut script, tasks) = away(23);
    for task in [&tasks[1], &tasks[3]] {
        script.update("a", task, state(TaskState::Gone));
    }
    // How long it is away is counted over a restart.
    script.restart();
    script.subscribed();
    script.agents(&["b"]);
    let view = script.agent_view("a");
    assert_eq!((view.presence, view.absent_since), ("absent", Some(Timestamp(1_000_004))));
    assert_eq!(serde_json::to_value(view).unwrap()["absent_since"], "1970-01-01T00:16:40Z");
    script.wait(Duration::from_hours(2));
    assert_eq!(script.stored.agents.len(), 2, "nothing is forgotten before a list confirms it");
    let frame = script.agents(&["b"]);
    let what = "a:5051, away since 1970-01-01T00:16:40Z".to_owned();
    assert!(frame.decisions.contains(&Decision::AgentForgotten { what }));
    assert_eq!(script.stored.agents.keys().collect::<Vec<_>>(), [&AgentKey::from("b:5051")]);
    assert_eq!(script.agents(&["b"]), Frame::default());
    script.agents(&["a", "b"]);
    script.launches("a", TaskType::EtcdProxy);
}

#[test]
fn an_agent_that_was_back_in_between_is_not_forgotten() {
    let (mut script, _) = away(23);
    script.agents(&["a", "b"]);
    script.agents(&["b"]);
    script.wait(Duration::from_hours(23));
    script.agents(&["b"]);
    assert_eq!(script.agent_view("a").presence, "absent");
}

#[test]
fn what_may_still_run_on_an_agent_that_is_forgotten_is_remembered_until_it_has_ended() {
    let (mut script, tasks) = away(25);
    script.agents(&["b"]);
    assert!(script.core.view().agents.iter().all(|agent| &*agent.agent.0 != "a:5051"));
    // Back after all, with everything.
    script.agents(&["a", "b"]);
    script.ready("a", &tasks[1]);
    assert_eq!(script.agent_view("a").status, Status::Complete);

    script.agents(&["b"]);
    script.wait(Duration::from_hours(25));
    script.agents(&["b"]);
    for task in [&tasks[1], &tasks[3]] {
        script.update("a", task, state(TaskState::Gone));
    }
    assert_eq!(script.stored.agents.len(), 1);
}

#[test]
fn an_agent_that_is_listed_is_not_forgotten_whatever_its_standing() {
    let draining = Standing::Draining { since: None };
    for standing in [draining, Standing::Deactivated, Standing::Disconnected] {
        let mut script = Script::with_agents(settings(), &["a"]);
        for _ in 0..3 {
            script.send(Input::Agents(vec![Agent { standing, ..agent("a", "S-a") }]));
            script.wait(Duration::from_hours(24));
        }
        assert_eq!(script.stored.agents.len(), 1, "{standing:?}");
    }
}

#[test]
fn a_stored_absence_that_lies_in_the_future_begins_now() {
    let (mut script, _) = away(1);
    script.restart();
    script.now = Timestamp(1000);
    script.subscribed();
    script.agents(&["b"]);
    assert_eq!(script.agent_view("a").absent_since, Some(Timestamp(1000)));
}

#[test]
fn of_two_agents_at_one_address_the_known_one_has_it_whatever_the_order() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.install("a");
    let two = vec![agent("a", "S-0"), agent("a", "S-a")];
    let reversed = two.iter().rev().cloned().collect();
    let frame = script.send(Input::Agents(two));
    assert_eq!((frame.changes.len(), frame.decisions.len()), (0, 1));
    assert!(
        matches!(&frame.decisions[0], Decision::Duplicate { what } if what.starts_with("S-0 is left alone"))
    );
    assert_eq!(script.send(Input::Agents(reversed)), Frame::default(), "said once");

    let views: Vec<AgentView> = script.core.view().agents;
    assert_eq!((views.len(), views[0].status, views[1].presence), (2, Status::Complete, "duplicate"));
    assert!(views[1].reason.contains("the address of two agents, S-a and S-0"), "{}", views[1].reason);
    // Its offers stay away, and nobody asks for the list because of them.
    let frame = script.offer("0");
    assert_eq!((launch(&frame), declined(&frame)), (None, Some(Duration::from_hours(1))));
    assert_eq!(frame.effects.len(), 1);

    // The known one has gone.
    script.wait(Duration::from_secs(10));
    let frame = script.send(Input::Agents(vec![agent("a", "S-0")]));
    assert!(frame.effects.contains(&Effect::Revive));
    script.launches("0", TaskType::EtcdProxy);
}

#[test]
fn of_two_unknown_agents_at_one_address_the_first_by_id_has_it() {
    let mut script = Script::with_agents(settings(), &[]);
    script.send(Input::Agents(vec![agent("a", "S-b"), agent("a", "S-a")]));
    assert_eq!(script.agent_view("a").agent_id, "S-a".into());
}

#[test]
fn of_two_agents_of_one_host_the_one_that_has_calico_keeps_it_and_the_other_gets_none() {
    let at = |port: u16, id: &str| Agent { key: AgentKey::from(format!("a:{port}")), ..agent("a", id) };
    let mut script = Script::with_agents(settings(), &["a"]);
    script.install("a");
    let frame = script.send(Input::Agents(vec![at(5050, "S-b"), at(5051, "S-a")]));
    assert!(frame.decisions.iter().any(|decision| matches!(decision, Decision::Duplicate { .. })));
    assert_eq!(script.declines("b"), Duration::from_hours(1));
    let views = script.core.view().agents;
    assert_eq!((views[0].presence, views[1].presence), ("duplicate", "active"));
    assert!(views[0].reason.starts_with("a:5051 is the agent of the host a"), "{}", views[0].reason);
    assert_eq!(script.core.view().deploy.status, Status::Complete);

    // Where neither has it, it is the first by address; what is excluded or away has no claim.
    let mut settings = settings();
    settings.exclude = vec![Selector("a:5050".into())];
    for (settings, first) in [(super::settings(), "a:5050"), (settings, "a:5051")] {
        let mut script = Script::with_agents(settings, &[]);
        script.send(Input::Agents(vec![at(5051, "S-a"), at(5050, "S-b")]));
        let active = script.core.view().agents.into_iter().filter(|agent| agent.presence == "active");
        assert_eq!(active.map(|agent| agent.agent.to_string()).collect::<Vec<_>>(), [first]);
    }
}

#[test]
fn a_draining_agent_gets_nothing_and_its_ended_tasks_are_no_failures() {
    let since = Some(Timestamp(1_000_000));
    let draining = Agent { standing: Standing::Draining { since }, ..agent("a", "S-a") };
    let mut script = Script::with_agents(settings(), &["a", "b"]);
    let tasks = script.install("a");
    script.install("b");
    script.wait(Duration::from_hours(1));
    script.send(Input::Agents(vec![draining.clone(), agent("b", "S-b")]));
    let view = script.agent_view("a");
    let reason =
        "the agent is draining since 1970-01-01T00:16:40Z: nothing is launched before it is reactivated";
    assert_eq!((view.presence, view.reason.as_str()), ("draining", reason));

    // With Mesos' own word for it, and without one.
    let frame = script.reports("a", &tasks[1], state(TaskState::Drained));
    let slot = Slot::Agent("a:5051".into(), TaskType::EtcdProxy);
    assert_eq!(frame.decisions, [Decision::Drained { slot }]);
    assert!(acknowledged(&frame) && frame.effects.len() == 1);
    script.failed("a", &tasks[3], "Command terminated with signal Terminated");
    for task in script.agent_view("a").tasks {
        assert_eq!(task.failures, 0);
    }
    assert_eq!(script.core.view().recovery.agents_down, 0);
    script.declines("a");
    script.restart();
    script.subscribed();
    script.send(Input::Agents(vec![draining, agent("b", "S-b")]));
    script.declines("a");

    // Reactivated: at once, whatever the limit on recoveries.
    script.agents(&["a", "b"]);
    script.reaches("a", TaskType::EtcdProxy);
    script.reaches("a", TaskType::CalicoNode);
    assert_eq!(script.core.view().recovery.under_way, 0);
}

#[test]
fn a_deactivated_agent_keeps_its_tasks_and_gets_nothing_new() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.reaches("a", TaskType::ClusterInit);
    let proxy = script.reaches("a", TaskType::EtcdProxy);
    script.send(Input::Agents(vec![Agent { standing: Standing::Deactivated, ..agent("a", "S-a") }]));
    assert_eq!(script.agent_view("a").presence, "deactivated");
    script.declines("a");
    script.failed("a", &proxy, "Command exited with status 1");
    script.wait(Duration::from_mins(1));
    script.declines("a");
    script.wait(Duration::from_secs(10));
    assert!(script.agents(&["a"]).effects.contains(&Effect::Revive));
    script.launches("a", TaskType::EtcdProxy);
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
    let settings = Settings { verify_interval: None, ..settings() };
    let mut script = Script::with_agents(settings, &["a", "b"]);
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
    let [StateChange::Agent(record)] = &frame.changes[..] else { panic!("{frame:?}") };
    assert_eq!(record.absent_since, Some(script.now));
    assert_eq!(script.agents(&["b"]), Frame::default(), "said and stored once");
    let view = script.agent_view("a");
    assert_eq!((view.presence, view.reason.as_str()), ("absent", "the agent is away"));
    script.declines("a");
    // The plan is of the agents that are there.
    let phase = &script.core.view().deploy.phases[1];
    assert_eq!(phase.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(), ["b:5051"]);

    script.agents(&["a", "b"]);
    script.launches("a", TaskType::Cni);
}

#[test]
fn an_agent_that_is_listed_and_not_connected_is_away() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.send(Input::Agents(vec![Agent { standing: Standing::Disconnected, ..agent("a", "S-a") }]));
    assert_eq!(script.agent_view("a").presence, "absent");
    script.declines("a");
}

#[test]
fn a_registration_that_has_ended_does_not_hide_the_one_that_took_its_address() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.install("a");
    let old = Agent { standing: Standing::Disconnected, ..agent("a", "S-old") };
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
    let settings = Settings { verify_interval: None, ..settings() };
    let mut script = Script::with_agents(settings, &["a"]);
    let node = script.install("a").pop().unwrap();
    let newer = Agent { version: "1.11.1".into(), ..agent("a", "S-a") };
    let frame = script.send(Input::Agents(vec![newer]));
    assert_eq!((frame.changes.len(), frame.effects.len()), (1, 0));
    let frame = script.reports("a", &node, ready());
    assert!(acknowledged(&frame) && launch(&frame).is_none());
    // Nothing waits: a subscription suppresses at once.
    assert!(script.subscribed().effects.contains(&Effect::Suppress));
}
