use super::*;
use crate::core::Decision;
use crate::state::{AnyStore, Opener, StoreKind};

fn seen(n: usize) -> Decision {
    Decision::AgentSeen { what: format!("10.0.0.{n}:5051 joined") }
}

/// As when what they changed is stored, or when they changed nothing.
fn tell(report: &Report, at: u64, decisions: &[Decision]) {
    report.note(Timestamp(at), decisions);
    report.tell();
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn history_is_stored_with_what_else_is_and_is_read_back_and_damage_to_it_is_harmless() {
    let server = Server::start(&[]).await;
    let report = Report::default();
    let mut candidate = server.candidate("first").reporting(report.clone());
    let (mut store, _, _) = lead(&mut candidate).await;
    let before = server.revision().await.unwrap();
    tell(&report, 7, &(0..45).map(seen).collect::<Vec<_>>());
    store.commit(&[]).await.unwrap();
    assert_eq!(server.revision().await, Some(before), "it is worth no write of its own yet");
    store.commit(&[agent("a:1", "A")]).await.unwrap();
    tell(&report, 8, &[seen(45)]);
    store.commit(&[agent("a:1", "B")]).await.unwrap();
    assert_eq!(server.revision().await, Some(before + 2));
    store.commit(&[agent("a:1", "B")]).await.unwrap();
    assert_eq!(server.revision().await, Some(before + 2));
    drop(store);
    candidate.resign().await;

    let again = Report::default();
    let (store, state, _) = lead(&mut server.candidate("second").reporting(again.clone())).await;
    assert_eq!(again.history(0), report.history(0));
    assert_eq!(again.history(0).len(), 46);
    assert_eq!(again.history(44).iter().map(|entry| entry.at).collect::<Vec<_>>(), [7, 8].map(Timestamp));
    assert_eq!(state, applied(&[agent("a:1", "B")]));
    drop(store);
    let mut etcd = server.client().await.unwrap();
    etcd.put("/test/team__calico/history/00", "no history", None).await.unwrap();
    let last = Report::default();
    let (_, state, _) = lead(&mut server.candidate("third").reporting(last.clone())).await;
    assert_eq!(last.history(0).first().unwrap().number, 20);
    assert_eq!(state, applied(&[agent("a:1", "B")]));
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn history_alone_is_stored_late_and_never_in_the_way() {
    let server = Server::start(&[]).await;
    let report = Report::default();
    let mut candidate = server.candidate("first").reporting(report.clone()).lasting(Duration::from_mins(1));
    let (mut store, _, tenure) = lead(&mut candidate).await;
    let before = server.revision().await.unwrap();
    tell(&report, 7, &[seen(1)]);
    let started = Instant::now();
    while server.revision().await == Some(before) {
        assert!(started.elapsed() < Duration::from_mins(1), "it is never stored");
        store.commit(&[]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    store.commit(&[]).await.unwrap();
    assert_eq!(server.revision().await, Some(before + 1));
    // etcd is away: nothing fails for the history's sake.
    tell(&report, 8, &[seen(2)]);
    let started = Instant::now();
    while !report.is_late() {
        assert!(started.elapsed() < Duration::from_mins(1), "it is never late");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    server.signal("-STOP");
    store.commit(&[]).await.unwrap();
    assert!(tenure.holds() && !report.is_late());
    server.signal("-CONT");
}

/// The store as the driver has it.
async fn open(opener: &mut Opener) -> AnyStore {
    tokio::time::timeout(Duration::from_secs(20), opener.open(silent)).await.unwrap().unwrap().store
}

/// What is told, by when.
fn told(report: &Report) -> Vec<u64> {
    report.history(0).into_iter().map(|entry| entry.at.0).collect()
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn a_decision_that_was_not_stored_is_told_when_it_is_decided_anew_and_one_that_was_is_told_once() {
    let server = Server::start(&[]).await;
    let mut opener = Opener::in_etcd(server.candidate("first"));
    let report = opener.report();
    let mut store = open(&mut opener).await;
    store.note(Timestamp(1), &[seen(1)]);
    store.commit(&[agent("a:1", "A")]).await.unwrap();
    assert_eq!(told(&report), [1]);

    // Not stored, for leadership is lost.
    let StoreKind::Etcd(inner) = &store.kind else { panic!("it is in no etcd") };
    server.client().await.unwrap().lease_revoke(inner.seat.lease).await.unwrap();
    store.note(Timestamp(2), &[seen(2)]);
    assert!(matches!(store.commit(&[agent("a:1", "B")]).await, Err(StoreError::Deposed)));
    assert_eq!(told(&report), [1]);
    let mut store = open(&mut opener).await;
    assert_eq!(told(&report), [1]);
    store.note(Timestamp(3), &[seen(2)]);
    store.commit(&[agent("a:1", "B")]).await.unwrap();
    assert_eq!(told(&report), [1, 3]);

    // Stored, but the answer was lost, and then leadership: nothing is decided anew, for it is known.
    store.note(Timestamp(4), &[seen(3)]);
    let StoreKind::Etcd(inner) = &mut store.kind else { panic!("it is in no etcd") };
    let group = inner.written.groups(&inner.keys, &[agent("a:1", "C")]).unwrap().remove(0);
    let txn = inner.transaction(&group, &report.chunks(CHUNKS, true));
    assert!(inner.etcd.txn(txn).await.unwrap().succeeded);
    drop(store);
    let mut store = open(&mut opener).await;
    assert_eq!(told(&report), [1, 3, 4]);
    store.note(Timestamp(5), &[seen(4)]);
    store.commit(&[agent("a:1", "D")]).await.unwrap();
    assert_eq!(told(&report), [1, 3, 4, 5]);
    opener.resign().await;
    let mut opener = Opener::in_etcd(server.candidate("second"));
    open(&mut opener).await;
    assert_eq!(opener.report().history(0), report.history(0));
}
