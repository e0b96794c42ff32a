//! Whose turn it is: our own scheduler's agent last, nobody near maintenance, and what has failed before.

use super::*;

/// Everything is installed on `hosts`, each in its rack; then another target of calico-node is wanted.
fn in_racks(settings: &Settings, hosts: &[(&str, &str)]) -> Script {
    let names: Vec<&str> = hosts.iter().map(|(host, _)| *host).collect();
    let mut script = Script::with_agents(settings.clone(), &names);
    for host in &names {
        script.install(host);
    }
    script.restart_with(changed(settings.clone(), &[NODE], 2));
    script.subscribed();
    let agents = hosts.iter().map(|(host, rack)| {
        let agent = agent(host, &format!("S-{host}"));
        Agent { attributes: vec![format!("rack:{rack}")], ..agent }
    });
    script.send(Input::Agents(agents.collect()));
    script
}

#[test]
fn our_own_agent_waits_for_those_whose_domain_is_full() {
    let settings = rollout(|rollout| {
        rollout.strategy = RolloutStrategy::Parallel;
        (rollout.max_agents, rollout.max_per_domain) = (Share::Number(3), Some(1));
        rollout.domain_attribute = Some("rack".into());
        rollout.own_host = Some("a".into());
    });
    let mut script = in_racks(&settings, &[("a", "1"), ("b", "2"), ("c", "2")]);
    script.tells(&["a", "b", "c"]);
    // There is room in its rack, and it would not be the last.
    script.replaces_node("b");
    assert_eq!(script.under_way(), ["a:5051", "c:5051"]);
}

#[test]
fn our_own_agent_comes_last_also_when_it_has_failed_before() {
    let settings = rollout(|rollout| {
        rollout.strategy = RolloutStrategy::Serial;
        (rollout.max_attempts, rollout.max_failures) = (1, 5);
        rollout.own_host = Some("a".into());
    });
    let mut script = updating(&settings, &["a", "b"], &[NODE]);
    script.replaces_node("b");
    let fetch = script.launches("a", TaskType::Prefetch);
    script.failed("a", &fetch, "Command exited with status 78");
    assert_eq!(script.core.view().rollout.failed, ["a:5051".into()]);
    script.restart_with(changed(settings, &[NODE], 3));
    script.resumes(&["a", "b"]);
    script.tells(&["a", "b"]);
    assert_eq!(script.under_way(), ["b:5051"]);
}

#[test]
fn what_has_failed_in_a_rollout_is_no_mass_failure_and_the_next_one_mends_it() {
    let mut settings = rollout(|rollout| {
        rollout.strategy = RolloutStrategy::Serial;
        (rollout.max_attempts, rollout.max_failures) = (1, 2);
    });
    settings.mass_failure = Share::Number(1);
    let hosts = ["a", "b", "c"];
    let mut script = updating(&settings, &hosts, &[NODE]);
    for host in ["a", "b"] {
        let old = script.task(host, NODE);
        script.reaches(host, TaskType::Prefetch);
        script.failed(host, &old, "Command terminated with signal Terminated");
        let new = script.launches(host, NODE);
        script.failed(host, &new, "Command exited with status 78");
    }
    // Two services are down, and will be for ever, with this target.
    assert_eq!(script.core.view().rollout.failed.len(), 2);
    assert_eq!(script.core.view().recovery.agents_down, 0);
    script.restart_with(changed(settings, &[NODE], 3));
    script.resumes(&hosts);
    script.tells(&hosts);
    script.wait(SECOND);
    assert_eq!(script.under_way(), ["a:5051"], "{:?}", script.core.view().rollout.held);
}

#[test]
fn nobody_begins_in_a_mass_failure() {
    let mut settings = rollout(|rollout| rollout.strategy = RolloutStrategy::Serial);
    settings.mass_failure = Share::Number(1);
    let hosts = ["a", "b", "c"];
    let mut script = installed(&settings, &hosts);
    let down: Vec<(&str, TaskId)> = ["b", "c"].map(|host| (host, script.task(host, NODE))).into();
    script.restart_with(changed(settings, &[NODE], 2));
    script.subscribed();
    for (host, task) in &down {
        script.update(host, task, not_ready());
    }
    script.agents(&hosts);
    script.wait(SECOND);
    assert_eq!(script.under_way(), [""; 0]);
    let held = script.core.view().rollout.held;
    assert!(held.as_ref().is_some_and(|why| why.contains("mass failure")), "{held:?}");
    script.tells(&hosts);
    script.wait(SECOND);
    assert_eq!(script.under_way(), ["a:5051"]);
}

