//! What holds in every order of events, faults and crashes.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::script::{Script, state};
use super::world::{Act, Crash, World};
use super::*;

/// Cases in a normal run; `PROPTEST_CASES` asks for more.
const CASES: u32 = 200;

fn config() -> Config {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    // Failures are shrunk and printed; a file of seeds would be of no use after a change of the steps.
    Config { cases: asked.unwrap_or(CASES), failure_persistence: None, ..Config::default() }
}

/// One thing that happens in the world.
#[derive(Debug, Clone, Copy)]
enum Step {
    Pass(u64),
    Work,
    Subscribe,
    Disconnect,
    Inventory,
    Offers,
    Redeliver,
    Deliver(usize),
    Duplicate(usize),
    Lose(usize),
    Act(usize, Act),
    Crash(Crash),
    Partition(usize),
    Heal(usize),
    Rebuild(usize),
    Wipe(usize, TaskType),
    Relocate(usize, usize),
    Drain(usize),
    Deactivate(usize),
    Reactivate(usize),
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Start),
        3 => Just(Act::Ready),
        1 => Just(Act::NotReady),
        2 => Just(Act::Exit(0)),
        2 => prop::sample::select(vec![1, 69, 70, 75]).prop_map(Act::Exit),
        1 => prop::sample::select(vec![77, 78, 80]).prop_map(Act::Exit),
        2 => Just(Act::Exit(79)),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let n = 0..8_usize;
    prop_oneof![
        3 => (1..5000_u64).prop_map(Step::Pass),
        1 => (5000..1_000_000_u64).prop_map(Step::Pass),
        6 => Just(Step::Work),
        2 => Just(Step::Subscribe),
        1 => Just(Step::Disconnect),
        2 => Just(Step::Inventory),
        4 => Just(Step::Offers),
        2 => Just(Step::Redeliver),
        8 => n.clone().prop_map(Step::Deliver),
        1 => n.clone().prop_map(Step::Duplicate),
        2 => n.clone().prop_map(Step::Lose),
        8 => (n.clone(), acts()).prop_map(|(n, act)| Step::Act(n, act)),
        1 => Just(Step::Crash(Crash::Before)),
        2 => (0..4_usize).prop_map(|effects| Step::Crash(Crash::After(effects))),
        1 => n.clone().prop_map(Step::Partition),
        1 => n.clone().prop_map(Step::Heal),
        1 => n.clone().prop_map(Step::Rebuild),
        1 => (n.clone(), prop::sample::select(vec![TaskType::Cni, TaskType::DockerClusterStore]))
            .prop_map(|(n, task_type)| Step::Wipe(n, task_type)),
        1 => (n.clone(), n.clone()).prop_map(|(n, other)| Step::Relocate(n, other)),
        1 => n.clone().prop_map(Step::Drain),
        1 => n.clone().prop_map(Step::Deactivate),
        2 => n.prop_map(Step::Reactivate),
    ]
}

fn take(world: &mut World, step: Step) {
    match step {
        Step::Pass(millis) => world.pass(Duration::from_millis(millis)),
        Step::Work => world.work(Duration::from_secs(1)),
        Step::Subscribe => world.subscribe(),
        Step::Disconnect => world.disconnect(),
        Step::Inventory => world.inventory(),
        Step::Offers => world.make_offers(),
        Step::Redeliver => world.redeliver(),
        Step::Deliver(n) => world.deliver(n),
        Step::Duplicate(n) => world.duplicate(n),
        Step::Lose(n) => world.lose(n),
        Step::Act(n, act) => world.act(n, act),
        Step::Crash(crash) => world.arm(crash),
        Step::Partition(n) => world.partition(n),
        Step::Heal(n) => world.heal(n),
        Step::Rebuild(n) => world.rebuild(n),
        Step::Wipe(n, task_type) => world.wipe(n, task_type),
        Step::Relocate(n, other) => world.relocate(n, other),
        Step::Drain(n) => world.stand(n, Standing::Draining { since: None }),
        Step::Deactivate(n) => world.stand(n, Standing::Deactivated),
        Step::Reactivate(n) => world.stand(n, Standing::Active),
    }
}

proptest! {
    #![proptest_config(config())]

    /// The world checks at every step that what is stored is what the core has, that launches and what is
    /// acknowledged are stored, that no task ID is used twice, that the order is kept, that no two tasks of a type
    /// are alive in one place, that no task of ours that is alive is killed, that no more agents are disrupted at a time
    /// than may be, and that REVIVE keeps its distance.
    /// When the faults end, every agent that is not held gets everything, what has vanished is put back, and offers are
    /// suppressed.
    #[test]
    fn the_world_stays_whole_and_is_finished_when_the_faults_end(
        hosts in 1..6_u8,
        steps in prop::collection::vec(steps(), 0..150),
    ) {
        let mut world = World::new(hosts);
        for step in steps {
            take(&mut world, step);
        }
        world.mend();
        let end = world.now.after(Duration::from_hours(1));
        while let Some(missing) = world.unfinished() {
            prop_assert!(world.now < end, "an hour after the last fault: {}", missing);
            world.work(Duration::from_secs(3));
        }
    }

    /// Inputs that make no sense together: nothing panics, and what is stored is still what the core has.
    #[test]
    fn no_order_of_inputs_panics(inputs in prop::collection::vec(any_input(), 0..100)) {
        let mut script = Script::new(docker_settings());
        for (millis, input) in inputs {
            script.now = script.now.after(Duration::from_millis(millis));
            script.send(input);
            script.core.view();
            if millis % 50 == 0 {
                script.restart();
            }
        }
    }
}

