//! On a real etcd, which `ETCD_BINARY` names; what needs none is tested without.

mod history;
mod loops;
mod migration;
mod restored;
mod server;
mod slow;
mod tls;

use std::time::Duration;

use etcd_client::GetOptions;
use tokio::time::Instant;

use super::keys::Keys;
use super::written::{RECORDS, Written};
use super::*;
use crate::core::{AgentRecord, ClusterRecord, Phase, State, TaskRecord, TaskType, Tasks, Timestamp};
use crate::state::tenure::Moment;
use server::Server;

/// etcd makes no lease shorter than 2 s.
const LASTING: Duration = Duration::from_secs(2);

fn record(key: &str, id: &str) -> AgentRecord {
    let phase = Phase::Done { at: Timestamp(7) };
    let done = TaskRecord::new(phase, None);
    let agent = AgentRecord::new(key.into(), id.into(), "1.11.0".into(), Timestamp(5));
    AgentRecord { tasks: Tasks::from_iter([(TaskType::Cni, done)]), ..agent }
}

fn agent(key: &str, id: &str) -> StateChange {
    StateChange::Agent(record(key, id).into())
}

fn many(number: usize) -> Vec<StateChange> {
    (0..number).map(|n| agent(&format!("10.0.{}.{}:5051", n / 250, n % 250), &format!("S{n}"))).collect()
}

fn applied(changes: &[StateChange]) -> State {
    let mut state = State::default();
    changes.iter().cloned().for_each(|change| drop(state.apply(change)));
    state
}

fn silent(_: &str) {}

/// Leads at once: nobody else does.
async fn lead(candidate: &mut Candidate<Client>) -> (EtcdStore<Client>, State, Tenure) {
    tokio::time::timeout(Duration::from_secs(20), candidate.open(silent)).await.unwrap().unwrap()
}

/// What it waits for, in its own words; it must not lead.
async fn waits(candidate: Candidate<Client>) -> String {
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let report = Report::default();
    let mut candidate = candidate.reporting(report.clone());
    tokio::select! {
        opened = candidate.open(|why: &str| drop(sender.send(why.to_owned()))) => {
            panic!("it leads, or has ended: {:?}", opened.err());
        }
        why = told.recv() => {
            let why = why.unwrap();
            assert!(why.starts_with(&report.condition().away.unwrap().1) && why.contains("tasks go on running"));
            why
        }
    }
}

fn groups(written: &Written, changes: &[StateChange]) -> Vec<Vec<String>> {
    let groups = written.groups(&Keys::new("/p", "a/b"), changes).unwrap();
    groups.into_iter().map(|g| g.into_iter().map(|operation| operation.key).collect()).collect()
}

#[test]
fn changes_are_grouped_and_a_moved_agent_is_never_split() {
    let keys = Keys::new("/p", "a/b");
    assert_eq!((keys.base(), keys.end().as_str()), ("/p/a__b/", "/p/a__b0"));
    let mut written = Written::default();
    let before: Vec<StateChange> = [agent("a:1", "A"), agent("b:1", "B")].into();
    for group in written.groups(&keys, &before).unwrap() {
        written.finish(group);
    }
    // A and B swap, with just too many others between that all fit.
    let mut changes =
        vec![StateChange::Forget { key: "a:1".into() }, StateChange::Forget { key: "b:1".into() }];
    changes.extend(many(RECORDS - 1));
    changes.extend([agent("c:1", "A"), agent("a:1", "B")]);
    let found = groups(&written, &changes);
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [RECORDS, 2]);
    let group = found.iter().find(|g| g.contains(&"/p/a__b/agents/a:1".to_owned())).unwrap();
    for key in ["b:1", "c:1"] {
        assert!(group.contains(&format!("/p/a__b/agents/{key}")), "{key}: {found:?}");
    }
}

#[test]
fn what_is_as_it_was_is_not_written_and_each_key_once() {
    let keys = Keys::new("/p", "a/b");
    let mut written = Written::default();
    let twice = [agent("a:1", "A"), agent("a:1", "B"), StateChange::Forget { key: "z:1".into() }];
    let first = written.groups(&keys, &twice).unwrap();
    assert_eq!(first.iter().map(Vec::len).collect::<Vec<_>>(), [1], "{first:?}");
    written.begin(&first[0]);
    assert_eq!(written.groups(&keys, &twice).unwrap(), first, "it is not known to be written");
    written.finish(first.into_iter().next().unwrap());
    assert_eq!(groups(&written, &[agent("a:1", "B")]), Vec::<Vec<String>>::new());
    assert_eq!(groups(&written, &[agent("a:1", "C")]).len(), 1);
}

