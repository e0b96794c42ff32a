//! Offers decoded and decided: from the bytes of the master's stream to what is to be stored and done.

use calico_scheduler::core::Core;
use criterion::{BatchSize, Criterion};

use crate::cluster::{OFFERS, Progress, core, decide, offers, state};
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
            // Each sample wants a scheduler of its own, which takes far longer than what is measured.
            group.sample_size(20);
            group.bench_function(name, |bencher| {
                let run =
                    |core: &mut Core| messages.iter().map(|message| decide(core, message)).sum::<usize>();
                bencher.iter_batched_ref(|| core(state.clone()), run, BatchSize::PerIteration);
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
fn expect(core: &mut Core, messages: &[bytes::Bytes], progress: Progress) {
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

/// What an offer costs with many agents, as a multiple of what it costs with few. Both are measured in turns, so that
/// whatever else the machine does hits both alike; the medians are compared.
pub fn growth() -> Vec<Row> {
    const FEW: usize = 1000;
    const MANY: usize = 50_000;
    const ROUNDS: usize = 60;
    let prepared = |agents| (core(state(agents, Progress::Complete)), offers(agents));
    let ((mut few, few_offers), (mut many, many_offers)) = (prepared(FEW), prepared(MANY));
    let (mut with_few, mut with_many) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS * many_offers.len() {
        let message = &many_offers[round % many_offers.len()];
        // The first round only warms up.
        let (a, b) = (time(&mut few, &few_offers[0]), time(&mut many, message));
        if round >= many_offers.len() {
            with_few.push(a);
            with_many.push(b);
        }
    }
    let ratio = median(with_many) / median(with_few);
    let what = format!("cost of an offer, {MANY} agents against {FEW}");
    vec![Row { what, value: ratio, unit: "times", goal: Goal::AtMost(1.1) }]
}

/// Seconds of processor time for one message.
fn time(core: &mut Core, message: &bytes::Bytes) -> f64 {
    let start = cpu::now();
    std::hint::black_box(decide(core, message));
    cpu::since(start).as_secs_f64()
}