fn standings() -> impl Strategy<Value = Standing> {
    prop::sample::select(vec![
        Standing::Active,
        Standing::Active,
        Standing::Disconnected,
        Standing::Recovering,
        Standing::Deactivated,
        Standing::Draining { since: None },
        Standing::Draining { since: Some(Timestamp(5)) },
    ])
}

fn any_agent() -> impl Strategy<Value = Agent> {
    (0..3_u8, 0..4_u8, standings(), prop::sample::select(vec!["1.11.0", "1.1.0", "?"])).prop_map(
        |(host, id, standing, version)| Agent {
            standing,
            version: version.into(),
            ..agent(&format!("h{host}"), &format!("S{id}"))
        },
    )
}

fn any_update() -> impl Strategy<Value = Update> {
    let task_states = vec![
        TaskState::Starting,
        TaskState::Running,
        TaskState::Killing,
        TaskState::Finished,
        TaskState::Failed,
        TaskState::Drained,
        TaskState::Dropped,
        TaskState::Gone,
        TaskState::Unreachable,
    ];
    let checks =
        vec![CheckResult::None, CheckResult::Pending, CheckResult::Exited(0), CheckResult::Exited(1)];
    let exit = |status| format!("Command exited with status {status}");
    let messages =
        vec![String::new(), exit(78), exit(79), exit(79), exit(80), "Command exited with status".into()];
    (
        (0..=TaskType::COUNT, 0..3_u8, 0..3_u64),
        prop::option::of(0..4_u8),
        prop::sample::select(task_states),
        prop::sample::select(messages),
        prop::option::of(prop::bool::ANY),
        prop::sample::select(checks),
        prop::option::of(prop::collection::vec(prop::num::u8::ANY, 0..2)),
    )
        .prop_map(|((task_type, host, at), agent, task_state, message, healthy, check, uuid)| {
            let task = match TaskType::ALL.get(task_type) {
                Some(task_type) => TaskId::new(
                    *task_type,
                    &AgentKey::from(format!("h{host}:5051")),
                    Timestamp(1_000_000 + at),
                ),
                None => "not.ours".into(),
            };
            let agent = agent.map(|id| AgentId::from(format!("S{id}")));
            Update { task, agent, message, healthy, check, uuid, ..state(task_state) }
        })
}

fn any_window() -> impl Strategy<Value = Unavailability> {
    (0..3_000_000_u64, prop::option::of(0..3_000_000_u64)).prop_map(|(start, duration)| Unavailability {
        start: Timestamp(start),
        duration: duration.map(Duration::from_millis),
    })
}

/// An input, and how much later than the one before.
fn any_input() -> impl Strategy<Value = (u64, Input)> {
    let offers = prop::collection::vec((0..4_u8, prop::option::of(any_window()), prop::bool::ANY), 0..4)
        .prop_map(|offers| {
            let offers = offers.into_iter().enumerate().map(|(n, (id, unavailability, full))| Offer {
                id: OfferId::from(format!("O{n}")),
                agent: format!("S{id}").into(),
                resources: if full { vec![] } else { plenty() }.into(),
                unavailability,
            });
            Input::Event(Event::Offers(offers.collect()))
        });
    let inverse = prop::collection::vec((0..3_u8, prop::option::of(0..4_u8), any_window()), 0..3);
    let inverse = inverse.prop_map(|offers| {
        let offers = offers.into_iter().map(|(n, agent, unavailability)| InverseOffer {
            id: OfferId::from(format!("I{n}")),
            agent: agent.map(|id| AgentId::from(format!("S{id}"))),
            unavailability,
        });
        Input::Event(Event::InverseOffers(offers.collect()))
    });
    let output = (0..2_u8, 0..3_u64, prop::sample::select(vec!["", "words"])).prop_map(|(host, at, text)| {
        let key = AgentKey::from(format!("h{host}:5051"));
        let task = TaskId::new(TaskType::Cni, &key, Timestamp(1_000_000 + at));
        Input::Output { slot: Slot::Agent(key, TaskType::Cni), task, text: text.into() }
    });
    let input = prop_oneof![
        2 => prop::sample::select(vec!["F", "G"]).prop_map(|id| Input::Event(Event::Subscribed(id.into()))),
        6 => offers,
        8 => any_update().prop_map(|update| Input::Event(Event::Update(update))),
        4 => prop::collection::vec(any_agent(), 0..4).prop_map(Input::Agents),
        1 => output,
        3 => Just(Input::Tick),
        1 => Just(Input::Disconnected),
        1 => inverse,
        1 => Just(Input::Event(Event::TakesConstraints)),
        1 => Just(Input::Event(Event::RescindInverseOffer("I1".into()))),
        1 => Just(Input::Event(Event::Rescind("O1".into()))),
        1 => Just(Input::Event(Event::Failure(None))),
        1 => Just(Input::Event(Event::Error("?".into()))),
    ];
    (prop_oneof![3 => 0..3_u64, 1 => 0..600_000_u64], input)
}
