//! From state as the last scheduler with schema version 1 stored it (commit 82ac9f4, of 0.5.0): recorded from its program,
//! while it installed four agents of the fake master, one of which it held, one of which had just been launched on.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::state::schema::tests::INVENTED;
use crate::state::schema::{MIGRATIONS, Part, Schema};

/// All keys below the framework's, and their values.
const VERSION_1: &str = include_str!("../../testdata/version-1.etcd.json");

async fn keys(server: &Server) -> BTreeMap<String, Value> {
    let below = GetOptions::new().with_prefix();
    let found = server.client().await.unwrap().get("/test/team__calico/", Some(below)).await.unwrap();
    let pairs = found.kvs().iter().map(|pair| {
        let key = pair.key_str().unwrap().trim_start_matches("/test/team__calico/").to_owned();
        (key, serde_json::from_slice(pair.value()).unwrap())
    });
    pairs.filter(|(key, _)| key != "leader").collect()
}

async fn version_1(server: &Server) -> BTreeMap<String, Value> {
    let dump: BTreeMap<String, Value> = serde_json::from_str(VERSION_1).unwrap();
    let mut etcd = server.client().await.unwrap();
    for (key, value) in &dump {
        etcd.put(format!("/test/team__calico/{key}"), value.to_string(), None).await.unwrap();
    }
    dump
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn what_version_1_stored_is_read_and_only_the_leader_rewrites_it() {
    let server = Server::start(&[]).await;
    let mut dump = version_1(&server).await;
    let mut candidate = server.candidate("first");
    let (_store, state, _) = lead(&mut candidate).await;
    assert_eq!(state.framework_id.as_ref().unwrap().0, dump["framework-id"].as_str().unwrap());
    assert_eq!(state.agents.len(), 4);
    let record = &state.agents[&"10.87.0.12:5051".into()];
    assert!(matches!(record.tasks[&TaskType::Cni].phase, Phase::Done { .. }));
    assert_eq!(record.tasks[&TaskType::EtcdProxy].failures, 1);
    let held = &state.agents[&"10.87.0.13:5051".into()].tasks[&TaskType::Cni];
    assert!(matches!(held.phase, Phase::Held { .. }));
    let today = serde_json::to_value(Schema::today(MIGRATIONS)).unwrap();
    dump.insert("schema".to_owned(), today);
    for (_, agent) in dump.iter_mut().filter(|(key, _)| key.starts_with("agents/")) {
        MIGRATIONS.apply(1, Part::Agent, agent);
    }
    assert_eq!(keys(&server).await, dump, "records were rewritten that are what they were");
    let revision = server.revision().await;
    let waits = tokio::time::timeout(LASTING, server.candidate("second").open(silent)).await;
    assert!(waits.is_err() && server.revision().await == revision, "it writes, and does not lead");
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn a_migration_that_is_broken_off_is_done_again_from_where_it_was() {
    let server = Server::start(&[]).await;
    let dump = version_1(&server).await;
    let mut etcd = server.client().await.unwrap();
    // The first record is of the new form already, and the version says that none is.
    let mut done = dump["agents/10.87.0.11:5051"].clone();
    done["rack"] = Value::from("known");
    etcd.put("/test/team__calico/agents/10.87.0.11:5051", done.to_string(), None).await.unwrap();
    let before = server.revision().await.unwrap();
    let mut candidate = server.candidate("first").with_migrations(INVENTED);
    let (store, state, _) = lead(&mut candidate).await;
    assert_eq!(state.agents.len(), 4);
    let found = keys(&server).await;
    assert_eq!(found["schema"]["version"], 6);
    assert_eq!(found["agents/10.87.0.11:5051"], done);
    assert_eq!(found["agents/10.87.0.12:5051"]["rack"], "unknown");
    assert_eq!((&found["framework-id"], &found["cluster"]), (&dump["framework-id"], &dump["cluster"]));
    // The leadership key, three records, the schema.
    assert_eq!(server.revision().await.unwrap(), before + 3);
    drop(store);
    candidate.resign().await;
    let error = server.candidate("older").open(silent).await.err().unwrap().to_string();
    assert!(error.contains("schema version 6, written by calico-scheduler"), "{error}");
}
