//! An etcd that takes 2 s for each answer.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const DELAY: Duration = Duration::from_secs(2);

/// Passes all on to `to`, and what comes back only after [`DELAY`].
pub(super) async fn delayed(to: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(&to).await else { continue };
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { copy(&mut from_client, &mut to_server).await });
            let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
            tokio::spawn(async move {
                let mut buffer = vec![0; 65536];
                while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
                    let _ = sender.send((Instant::now() + DELAY, buffer[..length].to_vec()));
                }
            });
            tokio::spawn(async move {
                while let Some((due, bytes)) = receiver.recv().await {
                    tokio::time::sleep_until(due).await;
                    if to_client.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn an_etcd_that_takes_2_s_for_each_answer_is_led_in_and_committed_to_and_leadership_stays() {
    let server = Server::start(&[]).await;
    let mut location = server.location.clone();
    location.members = vec![delayed(location.members[0].clone()).await];
    // With the lease that is usual.
    let report = Report::default();
    let usual = Candidate::new(Client::new(location), "/test", "team/calico", "first");
    let mut candidate = usual.reporting(report.clone());
    let opened = tokio::time::timeout(Duration::from_mins(2), candidate.open(silent)).await;
    let (mut store, _, tenure) = opened.expect("it never leads").unwrap();
    let (started, revision) = (Instant::now(), server.revision().await.unwrap());
    // 256 at once, as the driver has them at most: as many answers are waited for as there are groups.
    let changes = many(256);
    store.commit(&changes).await.unwrap();
    let groups = i64::try_from(256_usize.div_ceil(RECORDS)).unwrap();
    assert_eq!(server.revision().await, Some(revision + groups));
    // Over several renewals.
    while started.elapsed() < Duration::from_secs(30) {
        assert!(tenure.holds(), "leadership was lost");
        store.commit(&[agent("a:1", &started.elapsed().as_millis().to_string())]).await.unwrap();
    }
    assert_eq!(report.condition().away.map(|(_, why)| why), None);
    let leader = server.client().await.unwrap().get("/test/team__calico/leader", None).await.unwrap();
    assert_eq!(leader.kvs()[0].create_revision(), store.seat.created);
    assert_eq!(leader.kvs()[0].mod_revision(), store.seat.modified);
}
