//! The loop: nothing is done before it is stored, and nothing is lost.

use std::time::Duration;

use calico_scheduler::core::{Phase, State, TaskType};
use calico_scheduler::driver::Ended;
use calico_scheduler::mesos::Refusal;
use mesos_v1::scheduler::call;
use mesos_v1::{TaskId, TaskState};
use tokio::time::timeout;

use crate::loops::{TestStore, start};
use crate::master::{FRAMEWORK, Master, SOON};

const PATIENT: f64 = 60.0;

fn phase(store: &TestStore) -> Option<Phase> {
    store.state().cluster.tasks.get(&TaskType::ClusterInit).map(|record| record.phase.clone())
}

/// Waits until the store has been asked in vain.
async fn asked_in_vain(store: &TestStore, before: usize) {
    let asked = async {
        while store.failures() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, asked).await.expect("nothing was to be stored");
}

/// The next launch, from the ACCEPT that uses this offer.
async fn launch(master: &mut Master, offer: &str) -> TaskId {
    let accept = master.call(call::Type::Accept).await.accept.unwrap();
    assert_eq!(accept.offer_ids[0].value, offer);
    accept.operations[0].launch.as_ref().unwrap().task_infos[0].task_id.clone()
}

#[tokio::test]
async fn no_call_goes_out_before_its_cause_is_stored_and_none_is_lost_when_the_store_fails_first() {
    let mut master = Master::leading(PATIENT).await;
    let (store, handle, _driver) = start(&master.authority, State::default());
    master.subscription().await;
    master.call(call::Type::Revive).await;
    assert_eq!(store.state().framework_id.unwrap().0, FRAMEWORK);

    store.fail(true);
    let before = store.failures();
    master.offer("o1");
    asked_in_vain(&store, before).await;
    master.nothing(Duration::from_millis(300)).await;
    assert_eq!(phase(&store), None);
    store.fail(false);
    let task = launch(&mut master, "o1").await;
    let Some(Phase::Launched { task: stored, .. }) = phase(&store) else { panic!("{:?}", phase(&store)) };
    assert_eq!(*stored.0, *task.value);

    store.fail(true);
    let before = store.failures();
    master.update(&task, TaskState::TaskFinished);
    asked_in_vain(&store, before).await;
    master.nothing(Duration::from_millis(300)).await;
    assert!(handle.idle() < Duration::from_secs(10), "a store that is away is no reason to be killed");
    store.fail(false);
    let acknowledge = master.call(call::Type::Acknowledge).await.acknowledge.unwrap();
    assert_eq!((acknowledge.task_id, &acknowledge.uuid[..]), (task, &b"uuid"[..]));
    assert!(matches!(phase(&store), Some(Phase::Done { .. })), "{:?}", phase(&store));
    master.call(call::Type::Suppress).await;
}

#[tokio::test]
async fn offers_of_a_lost_subscription_are_let_go_and_the_launch_is_asked_about() {
    let mut master = Master::leading(PATIENT).await;
    let (store, _handle, _driver) = start(&master.authority, State::default());
    master.subscription().await;
    master.call(call::Type::Revive).await;
    store.fail(true);
    master.offer("o1");
    asked_in_vain(&store, 0).await;
    // Decided under this subscription, stored when it is over.
    master.hang_up();
    master.subscription().await;
    store.fail(false);

    // Whether or not the ACCEPT still went out, what was stored is asked about.
    let asked = loop {
        let seen = master.next().await;
        match (seen.kind(), seen) {
            (Some(call::Type::Reconcile), crate::master::Seen::Call(call)) => break call.reconcile.unwrap(),
            (Some(call::Type::Accept), _) => {}
            (_, other) => panic!("{other:?}"),
        }
    };
    let Some(Phase::Launched { task, .. }) = phase(&store) else { panic!("{:?}", phase(&store)) };
    assert_eq!(asked.tasks[0].task_id.value, *task.0);
    master.update(&(&*task.0).into(), TaskState::TaskDropped);
    master.call(call::Type::Acknowledge).await;
    assert!(matches!(phase(&store), Some(Phase::Backoff { .. })), "{:?}", phase(&store));
}

#[tokio::test]
async fn the_masters_error_ends_the_loop_and_keeps_the_state() {
    let mut master = Master::leading(PATIENT).await;
    let (store, handle, driver) = start(&master.authority, State::default());
    master.subscription().await;
    master.call(call::Type::Revive).await;
    master.error("Framework has been removed");
    let ended = timeout(SOON, driver).await.unwrap().unwrap();
    assert!(matches!(&ended, Ended::Refused(Refusal::Removed(_))), "{ended}");
    assert!(handle.view().await.is_none());
    assert_eq!(store.state().framework_id.unwrap().0, FRAMEWORK);
}
