//! The same seed gives the same world; faults are what they are said to be.

use std::time::Duration;

use fake_master::{AgentSpec, Faults, Happening, Settings, World};

use crate::scheduler::{START, info, seconds, subscription};

/// All that is seen in an hour with everything going wrong.
fn seen(seed: u64) -> Vec<(Duration, Happening)> {
    let mut world = World::new(START, seed, Settings::default());
    world.add_agents(AgentSpec::many(20));
    world.set_faults(Faults {
        call_loss: 50,
        call_delays: 200,
        event_loss: 50,
        event_doubles: 100,
        event_delays: 200,
        event_reorders: 50,
        stream_breaks: 20,
        delay: seconds(3),
        ..Faults::default()
    });
    world.send(None, subscription(info(&["*"])));
    world.send(None, subscription(info(&["*"])));
    world.advance(START + seconds(3600))
}

#[test]
fn a_seed_replays() {
    let first = seen(1);
    assert!(first.len() > 10, "{first:?}");
    assert_eq!(first, seen(1));
    assert_ne!(first, seen(2));
}

#[test]
fn a_lost_call_is_unanswered_and_a_lost_answer_is_no_subscription() {
    for faults in
        [Faults { call_loss: 1000, ..Faults::default() }, Faults { answer_loss: 1000, ..Faults::default() }]
    {
        let mut world = World::new(START, 1, Settings::default());
        world.set_faults(faults);
        let call = world.send(None, subscription(info(&["*"])));
        let seen = world.advance(START + seconds(60));
        assert!(seen.iter().any(|(_, happening)| *happening == Happening::Unanswered { call }), "{seen:?}");
    }
}

/// What comes of a subscription in a cluster of 20 agents, with these faults: a word each, and how late.
fn subscribed_under(number: u64, faults: Faults) -> Vec<(Duration, &'static str)> {
    let mut world = World::new(START, number, Settings::default());
    world.add_agents(AgentSpec::many(20));
    let begin = START + seconds(5);
    world.advance(begin);
    world.set_faults(faults);
    world.send(None, subscription(info(&["*"])));
    let name = |happening| match happening {
        Happening::Answered { .. } => "answered",
        Happening::Event { event, .. } => event.r#type().as_str_name(),
        Happening::Closed { .. } => "closed",
        Happening::Unanswered { .. } => "unanswered",
    };
    let seen = world.advance(begin + seconds(9));
    seen.into_iter().map(|(at, happening)| (at.saturating_sub(begin), name(happening))).collect()
}

fn words(seen: &[(Duration, &'static str)]) -> Vec<&'static str> {
    seen.iter().map(|(_, word)| *word).collect()
}

#[test]
fn what_is_late_is_late_and_in_order() {
    let usual = words(&subscribed_under(1, Faults::default()));
    assert_eq!(usual, ["answered", "SUBSCRIBED", "HEARTBEAT", "OFFERS"]);
    let late = Faults { event_delays: 1000, delay: seconds(3), ..Faults::default() };
    let seen = subscribed_under(1, late);
    assert_eq!(words(&seen), usual);
    assert!(seen[1].0 > Duration::ZERO && seen.is_sorted_by_key(|(at, _)| *at), "{seen:?}");
    let late = Faults { call_delays: 1000, delay: seconds(3), ..Faults::default() };
    let seen = subscribed_under(1, late);
    assert!(seen[0].0 > Duration::ZERO && words(&seen) == usual, "{seen:?}");
}

#[test]
fn what_is_doubled_comes_twice() {
    let doubled = Faults { event_doubles: 1000, ..Faults::default() };
    let seen = words(&subscribed_under(1, doubled));
    assert_eq!(seen, ["answered", "SUBSCRIBED", "SUBSCRIBED", "HEARTBEAT", "HEARTBEAT", "OFFERS", "OFFERS"]);
    // A call that reaches the master twice is two calls: the second framework's stream has nobody to read it.
    let doubled = Faults { call_doubles: 1000, delay: seconds(3), ..Faults::default() };
    assert_eq!(words(&subscribed_under(1, doubled))[..2], ["answered", "SUBSCRIBED"]);
}

#[test]
fn what_is_reordered_may_overtake() {
    let reordered = || Faults { event_reorders: 500, delay: seconds(3), ..Faults::default() };
    let orders: std::collections::BTreeSet<Vec<&str>> =
        (0..20).map(|seed| words(&subscribed_under(seed, reordered()))).collect();
    assert!(orders.len() > 1, "{orders:?}");
}

#[test]
fn nothing_is_done_while_no_master_leads() {
    let mut world = World::new(START, 1, Settings::default());
    world.kill_master();
    let call = world.send(None, subscription(info(&["*"])));
    let seen = world.advance(START);
    assert_eq!(seen, [(START, Happening::Unanswered { call })]);
}
