//! An etcd that goes on with an older snapshot.

use super::*;

/// What is known of the restoration; it must have been found.
fn found(report: &Report) -> String {
    report.condition().restored.expect("it was not found").1
}

async fn ends(tenure: &Tenure) {
    tokio::time::timeout(Duration::from_mins(1), tenure.ended()).await.expect("it is never found");
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn a_snapshot_from_before_our_last_write_ends_the_tenure_and_what_it_holds_is_loaded() {
    let mut server = Server::start(&[]).await;
    let (snapshot, report) = (server.path("snapshot"), Report::default());
    // Long enough for the lease to live on in the snapshot.
    let mut candidate = server.candidate("first").lasting(Duration::from_mins(1)).reporting(report.clone());
    let (mut store, _, tenure) = lead(&mut candidate).await;
    store.commit(&[agent("a:1", "A")]).await.unwrap();
    server.save(&snapshot);
    store.commit(&[agent("b:1", "B")]).await.unwrap();
    // With the token that it had: its cluster ID is what it was.
    server.restore(&snapshot, "etcd-cluster").await;
    assert!(tenure.holds());
    assert!(matches!(store.commit(&[agent("c:1", "C")]).await, Err(StoreError::Deposed)));
    assert!(!tenure.holds());
    let what = found(&report);
    assert!(what.contains("revision"), "{what}");
    drop(store);

    let (mut store, state, tenure) = lead(&mut candidate).await;
    assert_eq!(state, applied(&[agent("a:1", "A")]), "something came of a write that was refused");
    store.commit(&[agent("c:1", "C")]).await.unwrap();
    assert!(tenure.holds());
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn one_with_nothing_to_write_finds_it_too_also_when_the_revision_is_higher_than_before() {
    let mut server = Server::start(&[]).await;
    let (snapshot, report) = (server.path("snapshot"), Report::default());
    let mut candidate = server.candidate("first").lasting(Duration::from_secs(20)).reporting(report.clone());
    let (mut store, _, tenure) = lead(&mut candidate).await;
    server.save(&snapshot);
    store.commit(&[agent("a:1", "A")]).await.unwrap();
    server.signal("-STOP");
    let freezes = Instant::now();
    server.restore(&snapshot, "etcd-cluster").await;
    let mut etcd = server.client().await.unwrap();
    for _ in 0..9 {
        etcd.put("of-others", "", None).await.unwrap();
    }
    ends(&tenure).await;
    let what = found(&report);
    assert!(what.contains("last write"), "{what}, after {:?}", freezes.elapsed());
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn another_cluster_at_the_same_address_is_found_and_an_older_leader_in_it_is_waited_for() {
    let mut server = Server::start(&[]).await;
    let snapshot = server.path("snapshot");
    let (store, _, _) = lead(&mut server.candidate("older")).await;
    server.save(&snapshot);
    drop(store);
    let report = Report::default();
    let mut candidate = server.candidate("first").reporting(report.clone());
    let (mut store, _, tenure) = lead(&mut candidate).await;
    store.commit(&[agent("a:1", "A")]).await.unwrap();
    server.restore(&snapshot, "another").await;
    ends(&tenure).await;
    drop(store);
    let (mut store, state, _) = lead(&mut candidate).await;
    assert_eq!(state, State::default());
    let what = found(&report);
    assert!(what.contains("cluster ID") || what.contains("revision"), "{what}");
    store.commit(&[agent("a:1", "A")]).await.unwrap();
}
