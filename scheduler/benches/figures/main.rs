//! All figures of `docs/performance.md`, which says how to take some of them: `make bench`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on has nothing to say"
)]

mod cluster;
mod cpu;
#[path = "../../tests/support/environment.rs"]
mod environment;
mod etcd;
mod offers;
mod process;
mod rollouts;
mod store;
mod table;
mod whole;

use std::path::PathBuf;

use criterion::Criterion;

/// As the program that is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Where criterion keeps what it has measured.
fn results() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")), PathBuf::from);
    target.join("criterion")
}

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |part: &str| wanted.is_empty() || wanted.iter().any(|name| name == part);
    let mut rows = Vec::new();
    // Their memory is that of the process: nothing was in it before.
    if is_wanted("rollouts") {
        rows.extend(rollouts::rows());
    }
    if is_wanted("offers") {
        let mut criterion = Criterion::default().with_measurement(cpu::CpuTime).output_directory(&results());
        offers::measure(&mut criterion);
        rows.extend(offers::rows());
    }
    if is_wanted("growth") {
        rows.extend(offers::growth());
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if is_wanted("store") {
        rows.extend(runtime.block_on(store::rows()));
    }
    if is_wanted("many") {
        rows.extend(runtime.block_on(whole::many()));
    }
    if is_wanted("idle") {
        rows.extend(runtime.block_on(whole::ordinary()));
    }
    table::print(&rows);
}
