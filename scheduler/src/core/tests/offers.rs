//! Which offers are used, declined, and wanted at all.

use std::time::Duration;

use super::script::{Script, declined, launch, not_ready, state};
use super::*;

const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_hours(1);

fn has(frame: &Frame, effect: &Effect) -> bool {
    frame.effects.contains(effect)
}

#[test]
fn nothing_is_launched_before_the_first_inventory() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.restart();
    script.subscribed();
    let frame = script.offer("a");
    assert_eq!((launch(&frame), declined(&frame)), (None, Some(SHORT)));
    assert!(has(&frame, &Effect::RefreshInventory));
    script.agents(&["a"]);
    script.launches("a", TaskType::ClusterInit);
}

#[test]
fn an_offer_of_an_agent_that_is_not_known_asks_for_the_inventory() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let frame = script.offer("b");
    assert_eq!((launch(&frame), declined(&frame)), (None, Some(SHORT)));
    assert!(has(&frame, &Effect::RefreshInventory));
}

#[test]
fn offers_stay_away_long_from_agents_that_are_finished_and_shortly_from_those_whose_turn_comes() {
    let mut script = Script::with_agents(settings(), &["a", "b"]);
    script.install("a");
    assert_eq!(script.declines("a"), LONG);
    script.launches("b", TaskType::EtcdProxy);
    assert_eq!(script.declines("b"), SHORT);
}

#[test]
fn declines_of_one_length_are_one_call() {
    let mut script = Script::with_agents(settings(), &["a", "b", "c"]);
    script.install("a");
    script.install("b");
    let offers = ["a", "b", "c"].map(|host| script.make_offer(host, plenty())).to_vec();
    let ids: Vec<OfferId> = offers.iter().map(|offer| offer.id.clone()).collect();
    let frame = script.send(Input::Event(Event::Offers(offers)));
    assert_eq!(launch(&frame).unwrap().offer, ids[2]);
    assert!(has(&frame, &Effect::Decline { offers: ids[..2].to_vec(), refuse: LONG }));
    assert_eq!(frame.effects.len(), 2);
}

#[test]
fn an_agent_that_goes_down_for_maintenance_gets_nothing_new() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let window = Unavailability { start: script.now, duration: None };
    let offer = Offer { unavailability: Some(window), ..script.make_offer("a", plenty()) };
    let frame = script.send(Input::Event(Event::Offers(vec![offer])));
    assert_eq!((launch(&frame), declined(&frame)), (None, Some(Duration::from_secs(10))));
    script.launches("a", TaskType::ClusterInit);
}

#[test]
fn offers_of_two_roles_for_one_agent_are_used_one_by_one() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.reaches("a", TaskType::ClusterInit);
    let both = [Some("slave_public"), None].map(|role| {
        let resources = vec![scalar("cpus", 1000, role), scalar("mem", 1_000_000, role)];
        script.make_offer("a", resources)
    });
    let second = both[1].id.clone();
    let frame = script.send(Input::Event(Event::Offers(both.to_vec())));
    let launch = launch(&frame).unwrap();
    assert_eq!(launch.task_type, TaskType::EtcdProxy);
    let paid = vec![scalar("cpus", 100, Some("slave_public")), scalar("mem", 64_000, Some("slave_public"))];
    assert_eq!(launch.resources, paid);
    assert!(has(&frame, &Effect::Decline { offers: vec![second], refuse: SHORT }));
}

#[test]
fn resources_of_two_offers_are_not_added_up() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let parts = [vec![scalar("cpus", 1000, None)], vec![scalar("mem", 1_000_000, None)]];
    let both = parts.map(|part| script.make_offer("a", part)).to_vec();
    let frame = script.send(Input::Event(Event::Offers(both)));
    assert_eq!((launch(&frame), frame.changes), (None, vec![]));
}

