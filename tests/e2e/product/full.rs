//! Agents on which others have taken everything.

use std::time::Duration;

use cluster::probe::{Probe, ProbeHandle, ProbeTask};
use cluster::{Cluster, Host, Progress, Spec, product, test_lock};
use serde_json::json;

use crate::history::framework;
use crate::watch::Watch;
use crate::{INSTALL, deployed, wait};

#[test]
fn agents_without_room_say_what_is_missing_hold_nobody_up_and_go_on_when_there_is_some() {
    let _lock = test_lock().unwrap();
    let spec = Spec { name: "e2e-full".to_owned(), ..Spec::default() };
    let cluster = Cluster::up(&spec, &Progress::stderr()).unwrap();
    let hosts = cluster.hosts().unwrap();
    let probe = Probe::connect(&cluster.master_urls()[0]).unwrap();
    let occupy = |host: &Host<'_>, mem: f64| -> ProbeHandle {
        let task = probe.launch(ProbeTask {
            hostname: host.address().to_string(),
            command: "sleep 1000".to_owned(),
            cpus: 4.0,
            mem,
            ..ProbeTask::default()
        });
        task.wait_running(INSTALL).unwrap();
        task
    };
    // One agent has nothing left, of which there are no offers then; one has no processor left, the public one.
    let taken = [occupy(&hosts[0], 4096.0), occupy(&hosts[2], 32.0)];
    let scheduler = product::install(&cluster, &json!({})).unwrap();
    let api = scheduler.api();
    let address = |host: &Host<'_>| format!("{}:5051", host.address());
    wait("the agent with room", INSTALL, || {
        (api.agent(&address(&hosts[1])).ok()?.status == "COMPLETE").then_some(())
    });
    let watch = Watch::start(&cluster, &scheduler);
    let said = wait("what is missing", INSTALL, || {
        let said = api.agent(&address(&hosts[2])).ok()?;
        said.shortage.is_some().then_some(said)
    });
    let lack = said.shortage.unwrap();
    assert_eq!((lack.resource.as_str(), lack.needed, lack.offered), ("cpus", 0.1, 0.0));
    assert!(said.reason.starts_with("etcd-proxy needs cpus 0.1, the offer had 0"), "{}", said.reason);
    assert!(said.reason.contains(&lack.since), "{}", said.reason);
    assert_eq!((said.presence.as_str(), said.status.as_str()), ("active", "PENDING"));
    let said = wait("word of offers that do not come", INSTALL, || {
        let said = api.agent(&address(&hosts[0])).ok()?;
        said.no_offer_since.is_some().then_some(said)
    });
    assert_eq!((said.presence.as_str(), said.status.as_str()), ("active", "PENDING"));
    assert!(said.reason.starts_with("etcd-proxy waits for an offer: no offer since"), "{}", said.reason);
    let again = api.agent(&address(&hosts[2])).unwrap().shortage.unwrap();
    assert_eq!(again.since, lack.since, "since when it lacks that is forgotten");
    let (status, plan) = api.deploy().unwrap();
    assert_eq!((status, plan.errors.len()), (202, 0), "{}", plan.summary());
    let on_full = framework(&cluster).tasks.into_iter().filter(|task| {
        hosts.iter().enumerate().any(|(i, host)| i != 1 && host.agent_id().unwrap() == task.agent)
    });
    assert_eq!(on_full.count(), 0);

    for task in &taken {
        task.kill(Some(Duration::ZERO));
    }
    deployed(&scheduler, 3);
    let seen = watch.end();
    assert!(seen.ended().iter().all(|task| task.state == "TASK_FINISHED"), "{seen:#?}");
    assert_eq!(seen.launched().len(), 6, "{seen:#?}");
}
