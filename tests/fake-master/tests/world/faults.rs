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

#[test]
fn nothing_is_done_while_no_master_leads() {
    let mut world = World::new(START, 1, Settings::default());
    world.kill_master();
    let call = world.send(None, subscription(info(&["*"])));
    let seen = world.advance(START);
    assert_eq!(seen, [(START, Happening::Unanswered { call })]);
}