#[test]
fn a_shortage_is_shown_until_there_is_room() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.reaches("a", TaskType::ClusterInit);
    let frame = script.offer_of("a", vec![scalar("cpus", 4000, None), scalar("mem", 32_000, None)]);
    assert_eq!(launch(&frame), None);
    assert_eq!(
        script.agent_view("a").reason,
        "etcd-proxy needs mem 64, the offer had 32 (since 1970-01-01T00:16:40Z)"
    );
    script.launches("a", TaskType::EtcdProxy);
    assert_eq!(script.agent_view("a").reason, "etcd-proxy is being launched");
}

#[test]
fn a_shortage_is_shown_with_its_amounts_and_since_when() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.reaches("a", TaskType::ClusterInit);
    let short = |mem| vec![scalar("cpus", 4000, None), scalar("mem", mem, None)];
    script.offer_of("a", short(32_500));
    script.wait(Duration::from_mins(5));
    script.offer_of("a", short(16_000));
    let view = serde_json::to_value(script.agent_view("a")).unwrap();
    let since = "1970-01-01T00:16:40Z";
    let expected = serde_json::json!(
        {"type": "etcd-proxy", "resource": "mem", "needed": 64.0, "offered": 16.0, "since": since}
    );
    assert_eq!(view["shortage"], expected);
    // Another resource is another shortage.
    script.offer_of("a", vec![]);
    let shortage = script.agent_view("a").shortage.unwrap();
    assert_eq!((shortage.resource, shortage.since), ("cpus", script.now));
    script.launches("a", TaskType::EtcdProxy);
    assert_eq!(script.agent_view("a").shortage, None);
}

#[test]
fn an_agent_that_waits_for_an_offer_and_gets_none_is_shown() {
    let mut script = Script::with_agents(settings(), &["a", "b"]);
    let joined = script.now;
    script.reaches("b", TaskType::ClusterInit);
    script.wait(Duration::from_secs(59));
    assert_eq!(script.agent_view("a").no_offer_since, None);
    script.wait(Duration::from_secs(1));
    let view = script.agent_view("a");
    assert_eq!(view.no_offer_since, Some(joined));
    assert!(view.reason.starts_with("etcd-proxy waits for an offer: no offer since 1970"), "{}", view.reason);
    assert!(serde_json::to_value(view).unwrap()["no_offer_since"].is_string());

    // Too small an offer is an offer; when none follows, both are shown.
    script.offer_of("a", vec![scalar("cpus", 4000, None)]);
    assert_eq!(script.agent_view("a").no_offer_since, None);
    script.wait(Duration::from_secs(70));
    let reason = script.agent_view("a").reason;
    assert!(
        reason.contains("needs mem 64, the offer had 0") && reason.contains("no offer since"),
        "{reason}"
    );

    // Without a subscription there are none to be expected, nor right after one.
    script.send(Input::Disconnected);
    assert_eq!(script.agent_view("a").no_offer_since, None);
    script.subscribed();
    script.wait(Duration::from_secs(59));
    assert_eq!(script.agent_view("a").no_offer_since, None);

    // Nor is one to be expected during a backoff.
    let proxy = script.launches("a", TaskType::EtcdProxy);
    for _ in 0..7 {
        let proxy = script.stored.agents[&AgentKey::from("a:5051")].live().next().unwrap().0.clone();
        script.failed("a", &proxy, "Command exited with status 1");
        script.wait(Duration::from_secs(64));
        script.launches("a", TaskType::EtcdProxy);
    }
    let again = script.stored.agents[&AgentKey::from("a:5051")].live().next().unwrap().0.clone();
    assert_ne!(again, proxy);
    script.failed("a", &again, "Command exited with status 1");
    script.wait(Duration::from_secs(128 + 59));
    assert_eq!(script.agent_view("a").no_offer_since, None);
    script.wait(Duration::from_secs(1));
    assert!(script.agent_view("a").no_offer_since.is_some());
}

#[test]
fn an_agent_that_goes_down_for_maintenance_misses_no_offer_while_its_last_one_is_refused() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let window = Unavailability { start: script.now, duration: None };
    let offer = Offer { unavailability: Some(window), ..script.make_offer("a", plenty()) };
    script.send(Input::Event(Event::Offers(vec![offer])));
    script.wait(Duration::from_secs(69));
    assert_eq!(script.agent_view("a").no_offer_since, None, "it was declined for 10 s");
    script.wait(Duration::from_secs(1));
    assert!(script.agent_view("a").no_offer_since.is_some());
}

