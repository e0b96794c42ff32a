//! Clusters' lives in virtual time, with everything that can go wrong in them: the real core, driver and stores,
//! over a fake master, its agents, and an etcd or a disk in memory. Each seed is one life, always the same.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod checks;
mod disk;
#[path = "../support/environment.rs"]
mod environment;
#[path = "../support/etcd.rs"]
mod etcd;
mod faults;
mod link;
mod process;
mod rollouts;
mod simulation;
mod stored;
mod trace;
mod wire;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use calico_scheduler::config::Config;
use calico_scheduler::lead::Program;

use environment::environment;
use simulation::{Case, Outcome, Simulation};
use trace::Trace;

/// Everything is wanted.
fn program() -> Program {
    let options = [("CALICO_SERVICE_ROLE", "slave_public"), ("CALICO_DOCKER_ALLOW_RESTART", "true")];
    Program::new(&Config::from_env(&environment(&options)).unwrap())
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Lives as many lives as are asked for, or `usual`, or the one that `SIMULATION_SEED` names.
fn lives(test: &str, usual: u64, case: Case) {
    let program = program();
    lives_of(test, usual, |seed, trace| Simulation::new(seed, case, program.clone(), trace).run(case));
}

/// The same, of what a life is. It ends with the first seed that fails, or with so many as `SIMULATION_FAILURES` says.
fn lives_of(test: &str, usual: u64, live: impl Fn(u64, Trace)) {
    if let Some(seed) = number("SIMULATION_SEED") {
        println!("seed {seed}");
        return live(seed, Trace::Print);
    }
    let seeds = number("SIMULATION_SEEDS").unwrap_or(usual);
    // From elsewhere than where `make test` begins.
    let first = number("SIMULATION_FIRST_SEED").unwrap_or(0);
    let most = number("SIMULATION_FAILURES").unwrap_or(1);
    let mut failed = Vec::new();
    for seed in first..first + seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| live(seed, Trace::Off))) {
            eprintln!(
                "\nseed {seed} fails; it is replayed, with all that happens, by\n\n    SIMULATION_SEED={seed} cargo \
                 nextest run --locked -p calico-scheduler --test simulation --no-capture {test}\n"
            );
            failed.push(seed);
            if failed.len() as u64 >= most {
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(failed.is_empty(), "these seeds fail: {failed:?}");
    println!("{seeds} seeds, with {}", faults::NAMES);
}

#[test]
fn one_scheduler() {
    lives("one_scheduler", 1000, Case::ONE);
}

#[test]
fn two_schedulers() {
    lives("two_schedulers", 1000, Case { schedulers: 2, ..Case::ONE });
}

#[test]
fn etcd_restored_from_a_backup() {
    lives("etcd_restored_from_a_backup", 500, Case { schedulers: 2, restores: true, ..Case::ONE });
}

#[test]
fn state_in_a_file() {
    lives("state_in_a_file", 1000, Case { schedulers: 2, file: true, ..Case::ONE });
}

#[test]
fn many_agents_fail_at_once() {
    lives("many_agents_fail_at_once", 40, Case { schedulers: 2, many: true, ..Case::ONE });
}

#[test]
fn rollouts() {
    rolled("rollouts", 220, false);
}

#[test]
fn rollouts_in_which_many_agents_fail_at_once() {
    rolled("rollouts_in_which_many_agents_fail_at_once", 6, true);
}

/// Lives with rollouts, and how they end.
fn rolled(test: &str, usual: u64, many: bool) {
    let outcomes = Mutex::new(BTreeMap::<Outcome, u64>::new());
    lives_of(test, usual, |seed, trace| {
        let outcome = Simulation::rolling(seed, many, trace).roll();
        *outcomes.lock().unwrap().entry(outcome).or_default() += 1;
    });
    println!("{:?}", outcomes.lock().unwrap());
}

#[test]
fn a_seed_is_always_the_same_life() {
    let program = program();
    let hash = |seed| {
        let case = Case { schedulers: 2, file: seed % 2 == 1, ..Case::ONE };
        let mut simulation = Simulation::new(seed, case, program.clone(), Trace::hashing());
        simulation.run(case);
        simulation.trace.hash()
    };
    let rolled = |seed| {
        let mut simulation = Simulation::rolling(seed, false, Trace::hashing());
        simulation.roll();
        simulation.trace.hash()
    };
    let hashes: Vec<u64> = (0..10).map(hash).chain((0..5).map(rolled)).collect();
    assert_eq!(hashes, (0..10).map(hash).chain((0..5).map(rolled)).collect::<Vec<u64>>());
    assert!(hashes[1..].iter().all(|hash| *hash != hashes[0]), "all seeds are the same");
}
