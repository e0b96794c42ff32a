//! How fast the store writes, to a real etcd on this machine's disk.

use std::sync::Arc;
use std::time::Instant;

use calico_scheduler::core::{AgentRecord, StateChange, Timestamp};
use calico_scheduler::state::Store as _;

use crate::cluster::{NOW, Progress, state};
use crate::etcd::{Etcd, changes, leading};
use crate::table::{Goal, Row, median};

const AGENTS: usize = 10_000;
/// Changes in one commit: what the driver decides together at most.
const BATCH: usize = 256;
const ROUNDS: u64 = 5;

/// Every agent's record changes, in commits as the driver makes them.
pub async fn rows() -> Vec<Row> {
    let etcd = Etcd::start().await;
    let state = state(AGENTS, Progress::Complete);
    let (mut records, mut transactions) = (Vec::new(), Vec::new());
    leading(&etcd.url("store"), async |store| {
        store.commit(&changes(&state)).await.unwrap();
        for round in 1..=ROUNDS {
            let touch = |record: &Arc<AgentRecord>| {
                let first_seen = Timestamp(NOW.0 + round);
                StateChange::Agent(Arc::new(AgentRecord { first_seen, ..AgentRecord::clone(record) }))
            };
            let changes: Vec<StateChange> = state.agents.values().map(touch).collect();
            let (before, start) = (etcd.revision().await.unwrap(), Instant::now());
            for batch in changes.chunks(BATCH) {
                store.commit(batch).await.unwrap();
            }
            let seconds = start.elapsed().as_secs_f64();
            let written = etcd.revision().await.unwrap() - before;
            records.push(f64::from(u32::try_from(AGENTS).unwrap()) / seconds);
            transactions.push(f64::from(i32::try_from(written).unwrap()) / seconds);
        }
    })
    .await;
    let what = format!("records stored in etcd, {AGENTS} agents, {BATCH} a commit");
    vec![
        Row { what, value: median(records), unit: "records/s", goal: Goal::None },
        Row {
            what: "transactions for these".to_owned(),
            value: median(transactions),
            unit: "/s",
            goal: Goal::None,
        },
    ]
}