#[test]
fn a_shortage_says_more_than_the_failure_before_it() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.reaches("a", TaskType::ClusterInit);
    let proxy = script.launches("a", TaskType::EtcdProxy);
    script.failed("a", &proxy, "Command exited with status 1");
    assert_eq!(script.agent_view("a").reason, "Command exited with status 1");
    script.wait(Duration::from_secs(1));
    script.offer_of("a", vec![]);
    assert_eq!(
        script.agent_view("a").reason,
        "etcd-proxy needs cpus 0.1, the offer had 0 (since 1970-01-01T00:16:41Z)"
    );
}

#[test]
fn an_agent_without_room_for_the_task_of_the_cluster_goes_on_with_its_own() {
    let mut settings = settings();
    settings.specs.get_mut(&TaskType::ClusterInit).unwrap().needs.mem = 512_000;
    let mut script = Script::with_agents(settings, &["a"]);
    let frame = script.offer_of("a", vec![scalar("cpus", 1000, None), scalar("mem", 128_000, None)]);
    assert_eq!(launch(&frame).unwrap().task_type, TaskType::EtcdProxy);
    assert_eq!(script.agent_view("a").reason, "etcd-proxy is being launched");
}

#[test]
fn offers_are_suppressed_when_all_is_done_and_wanted_again_when_a_service_dies() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let mut tasks = script.install("a");
    let node = tasks.pop().unwrap();
    // The frame that completes the last goal suppresses; nothing more is said of it.
    assert_eq!(script.wait(Duration::from_secs(10)).effects, []);
    let frame = script.failed("a", &node, "Command terminated with signal Killed");
    assert!(has(&frame, &Effect::Revive));
    script.wait(Duration::from_secs(1));
    let node = script.launches("a", TaskType::CalicoNode);
    let frame = script.ready("a", &node);
    assert!(has(&frame, &Effect::Suppress));
}

#[test]
fn a_service_that_is_not_ready_for_a_while_wants_no_offers() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let node = script.install("a").pop().unwrap();
    let frame = script.reports("a", &node, state(TaskState::Running));
    assert!(!has(&frame, &Effect::Revive));
    let frame = script.ready("a", &node);
    assert!(!has(&frame, &Effect::Suppress), "it was never revived");
}

#[test]
fn agents_that_wait_for_a_task_of_the_cluster_want_no_offers_once_an_operator_must_act_on_it() {
    let mut script = Script::with_agents(settings(), &["a", "b"]);
    let init = script.launches("a", TaskType::ClusterInit);
    for host in ["a", "b"] {
        script.reaches(host, TaskType::EtcdProxy);
        script.reaches(host, TaskType::Cni);
    }
    let frame = script.failed("a", &init, "Command exited with status 78");
    assert!(has(&frame, &Effect::Suppress));
}

#[test]
fn agents_that_waited_for_a_task_of_the_cluster_miss_their_offers_from_when_it_is_done() {
    let mut script = Script::with_agents(settings(), &["a", "b"]);
    let init = script.launches("a", TaskType::ClusterInit);
    script.reaches("b", TaskType::EtcdProxy);
    script.reaches("b", TaskType::Cni);
    script.wait(Duration::from_mins(10));
    assert_eq!(script.agent_view("b").no_offer_since, None);
    script.finished("a", &init);
    let done = script.now;
    script.wait(Duration::from_mins(1));
    assert_eq!(script.agent_view("b").no_offer_since, Some(done));
}

#[test]
fn an_agent_that_joins_brings_offers_back() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.install("a");
    script.wait(Duration::from_mins(1));
    let frame = script.agents(&["a", "b"]);
    assert!(has(&frame, &Effect::Revive));
    script.install("b");
}

