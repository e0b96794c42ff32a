//! The installer's figures of `docs/performance.md`, of the program as it is released: `make bench`.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on has nothing to say")]

use std::time::{Duration, Instant};

#[path = "../tests/support/mod.rs"]
mod support;

use support::cni::Rig;
use support::expect;

/// As large as Calico's own plugins are: their content is hashed.
const PLUGIN: usize = 40 << 20;
const ROUNDS: usize = 21;

fn main() {
    let size = std::fs::metadata(env!("CARGO_BIN_EXE_calico-installer")).unwrap().len();
    println!("| size of `calico-installer` | {} kB |", size / 1000);
    for (plugin, what) in [("small".to_owned(), "small plugins"), ("x".repeat(PLUGIN), "a plugin of 40 MiB")]
    {
        let rig = Rig::new();
        expect(&rig.apply(&plugin), 0, &[]);
        let mut command = rig.command("check", &plugin);
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let output = command.output().unwrap();
            times.push(start.elapsed());
            expect(&output, 0, &[]);
        }
        times.sort();
        println!(
            "| `cni check` with nothing to do, {what} | {:.1} ms |",
            times[ROUNDS / 2].as_secs_f64() * 1e3
        );
    }
}
