//! Offers decoded and decided: from the bytes of the master's stream to what is to be stored and done.

use bytes::Bytes;
use calico_scheduler::core::{Core, Input};
use criterion::{BatchSize, Criterion};

use crate::cluster::{NOW, OFFERS, Progress, core, decide, messages, offers, state, updates};
use crate::cpu::{self, CpuTime};
use crate::table::{Goal, Row, median};

const AGENTS: usize = 10_000;

/// What is measured, on what, with what goal in offers a second.
const CASES: [(&str, Progress, f64); 3] = [
    ("nothing-to-do", Progress::Complete, 1_000_000.0),
    ("launching", Progress::Next, 250_000.0),
    ("waiting-for-a-slot", Progress::Held, 1_000_000.0),
];

/// Criterion's measurements.
pub fn measure(criterion: &mut Criterion<CpuTime>) {
    let messages = offers(AGENTS);
    let mut group = criterion.benchmark_group("offers");
    group.throughput(cpu::elements(AGENTS));
    for (name, progress, _) in CASES {
        let state = state(AGENTS, progress);
        expect(&mut core(state.clone()), &messages, progress);
        if progress == Progress::Next {
            // Each sample wants a scheduler of its own, which takes far longer than what is measured. It has read its state,
            // as after each start: what is read is nobody else's.
            let stored = serde_json::to_vec(&state).unwrap();
            let begin = || core(serde_json::from_slice(&stored).unwrap());
            group.sample_size(20);
            group.bench_function(name, |bencher| {
                let run =
                    |core: &mut Core| messages.iter().map(|message| decide(core, message)).sum::<usize>();
                bencher.iter_batched_ref(begin, run, BatchSize::PerIteration);
            });
        } else {
            group.sample_size(100);
            let mut core = core(state);
            group.bench_function(name, |bencher| {
                bencher.iter(|| messages.iter().map(|message| decide(&mut core, message)).sum::<usize>());
            });
        }
    }
    group.finish();
}

/// A measurement of something else than it says would be worth nothing.
fn expect(core: &mut Core, messages: &[Bytes], progress: Progress) {
    let effects: usize = messages.iter().map(|message| decide(core, message)).sum();
    match progress {
        // A decline a message, and a call that ends the offers or brings them.
        Progress::Complete | Progress::Held => assert!(effects <= 2 * messages.len(), "{effects} effects"),
        Progress::Next => assert!(effects >= messages.len() * OFFERS, "{effects} effects"),
    }
}

/// The figures that criterion has measured.
pub fn rows() -> Vec<Row> {
    let row = |(name, _, goal): (&str, Progress, f64)| {
        let what = format!("offers decoded and decided, {AGENTS} agents, {}", name.replace('-', " "));
        let seconds = crate::table::estimate(&format!("offers/{name}"))?;
        let rate = f64::from(u32::try_from(AGENTS).ok()?) / seconds;
        Some(Row { what, value: rate, unit: "offers/s", goal: Goal::AtLeast(goal) })
    };
    CASES.into_iter().filter_map(row).collect()
}

/// What an offer, a task update and a tick cost with many agents, as multiples of what they cost with few. Both are measured
/// in turns, so that whatever else the machine does hits both alike; the medians are compared.
pub fn growth() -> Vec<Row> {
    const FEW: usize = 1000;
    const MANY: usize = 50_000;
    const ROUNDS: usize = 20;
    // As many different messages of the few: whether bytes that have just arrived are in a cache is no matter of agents.
    let (few_messages, messages) = (messages(FEW, MANY / OFFERS), messages(MANY, MANY / OFFERS));
    let (mut few, mut many) = [FEW, MANY].map(|agents| core(state(agents, Progress::Complete))).into();
    let row = |what: &str, ratio: f64, goal| Row {
        what: format!("cost of {what}, {MANY} agents against {FEW}"),
        value: ratio,
        unit: "times",
        goal,
    };
    let offer = ratio(ROUNDS * messages.len(), |round| {
        let n = round % messages.len();
        (time(|| decide(&mut few, &few_messages[n])), time(|| decide(&mut many, &messages[n])))
    });
    let (few_updates, many_updates) = (updates(FEW), updates(MANY));
    let update = ratio(ROUNDS * many_updates.len(), |round| {
        let n = round % many_updates.len();
        (hear(&mut few, few_updates[0].clone()), hear(&mut many, many_updates[n].clone()))
    });
    let tick = ratio(ROUNDS * 10, |_| {
        let ticks = || vec![Input::Tick; OFFERS];
        (hear(&mut few, ticks()), hear(&mut many, ticks()))
    });
    vec![
        row("an offer", offer, Goal::AtMost(1.1)),
        row("an update that says nothing new", update, Goal::None),
        row("a tick", tick, Goal::None),
    ]
}

/// How much more the second takes than the first, by the medians. The first tenth of the rounds only warms up.
fn ratio(rounds: usize, mut measure: impl FnMut(usize) -> (f64, f64)) -> f64 {
    let (few, many) = (0..rounds).map(&mut measure).skip(rounds / 10).unzip();
    median(many) / median(few)
}

/// Seconds of processor time for these inputs.
fn hear(core: &mut Core, inputs: Vec<Input>) -> f64 {
    time(|| inputs.into_iter().map(|input| core.handle(NOW, input).effects.len()).sum())
}

/// Seconds of processor time.
fn time(act: impl FnOnce() -> usize) -> f64 {
    let start = cpu::now();
    std::hint::black_box(act());
    cpu::since(start).as_secs_f64()
}