#[test]
fn revives_keep_their_distance() {
    let mut script = Script::with_agents(settings(), &["a", "b"]);
    let node = script.install("a").pop().unwrap();
    // `b` keeps offers coming; `a` is filtered for long.
    assert_eq!(script.declines("a"), LONG);
    script.wait(Duration::from_secs(10));
    let frame = script.failed("a", &node, "Command exited with status 1");
    assert!(has(&frame, &Effect::Revive));

    script.wait(Duration::from_secs(1));
    let node = script.reaches("a", TaskType::CalicoNode);
    assert_eq!(script.declines("a"), LONG);
    let frame = script.failed("a", &node, "Command exited with status 1");
    assert!(!has(&frame, &Effect::Revive), "4 s after the last");
    assert!(!has(&script.wait(Duration::from_secs(3)), &Effect::Revive));
    assert!(has(&script.wait(Duration::from_secs(1)), &Effect::Revive));
}

#[test]
fn a_subscription_that_finds_work_revives_and_one_that_finds_none_suppresses() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.restart();
    script.subscribed();
    assert!(has(&script.agents(&["a"]), &Effect::Revive));
    script.install("a");
    script.send(Input::Disconnected);
    assert!(has(&script.subscribed(), &Effect::Suppress));
}

#[test]
fn nothing_is_said_about_offers_while_there_is_no_subscription() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let node = script.install("a").pop().unwrap();
    script.send(Input::Disconnected);
    let frame = script.failed("a", &node, "Command exited with status 1");
    assert!(!has(&frame, &Effect::Revive));
    assert!(!has(&script.wait(Duration::from_mins(1)), &Effect::Revive));
    assert!(has(&script.subscribed(), &Effect::Revive));
}

#[test]
fn the_task_of_the_cluster_gets_an_offer_also_when_all_agents_are_finished() {
    let mut settings = settings();
    settings.specs.get_mut(&TaskType::CalicoNode).unwrap().enabled = false;
    let mut script = Script::with_agents(settings, &["a"]);
    let init = script.launches("a", TaskType::ClusterInit);
    script.reaches("a", TaskType::EtcdProxy);
    script.reaches("a", TaskType::Cni);
    assert_eq!(script.declines("a"), LONG);
    script.wait(Duration::from_secs(10));
    let frame = script.failed("a", &init, "Command exited with status 69");
    assert!(has(&frame, &Effect::Revive));
    assert_eq!(script.declines("a"), SHORT, "its turn comes when the backoff ends");
    script.wait(Duration::from_secs(1));
    script.launches("a", TaskType::ClusterInit);
}

#[test]
fn offers_stay_away_ever_longer_from_agents_whose_service_does_not_become_ready_and_then_are_suppressed() {
    let mut script = Script::with_agents(settings(), &["a", "b"]);
    script.reaches("a", TaskType::ClusterInit);
    let proxies = ["a", "b"].map(|host| (host, script.launches(host, TaskType::EtcdProxy)));
    for (host, proxy) in &proxies {
        script.reports(host, proxy, not_ready());
    }
    let mut offers = 0;
    for _ in 0..3600 {
        let refuse = script.declines("a");
        offers += 1;
        if has(&script.wait(refuse), &Effect::Suppress) {
            break;
        }
        assert!(refuse <= Duration::from_mins(1), "{refuse:?}");
    }
    assert!(offers < 10, "{offers} offers of one agent for nothing");
    // A word of the service is enough.
    let frame = script.ready("a", &proxies[0].1);
    assert!(has(&frame, &Effect::Revive));
    script.launches("a", TaskType::Cni);
}

/// Found by the simulation: nothing was launched any more before the filter of an hour ended.
#[test]
fn the_task_of_the_cluster_gets_an_offer_of_an_agent_that_was_away_when_it_made_its_last_one() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let init = script.launches("a", TaskType::ClusterInit);
    script.reaches("a", TaskType::EtcdProxy);
    script.reaches("a", TaskType::Cni);
    script.agents(&[]);
    script.failed("a", &init, "Command exited with status 69");
    script.wait(Duration::from_mins(1));
    assert_eq!(script.declines("a"), Duration::from_secs(1));
    script.agents(&["a"]);
    script.launches("a", TaskType::ClusterInit);
}