#[test]
fn a_service_is_not_ended_where_its_agent_goes_down_before_its_successor_could_be_there() {
    let mut script = updating(&rollout(|_| ()), &["a"], &[NODE]);
    let (old, fetch) = (script.task("a", NODE), script.launches("a", TaskType::Prefetch));
    let start = script.now.after(Duration::from_mins(30));
    let unavailability = Unavailability { start, duration: Some(Duration::from_mins(5)) };
    let (id, agent) = ("inverse".into(), Some("S-a".into()));
    script.send(Input::Event(Event::InverseOffers(vec![InverseOffer { id, agent, unavailability }])));
    assert_eq!(killed(&script.finished("a", &fetch)), []);
    let offered = |script: &mut Script, unavailability| {
        let offer = Offer { unavailability, ..script.make_offer("a", plenty()) };
        killed(&script.send(Input::Event(Event::Offers(vec![offer]))))
    };
    assert_eq!(offered(&mut script, Some(unavailability)), []);
    // It is taken back.
    let mut ended = offered(&mut script, None);
    ended.extend(killed(&script.wait(SECOND)));
    assert_eq!(ended, [old]);
}

#[test]
fn what_an_operator_orders_with_another_target_waits_for_a_place_also_where_nothing_runs() {
    let settings = rollout(|rollout| rollout.strategy = RolloutStrategy::Parallel);
    let mut script = updating(&settings, &["a", "b"], &[NODE]);
    assert_eq!(script.under_way(), ["a:5051"]);
    // It is settled with what it has, and that dies.
    script.command(Plan::Update, Verb::Skip, None, Some("b")).unwrap();
    let node = script.task("b", NODE);
    script.failed("b", &node, "Command terminated with signal Killed");
    script.command(Plan::Update, Verb::Restart, Some(NODE), Some("b")).unwrap();
    script.wait(SECOND);
    script.declines("b");
    assert!(
        script.agent_view("b").reason.contains("turn in the update"),
        "{}",
        script.agent_view("b").reason
    );
    script.replaces_node("a");
    assert_eq!(script.under_way(), ["b:5051"]);
    script.launches("b", NODE);
    assert_eq!(script.target("b", NODE), "version 2 of calico-node");
}

#[test]
fn agents_that_a_new_master_waits_for_are_not_done() {
    let mut script = updating(&rollout(|_| ()), &["a", "b"], &[NODE]);
    script.replaces_node("a");
    let recovering = |agent: Agent| Agent { standing: Standing::Recovering, ..agent };
    script.send(Input::Agents(vec![agent("a", "S-a"), recovering(agent("b", "S-b"))]));
    script.wait(SECOND);
    assert!(!script.stored.cluster.rollout.complete);
    script.agents(&["a", "b"]);
    script.wait(SOAK);
    script.replaces_node("b");
    assert!(script.stored.cluster.rollout.complete);
}

#[test]
fn a_canary_whose_host_is_rebuilt_is_none() {
    let settings = rollout(|rollout| rollout.max_agents = Share::Number(2));
    let mut script = updating(&settings, &["a", "b"], &[NODE]);
    script.launches("a", TaskType::Prefetch);
    assert_eq!(script.under_way(), ["a:5051"]);
    script.send(Input::Agents(vec![agent("a", "S-new"), agent("b", "S-b")]));
    script.wait(SECOND);
    assert!(script.under_way().contains(&"b:5051"), "{:?}", script.under_way());
    assert_eq!(script.core.view().rollout.canaries, ["b:5051".into()]);
}

#[test]
fn failures_count_over_failovers() {
    let settings = rollout(|rollout| {
        rollout.strategy = RolloutStrategy::Serial;
        (rollout.max_attempts, rollout.max_failures) = (1, 2);
    });
    let hosts = ["a", "b", "c"];
    let mut script = updating(&settings, &hosts, &[NODE]);
    for host in ["a", "b"] {
        assert_eq!(script.core.view().rollout.held, None);
        let fetch = script.launches(host, TaskType::Prefetch);
        script.restart();
        script.resumes(&hosts);
        script.failed(host, &fetch, "Command exited with status 78");
        script.tells(&hosts);
    }
    assert!(
        script.core.view().rollout.held.is_some_and(|why| why.starts_with("halted: 2 agents have failed"))
    );
    assert_eq!(script.under_way(), [""; 0]);
}

#[test]
fn what_was_left_out_and_is_dead_does_not_keep_the_next_target_away() {
    let mut settings = rollout(|rollout| rollout.strategy = RolloutStrategy::Serial);
    settings.mass_failure = Share::Number(1);
    let hosts = ["a", "b", "c"];
    let mut script = installed(&settings, &hosts);
    script.command(Plan::Update, Verb::ForceComplete, Some(NODE), None).unwrap();
    for host in ["b", "c"] {
        let node = script.task(host, NODE);
        script.failed(host, &node, "Command terminated with signal Killed");
    }
    script.restart_with(changed(settings, &[NODE], 2));
    script.resumes(&hosts);
    script.tells(&hosts);
    script.wait(SECOND);
    assert_eq!(script.under_way(), ["a:5051"], "{:?}", script.core.view().rollout.held);
}
