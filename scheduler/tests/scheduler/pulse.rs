//! Marathon kills what does not live: so a loop that stores and sends much must be seen to live all the while.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use calico_scheduler::driver::SystemClock;
use calico_scheduler::state::etcd::Candidate;
use calico_scheduler::state::{Opener, StoreError};
use mesos_v1::scheduler::call;
use tokio::time::{Instant, sleep, timeout};

use crate::etcd::{self, Etcd};
use crate::link::{self, Loop};

const AGENTS: usize = 3000;
/// What Marathon allows, and more than one answer of etcd takes.
const ALIVE: Duration = Duration::from_secs(10);

/// An etcd in memory that takes 2 s for each answer.
#[derive(Clone)]
struct Slow(Arc<Mutex<Etcd>>, Instant);

impl etcd::Ask for Slow {
    async fn ask(&self, request: etcd::Request) -> Result<etcd::Answer, StoreError> {
        sleep(Duration::from_secs(2)).await;
        self.0.lock().unwrap().handle(self.1.elapsed(), request)
    }
}

/// Waits for so many calls of a kind, and looks all the while whether the loop lives.
async fn calls(running: &mut Loop, kind: call::Type, mut number: usize) {
    let started = Instant::now();
    while number > 0 {
        assert!(running.handle.idle() < ALIVE, "after {:?}: {:?}", started.elapsed(), running.handle.idle());
        assert!(started.elapsed() < Duration::from_mins(30), "{number} of {kind:?} do not come");
        if let Ok(call) = timeout(Duration::from_millis(500), running.calls.recv()).await {
            number -= usize::from(call.unwrap().r#type() == kind);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_stores_thousands_of_agents_slowly_and_sends_as_many_calls_is_seen_to_live() {
    let slow = Slow(Arc::new(Mutex::new(Etcd::new())), Instant::now());
    let candidate = Candidate::new(etcd::Client(slow.clone()), "/calico-dcos", "calico", "first");
    let opened = Opener::in_etcd(candidate).open(|_| ()).await.unwrap();
    let agents = link::agents(AGENTS);
    let started = Instant::now();
    let store = (opened.store, opened.state, opened.tenure.clone());
    let mut running = link::start(store, agents.clone(), Duration::from_millis(20), SystemClock).await;
    // After the list is stored.
    calls(&mut running, call::Type::Revive, 1).await;
    assert!(started.elapsed() > Duration::from_mins(1), "it was not slow: {:?}", started.elapsed());
    assert_eq!(slow.0.lock().unwrap().below("/calico-dcos/calico/agents/").count(), AGENTS);
    let started = Instant::now();
    running.offer(&agents).await;
    calls(&mut running, call::Type::Accept, AGENTS).await;
    assert!(started.elapsed() > Duration::from_mins(2), "it was not slow: {:?}", started.elapsed());
    assert!(opened.tenure.holds());
}