#[test]
fn a_group_has_at_most_a_mebibyte() {
    let large = |n: usize| {
        let mut record = record(&format!("{n}:1"), &n.to_string());
        record.version = "x".repeat(300_000);
        StateChange::Agent(record.into())
    };
    let found = groups(&Written::default(), &(0..7).map(large).collect::<Vec<_>>());
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1]);
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn what_is_committed_is_read_back_page_by_page_and_nothing_is_written_for_nothing() {
    let server = Server::start(&[]).await;
    let mut candidate = server.candidate("first");
    let (mut store, state, _) = lead(&mut candidate).await;
    assert_eq!(state, State::default());
    let mut changes = many(1203);
    changes.insert(0, StateChange::Framework { id: "F1".into() });
    let cluster = ClusterRecord { tasks: record("a:1", "A").tasks, ..ClusterRecord::default() };
    changes.push(StateChange::Cluster(cluster.into()));
    changes.push(StateChange::Forget { key: "10.0.0.7:5051".into() });
    changes.push(agent("10.0.9.9:5051", "S7"));
    store.commit(&changes).await.unwrap();
    let revision = server.revision().await;
    store.commit(&changes[1..9]).await.unwrap_or_else(|error| panic!("{error}"));
    store.commit(&[]).await.unwrap();
    // The seventh is written again: it had been forgotten.
    store.commit(&[StateChange::Forget { key: "10.0.0.7:5051".into() }]).await.unwrap();
    assert_eq!(server.revision().await, revision.map(|revision| revision + 2));
    store.commit(&changes[10..]).await.unwrap();
    assert_eq!(server.revision().await, revision.map(|revision| revision + 2), "nothing was new");
    drop(store);
    candidate.resign().await;

    let (mut store, state, _) = lead(&mut server.candidate("second")).await;
    assert_eq!(state, applied(&changes));
    assert_eq!(state.agents.len(), 1203);
    let revision = server.revision().await;
    store.commit(&changes[20..]).await.unwrap();
    assert_eq!(server.revision().await, revision, "what was read is not written");
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn a_second_scheduler_waits_and_takes_over_and_the_first_one_ends() {
    let server = Server::start(&[]).await;
    let mut first = server.candidate("first");
    let (mut store, _, tenure) = lead(&mut first).await;
    store.commit(&[StateChange::Framework { id: "F1".into() }]).await.unwrap();
    let mut second = server.candidate("second");
    let told = std::sync::Mutex::new(Vec::new());
    let note = |why: &str| told.lock().unwrap().push(why.to_owned());
    let waits = tokio::time::timeout(LASTING * 3, second.open(note)).await;
    assert!(waits.is_err(), "the first one still leads");
    assert_eq!(*told.lock().unwrap(), ["first leads"]);
    assert!(tenure.holds());

    // As when the process is gone: nobody renews the lease.
    store.keeper.abort_all();
    let (mut other, state, others) = lead(&mut second).await;
    assert!(!tenure.holds() && others.holds(), "two may act");
    assert_eq!(state.framework_id, Some("F1".into()));
    other.commit(&[agent("a:1", "A")]).await.unwrap();
    let revision = server.revision().await;
    assert!(matches!(store.commit(&[agent("a:1", "B")]).await, Err(StoreError::Deposed)));
    // Even one that is wrong about the time.
    (store.tenure, _) = Tenure::until(Moment::now().after(LASTING));
    assert!(matches!(store.commit(&[agent("a:1", "B")]).await, Err(StoreError::Deposed)));
    assert_eq!(server.revision().await, revision);
    let error = first.open(silent).await.err().unwrap().to_string();
    assert!(error.contains("another scheduler has taken over: second"), "{error}");
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn a_lost_lease_ends_the_tenure_and_it_leads_again() {
    let server = Server::start(&[]).await;
    let mut candidate = server.candidate("first");
    let (mut store, _, tenure) = lead(&mut candidate).await;
    store.commit(&[agent("a:1", "A")]).await.unwrap();
    server.client().await.unwrap().lease_revoke(store.seat.lease).await.unwrap();
    assert!(matches!(store.commit(&[agent("a:1", "B")]).await, Err(StoreError::Deposed)));
    assert!(!tenure.holds());
    tokio::time::timeout(Duration::from_secs(1), tenure.ended()).await.unwrap();
    let (mut store, state, tenure) = lead(&mut candidate).await;
    assert_eq!(state, applied(&[agent("a:1", "A")]));
    store.commit(&[agent("a:1", "B")]).await.unwrap();
    assert!(tenure.holds());
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn a_commit_whose_answer_was_lost_is_repeated_and_one_that_was_delayed_does_nothing() {
    let server = Server::start(&[]).await;
    let mut candidate = server.candidate("first").lasting(Duration::from_secs(20));
    let (mut store, _, _) = lead(&mut candidate).await;
    // Sent, and its answer lost.
    let group = store.written.groups(&store.keys, &[agent("a:1", "A")]).unwrap().remove(0);
    let delayed = store.transaction(&group, &[]);
    assert!(store.etcd.txn(delayed.clone()).await.unwrap().succeeded);
    store.commit(&[agent("a:1", "A")]).await.unwrap();
    store.commit(&[agent("a:1", "B")]).await.unwrap();
    assert!(!store.etcd.txn(delayed).await.unwrap().succeeded, "it came after a later one");
    drop(store);
    candidate.resign().await;
    assert_eq!(lead(&mut candidate).await.1, applied(&[agent("a:1", "B")]));
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn an_etcd_that_stands_still_during_a_commit_loses_nothing() {
    let server = Server::start(&[]).await;
    let mut candidate = server.candidate("first");
    let (mut store, _, tenure) = lead(&mut candidate).await;
    store.commit(&[agent("a:1", "A")]).await.unwrap();
    server.signal("-STOP");
    let error = store.commit(&[agent("b:1", "B")]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(!tenure.holds(), "it was away for longer than the lease");
    assert!(matches!(store.commit(&[agent("b:1", "B")]).await, Err(StoreError::Deposed)));
    let waits = tokio::time::timeout(LASTING, candidate.open(silent)).await;
    assert!(waits.is_err(), "there is no etcd to be elected in");
    server.signal("-CONT");
    drop(store);
    let (mut store, state, tenure) = lead(&mut candidate).await;
    assert!(state.agents.contains_key(&"a:1".into()) && tenure.holds());
    store.commit(&[agent("b:1", "B")]).await.unwrap();
    drop(store);
    candidate.resign().await;

    // For a moment only: the same leader goes on.
    let mut candidate = server.candidate("first").lasting(Duration::from_secs(20));
    let (mut store, _, _) = lead(&mut candidate).await;
    server.signal("-STOP");
    let change = [agent("c:1", "C")];
    let commits = store.commit(&change);
    let (committed, ()) = tokio::join!(commits, async {
        tokio::time::sleep(LASTING / 4).await;
        server.signal("-CONT");
    });
    committed.unwrap();
    drop(store);
    candidate.resign().await;
    assert_eq!(lead(&mut candidate).await.1.agents.len(), 3);
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn a_newer_schema_and_what_is_damaged_are_refused_and_kept() {
    let server = Server::start(&[]).await;
    let mut etcd = server.client().await.unwrap();
    for (key, value, reason) in [
        ("schema", "99", "schema version 99"),
        (
            "schema",
            r#"{"version": 9, "written_by": "calico-scheduler 9.1"}"#,
            "written by calico-scheduler 9.1",
        ),
        ("schema", "0", "'0' is not a version"),
        ("cluster", "{}", "no schema version"),
    ] {
        let key = format!("/test/team__calico/{key}");
        etcd.put(key.clone(), value, None).await.unwrap();
        let error = server.candidate("first").open(silent).await.err().unwrap().to_string();
        assert!(error.contains(reason) && error.contains(&key), "{error}");
        let below = GetOptions::new().with_prefix();
        let found = etcd.get("/test/", Some(below)).await.unwrap();
        assert_eq!(found.kvs().len(), 1, "it leads, or has written");
        etcd.delete(key, None).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn an_etcd_that_is_out_of_space_is_reported_with_what_to_do() {
    let server = Server::start(&["--quota-backend-bytes", "1000000"]).await;
    let (mut store, _, _) = lead(&mut server.candidate("first")).await;
    let mut etcd = server.client().await.unwrap();
    // Not by count: etcd learns its size with a delay.
    while etcd.put("fill", vec![b'x'; 100_000], None).await.is_ok() {}
    let error = store.commit(&[agent("a:1", "A")]).await.unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
    assert!(error.to_string().contains("etcdctl alarm disarm"), "{error}");
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn a_user_and_password_are_used() {
    let mut server = Server::start(&[]).await;
    let mut etcd = server.client().await.unwrap();
    etcd.user_add("root", "p@ss/word", None).await.unwrap();
    etcd.role_add("root").await.unwrap();
    etcd.user_grant_role("root", "root").await.unwrap();
    etcd.auth_enable().await.unwrap();
    etcd.put("refused", "", None).await.unwrap_err();
    for (user, right) in [
        (None, "has authentication: give service.state as"),
        (Some(("root".to_owned(), "wrong".to_owned())), "correct the user and the password in service.state"),
    ] {
        server.location.user = user;
        let why = waits(server.candidate("first")).await;
        assert!(why.contains(right) && !why.contains("wrong"), "{why}");
    }
    server.location.user = Some(("root".to_owned(), "p@ss/word".to_owned()));
    let (mut store, _, _) = lead(&mut server.candidate("first")).await;
    store.commit(&[agent("a:1", "A")]).await.unwrap();
}
