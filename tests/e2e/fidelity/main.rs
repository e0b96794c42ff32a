//! The fake master against the real one: the same scenarios run on both, and what is recorded must be the same.
//!
//! Where it is not, the fake is wrong.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod agents;
mod disturbances;
mod record;
mod roles;
mod scenarios;
mod session;
mod target;

use std::collections::BTreeMap;

use cluster::{Cluster, Progress, Spec, test_lock};

use crate::target::{Fake, Real, Target};

/// What each scenario recorded.
type Recorded = BTreeMap<&'static str, Vec<String>>;

/// What all scenarios record, each group of them on a target of its own.
fn recorded<T: Target>(target: impl Fn(usize) -> T + Sync) -> Recorded {
    let recorded = |group| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(scenarios::recorded(group, &target(group)))
    };
    std::thread::scope(|scope| {
        let groups: Vec<_> =
            (0..scenarios::GROUPS).map(|group| scope.spawn(move || recorded(group))).collect();
        groups.into_iter().flat_map(|group| group.join().unwrap()).collect()
    })
}

/// A real cluster for a group of scenarios.
fn real(group: usize) -> Real {
    // An agent that cannot be reached is given up soon.
    let settings = [("MESOS_AGENT_PING_TIMEOUT", "2secs"), ("MESOS_MAX_AGENT_PING_TIMEOUTS", "4")];
    let spec = Spec {
        name: format!("e2e-fidelity-{group}"),
        agents: 2,
        master_env: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..Spec::default()
    };
    Real::new(Cluster::up(&spec, &Progress::stderr()).unwrap())
}

/// The lines of both; those that only one has are marked.
fn difference(real: &[String], fake: &[String]) -> Option<String> {
    if real == fake {
        return None;
    }
    let same = real.iter().zip(fake).take_while(|(real, fake)| real == fake).count();
    let lines = |lines: &[String], mark: &str| {
        let marked = lines.iter().map(|line| format!("  {mark} {line}\n"));
        marked.take(12).collect::<Vec<_>>().concat()
    };
    let before = lines(&real[same.saturating_sub(3)..same], "  ");
    let (real, fake) = (lines(&real[same..], "real"), lines(&fake[same..], "fake"));
    Some(before + &real + &fake)
}

#[test]
fn the_fake_master_does_what_the_real_one_does() {
    let fake = std::thread::spawn(|| recorded(|_| Fake::start()));
    let lock = test_lock().unwrap();
    let expected = recorded(real);
    drop(lock);
    let fake = fake.join().unwrap();
    if let Ok(folder) = std::env::var("FIDELITY_RECORDS") {
        for (name, records) in [("real", &expected), ("fake", &fake)] {
            std::fs::write(format!("{folder}/{name}"), format!("{records:#?}")).unwrap();
        }
    }

    let mut faults = Vec::new();
    for (scenario, real) in &expected {
        if let Some(difference) = difference(real, &fake[scenario]) {
            faults.push(format!("{scenario}:\n{difference}"));
        }
    }
    assert_eq!(expected.len(), fake.len());
    assert!(expected.values().all(|lines| lines.len() > 2), "a scenario recorded nothing: {expected:#?}");
    assert!(faults.is_empty(), "they differ:\n{}", faults.concat());
}

#[test]
fn a_difference_is_shown_with_what_came_before() {
    let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(difference(&lines("a b"), &lines("a b")), None);
    let shown = difference(&lines("a b c"), &lines("a x")).unwrap();
    assert_eq!(shown, "     a\n  real b\n  real c\n  fake x\n");
}
