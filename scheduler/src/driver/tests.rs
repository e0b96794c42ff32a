//! The loop, when its tenure ends in the middle of what it does, and when the clock is set.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mesos_v1::scheduler::call;
use tokio::time::timeout;

use super::{Clock, SystemClock};
use crate::core::{AgentId, Event, State, StateChange, TaskId, TaskState, Timestamp, Update};
use crate::link::{self, Loop, STREAM};
use crate::mesos::ClientEvent;
use crate::state::{Moment, Store, StoreError, Tenure};

const SOON: Duration = Duration::from_secs(30);

/// Takes everything.
struct Any;

impl Store for Any {
    async fn commit(&mut self, _: &[StateChange]) -> Result<(), StoreError> {
        Ok(())
    }
}

async fn next(running: &mut Loop, kind: call::Type) {
    let wanted = async { while running.calls.recv().await.unwrap().r#type() != kind {} };
    timeout(SOON, wanted).await.unwrap_or_else(|_| panic!("no {kind:?} comes"));
}

#[tokio::test]
async fn what_is_still_to_be_done_when_the_tenure_ends_is_not_done() {
    let agents = link::agents(8);
    let (tenure, renewal) = Tenure::until(Moment::now().after(Duration::from_mins(1)));
    let takes = Duration::from_millis(400);
    let mut running = link::start((Any, State::default(), tenure), agents.clone(), takes, SystemClock).await;
    next(&mut running, call::Type::Revive).await;
    running.offer(&agents).await;
    next(&mut running, call::Type::Accept).await;
    renewal.end();
    let mut more = 0;
    let until_it_ends = async {
        while let Some(call) = running.calls.recv().await {
            more += usize::from(call.r#type() == call::Type::Accept);
        }
    };
    timeout(SOON, until_it_ends).await.expect("the loop goes on");
    // One was on its way.
    assert!(more <= 1, "{more} of 7 launches were sent after the tenure had ended");
}

/// The machine's clock, set by so many milliseconds.
#[derive(Clone, Default)]
struct Set(Arc<AtomicU64>);

impl Clock for Set {
    fn now(&self) -> Timestamp {
        SystemClock.now().after(Duration::from_millis(self.0.load(Ordering::Relaxed)))
    }
}

#[tokio::test]
async fn a_task_that_begins_when_the_clock_is_set_has_its_time_all_the_same() {
    let agents = link::agents(1);
    let (tenure, _renewal) = Tenure::until(Moment::now().after(Duration::from_mins(1)));
    let clock = Set::default();
    let mut running =
        link::start((Any, State::default(), tenure), agents.clone(), Duration::ZERO, clock.clone()).await;
    next(&mut running, call::Type::Revive).await;
    running.offer(&agents).await;
    let launched = async {
        loop {
            let call = running.calls.recv().await.unwrap();
            let operation = call.accept.and_then(|accept| accept.operations.into_iter().next());
            if let Some(launch) = operation.and_then(|operation| operation.launch) {
                return launch.task_infos[0].task_id.value.clone();
            }
        }
    };
    let task = TaskId::from(timeout(SOON, launched).await.unwrap());
    let says_that_it_starts = |number| Update {
        agent: Some(AgentId::clone(&agents[0].id)),
        uuid: Some(vec![number]),
        ..Update::bare(task.clone(), TaskState::Starting)
    };
    for number in [1, 2] {
        let update = ClientEvent::Event(STREAM, Event::Update(says_that_it_starts(number)));
        running.events.send(update).await.unwrap();
        let mut before = Vec::new();
        let acknowledged = async {
            while before.last() != Some(&call::Type::Acknowledge) {
                before.push(running.calls.recv().await.unwrap().r#type());
            }
        };
        timeout(SOON, acknowledged).await.unwrap();
        assert!(!before.contains(&call::Type::Kill), "{before:?}");
        clock.0.store(Duration::from_hours(1).as_millis().try_into().unwrap(), Ordering::Relaxed);
    }
}
