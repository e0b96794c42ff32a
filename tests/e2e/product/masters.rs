//! The scheduler and its masters: it follows the one that leads, and says who it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster::{Cluster, Progress, Spec, get_json, product, test_lock};
use serde_json::json;

use crate::history::{Framework, framework};
use crate::{INSTALL, deployed, wait};

const PRINCIPAL: &str = "calico-framework";

/// The number of the master that leads, and its state; none while none does.
fn leader(cluster: &Cluster) -> Option<usize> {
    let urls = cluster.master_urls();
    let leads = |url: &String| get_json(&format!("{url}/master/state")).is_ok();
    urls.iter().position(leads).map(|index| index + 1)
}

fn ids(framework: &Framework, running: bool) -> BTreeSet<String> {
    let tasks = framework.tasks.iter().filter(|task| !running || task.state == "TASK_RUNNING");
    tasks.map(|task| task.id.clone()).collect()
}

#[test]
fn a_new_leader_is_followed_and_no_task_is_touched() {
    let _lock = test_lock().unwrap();
    let spec = Spec { name: "e2e-leader".to_owned(), agents: 2, masters: 3, ..Spec::default() };
    let cluster = Cluster::up(&spec, &Progress::stderr()).unwrap();
    let options = json!({"mesos": {"master": cluster.mesos_master()}});
    assert!(cluster.mesos_master().starts_with("zk://"));
    let scheduler = product::install(&cluster, &options).unwrap();
    deployed(&scheduler, 2);
    let before = framework(&cluster);
    let running = ids(&before, true);
    let count = |text: &str| scheduler.process().log().unwrap().matches(text).count();
    let launched = count(" is launched");
    assert_eq!((count(": subscribed "), running.len()), (1, 4), "{before:#?}");

    let old = leader(&cluster).unwrap();
    cluster.process(&format!("master-{old}")).unwrap().kill().unwrap();
    let new = wait("another leader", INSTALL, || leader(&cluster).filter(|new| *new != old));
    wait("the subscription with it", INSTALL, || (count(": subscribed ") == 2).then_some(()));
    let url = &cluster.master_urls()[new - 1];
    let state = |name: &str| {
        let state = get_json(&format!("{url}/master/state")).unwrap();
        let framework = &state["frameworks"].as_array().unwrap().first()?.clone();
        framework[name].as_bool()
    };
    wait("the framework's return", INSTALL, || (state("connected") == Some(true)).then_some(()));
    wait("the agents' return", INSTALL, || {
        (ids(&framework(&cluster), true).len() >= running.len()).then_some(())
    });
    deployed(&scheduler, 2);

    let after = framework(&cluster);
    assert_eq!(after.id, before.id);
    assert_eq!(ids(&after, true), running, "{after:#?}");
    // What the new leader knows is a part of what the old one knew: nothing was launched, nothing killed.
    assert!(ids(&after, false).is_subset(&ids(&before, false)), "{after:#?}");
    assert_eq!((count(" is launched"), count("killed: ")), (launched, 0));
    // It waited for the leader, and did not ask the dead one again and again.
    assert!(count("cannot subscribe") < 10, "{}", scheduler.process().log().unwrap());
}

#[test]
fn a_principal_and_its_secret_open_masters_that_ask_for_them() {
    let _lock = test_lock().unwrap();
    let credentials = json!({"credentials": [{"principal": PRINCIPAL, "secret": "open sesame"}]});
    let settings = [
        ("MESOS_AUTHENTICATE_HTTP_FRAMEWORKS", "true"),
        ("MESOS_HTTP_FRAMEWORK_AUTHENTICATORS", "basic"),
        ("MESOS_CREDENTIALS", "/etc/mesos-credentials"),
    ];
    let spec = Spec {
        name: "e2e-principal".to_owned(),
        agents: 1,
        master_env: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        master_files: BTreeMap::from([("/etc/mesos-credentials".to_owned(), credentials.to_string())]),
        ..Spec::default()
    };
    let cluster = Cluster::up(&spec, &Progress::stderr()).unwrap();
    let secret = cluster.run_dir().join("secret");
    std::fs::write(&secret, "close sesame\n").unwrap();
    let options = json!({"service": {"principal": PRINCIPAL, "secret-file": secret}});
    let mut scheduler = product::install(&cluster, &options).unwrap();

    // The wrong secret: it says so, and asks ever more rarely.
    let said = |text: &str, log: &str| log.matches(text).count();
    let log = || cluster.process("scheduler").unwrap().log().unwrap();
    wait("what is wrong", Duration::from_secs(20), || (said("cannot subscribe", &log()) >= 2).then_some(()));
    std::thread::sleep(Duration::from_secs(10));
    let text = log();
    assert!(
        text.contains("401 Unauthorized") && text.contains(&format!("principal '{PRINCIPAL}'")),
        "{text}"
    );
    assert!(said("cannot subscribe", &text) < 12, "{text}");
    assert!(!text.contains("sesame"), "{text}");
    assert_eq!(scheduler.api().deploy().unwrap().0, 202);

    // The right one.
    std::fs::write(&secret, "open sesame\n").unwrap();
    scheduler.process().kill().unwrap();
    scheduler.restart().unwrap();
    deployed(&scheduler, 1);
    let state = get_json(&format!("{}/master/state", cluster.master_urls()[0])).unwrap();
    assert_eq!(state["frameworks"][0]["principal"], PRINCIPAL);
}
