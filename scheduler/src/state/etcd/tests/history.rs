use super::*;
use crate::core::Decision;

fn seen(n: usize) -> Decision {
    Decision::AgentSeen { what: format!("10.0.0.{n}:5051 joined") }
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn history_is_stored_with_what_else_is_and_is_read_back_and_damage_to_it_is_harmless() {
    let server = Server::start(&[]).await;
    let report = Report::default();
    let mut candidate = server.candidate("first").reporting(report.clone());
    let (mut store, _, _) = lead(&mut candidate).await;
    let before = server.revision().await.unwrap();
    report.note(Timestamp(7), &(0..45).map(seen).collect::<Vec<_>>());
    store.commit(&[]).await.unwrap();
    assert_eq!(server.revision().await, Some(before), "it is worth no write of its own yet");
    store.commit(&[agent("a:1", "A")]).await.unwrap();
    report.note(Timestamp(8), &[seen(45)]);
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
    report.note(Timestamp(7), &[seen(1)]);
    let started = Instant::now();
    while server.revision().await == Some(before) {
        assert!(started.elapsed() < Duration::from_mins(1), "it is never stored");
        store.commit(&[]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    store.commit(&[]).await.unwrap();
    assert_eq!(server.revision().await, Some(before + 1));
    // etcd is away: nothing fails for the history's sake.
    report.note(Timestamp(8), &[seen(2)]);
    while !report.is_late() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    server.signal("-STOP");
    store.commit(&[]).await.unwrap();
    assert!(tenure.holds() && !report.is_late());
    server.signal("-CONT");
}
