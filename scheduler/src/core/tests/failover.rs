//! A new master does not know yet which agents there are.

use std::time::Duration;

use super::script::{Script, declined, killed, launch, ready, state};
use super::*;

#[test]
fn an_offer_of_an_agent_that_is_away_shows_that_the_list_is_old() {
    let mut script = Script::with_agents(settings(), &["a", "b"]);
    script.reaches("a", TaskType::ClusterInit);
    let away = Agent { standing: Standing::Disconnected, ..agent("a", "S-a") };
    for list in [vec![away, agent("b", "S-b")], vec![agent("b", "S-b")]] {
        script.send(Input::Agents(list));
        let frame = script.offer("a");
        assert_eq!((launch(&frame), declined(&frame)), (None, Some(Duration::from_secs(1))));
        assert!(frame.effects.contains(&Effect::RefreshInventory));
    }
    script.agents(&["a", "b"]);
    script.launches("a", TaskType::EtcdProxy);
}

#[test]
fn a_plan_over_no_agents_is_not_complete_while_there_are_some_that_are_away() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.install("a");
    assert_eq!(script.core.view().deploy.status, Status::Complete);
    script.agents(&[]);
    let plan = script.core.view().deploy;
    assert_eq!(plan.status, Status::InProgress);
    let statuses: Vec<Status> = plan.phases.iter().map(|phase| phase.status).collect();
    assert_eq!(statuses, [Status::Complete, Status::Pending, Status::Pending, Status::Pending]);
    script.agents(&["a"]);
    assert_eq!(script.core.view().deploy.status, Status::Complete);
}

fn recovering(host: &str) -> Agent {
    let agent = agent(host, &format!("S-{host}"));
    Agent { version: String::new(), standing: Standing::Recovering, ..agent }
}

#[test]
fn agents_that_have_not_registered_with_a_new_master_are_as_they_were() {
    let hosts = ["a", "b", "c", "d"];
    let mut script = Script::with_agents(settings(), &hosts);
    for host in hosts {
        script.install(host);
    }
    script.send(Input::Disconnected);
    script.subscribed();
    let frame = script.send(Input::Agents(hosts.map(recovering).to_vec()));
    assert_eq!((&frame.changes[..], &frame.decisions[..]), (&[][..], &[][..]));
    let view = script.core.view();
    assert_eq!(view.deploy.status, Status::Complete);
    assert_eq!((view.recovery.agents_down, view.recovery.agents), (0, 4));
    let a = script.agent_view("a");
    assert_eq!((a.presence, a.absent_since), ("recovering", None));
    assert!(a.reason.starts_with("the master has changed"), "{}", a.reason);
    // Its first offer may come before the list does.
    let frame = script.offer("a");
    assert_eq!(declined(&frame), Some(Duration::from_secs(1)));
    assert!(frame.effects.contains(&Effect::RefreshInventory));

    let list = vec![agent("a", "S-a"), recovering("b"), recovering("c"), recovering("d")];
    let frame = script.send(Input::Agents(list));
    assert_eq!((&frame.changes[..], &frame.decisions[..]), (&[][..], &[][..]));
    // The master gives up those that do not come back.
    let frame = script.agents(&["a", "b", "c"]);
    assert!(frame.decisions.contains(&Decision::AgentAbsent { what: "d:5051".into() }));
    assert_eq!(script.agent_view("d").presence, "absent");
}

#[test]
fn what_is_recovering_gets_nothing_and_counts_as_it_did() {
    let mut script = Script::with_agents(settings(), &["a", "b", "c"]);
    let node = script.install("a").pop().unwrap();
    script.install("b");
    script.agents(&["a", "b"]);
    let since = script.now;
    script.wait(Duration::from_mins(1));
    script.send(Input::Agents(vec![recovering("a"), recovering("b"), recovering("c"), recovering("new")]));
    // One that was away is so until it is there; of one that was never there nothing is known yet.
    assert_eq!(script.agent_view("c").absent_since, Some(since));
    assert_eq!(script.core.view().agents.len(), 3);
    script.update("a", &node, state(TaskState::Gone));
    let view = script.core.view();
    assert_eq!((view.recovery.agents_down, view.recovery.agents), (1, 2));
    script.wait(Duration::from_mins(1));
    assert_eq!(launch(&script.offer("a")), None);
    script.wait(Duration::from_hours(25));
    script.send(Input::Agents(vec![agent("a", "S-a"), recovering("b"), recovering("c")]));
    assert_eq!(script.core.view().agents.len(), 3, "not forgotten while the master waits for it");
    script.launches("a", TaskType::CalicoNode);
}

#[test]
fn what_is_recovering_keeps_its_place_on_its_host_and_one_that_is_excluded_is() {
    let mut settings = settings();
    settings.exclude = vec![Selector("b".into())];
    let mut script = Script::with_agents(settings, &["a", "b"]);
    script.install("a");
    let second = Agent { key: "a:5052".into(), ..agent("a", "S-2") };
    script.send(Input::Agents(vec![recovering("a"), second.clone(), recovering("b")]));
    assert_eq!(script.agent_view("b").presence, "excluded");
    let presence = |script: &Script, id: &str| {
        let agents = script.core.view().agents.into_iter();
        agents.filter(|agent| agent.agent_id == id.into()).map(|agent| agent.presence).collect::<Vec<_>>()
    };
    assert_eq!((presence(&script, "S-a"), presence(&script, "S-2")), (vec!["recovering"], vec!["duplicate"]));
    script.send(Input::Agents(vec![agent("a", "S-a"), second]));
    assert_eq!((presence(&script, "S-a"), presence(&script, "S-2")), (vec!["active"], vec!["duplicate"]));
}

#[test]
fn an_agent_has_75_s_to_come_back_after_a_restart_and_nothing_is_done_meanwhile() {
    let mut script = Script::with_agents(settings(), &["a", "b"]);
    let tasks = script.install("a");
    script.install("b");
    // Its agent is restarted: the master lists it as not connected until it has missed five pings of 15 s.
    let restarting = Agent { standing: Standing::Disconnected, ..agent("a", "S-a") };
    for _ in 0..75 {
        script.send(Input::Agents(vec![restarting.clone(), agent("b", "S-b")]));
        let frame = script.wait(Duration::from_secs(1));
        assert!(frame.changes.is_empty() && frame.decisions.is_empty(), "{frame:?}");
        assert_eq!((killed(&frame), launch(&frame)), (vec![], None));
    }
    script.agents(&["a", "b"]);
    // Back, it is asked about: its services live, and nobody was told otherwise.
    for task in &tasks[1..] {
        let frame = script.update("a", task, ready());
        assert_eq!((killed(&frame), launch(&frame)), (vec![], None));
    }
    let view = script.agent_view("a");
    assert_eq!((view.presence, view.status, view.absent_since), ("active", Status::Complete, None));
    let live: Vec<TaskId> = view.tasks.into_iter().filter_map(|task| task.task_id).collect();
    assert_eq!(live, [tasks[1].clone(), tasks[3].clone()]);
    assert_eq!(script.core.view().recovery.under_way, 0);
}
